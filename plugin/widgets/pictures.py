"""What a model will see of the layers that guide it, painted in the background once everything rests."""

import math
from typing import List, Optional, Tuple

from qgis.core import Qgis, QgsProject
from qgis.PyQt.QtCore import QObject, QRunnable, QThreadPool, QTimer, pyqtSignal
from qgis.PyQt.QtGui import QImage
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import GeoBox, ModelCard
from ..maps.control import ControlExport, Guide, prepare_control
from ..maps.grid import Place
from ..report import Problem, log, tr

#: Milliseconds for which the form has to rest.
_REST = 400
#: Longest side of a picture in pixels.
SIDE = 128


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
        owner.destroyed.connect(self.stop)

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
        self._work = _Work(exports, where, self._notes)
        QThreadPool.globalInstance().start(_Runnable(self._work))

    def _forward(self, work: object, kind: str, image: object, remark: str) -> None:
        if work is self._work:
            self.painted.emit(kind, image, remark)


class _Notes(QObject):
    """Carries pictures from the thread that paints them to the one that shows them."""

    painted = pyqtSignal(object, str, object, str)


class _Work:
    """The pictures of one question."""

    def __init__(self, exports: List[ControlExport], where: Place, notes: _Notes) -> None:
        self._notes = notes
        self._exports = exports
        self._grid, self._gsd = picture_grid(where.lattice, where.gsd)
        self._is_cancelled = False

    def cancel(self) -> None:
        """Stop soon. Any thread."""
        self._is_cancelled = True

    def run(self) -> None:
        """Paint, on a worker thread."""
        for export in self._exports:
            if self._is_cancelled:
                return
            kind = export.control.kind
            try:
                pixels, is_anywhere = export.picture(self._grid, self._gsd, lambda: self._is_cancelled)
            except (Problem, OSError, RuntimeError, ValueError, MemoryError) as error:
                log(f"{kind}: {error}", Qgis.MessageLevel.Warning)
                self._notes.painted.emit(self, kind, None, tr("It cannot be shown here, see the log."))
                continue
            if not self._is_cancelled:
                remark = "" if is_anywhere else tr("The layer shows nothing in the extent.")
                self._notes.painted.emit(self, kind, _image(pixels), remark)


class _Runnable(QRunnable):
    def __init__(self, work: _Work) -> None:
        super().__init__()
        self._work = work

    def run(self) -> None:
        """On a worker thread."""
        self._work.run()


def picture_grid(lattice: GeoBox, gsd: float) -> Tuple[GeoBox, float]:
    """The grid of a picture, as coarse as it has to be, and metres on the ground of one of its pixels."""
    step = max(1.0, max(lattice.shape) / SIDE)
    a, b, c, d, e, f = lattice.transform
    shape = (max(1, math.ceil(lattice.height / step - 1e-6)), max(1, math.ceil(lattice.width / step - 1e-6)))
    return GeoBox(lattice.crs, (a * step, b * step, c, d * step, e * step, f), shape), gsd * step


def _image(pixels) -> QImage:
    _, height, width = pixels.shape
    data = pixels.transpose(1, 2, 0).tobytes()
    return QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
