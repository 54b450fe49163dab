"""Finished chunks of a job on the disk: each in a file of its own, there as a whole or not at all.

A tile is finished when its name is there: it was written under another name, given to the disk, and renamed. Its
header names the work that it belongs to, so a tile of another request, model or engine version is drawn again, and so
is a torn one.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import durable
from .contract import GeoBox, Window
from .raster import Raster

_MAGIC = b"afterimage tile 1\n"
#: Longest header of a tile, in bytes.
_HEADER_LIMIT = 64 * 1024


class Tiles:
    """Finished chunks, by sample, window and frame: 0 for the sample itself, from 1 for pictures on its way from noise.

    Args:
        folder: where they lie.
        work: hash of the work that they belong to.
    """

    def __init__(self, folder: Path, work: str) -> None:
        self._folder, self._work = folder, work

    def prepare(self) -> None:
        """Make the folder, and drop what a crash left half written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob(".*"):
            leftover.unlink()

    def has(self, sample: int, window: Window, frame: int = 0) -> bool:
        """Whether that chunk is finished. Its pixels are hashed when they are read, not here."""
        try:
            with open(self._path(sample, window, frame), "rb") as file:
                header = self._header(file)
                return os.fstat(file.fileno()).st_size - file.tell() == header["length"]
        except (OSError, ValueError):
            return False

    def write(self, sample: int, window: Window, raster: Raster, frame: int = 0) -> None:
        """Finish a chunk: after this, no crash makes it be drawn again.

        Raises:
            OSError: where the disk is full or fails.
        """
        pixels = np.ascontiguousarray(raster.pixels)
        payload = zlib.compress(pixels.tobytes() + np.packbits(raster.valid).tobytes(), 1)
        header = {
            "work": self._work,
            "key": _key(sample, window, frame),
            "dtype": pixels.dtype.name,
            "shape": list(pixels.shape),
            "length": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
        line = json.dumps(header).encode() + b"\n"
        durable.write(self._path(sample, window, frame), _MAGIC + line + payload, "tile")

    def read(self, sample: int, window: Window, grid: GeoBox, frame: int = 0) -> Raster | None:
        """The pixels of a finished chunk of a grid; None where it is not there, torn, or of other work."""
        try:
            with open(self._path(sample, window, frame), "rb") as file:
                header = self._header(file)
                payload = file.read(int(header["length"]) + 1)
            if len(payload) != header["length"] or hashlib.sha256(payload).hexdigest() != header["sha256"]:
                return None
            shape, dtype = tuple(header["shape"]), np.dtype(header["dtype"])
            if header["key"] != _key(sample, window, frame) or shape[1:] != (window.height, window.width):
                return None
            raw = zlib.decompress(payload)
            size = int(np.prod(shape)) * dtype.itemsize
            pixels = np.frombuffer(raw[:size], dtype).reshape(shape)
            bits = np.unpackbits(np.frombuffer(raw[size:], np.uint8), count=window.height * window.width)
            return Raster(pixels, bits.reshape(window.height, window.width).astype(bool), grid.crop(window))
        except (OSError, ValueError, KeyError, TypeError, zlib.error):
            return None

    def _path(self, sample: int, window: Window, frame: int) -> Path:
        return self._folder / f"{_key(sample, window, frame)}.tile"

    def _header(self, file: IO[bytes]) -> dict[str, Any]:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("not a tile")
        header = json.loads(file.readline(_HEADER_LIMIT))
        if not isinstance(header, dict) or header.get("work") != self._work or not isinstance(header["length"], int):
            raise ValueError("a tile of other work")
        return header


def _key(sample: int, window: Window, frame: int) -> str:
    which = f"s{sample:03d}_f{frame:03d}" if frame else f"s{sample:03d}"
    return f"{which}_r{window.row:07d}_c{window.col:07d}_{window.height}x{window.width}"
