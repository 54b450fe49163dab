"""The raster that an edit starts from, part by part: its numbers, how a model sees them, and where it is drawn anew."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..contract import GeoBox, Source, Window
from ..radiometry import Radiometry
from ..raster import Polygons, Raster, SourceRaster
from . import gaps

#: Parts that are remembered; those of one chunk lie near each other.
REMEMBERED = 8


@dataclass(frozen=True)
class Patch:
    """A part of the ground.

    Attributes:
        raster: its own numbers; beyond the source there is no data.
        unit: (bands, h, w) as the model sees them, about 0..1, gaps filled.
        repaint: (h, w) bool, where the result is drawn: inside the polygons where there is data, and the margin.
        known: (h, w) bool, where the source holds what is drawn: data outside the polygons.
    """

    raster: Raster
    unit: Tensor
    repaint: NDArray[np.bool_]
    known: NDArray[np.bool_]


class Ground:
    """The source, the polygons and the margin of one request.

    Args:
        folder: the job folder.
        source: which raster of it, and which bands.
        grid: of the source.
        margin: pixels that are drawn beyond it on each side.
        radiometry: its numbers <-> what the model sees, about 0..1.
        mean: of each band, about 0..1.
        polygons: where to change; None for everywhere, or, with a margin, for nowhere but there.

    Attributes:
        grid: what is drawn: that of the source and the margin. All windows are counted from its first pixel.
        anchor: absolute (row, col) of that pixel; a margin does not move the source on its lattice.
        radiometry: as above.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        grid: GeoBox,
        margin: int,
        radiometry: Radiometry,
        mean: NDArray[np.float32],
        polygons: Polygons | None,
    ) -> None:
        self.grid = grid.pad(margin) if margin else grid
        row, col = grid.anchor()
        self.anchor = row - margin, col - margin
        self.radiometry = radiometry
        self._folder, self._source, self._margin, self._mean = folder, source, margin, mean
        self._inner = Window(margin, margin, *grid.shape)
        self._polygons = polygons
        self.patch = functools.lru_cache(REMEMBERED)(self._patch)

    @property
    def bounds(self) -> Window:
        """The pixels around all that is drawn; one too many is possible, one too few is not."""
        if self._margin or self._polygons is None:
            return self.grid.window
        return self._polygons.bounds(self.grid.window)

    def changes(self, window: Window) -> bool:
        """Whether any pixel of a window is drawn."""
        inside, beyond = self._inside(window), self._beyond(window)
        return bool(beyond.any() or (inside.any() and (self.read(window).valid & inside).any()))

    def read(self, window: Window) -> Raster:
        """The source's own numbers in a window."""
        with SourceRaster(self._folder, self._source) as source:
            found = source.read(self._of_source(window))
        return Raster(found.pixels, found.valid, self.grid.crop(window))

    def where(self, window: Window, valid: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(height, width) of a window: which pixels are drawn, and which of them lie beyond the source.

        Args:
            window: any.
            valid: where the source holds data in it.
        """
        beyond = self._beyond(window)
        return (self._inside(window) & valid) | beyond, beyond

    def _patch(self, window: Window) -> Patch:
        """A window as a model sees it; the last few are remembered."""
        around = self.read(window.pad(gaps.REACH))
        unit = gaps.filled(self.radiometry.to_unit(known_numbers(around)), around.valid, self._mean)
        inner = slice(gaps.REACH, -gaps.REACH)
        valid, inside = around.valid[inner, inner], self._inside(window)
        return Patch(
            Raster(around.pixels[:, inner, inner], valid, self.grid.crop(window)),
            torch.from_numpy(unit[:, inner, inner].copy()),
            (inside & valid) | self._beyond(window),
            ~inside & valid,
        )

    def _inside(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels are to change, as far as the source holds data there."""
        if self._polygons is not None:
            return self._polygons.inside(self._of_source(window))
        return np.full((window.height, window.width), self._margin == 0)

    def _beyond(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels lie in the margin."""
        found = np.zeros((window.height, window.width), np.bool_)
        for part, is_beyond in ((self.grid.window, True), (self._inner, False)):
            if self._margin and part.intersects(window):
                found[part.intersection(window).relative_to(window).slices()] = is_beyond
        return found

    def _of_source(self, window: Window) -> Window:
        """A window as it is counted from the source's first pixel."""
        return Window(window.row - self._margin, window.col - self._margin, window.height, window.width)


def known_numbers(raster: Raster) -> NDArray[np.generic]:
    """The pixels, 0 where there is no data: what stands there may be too large for any arithmetic."""
    return np.where(raster.valid, raster.pixels, raster.pixels.dtype.type(0))
