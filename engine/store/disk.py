"""What a disk says while a model is written, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import FULL, DiskFull, EngineError, OutputNotWritable


@contextmanager
def said(again: str = "try again") -> Iterator[None]:
    """Around reading and writing below the store.

    Args:
        again: what to do once there is space, the rest of a sentence.

    Raises:
        DiskFull: there is no space left.
        OutputNotWritable: a file cannot be read or written for any other reason.
    """
    try:
        yield
    except (EngineError, BrokenPipeError):  # the latter: nobody reads our notices any more
        raise
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull("The disk is full.", f"Free some space, then {again}.") from error
        raise OutputNotWritable(
            "A file of the model cannot be read or written.", "Check the folder of the models, then try again."
        ) from error
