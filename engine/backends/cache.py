"""Small files that can be made again: exported networks, and what was measured on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import tempfile
import time
from pathlib import Path

log = logging.getLogger(__name__)

#: The part of the folder that is the cache's own: the folder may be any that a person names.
OWN = "backends"
#: Exports of networks that are kept, those that were used last; they take 5 to 20 MB each. Choices are small and stay.
KEPT = 24
_DIGEST = 32
_EXPORT = re.compile(r"[0-9a-f]{64}\.onnx")
#: What a write that ended half-way leaves, and from what age in seconds on nobody can be writing it any more.
_LEFT, _LEFT_AGE = re.compile(r"\.[0-9a-f]{64}\.(onnx|json)\.\w+\.part"), 3600.0


class Cache:
    """Files in a folder of their own, whole or not at all: each begins with the hash of the rest.

    A folder that cannot be written to, and a file that cannot be read or is torn, cost time and nothing else. Several
    engines may use one folder at a time.

    Args:
        folder: in which the cache's own is made when first written to; other files in it are left alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / OWN

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none that is whole."""
        path = self._folder / name
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            log.warning("a file of the cache is damaged and is made again")
            return None
        with contextlib.suppress(OSError):  # of another person's, which can be read and no more
            os.utime(path)
        return content[_DIGEST:]

    def write(self, name: str, content: bytes) -> None:
        """Keep a file, and drop the exports beyond ``KEPT`` that were not used for the longest time."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._put(name, hashlib.sha256(content).digest() + content)
            self._evict()
        except OSError as error:
            log.warning("the cache cannot be written to: %s", error.strerror)

    def _put(self, name: str, content: bytes) -> None:
        """A torn file is found by its hash, so that the disk need not be waited for."""
        descriptor, temporary = tempfile.mkstemp(".part", f".{name}.", self._folder)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, self._folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _evict(self) -> None:
        paths = list(self._folder.iterdir())
        exports = [path for path in paths if _EXPORT.fullmatch(path.name)]
        old = [path for path in paths if _LEFT.fullmatch(path.name) and _used(path) < time.time() - _LEFT_AGE]
        for path in [*sorted(exports, key=_used, reverse=True)[KEPT:], *old]:
            path.unlink(missing_ok=True)


def _used(path: Path) -> float:
    """When a file was last used; one that another engine has deleted since was used never."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
