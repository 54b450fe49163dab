"""How far a fetch or an import of a model is, how fast it goes, and how long it will take."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Deque, Optional, Tuple

#: Seconds of the past that the rate is measured over: long enough to be calm, short enough to notice a stall.
_SPAN = 10.0
#: Seconds before anything is said about the rate.
_FIRST = 1.0


@dataclass(frozen=True)
class Transfer:
    """A fetch or an import under way.

    Attributes:
        model: id of the model.
        name: what a person knows it as.
        is_import: from this computer's own disk.
        stage: "waiting", "starting", "stopping", or the engine's word: "fetching", "checking", "converting",
            "installing".
        file: that is worked on, "" for none.
        done: bytes of all files.
        total: bytes of all files, 0 while it is not known.
        rate: bytes a second, None while it cannot be told.
    """

    model: str
    name: str
    is_import: bool = False
    stage: str = "waiting"
    file: str = ""
    done: int = 0
    total: int = 0
    rate: Optional[float] = None

    @property
    def seconds_left(self) -> Optional[float]:
        """Until all bytes are done; None while it cannot be told."""
        return (self.total - self.done) / self.rate if self.rate and self.total else None


class Pace:
    """Bytes a second over the last seconds."""

    def __init__(self) -> None:
        """Begin without any knowledge."""
        self._marks: Deque[Tuple[float, int]] = deque()
        self._total = 0

    def rate(self, done: int, total: int, now: Optional[float] = None) -> Optional[float]:
        """The rate once so many bytes are done, None while it cannot be told; another total begins anew.

        Args:
            done: bytes so far.
            total: bytes in all.
            now: seconds on a clock that never goes back.
        """
        now = time.monotonic() if now is None else now
        if total != self._total or (self._marks and done < self._marks[-1][1]):
            self._marks.clear()
            self._total = total
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _SPAN:
            self._marks.popleft()
        began, before = self._marks[0]
        return (done - before) / (now - began) if now - began >= _FIRST else None
