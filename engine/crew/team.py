"""Several processes draw: who gets what, what happens when one is lost, and how far all of them are together."""

from __future__ import annotations

import logging
from collections import Counter
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
from .base import FailedElsewhere, Piece
from .messages import Answer, Begun, Broken, Drawn, Lost, Reached, Way
from .shares import Shares
from .worker import fingerprint

log = logging.getLogger(__name__)

#: Processes that a piece may take with it before it is left out.
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

    def begin(self, finished: Finished) -> None:
        """Have them open the job, now that it is planned; each tells ``Begun`` when pieces may come."""

    def give(self, hand: str, piece: Piece) -> None:
        """Have one draw a piece; it tells ``Drawn`` or ``Broken``, or is ``Lost``."""

    def next(self, seconds: float) -> tuple[str, Answer | Lost] | None:
        """What one of them tells, by its name; None where nothing comes in that time.

        Raises:
            WorkersLost: where none is left and none will come.
        """

    def dismiss(self, hand: str) -> bool:
        """Do without one; whether others are left."""

    def close(self) -> None:
        """End them all, in the middle of a piece if need be."""


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
        """Draw what is missing, each piece told when it lies in the folder as it was drawn."""
        if missing:
            yield from _Drawing(self._hands, self.notices, finished, missing, ctx).pieces()

    def __enter__(self) -> Team:
        """Call them in."""
        self._hands.call()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them."""
        self._hands.close()


class _Drawing:
    """One job on its way through a team."""

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
        self._losses = 0
        self._canvas = Canvas(finished.work.drawn, len(finished.work.profile.bands), finished.work.profile.dtype)

    def pieces(self) -> Iterator[Piece]:
        """Each piece when it is finished, or left out."""
        self._ctx.tell("drawing")
        self._hands.begin(self._finished)
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
            return self._lost(hand, answer.reason)
        return None

    def _give(self, hand: str) -> None:
        piece = self._shares.next(hand)
        if piece is not None:
            self._idle.discard(hand)
            self._at[hand] = piece
            self._hands.give(hand, piece)

    def _drawn(self, hand: str, sha256: str) -> Piece:
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
        self._show(piece, raster)
        return piece

    def _show(self, piece: Piece, raster: Raster) -> None:
        self._tell(1)
        self._canvas.paint(raster.pixels, raster.valid, piece[1])
        self._canvas.show(self._ctx)

    def _broken(self, hand: str, answer: Broken) -> None:
        """A failure is the job's, unless it is memory that fewer processes may have enough of."""
        if answer.failure.code is not ErrorCode.OUT_OF_MEMORY or not self._hands.dismiss(hand):
            raise FailedElsewhere(answer.failure)
        log.warning("one process less: its memory was short")
        self._return(hand)

    def _lost(self, hand: str, reason: str) -> Piece | None:
        """Have what a lost process was at drawn by others, but not without end; unless it lies in the folder."""
        log.warning("a worker was lost: %s", reason)
        piece = self._return(hand)
        if piece is not None and (raster := self._finished.committed(*piece)) is not None:
            self._shares.take(piece)
            self._show(piece, raster)
            return piece
        self._losses += 1
        if self._losses > DEATHS * (self._hands.count + 1):
            raise WorkersLost(f"{self._losses} workers were lost one after the other, the last one because {reason}.")
        if piece is None:
            return None
        self._deaths[piece] += 1
        if self._deaths[piece] < DEATHS:
            return None
        log.error("left out: sample %d, row %d, column %d", piece[0], piece[1].row, piece[1].col)
        self._shares.take(piece)
        self._finished.leave_out(*piece)
        return piece

    def _return(self, hand: str) -> Piece | None:
        """What a hand was at, given back with the rest of its run."""
        self._idle.discard(hand)
        self._reached.pop(hand, None)
        self._shares.leave(hand)
        piece = self._at.pop(hand, None)
        if piece is not None:
            self._shares.give_back(piece)
        return piece

    def _tell(self, more: int = 0) -> None:
        done = self._total - self._left + more + sum(self._reached.values())
        self._ctx.reach("drawing", done / self._total)
