"""Windows along the border between what two processes draw: small files in the job's folder.

Whoever of the two needs one first draws it and leaves it there. What is not there in time, is damaged, or could not be
written is drawn twice, and that is all it costs: no process waits for another.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..contract import Window
from ..errors import FULL
from .base import Run

#: Numbers as they lie in a file.
_KIND = "<f4"
#: Longest first line of a file, in bytes.
_LINE_LIMIT = 1024


class Exchange:
    """See ``Elsewhere``; of one process.

    Args:
        folder: where windows lie; made when the first is left.
        work: hash of the work that they belong to.
        chunks: of the work, in the order in which they are drawn.
    """

    def __init__(self, folder: Path, work: str, chunks: Sequence[Window]) -> None:
        self._folder, self._work = folder, work
        self._places = {chunk: place for place, chunk in enumerate(chunks)}
        self._first, self._last = (0, 0), (0, 0)

    def take(self, run: Run) -> None:
        """What this process draws now, from its first piece to its last; all else is drawn by others."""
        self._first, self._last = ((sample, self._places[chunk]) for sample, chunk in run)

    def draws(self, sample: int, chunk: Window) -> bool:
        """See ``Elsewhere``."""
        return not self._first <= (sample, self._places[chunk]) <= self._last

    def fetch(self, name: str) -> NDArray[np.float32] | None:
        """See ``Elsewhere``."""
        try:
            with open(self._folder / name, "rb") as file:
                told, content = json.loads(file.readline(_LINE_LIMIT)), file.read()
            if told["work"] != self._work or told["crc32"] != zlib.crc32(content):
                return None
            return np.frombuffer(content, _KIND).reshape(told["shape"]).astype(np.float32)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def leave(self, name: str, values: NDArray[np.float32]) -> None:
        """See ``Elsewhere``. The disk is not waited for: what a crash tears is found by its sum."""
        content = values.astype(_KIND, copy=False).tobytes()
        told = {"work": self._work, "shape": values.shape, "crc32": zlib.crc32(content)}
        temporary = self._folder / f".{name}.{secrets.token_hex(6)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(json.dumps(told).encode() + b"\n" + content)
            os.replace(temporary, self._folder / name)
        except OSError as error:  # a full disk, or a reader on Windows
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if error.errno in FULL:  # what is left here saves work; tiles need the room
                shutil.rmtree(self._folder, ignore_errors=True)
