"""Looks at polygons on a worker thread: to find those in an extent, all of a large layer may have to be read."""

import threading
import time
from dataclasses import dataclass
from typing import Callable, Optional, Tuple

from qgis.PyQt.QtCore import QObject, pyqtSignal
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import TEXTS_LIMIT, ErrorCode, Failure, GeoBox, ModelCard
from .. import errand
from ..maps.crowd import Crowd, crowd
from ..maps.plan import Plan
from ..maps.survey import Survey, survey
from ..report import Problem, tr

#: Seconds for which the main thread waits: what most layers say is known at once, and nothing flickers.
PATIENCE = 0.03
#: Seconds to wait for the thread that reads, when the form ends: it stops before the next polygon.
_GRACE = 3.0


@dataclass(frozen=True)
class Finding:
    """What is known of the polygons.

    Attributes:
        survey: what of them lies in the extent; None where that cannot be told, or not yet.
        crowd: how many texts meet in the windows of the model; None without any polygon there, or with too many texts.
        failure: why it cannot be told.
        is_complete: whether nothing is read any more.
    """

    survey: Optional[Survey] = None
    crowd: Optional[Crowd] = None
    failure: Optional[Failure] = None
    is_complete: bool = True


class Surveyor(QObject):
    """Looks at the polygons of the latest question, one question at a time.

    Signals:
        answered(): what was asked last, and was not known at once, is known now.
    """

    answered = pyqtSignal()

    def __init__(self, owner: QWidget) -> None:
        """Read nothing yet.

        Args:
            owner: who asks.
        """
        super().__init__(owner)
        self._asked: Optional[Tuple[object, bool]] = None
        self._found = Finding()
        self._surveyed: Tuple[object, Optional[Survey]] = (None, None)
        self._work: Optional[_Work] = None
        self._next: Optional[_Work] = None
        self._notes = _Notes()
        self._notes.over.connect(self._over)
        owner.destroyed.connect(self._end)

    def find(self, where: object, only: bool, plan: Callable[[], Plan], lattice: GeoBox, card: ModelCard) -> Finding:
        """What is known by now; asked the same again, it reads nothing again.

        Args:
            where: another value where other polygons, texts, or ground are meant.
            only: whether nothing is drawn outside of the polygons.
            plan: makes the plan, on this thread.
            lattice: that the model draws on.
            card: of the model.
        """
        if self._asked != (where, only):
            self.stop()
            self._asked = (where, only)
            try:
                known = self._surveyed[1] if self._surveyed[0] == where else None
                self._next, self._found = _Work(plan(), lattice, card, known, self._notes), Finding(is_complete=False)
            except Problem as problem:
                self._found = Finding(failure=problem.failure)
            self._begin(PATIENCE)
        return self._found

    def stop(self, *_: object) -> None:
        """Read nothing more, and forget what was asked last."""
        self._asked, self._next = None, None
        if self._work is not None:
            self._work.cancel()

    def _begin(self, patience: float) -> None:
        """Start what comes next as soon as what was asked before has stopped, and wait a while for its end."""
        until = time.monotonic() + patience
        if self._next is None or (self._work is not None and not self._work.over.wait(patience)):
            return
        self._work, self._next = self._next, None
        errand.send(self._work.run, self._work.release)
        if patience and self._work.over.wait(max(0.0, until - time.monotonic())):
            self._take()

    def _over(self, work: object) -> None:
        if work is not self._work:  # taken already
            return
        if self._work.is_cancelled:
            self._work = None
        else:
            self._take()
            self.answered.emit()
        self._begin(0.0)

    def _take(self) -> None:
        self._found, self._work = self._work.finding, None
        self._surveyed = (self._asked[0], self._found.survey)

    def _end(self, *_: object) -> None:
        """The form goes, maybe with QGIS and Python: leave no thread at work."""
        self.stop()
        if self._work is not None:
            self._work.over.wait(_GRACE)


class _Notes(QObject):
    """Tells the thread that asked that a thread at work has ended."""

    over = pyqtSignal(object)


class _Work:
    """The answer to one question.

    Attributes:
        finding: the answer.
        over: set once no thread is at work on it.
    """

    def __init__(self, plan: Plan, lattice: GeoBox, card: ModelCard, known: Optional[Survey], notes: _Notes) -> None:
        self._plan: Optional[Plan] = plan
        self._name = plan.polygons.name
        self._lattice = lattice
        self._card = card
        self._known = known
        self._notes = notes
        self._cancelled = threading.Event()
        self.finding = Finding()
        self.over = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop soon. Any thread."""
        self._cancelled.set()

    def run(self) -> None:
        """Look, on a worker thread."""
        try:
            self.finding = self._look(self._plan)
        except Problem as problem:
            self.finding = Finding(failure=problem.failure)
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            message = tr("The polygons of the layer '{}' cannot be read.").format(self._name)
            hint = tr("Check the layer, or choose another one.")
            detail = f"{type(error).__name__}: {error}"
            self.finding = Finding(failure=Failure(ErrorCode.MASK_UNREADABLE, message, hint, detail))

    def release(self) -> None:
        """Let go of the copy of the layer: none may outlive QGIS."""
        self._plan = None
        self.over.set()
        self._notes.over.emit(self)

    def _look(self, plan: Plan) -> Finding:
        found = self._known
        if found is None:
            found = survey(plan, self._lattice, self._card, self._cancelled.is_set)
        is_refused = not 0 < len(found.texts) <= TEXTS_LIMIT  # too many take long to count
        if is_refused or self.is_cancelled:
            return Finding(found)
        return Finding(found, crowd(found.shapes, self._lattice, self._card, plan.only))
