"""Small files that can be made again: exported networks, and what was measured on this machine."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from .. import durable

log = logging.getLogger(__name__)

#: Files that are kept, the newest; exports of networks take 5 to 20 MB each.
KEPT = 24
_DIGEST = 32


class Cache:
    """Files below a folder, whole or not at all: each begins with the hash of the rest.

    A folder that cannot be written to, and a file that cannot be read or is torn, cost time and nothing else.

    Args:
        folder: made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none that is whole."""
        try:
            content = (self._folder / name).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            log.warning("a file of the cache is damaged and is made again")
            return None
        return content[_DIGEST:]

    def write(self, name: str, content: bytes) -> None:
        """Keep a file, and drop the oldest beyond ``KEPT``."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            durable.write(self._folder / name, hashlib.sha256(content).digest() + content, "cache")
            files = [path for path in self._folder.iterdir() if path.is_file()]
            for path in sorted(files, key=os.path.getmtime, reverse=True)[KEPT:]:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the cache cannot be written to: %s", error.strerror)
