"""What a model will see of the layers that guide it, painted in the background once everything rests."""

import math
import shutil
import tempfile
import threading
from typing import Dict, List, Optional, Tuple

import numpy as np
from osgeo import gdal
from qgis.core import Qgis, QgsProject
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal
from qgis.PyQt.QtGui import QImage
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import Generate, GeoBox, ModelCard, Sampling
from .. import errand, jobs
from ..link.controls import seen_controls
from ..maps.control import ControlExport, prepare_control
from ..maps.drawing import place_left
from ..maps.grid import Place
from ..maps.guide import Guide, kind_name
from ..report import Problem, log, tr

#: Milliseconds for which the form has to rest.
_REST = 400
#: Seconds for which the question has to rest before an engine is started for it.
_ENGINE_REST = 1.5
#: Seconds to wait for the thread that paints, when the form ends: it looks ten times a second whether to stop.
_GRACE = 1.0
#: Longest side of a picture in pixels.
SIDE = 128
#: Kinds of controls that only the engine can make, and most pixels of an extent in which it is asked to in advance.
_FOUND = ("lines", "edges")
_FOUND_LIMIT = 4_000_000


class Pictures(QObject):
    """Paints small pictures on a worker thread, those of the latest question alone.

    Signals:
        painted(str, object, str): kind of control, its ``QImage`` (None where there is none), and what to remark.
    """

    painted = pyqtSignal(str, object, str)

    def __init__(self, owner: QWidget) -> None:
        """Paint nothing yet.

        Args:
            owner: who shows them; while it cannot be seen, nothing is painted.
        """
        super().__init__(owner)
        self._owner = owner
        self._asked: Tuple = ()
        self._answered: Tuple = ()
        self._work: Optional[_Work] = None
        self._notes = _Notes()
        self._notes.painted.connect(self._forward)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST)
        self._timer.timeout.connect(self._start)
        owner.destroyed.connect(self._end)

    def ask(self, card: ModelCard, guides: List[Guide], where: Optional[Place], edition: int) -> None:
        """Have pictures painted, unless these have been.

        Args:
            card: of the model.
            guides: the layers.
            where: the place; None where there is none yet, and so no picture.
            edition: another number where a layer shows something else by now.
        """
        self._asked = (card, tuple(guides), where, edition)
        if where is None or not guides:
            self.stop()
        elif self._asked != self._answered:
            self._timer.start()

    def ask_again(self) -> None:
        """The owner can be seen again: paint what was asked meanwhile."""
        if self._asked and self._asked != self._answered and self._asked[2] is not None:
            self._timer.start()

    def stop(self, *_: object) -> None:
        """Paint nothing more."""
        self._timer.stop()
        self._answered = ()
        if self._work is not None:
            self._work.cancel()

    def _end(self, *_: object) -> None:
        """The form goes, maybe with QGIS and Python: leave no thread at work."""
        self.stop()
        if self._work is not None:
            self._work.over.wait(_GRACE)

    def _start(self) -> None:
        if not self._owner.isVisible() or getattr(self._owner, "isCollapsed", bool)():
            return
        card, guides, where, _ = self._asked
        if self._work is not None:
            self._work.cancel()
        exports = []
        for guide in guides:
            try:
                context = QgsProject.instance().transformContext()
                exports.append(prepare_control(guide, card, where.lattice, where.gsd, context))
            except Problem:  # the form says so
                self.painted.emit(guide.kind, None, "")
        self._answered = self._asked
        self._work = _Work(exports, card, where, self._notes)
        errand.send(self._work.run, self._work.release)

    def _forward(self, work: object, kind: str, image: object, remark: str) -> None:
        if work is self._work:
            self.painted.emit(kind, image, remark)


class _Notes(QObject):
    """Carries pictures from the thread that paints them to the one that shows them."""

    painted = pyqtSignal(object, str, object, str)


