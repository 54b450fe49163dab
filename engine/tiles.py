"""Finished chunks of a job on the disk: each in a file of its own, there as a whole or not at all.

A tile is finished when its name is there: it was written under another name, given to the disk, and renamed. Its
header names the work that it belongs to, so a tile of another request, model or engine version is drawn again, and so
is a torn one. Where a chunk is a block of the result, its tile holds that block as it will stand in the file
(``raster.blocks``). Others will be cut up and put together anew: of these it holds the plain pixels, since packing them
twice costs more than all the rest of a result. A mask lies with both. While a result is written, tiles under its blocks
go (``moved``), and what they held is read from there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from . import durable
from .contract import GeoBox, Window
from .moved import Handover, Moved
from .raster import BLOCK, Packed, Profile, Raster, checksum, is_block, pack, pack_mask, unpack, unpack_mask

_MAGIC = b"afterimage tile 3\n"
#: Longest header of a tile, in bytes.
_HEADER_LIMIT = 64 * 1024


class Tiles:
    """Finished chunks, by sample, window and frame: 0 for the sample itself, from 1 for pictures on its way from noise.

    Args:
        folder: where they lie.
        work: hash of the work that they belong to.
        image: (height, width) of the result, where it has the pixels that are drawn, so that a chunk may be one of its
            blocks; None where they are warped on the way.
        moved: folder of results on their way, which blocks may have been moved to; None for tiles that stay.
    """

    def __init__(
        self, folder: Path, work: str, image: tuple[int, int] | None = None, moved: Path | None = None
    ) -> None:
        self._folder, self._work, self._image, self._pending = folder, work, image, moved
        self._moved: dict[int, Moved] = {}

    def prepare(self) -> None:
        """Make the folder, and drop what a crash left half written, or what was moved of other work."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._pending is not None:
            for path in self._pending.glob("*"):
                # of other work, or of a run that was killed before it moved anything there
                if not path.name.startswith(self._name_of_work()) or not path.with_suffix(".moved").exists():
                    path.unlink(missing_ok=True)
        for leftover in self._folder.glob(".*"):
            # it may be gone by itself, or be open (Windows): a worker of an engine that died may take a while to end
            with contextlib.suppress(FileNotFoundError, PermissionError):
                leftover.unlink()

    def has(self, sample: int, window: Window, frame: int = 0) -> bool:
        """Whether that chunk is finished. Its bytes are summed when they are read, not here."""
        try:
            with open(self._path(sample, window, frame), "rb") as file:
                header = self._header(file)
                return os.fstat(file.fileno()).st_size - file.tell() == header["length"]
        except (OSError, ValueError):
            moved = self._moved_of(sample, frame)
            return moved is not None and moved.has(window)

    def drop(self, sample: int, window: Window) -> None:
        """Have a chunk be drawn again, with all its frames."""
        moved = self._moved_of(sample, 0)
        if moved is not None:
            moved.forget(window)
        where = _key(sample, window, 0).removeprefix(f"s{sample:03d}")
        for path in self._folder.glob(f"s{sample:03d}*{where}.tile"):
            path.unlink(missing_ok=True)

    def write(self, sample: int, window: Window, raster: Raster, frame: int = 0) -> None:
        """Finish a chunk: after this, no crash makes it be drawn again.

        Raises:
            OSError: where the disk is full or fails.
        """
        is_packed = self._image is not None and is_block(window, self._image)
        block = pack(raster.pixels, raster.valid) if is_packed else _plain(raster)
        header = {
            "work": self._work,
            "key": _key(sample, window, frame),
            "packed": is_packed,
            "dtype": raster.pixels.dtype.name,
            "bands": len(raster.pixels),
            "length": len(block.pixels) + len(block.mask),
            "mask": len(block.mask),
            "crc32": checksum(block.pixels, block.mask),
        }
        line = json.dumps(header).encode() + b"\n"
        durable.write(self._path(sample, window, frame), b"".join((_MAGIC, line, block.pixels, block.mask)), "tile")

    def read(self, sample: int, window: Window, grid: GeoBox, frame: int = 0) -> Raster | None:
        """The pixels of a finished chunk of a grid; None where it is not there, torn, or of other work."""
        found = self._load(sample, window, frame)
        if found is None:
            moved = self._moved_of(sample, frame)
            back = None if moved is None else moved.read(window)
            return None if back is None else Raster(*back, grid.crop(window))
        header, block = found
        try:
            opened = unpack if header["packed"] else _opened
            pixels, valid = opened(block, header["dtype"], header["bands"], window.height, window.width)
            return Raster(pixels, valid, grid.crop(window))
        except (ValueError, KeyError, TypeError):
            return None

    def packed(self, sample: int, window: Window, frame: int = 0) -> Packed | None:
        """The same as it was packed; None where it was not."""
        found = self._load(sample, window, frame)
        if found is not None:
            return found[1] if found[0].get("packed") is True else None
        moved = self._moved_of(sample, frame)
        if moved is None or self._image is None or not is_block(window, self._image):
            return None
        return moved.packed((window.row // BLOCK, window.col // BLOCK))

    def hand_over(self, sample: int, chunks: Sequence[Window], target: Path, profile: Profile) -> Handover:
        """What the result of a sample is to be written through, so that tiles go as soon as their blocks stand in it.

        Raises:
            ValueError: for tiles that stay.
        """
        moved = self._moved_of(sample, 0)
        if moved is None:
            raise ValueError("these tiles stay")
        return Handover(
            moved, target, profile, chunks, lambda chunk: self._path(sample, chunk, 0).unlink(missing_ok=True)
        )

    def moved_sizes(self, sample: int) -> tuple[int, int]:
        """Bytes of the files that hold blocks of a sample: on their way, and in their place."""
        moved = self._moved_of(sample, 0)
        return (0, 0) if moved is None else moved.sizes()

    def _moved_of(self, sample: int, frame: int) -> Moved | None:
        """What was moved of a picture; None where nothing can be."""
        if self._pending is None or self._image is None or frame:
            return None
        if sample not in self._moved:
            name = f"{self._name_of_work()}_s{sample:03d}"
            self._moved[sample] = Moved(self._pending, name, self._image)
        return self._moved[sample]

    def _name_of_work(self) -> str:
        return self._work[:16]

    def _load(self, sample: int, window: Window, frame: int) -> tuple[dict[str, Any], Packed] | None:
        try:
            with open(self._path(sample, window, frame), "rb") as file:
                header = self._header(file)
                payload = file.read(header["length"] + 1)
            is_whole = len(payload) == header["length"] and checksum(payload) == header["crc32"]
            if not is_whole or header["key"] != _key(sample, window, frame):
                return None
            at = header["length"] - header["mask"]
            return header, Packed(payload[:at], payload[at:])
        except (OSError, ValueError, KeyError, TypeError):
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


def _plain(raster: Raster) -> Packed:
    """Pixels band by band, little end first, and the mask."""
    kind = raster.pixels.dtype.newbyteorder("<")
    return Packed(raster.pixels.astype(kind, copy=False).tobytes(), pack_mask(raster.valid, raster.valid.shape))


def _opened(
    block: Packed, dtype: str, bands: int, height: int, width: int
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """The inverse of ``_plain``. Raises ValueError for bytes that it did not make."""
    kind = np.dtype(dtype)
    pixels = np.frombuffer(block.pixels, kind.newbyteorder("<")).reshape(bands, height, width)
    return pixels.astype(kind, copy=True), unpack_mask(block.mask, (height, width))


def _key(sample: int, window: Window, frame: int) -> str:
    which = f"s{sample:03d}_f{frame:03d}" if frame else f"s{sample:03d}"
    return f"{which}_r{window.row:07d}_c{window.col:07d}_{window.height}x{window.width}"


#: Chunks that are on their way to the disk while the next one is drawn. One is enough, because drawing takes longer; a
#: crash costs as many, and the one that was being drawn.
WAITING = 1


class Committer:
    """Finishes chunks in a thread of its own, so that packing them and the disk take no time from drawing.

    In a ``with`` block. At its end all chunks that were handed over are on the disk, or their error is raised. After an
    error nothing more is written, so chunks are there in the order in which they were handed over.

    Args:
        tiles: where they go.
    """

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._thread = ThreadPoolExecutor(1, "committing")
        self._waiting: deque[Future[None]] = deque()
        self._failed: BaseException | None = None

    def __enter__(self) -> Committer:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all of them. Where the block ends with an error, that is the one that is raised."""
        try:
            if error is None:
                self.wait()
        finally:
            self._thread.shutdown()

    def write(self, sample: int, window: Window, raster: Raster, frame: int = 0) -> None:
        """Hand a chunk over; returns at once unless ``WAITING`` are on their way already. See ``Tiles.write``.

        Raises:
            OSError: where an earlier chunk could not be written.
        """
        while len(self._waiting) >= WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._write, sample, window, raster, frame))

    def wait(self) -> None:
        """Until every chunk that was handed over is on the disk. Raises OSError where one is not."""
        while self._waiting:
            self._waiting.popleft().result()
        if self._failed is not None:
            raise self._failed

    def _write(self, sample: int, window: Window, raster: Raster, frame: int) -> None:
        if self._failed is not None:
            raise self._failed
        try:
            self._tiles.write(sample, window, raster, frame)
        except BaseException as error:
            self._failed = error
            raise
