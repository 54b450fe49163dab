"""The raster that a super-resolution lies over: gaps filled, read square by square, and remembered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..contract import Source, Window
from ..diffusion.windows import squares
from ..radiometry import Radiometry
from ..raster import SourceRaster
from . import gaps
from .chunks import relative

#: Side of a square in source pixels.
SIDE = 256
#: Bytes of squares that are remembered, and the least number of them: those that one window can touch.
MEMORY, LEAST = 64 * 1024 * 1024, 4
#: Windows of which it is remembered whether they hold data.
ASKED = 4096


@dataclass(frozen=True)
class Patch:
    """Source pixels of a window.

    Attributes:
        lr: (bands, h, w) about 0..1, gaps filled. Not to be written to.
        valid: (h, w) bool.
        window: absolute source pixels.
    """

    lr: Tensor
    valid: Tensor
    window: Window

    def crop(self, window: Window) -> Patch:
        """A part of it, in absolute source pixels."""
        rows, cols = window.relative_to(self.window).slices()
        return Patch(self.lr[:, rows, cols], self.valid[rows, cols], window)


class Underlay:
    """A source in the range of a model, at any place: what lies outside of it, or holds no data, is filled.

    Args:
        folder: the job folder.
        source: which file of it, and which bands.
        radiometry: its numbers <-> 0..1.
        mean: of each band, about 0..1.
        origin: absolute (row, col) of its first pixel.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        radiometry: Radiometry,
        mean: NDArray[np.float32],
        origin: tuple[int, int],
    ) -> None:
        self._folder, self._source, self._origin = folder, source, origin
        self._radiometry, self._mean = radiometry, mean
        size = SIDE * SIDE * (mean.itemsize * len(mean) + 1)
        # A square's filling depends on nothing further away than ``gaps.REACH``, so it is the same for all who ask.
        self._square = lru_cache(max(LEAST, MEMORY // size))(self._read_square)
        self.holds_data = lru_cache(ASKED)(self._holds_data)

    def read(self, window: Window) -> Patch:
        """The pixels of a window of absolute source pixels.

        Raises:
            SourceUnreadable: for a damaged file.
        """
        parts = squares(window, SIDE)
        if len(parts) == 1:
            return self._square(*_place(window)).crop(window)
        lr = torch.empty(len(self._mean), window.height, window.width)
        valid = torch.empty(window.height, window.width, dtype=torch.bool)
        for part in parts:
            rows, cols = part.relative_to(window).slices()
            found = self._square(*_place(part)).crop(part)
            lr[:, rows, cols], valid[rows, cols] = found.lr, found.valid
        return Patch(lr, valid, window)

    def _holds_data(self, window: Window) -> bool:
        """Whether any pixel of a window of absolute source pixels holds data."""
        return any(bool(self._square(*_place(part)).crop(part).valid.any()) for part in squares(window, SIDE))

    def _read_square(self, row: int, col: int) -> Patch:
        square = Window(row * SIDE, col * SIDE, SIDE, SIDE)
        with SourceRaster(self._folder, self._source) as source:
            raster = source.read(relative(square.pad(gaps.REACH), self._origin))
        lr = gaps.filled(self._radiometry.to_unit(raster.known), raster.valid, self._mean)
        inner = slice(gaps.REACH, -gaps.REACH)
        valid = np.ascontiguousarray(raster.valid[inner, inner])
        return Patch(torch.from_numpy(lr[:, inner, inner].copy()), torch.from_numpy(valid), square)


def _place(part: Window) -> tuple[int, int]:
    """(row, column) of the square that holds a part of it."""
    return part.row // SIDE, part.col // SIDE
