"""The picture so far, small: chunks as they are finished, and windows as they form."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from ..context import JobContext
from ..contract import GeoBox, Window
from ..raster import Raster

#: Longest side in pixels.
SIDE = 512
#: Seconds between two previews that cost work of their own, and the largest share of the time that they may take.
INTERVAL = 2.0
SHARE = 0.05


class Canvas:
    """Every n-th pixel of a grid, painted bit by bit.

    Args:
        grid: what is drawn.
        bands: of the picture.
        dtype: numpy name of the pixel type.
    """

    def __init__(self, grid: GeoBox, bands: int, dtype: str) -> None:
        self._step = step = max(1, math.ceil(max(grid.shape) / SIDE))
        shape = (math.ceil(grid.height / step), math.ceil(grid.width / step))
        a, b, c, d, e, f = grid.transform
        self._grid = GeoBox(grid.crs, (a * step, b * step, c, d * step, e * step, f), shape)
        self._whole = grid.window
        self._pixels: NDArray[np.generic] = np.zeros((bands, *shape), dtype)
        self._valid = np.zeros(shape, np.bool_)
        self._is_fine = np.zeros(shape, np.bool_)
        self._due = time.monotonic()
        self._began = 0.0

    def is_due(self) -> bool:
        """Whether it is time for a preview that must be computed first. Never changes what is drawn."""
        self._began = time.monotonic()
        return self._began >= self._due

    def paint(self, pixels: NDArray[np.generic], valid: NDArray[np.bool_], window: Window, zoom: int = 1) -> None:
        """Put pixels (bands, height, width) in their place; what lies outside the grid is left out.

        Args:
            pixels: of a window.
            valid: (height, width), where they count.
            window: that they cover, in pixels of the grid.
            zoom: pixels of the grid that each of them covers along each axis. Above 1, what was painted at 1 stays.
        """
        if not window.intersects(self._whole):
            return
        inside = window.intersection(self._whole)
        step = self._step
        rows = slice(-(-inside.row // step), -(-inside.row_end // step))
        cols = slice(-(-inside.col // step), -(-inside.col_end // step))
        from_rows = (np.arange(rows.start, rows.stop) * step - window.row) // zoom
        from_cols = (np.arange(cols.start, cols.stop) * step - window.col) // zoom
        place = np.ix_(from_rows, from_cols)
        if zoom == 1:
            self._pixels[:, rows, cols], self._valid[rows, cols] = pixels[:, place[0], place[1]], valid[place]
            self._is_fine[rows, cols] = True
            return
        free = ~self._is_fine[rows, cols]
        self._pixels[:, rows, cols] = np.where(free, pixels[:, place[0], place[1]], self._pixels[:, rows, cols])
        self._valid[rows, cols] = np.where(free, valid[place], self._valid[rows, cols])

    def show(self, ctx: JobContext) -> None:
        """Hand the picture so far to the context, if that shows it to anybody."""
        if not ctx.shows:
            self._due = math.inf
            return
        ctx.preview(Raster(self._pixels.copy(), self._valid.copy(), self._grid))
        now = time.monotonic()
        self._due = now + max(INTERVAL, (now - self._began) / SHARE)
