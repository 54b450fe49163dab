"""Smaller versions of an image, each half the size of the one before, made in one pass over its blocks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .blocks import BLOCK
from .parts import BlockFile, Blocks, Index, count
from .pixels import Profile

Pixels = NDArray[np.generic]
Valid = NDArray[np.bool_]


def shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of an image and of its smaller versions, down to one that is a single block."""
    found = [shape]
    while max(found[-1]) > BLOCK:
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found


class Pyramid:
    """The smaller versions of an image, in files on the way.

    Blocks are taken in an order in which the four that make one smaller block follow each other, so that no more than
    one block of each size is in memory.

    Args:
        base: the image.
        shape: its (height, width).
        profile: of the pixels.
        folder: where the files go.
    """

    def __init__(self, base: Blocks, shape: tuple[int, int], profile: Profile, folder: Path) -> None:
        self._base, self._profile, self._folder = base, profile, folder
        self.shapes = shapes(shape)
        self.levels: list[Blocks] = [base]
        self._files: list[BlockFile] = []
        self._open = ExitStack()

    def __enter__(self) -> Pyramid:
        """Make the files, empty."""
        with self._open as stack:
            for level, shape in enumerate(self.shapes[1:], start=1):
                file = BlockFile(self._folder / f"overview_{level}.blocks", shape, self._profile)
                self._files.append(stack.enter_context(file))
            self._open = stack.pop_all()
        self.levels += self._files
        return self

    def __exit__(self, *error: object) -> None:
        """Drop them."""
        self._open.close()

    def drop(self, level: int) -> None:
        """Give back the room of a smaller version that is not needed any more."""
        if level:
            self._files[level - 1].drop()

    def draw(self, tell: Callable[[], None]) -> None:
        """Make all smaller versions.

        Args:
            tell: called for each block of the image; may raise to stop.
        """
        if self._files:
            self._block(len(self._files), (0, 0), tell)

    def _block(self, level: int, index: Index, tell: Callable[[], None]) -> tuple[Pixels, Valid]:
        """The pixels of a block, which is kept if it is not of the image itself."""
        if level == 0:
            tell()
            return self._base.pixels(index)
        down, across = count(self.shapes[level - 1])
        rows = [row for row in (2 * index[0], 2 * index[0] + 1) if row < down]
        cols = [col for col in (2 * index[1], 2 * index[1] + 1) if col < across]
        quarters = [[halved(*self._block(level - 1, (row, col), tell)) for col in cols] for row in rows]
        pixels = np.concatenate([np.concatenate([q[0] for q in row], axis=2) for row in quarters], axis=1)
        valid = np.concatenate([np.concatenate([q[1] for q in row], axis=1) for row in quarters], axis=0)
        pixels = self._profile.filled(pixels, valid)
        self._files[level - 1].put(index, pixels, valid)
        return pixels, valid


def halved(pixels: Pixels, valid: Valid) -> tuple[Pixels, Valid]:
    """The mean of what holds data in each two by two pixels; no data where none of them does. Halves are rounded up.

    Args:
        pixels: (bands, h, w).
        valid: (h, w).

    Returns:
        (bands, ceil(h / 2), ceil(w / 2)) of the same type, and where it holds data.
    """
    height, width = valid.shape
    if height % 2 or width % 2:
        beyond = (0, height % 2), (0, width % 2)
        pixels, valid = np.pad(pixels, ((0, 0), *beyond)), np.pad(valid, beyond)
    corners = [(slice(row, None, 2), slice(col, None, 2)) for row in (0, 1) for col in (0, 1)]
    is_whole = pixels.dtype.kind != "f"
    if is_whole and pixels.dtype.itemsize <= 2 and valid.all():
        total = np.full((len(pixels), *valid[::2, ::2].shape), 2, np.int32)
        for rows, cols in corners:
            total += pixels[:, rows, cols]
        return (total >> 2).astype(pixels.dtype), valid[::2, ::2]
    share = np.sum([valid[corner] for corner in corners], axis=0, dtype=np.float64)
    mean = np.zeros((len(pixels), *valid[::2, ::2].shape))
    for rows, cols in corners:  # divided first: a sum of large numbers may be none
        mean += np.where(valid[rows, cols], pixels[:, rows, cols], 0) / np.maximum(share, 1)
    rounded = np.floor(mean + 0.5) if is_whole else mean
    return np.asarray(rounded, pixels.dtype), np.asarray(share > 0)
