"""Pixels of a whole grid, block by block: composed of the parts that were drawn, or kept in a file on the way.

Nothing here grows with the grid but a few numbers for each block.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..contract import GeoBox, Window
from ..errors import OutputDamaged
from .blocks import BLOCK, Packed, checksum, pack, unpack
from .pixels import Profile, Raster

#: Bytes of parts that are remembered for the blocks beside them.
REMEMBERED = 16 * 1024 * 1024
#: Row and column of a block, counted in blocks.
Index = tuple[int, int]


@dataclass(frozen=True)
class Parts:
    """What a grid was drawn in.

    Attributes:
        windows: disjoint, covering the grid.
        read: the pixels of one of them.
        packed: one of them as it was packed by ``blocks.pack``, from pixels as ``Profile.fill`` makes them; None where
            it is not kept so.
    """

    windows: Sequence[Window]
    read: Callable[[Window], Raster]
    packed: Callable[[Window], Packed | None] = field(default=lambda window: None)


class Blocks(Protocol):
    """Pixels of a grid by block; blocks on the right and bottom edge are cut off by it."""

    def pixels(self, index: Index) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Pixels (bands, h, w) as they stand in a file, and where they hold data (h, w)."""

    def packed(self, index: Index) -> Packed:
        """The same, packed."""


def count(shape: tuple[int, int]) -> tuple[int, int]:
    """Blocks of an image: (down, across)."""
    return -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)


def window(index: Index, shape: tuple[int, int]) -> Window:
    """The pixels of a block of an image."""
    row, col = index[0] * BLOCK, index[1] * BLOCK
    return Window(row, col, min(BLOCK, shape[0] - row), min(BLOCK, shape[1] - col))


def blocks_of(part: Window) -> list[Index]:
    """The blocks that some pixels of an image lie in, row by row."""
    rows = range(part.row // BLOCK, (part.row_end - 1) // BLOCK + 1)
    cols = range(part.col // BLOCK, (part.col_end - 1) // BLOCK + 1)
    return [(row, col) for row in rows for col in cols]


def is_block(part: Window, shape: tuple[int, int]) -> bool:
    """Whether some pixels of an image are one of its blocks."""
    return part == window((part.row // BLOCK, part.col // BLOCK), shape)


class Composed:
    """Blocks of the grid that parts were drawn on.

    Args:
        parts: of the grid.
        grid: what they cover.
        profile: of the pixels.
    """

    def __init__(self, parts: Parts, grid: GeoBox, profile: Profile) -> None:
        self._parts, self._grid, self._profile = parts, grid, profile
        self._touching: dict[Index, list[Window]] = {}
        for part in parts.windows:
            for index in blocks_of(part):
                self._touching.setdefault(index, []).append(part)
        self._known: OrderedDict[Window, Raster] = OrderedDict()

    def pixels(self, index: Index) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """See ``Blocks``."""
        block, profile = window(index, self._grid.shape), self._profile
        if self._touching[index] == [block]:
            raster = self._parts.read(block)
            return profile.fill(raster), raster.valid
        pixels = np.zeros((len(profile.bands), block.height, block.width), profile.dtype)
        valid = np.zeros((block.height, block.width), np.bool_)
        for part in self._touching[index]:
            raster, common = self._read(part), part.intersection(block)
            rows, cols = common.relative_to(block).slices()
            from_rows, from_cols = common.relative_to(part).slices()
            pixels[:, rows, cols] = raster.pixels[:, from_rows, from_cols]
            valid[rows, cols] = raster.valid[from_rows, from_cols]
        return profile.fill(Raster(pixels, valid, self._grid.crop(block))), valid

    def packed(self, index: Index) -> Packed:
        """See ``Blocks``: where a part is a block, the very bytes that were kept of it."""
        block = window(index, self._grid.shape)
        kept = self._parts.packed(block) if self._touching[index] == [block] else None
        return kept or pack(*self.pixels(index))

    def _read(self, part: Window) -> Raster:
        if part in self._known:
            self._known.move_to_end(part)
        else:
            raster = self._known[part] = self._parts.read(part)
            size = raster.pixels.nbytes + raster.valid.nbytes
            while len(self._known) > max(1, REMEMBERED // size):
                self._known.popitem(last=False)
        return self._known[part]


class BlockFile:
    """Packed blocks on their way to a result, in a file that is gone afterwards.

    Args:
        path: the file.
        shape: (height, width) of the image that they are of.
        profile: of the pixels.
    """

    def __init__(self, path: Path, shape: tuple[int, int], profile: Profile) -> None:
        self._path, self._shape, self._profile = path, shape, profile
        self._places: dict[Index, tuple[int, int, int, int]] = {}
        self._end = 0
        self._file = open(path, "w+b")

    def __enter__(self) -> BlockFile:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the file."""
        self.drop()

    def drop(self) -> None:
        """Have the file be gone; nothing can be read any more."""
        try:
            self._file.close()  # may fail once more where the disk is full
        finally:
            self._path.unlink(missing_ok=True)

    def put(self, index: Index, pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> None:
        """Keep a block, pixels as ``Profile.fill`` makes them. Raises OSError where the disk is full."""
        block = pack(pixels, valid)
        self._places[index] = (self._end, len(block.pixels), len(block.mask), checksum(block.pixels, block.mask))
        self._file.seek(self._end)
        self._file.write(block.pixels)
        self._file.write(block.mask)
        self._end += len(block.pixels) + len(block.mask)

    def pixels(self, index: Index) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """See ``Blocks``."""
        block, profile = window(index, self._shape), self._profile
        return unpack(self.packed(index), profile.dtype, len(profile.bands), block.height, block.width)

    def packed(self, index: Index) -> Packed:
        """See ``Blocks``. Raises OutputDamaged where the disk gave back something else than was written."""
        at, length, mask, expected = self._places[index]
        self._file.seek(at)
        content = self._file.read(length + mask)
        if len(content) != length + mask or checksum(content) != expected:
            raise OutputDamaged("The disk gave back other pixels than were put into the scratch folder.")
        return Packed(content[:length], content[length:])
