"""Who draws what next: runs of neighbours, so that the windows which two chunks share are mostly computed once."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Shares(Generic[T]):
    """Pieces in the order of drawing, cut into as many runs as there are hands, and handed out one by one.

    A hand gets its own run in order. When that is done it takes the later half of the longest run that is left, so that
    nobody waits while there is work, and as few borders as can be lie between the runs of two.

    Args:
        pieces: all of them, neighbours side by side.
        count: of hands that are expected; more or fewer may come.
    """

    def __init__(self, pieces: Sequence[T], count: int) -> None:
        count = max(1, min(count, len(pieces)))
        cuts = [len(pieces) * i // count for i in range(count + 1)]
        self._spare = deque(deque(pieces[a:b]) for a, b in itertools.pairwise(cuts))
        self._owned: dict[str, deque[T]] = {}
        self._runs: dict[str, tuple[T, T]] = {}
        self._back: deque[T] = deque()

    def next(self, hand: str) -> T | None:
        """The next piece of a hand; None where nothing is left to give."""
        own = self._owned.setdefault(hand, deque())
        is_begun = bool(own)
        if not own and self._spare:
            own = self._owned[hand] = self._spare.popleft()
        if not own and self._back:
            piece = self._back.popleft()
            self._runs[hand] = (piece, piece)
            return piece
        if not own:
            own = self._owned[hand] = self._half()
        if not own:
            return None
        last = own[-1]  # another may have taken what came after
        piece = own.popleft()
        self._runs[hand] = (self._runs[hand][0] if is_begun else piece, last)
        return piece

    def run(self, hand: str) -> tuple[T, T]:
        """The first and the last piece of the run that a hand's latest piece is of, as far as it is the hand's."""
        return self._runs[hand]

    def give_back(self, piece: T) -> None:
        """Have a piece drawn by another, when runs are done: it may take that one along, too."""
        self._back.append(piece)

    def take(self, piece: T) -> None:
        """A piece that was given back is not to be drawn."""
        self._back.remove(piece)

    def leave(self, hand: str) -> None:
        """A hand is gone: its run is another's."""
        own = self._owned.pop(hand, None)
        if own:
            self._spare.append(own)

    def _half(self) -> deque[T]:
        longest = max(self._owned.values(), key=len)
        return deque(reversed([longest.pop() for _ in range((len(longest) + 1) // 2)]))
