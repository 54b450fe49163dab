"""What who runs a job and who draws it say to each other; as lines of JSON where they are two processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from ..contract import Failure, Window


@dataclass(frozen=True)
class Begin:
    """The job is planned and pinned: open it. ``key`` is the hash of its work, which must be the same there."""

    key: str


@dataclass(frozen=True)
class Place:
    """A piece, told to another process."""

    sample: int
    chunk: Window


@dataclass(frozen=True)
class Draw:
    """Draw a piece and commit it.

    Attributes:
        piece: which.
        first: piece of the run that it is of: what lies outside is drawn by others.
        last: piece of that run.
    """

    piece: Place
    first: Place
    last: Place


@dataclass(frozen=True)
class Stop:
    """Draw no further; end."""


# the codec reads unions of this kind
Order = Union[Begin, Draw, Stop]  # noqa: UP007


@dataclass(frozen=True)
class Begun:
    """The job is open: pieces may come."""


@dataclass(frozen=True)
class Reached:
    """How far the piece at work is, 0 to 1."""

    fraction: float


@dataclass(frozen=True)
class Drawn:
    """A piece is committed.

    Attributes:
        sha256: of its pixels, to be compared with what lies in the folder.
    """

    sha256: str


@dataclass(frozen=True)
class Way:
    """Memory made the model run in this way.

    Attributes:
        memory: what is pinned.
        notice: what the person should know; "" for nothing.
    """

    memory: str
    notice: str


@dataclass(frozen=True)
class Broken:
    """The job cannot be opened, or a piece cannot be drawn."""

    failure: Failure


@dataclass(frozen=True)
class Lost:
    """Who sent this is gone, whatever it was at; never sent, but noticed.

    Attributes:
        reason: how, in words.
        is_end: whether its process was seen to end; else it may only have left, with a connection, say.
    """

    reason: str
    is_end: bool = True


Answer = Union[Begun, Reached, Drawn, Way, Broken]  # noqa: UP007
