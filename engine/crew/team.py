"""Several processes draw: who gets what, what happens when one is lost, and how far all of them are together."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

from ..context import JobContext
from ..contract import ErrorCode
from ..errors import OutputDamaged, WorkersLost
from ..finished import Finished
from ..raster import Raster
from ..settings import Settings
from ..tasks.canvas import Canvas
from .base import FailedElsewhere, Piece, Run
from .messages import Answer, Begun, Broken, Drawn, Lost, Reached, Way
from .shares import Shares
from .worker import fingerprint

log = logging.getLogger(__name__)

#: Processes that a piece may take with it before it is left out; the last of them while nobody else draws.
DEATHS = 3
#: Seconds between two looks at whether the person stopped the job.
_INTERVAL = 0.1


class Hands(Protocol):
    """The processes of a team: each draws one piece at a time.

    Attributes:
        count: how many are expected.
    """

    count: int

    def call(self) -> None:
        """Call them in."""

    def begin(self, finished: Finished, pieces: int) -> None:
        """Have them open the job, now that it is planned; each tells ``Begun`` when pieces may come.

        Args:
            finished: the work.
            pieces: to draw; more hands than that are of no use.
        """

    def give(self, hand: str, piece: Piece, run: Run) -> None:
        """Have one draw a piece of a run; it tells ``Drawn`` or ``Broken``, or is ``Lost``."""

    def next(self, seconds: float) -> tuple[str, Answer | Lost] | None:
        """What one of them tells, by its name; None where nothing comes in that time.

        Raises:
            WorkersLost: where none is left and none will come.
        """

    def dismiss(self, hand: str) -> bool:
        """Do without one; whether others are left."""

    def close(self) -> None:
        """End them all, in the middle of a piece if need be. A second time does nothing."""


class Team:
    """A crew of other processes: see ``Crew``.

    Args:
        hands: its processes.
        settings: how they run.
        is_elsewhere: see ``Crew``.
    """

    def __init__(self, hands: Hands, settings: Settings, is_elsewhere: bool) -> None:
        self.settings, self.is_elsewhere = settings, is_elsewhere
        self.notices: list[str] = []
        self._hands = hands

    def draw(self, finished: Finished, missing: Sequence[Piece], ctx: JobContext) -> Iterator[Piece]:
        """Draw what is missing, each piece told when it lies in the folder as it was drawn.

        At the end the hands are let go: what memory they held is free while the result is written.
        """
        try:
            if missing:
                yield from _Drawing(self._hands, self.notices, finished, missing, ctx).pieces()
        finally:
            self._hands.close()

    def __enter__(self) -> Team:
        """Call them in."""
        try:
            self._hands.call()
        except BaseException:  # there is no end of a block that did not begin
            self._hands.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them."""
        self._hands.close()


