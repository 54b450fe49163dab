"""Who draws the tiles of a job: this process, others on this machine, or those of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

from ..context import JobContext
from ..contract import Failure, Window
from ..errors import EngineError
from ..finished import Finished
from ..settings import Settings

#: What is drawn and committed at once: the number of the sample, from 1 or ``MEAN``, and the chunk.
Piece = tuple[int, Window]
#: The first and the last piece of what one process draws in a row, in the order of the work.
Run = tuple[Piece, Piece]


class Crew(Protocol):
    """Draws pieces of a job and commits them into its folder. Use it in a ``with`` block; the work may come later.

    Who runs the job holds its folder's lock, pins what is chosen, and makes the result of the tiles; the crew does
    nothing but draw. Which piece is drawn by whom and when changes no byte of it.

    Attributes:
        settings: how those who draw run: what is pinned in the job folder is taken from here.
        is_elsewhere: whether they may be on other machines, with devices that this one does not have.
        notices: what the person should know of how it was drawn; complete when all is.
    """

    settings: Settings
    is_elsewhere: bool
    notices: list[str]

    def draw(self, finished: Finished, missing: Sequence[Piece], ctx: JobContext) -> Iterator[Piece]:
        """Draw what is missing; each piece as soon as it is committed, in any order.

        Args:
            finished: the work, planned here.
            missing: pieces of it, in the order in which neighbours share the most.
            ctx: the share of the progress that drawing is.

        Raises:
            JobCancelled: when the person stopped the job; within one batch of windows.
            EngineError: what went wrong where a piece was drawn.
            WorkersLost: where nobody is left who draws.
        """

    def __enter__(self) -> Crew:
        """Call them in; they get ready while the job is."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let them go: nothing of theirs runs on."""


class FailedElsewhere(EngineError):
    """What another process told of a failure of its own; told on as it came."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, failure.hint)
        self._failure = failure

    def failure(self, detail: str = "") -> Failure:
        """What the person is told."""
        return self._failure
