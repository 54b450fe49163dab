"""One process at a time fetches, installs or removes a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DownloadFailed
from ..journal import lock
from . import disk, places


@contextmanager
def alone(model_id: str, store: Path) -> Iterator[None]:
    """Hold a model against all other processes; what one of them left half made is gone then.

    The file that is locked stays: to delete it would let two processes hold two files of that name.

    Args:
        model_id: which; it need not be there yet.
        store: folder of the models.

    Raises:
        DownloadFailed: another process holds it.
    """
    work = places.make(store / places.WORK)
    with disk.said():
        file = open(work / f"{model_id}.lock", "a+b")
    with file:
        try:
            lock(file)
        except OSError as error:
            raise DownloadFailed(
                "This model is being fetched, installed or removed already.",
                "Wait until that has ended, or cancel it.",
            ) from error
        shutil.rmtree(work / model_id, ignore_errors=True)
        places.sweep(store)
        yield