class _Drawing:
    """One job on its way through a team.

    A piece that has taken all processes but one of ``DEATHS`` with it waits until everything else is drawn, and is then
    tried by one hand while the others are idle, so that it is not their memory which it lacks. If that one ends too, a
    piece that is finished is drawn once more: only where that goes well was it the piece, and not the machine.
    """

    def __init__(
        self, hands: Hands, notices: list[str], finished: Finished, missing: Sequence[Piece], ctx: JobContext
    ) -> None:
        self._hands, self._notices, self._finished, self._ctx = hands, notices, finished, ctx
        self._shares = Shares(missing, hands.count)
        self._total, self._left = len(missing), len(missing)
        self._at: dict[str, Piece] = {}
        self._reached: dict[str, float] = {}
        self._idle: set[str] = set()
        self._deaths: Counter[Piece] = Counter()
        self._waiting: deque[Piece] = deque()
        self._suspect: Piece | None = None
        self._proving: str | None = None
        self._known: Piece | None = None
        self._losses = 0
        self._canvas = Canvas(finished.work.drawn, len(finished.work.profile.bands), finished.work.profile.dtype)

    def pieces(self) -> Iterator[Piece]:
        """Each piece when it is finished, or left out."""
        self._ctx.tell("drawing")
        self._hands.begin(self._finished, self._left)
        while self._left:
            self._ctx.check()
            told = self._hands.next(_INTERVAL)
            if told is not None:
                done = self._take(*told)
                if done is not None:
                    self._left -= 1
                    yield done
            for hand in sorted(self._idle):
                self._give(hand)
            if self._left and self._idle and not self._at:
                self._give_last(min(self._idle))

    def _take(self, hand: str, answer: Answer | Lost) -> Piece | None:
        """Do what a message asks for; the piece that it ends."""
        if isinstance(answer, Reached):
            self._reached[hand] = answer.fraction
            self._tell()
        elif isinstance(answer, Begun):
            self._idle.add(hand)
        elif isinstance(answer, Way):
            self._finished.pin_memory(answer.memory)
            if answer.notice:
                self._notices.append(answer.notice)
        elif isinstance(answer, Drawn):
            return self._drawn(hand, answer.sha256)
        elif isinstance(answer, Broken):
            self._broken(hand, answer)
        else:
            return self._lost(hand, answer)
        return None

    def _give(self, hand: str) -> None:
        piece = self._shares.next(hand)
        if piece is not None:
            self._have(hand, piece, self._shares.run(hand))

    def _have(self, hand: str, piece: Piece, run: Run) -> None:
        self._idle.discard(hand)
        self._at[hand] = piece
        self._hands.give(hand, piece, run)

    def _give_last(self, hand: str) -> None:
        """Nothing else is left: one of those that wait, or what shows whether it was that one."""
        if self._suspect is None:
            self._have(hand, self._waiting[0], (self._waiting[0], self._waiting[0]))
            return
        known = self._known or self._finished.drawn()
        if known is None:
            raise WorkersLost("The workers ended over and over, and nothing has been drawn yet.")
        self._proving = hand
        self._have(hand, known, (known, known))

    def _drawn(self, hand: str, sha256: str) -> Piece | None:
        """See whether what was drawn lies in the folder here too, and show it."""
        piece = self._at.pop(hand)
        self._reached.pop(hand, None)
        self._idle.add(hand)
        self._losses = 0
        raster = self._finished.committed(*piece)
        if raster is None or fingerprint(raster) != sha256:
            raise OutputDamaged(
                "A worker says that it drew a tile, and the job folder does not hold it.",
                "See whether all machines have the job's folder on one disk that they share, then resume the job.",
            )
        if hand == self._proving:
            return self._leave_out()
        if piece in self._waiting:
            self._waiting.remove(piece)
        self._known = piece
        self._show(piece, raster)
        return piece

    def _leave_out(self) -> Piece | None:
        """The machine draws, so it is the piece that cannot be drawn."""
        piece, self._suspect, self._proving = self._suspect, None, None
        if piece is not None:
            log.error("left out: sample %d, row %d, column %d", piece[0], piece[1].row, piece[1].col)
            self._finished.leave_out(*piece)
            self._tell(1)
        return piece

    def _show(self, piece: Piece, raster: Raster) -> None:
        self._tell(1)
        self._canvas.paint(raster.pixels, raster.valid, piece[1])
        self._canvas.show(self._ctx)

    def _broken(self, hand: str, answer: Broken) -> None:
        """A failure is the job's, unless others may draw: with the memory of this one, or with the right models."""
        code = answer.failure.code
        if code not in (ErrorCode.OUT_OF_MEMORY, ErrorCode.WORKER_MISMATCH) or not self._hands.dismiss(hand):
            raise FailedElsewhere(answer.failure)
        log.warning("one process less: %s", answer.failure.message)
        if code is ErrorCode.WORKER_MISMATCH:
            self._notices.append(f"Others drew for a worker that could not: {answer.failure.message}")
        self._return(hand)

    def _lost(self, hand: str, lost: Lost) -> Piece | None:
        """Have what a lost process was at drawn by others, but not without end; unless it lies in the folder."""
        log.warning("a worker was lost: %s", lost.reason)
        piece = self._at.get(hand) if hand != self._proving else None
        if piece is not None and (raster := self._finished.committed(*piece)) is not None:
            self._return(hand)
            self._drop(piece)
            self._show(piece, raster)
            return piece
        self._return(hand)
        self._losses += 1
        if self._losses > DEATHS * (self._hands.count + 1):
            raise WorkersLost(
                f"{self._losses} workers were lost one after the other, the last one because {lost.reason}."
            )
        if piece is not None and lost.is_end:
            self._deaths[piece] += 1
            if self._deaths[piece] >= DEATHS - 1:
                self._drop(piece)
                self._waiting.append(piece)
            if self._deaths[piece] >= DEATHS:
                self._waiting.remove(piece)
                self._suspect = piece
        return None

    def _drop(self, piece: Piece) -> None:
        """Have nobody draw a piece that was given back."""
        if piece in self._waiting:
            self._waiting.remove(piece)
        else:
            self._shares.take(piece)

    def _return(self, hand: str) -> None:
        """What a hand was at, given back with the rest of its run."""
        self._idle.discard(hand)
        self._reached.pop(hand, None)
        self._shares.leave(hand)
        piece = self._at.pop(hand, None)
        if hand == self._proving:
            self._proving = None
        elif piece is not None and piece not in self._waiting:
            self._shares.give_back(piece)

    def _tell(self, more: int = 0) -> None:
        done = self._total - self._left + more + sum(self._reached.values())
        self._ctx.reach("drawing", done / self._total)