class _Work:
    """The pictures of one question.

    Attributes:
        over: set once no thread is at work on them.
    """

    def __init__(self, exports: List[ControlExport], card: ModelCard, where: Place, notes: _Notes) -> None:
        self._notes = notes
        self._exports = exports
        self._card = card
        self._where = where
        self._grid, self._gsd = picture_grid(where.lattice, where.gsd)
        self._drawn: Dict[str, np.ndarray] = {}
        self.over = threading.Event()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop soon. Any thread."""
        self._cancelled.set()

    def release(self) -> None:
        """Let go of the copies of layers: none may outlive QGIS."""
        self._exports = []
        self.over.set()

    def run(self) -> None:
        """Paint, on a worker thread."""
        for export in self._exports:
            if self._cancelled.is_set():
                return
            kind = export.control.kind
            try:
                pixels, is_anywhere = export.picture(self._grid, self._gsd, self._cancelled.is_set)
            except (Problem, OSError, RuntimeError, ValueError, MemoryError) as error:
                log(f"{kind}: {error}", Qgis.MessageLevel.Warning)
                self._notes.painted.emit(self, kind, None, tr("It cannot be shown here, see the log."))
                continue
            remark = export.remark if is_anywhere else tr("The layer shows nothing in the extent.")
            if is_anywhere and export.control.derive in _FOUND:
                remark = self._found_later(kind)
            self._drawn[kind] = pixels
            self._show(kind, pixels, remark)
        if self._is_small and any(export.control.derive in _FOUND for export in self._exports):
            self._find()

    @property
    def _is_small(self) -> bool:
        return self._where.lattice.pixels <= _FOUND_LIMIT

    def _found_later(self, kind: str) -> str:
        """Where a picture shows not yet what the model will see."""
        name = kind_name(kind)
        if self._is_small:
            return tr("Looking for {} in it \u2026").format(name)
        return tr("The job finds {} in it; the extent is too large to show them here.").format(name)

    def _find(self) -> None:
        """Have the engine find lines and edges, in a job that is never run."""
        with place_left():
            if self._cancelled.wait(_ENGINE_REST):
                return
        sampling = Sampling(0, 1, self._card.schedulers[0])
        controls = tuple(export.control for export in self._exports)
        grid, lattice, gsd = self._where.grid, self._where.lattice, self._where.gsd
        request = Generate(self._card.id, grid, lattice, gsd, "", sampling, controls=controls)
        derived = [control for control in controls if control.derive in _FOUND]
        root = tempfile.mkdtemp(prefix="afterimage-")
        try:
            _, folder = jobs.create_folder(root, jobs.Draft(request, ""))
            if not jobs.prepare_sources(folder, self._exports, self._cancelled.is_set):
                return
            with place_left():
                paths = seen_controls(folder, root, self._cancelled.is_set)
            for control in derived if paths else ():
                self._show(control.kind, _shrunk(paths[control.kind]), "")
        except (Problem, OSError, RuntimeError, KeyError, MemoryError) as error:
            log(f"{type(error).__name__}: {error}", Qgis.MessageLevel.Warning)
            for control in derived:
                remark = tr("The job finds {} in it.").format(kind_name(control.kind))
                if isinstance(error, Problem):
                    remark = f"{remark} {error.failure.message}"
                self._show(control.kind, self._drawn.get(control.kind), remark)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def _show(self, kind: str, pixels: Optional[np.ndarray], remark: str) -> None:
        if not self._cancelled.is_set():
            self._notes.painted.emit(self, kind, None if pixels is None else _image(pixels), remark)


def picture_grid(lattice: GeoBox, gsd: float) -> Tuple[GeoBox, float]:
    """The grid of a picture, as coarse as it has to be, and metres on the ground of one of its pixels."""
    step = max(1.0, max(lattice.shape) / SIDE)
    a, b, c, d, e, f = lattice.transform
    shape = (max(1, math.ceil(lattice.height / step - 1e-6)), max(1, math.ceil(lattice.width / step - 1e-6)))
    return GeoBox(lattice.crs, (a * step, b * step, c, d * step, e * step, f), shape), gsd * step


def _shrunk(path: str) -> np.ndarray:
    """A raster of three bands, so coarse that it is a small picture in which thin lines are still to be seen."""
    pixels = gdal.Open(path).ReadAsArray()
    step = math.ceil(max(pixels.shape[1:]) / SIDE)
    height, width = (math.ceil(side / step) for side in pixels.shape[1:])
    padded = np.zeros((3, height * step, width * step), np.uint8)
    padded[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return padded.reshape(3, height, step, width, step).max((2, 4))


def _image(pixels: np.ndarray) -> QImage:
    _, height, width = pixels.shape
    data = pixels.transpose(1, 2, 0).tobytes()
    return QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
