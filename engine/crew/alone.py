"""This process draws by itself: the way on a GPU, on one core, and for what is small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

from ..context import JobContext
from ..finished import Finished
from ..settings import Settings
from .base import Piece


class Alone:
    """A crew of one: see ``Crew``.

    Args:
        settings: how this engine runs.
    """

    is_elsewhere = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.notices: list[str] = []

    def draw(self, finished: Finished, missing: Sequence[Piece], ctx: JobContext) -> Iterator[Piece]:
        """Draw one piece after the other, each shown as it forms; it is committed while the next is drawn."""
        with finished.in_background():
            for (sample, chunk), part in ctx.track(missing, "drawing"):
                finished.draw(sample, chunk, part)
                yield sample, chunk

    def __enter__(self) -> Alone:
        """Nobody to call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nobody to let go."""
