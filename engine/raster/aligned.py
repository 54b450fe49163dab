"""A raster of the job folder on another grid, read window by window.

What a pixel becomes does not depend on the window that it is read in: the grid is cut into squares at fixed places, and
each square is resampled by itself, from the same pixels of the raster each time.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform

from ..contract import GeoBox, Source, Window
from ..errors import SourceUnreadable, UnsupportedGrid, UnsupportedRaster
from .cog import WARP_COARSER, WARP_TOLERANCE
from .crs import to_rasterio
from .options import GDAL_ERRORS, environment
from .pixels import Profile, Raster
from .source import SourceRaster

#: Side of a square of the grid, at most, and of what it is resampled from, about.
SIDE, SOURCE_SIDE = 256, 2048
#: Most numbers of the raster that one square is resampled from.
SOURCE_LIMIT = 2**26
#: Bytes of resampled squares that are remembered.
REMEMBERED = 16 * 1024 * 1024
#: How far, in pixels, two grids of one CRS may be off each other and still be the same pixels.
_SAME = 1e-4
#: Places along a side of a square where it is looked up which pixels of the raster lie there; more where need be.
_PLACES = 17


class AlignedRaster:
    """A plain GeoTIFF inside the job folder, on a grid of any CRS. The file is only open while it is read.

    Where both grids have the same pixels, moved by whole ones, numbers are handed through as they are. Else a raster
    that is finer than the grid is averaged over each pixel's area, and others are interpolated bilinearly; a pixel
    holds data where more than half of what it is made of does.

    Args:
        folder: the job folder.
        source: which file of it, and which bands.
        grid: where the pixels shall lie.
        resampling: "picture" as above; "classes" for numbers and colours that must not be mixed: the nearest pixel.

    Attributes:
        grid: as given; windows count from its first pixel and may reach beyond it.
        original: grid of the file.
        profile: pixel type, names, nodata and so on of the bands that are used, the same on both grids.
        bands: 1-based numbers of the bands that are used.

    Raises:
        UnsupportedGrid: where the two cannot be related. What ``SourceRaster`` raises, besides.
    """

    def __init__(self, folder: Path, source: Source, grid: GeoBox, resampling: str = "picture") -> None:
        if resampling not in ("picture", "classes"):
            raise ValueError("resampling must be picture or classes")
        self._folder, self._source = folder, source
        self.grid = grid
        with SourceRaster(folder, source) as file:
            self.original, self.bands = file.grid, file.bands
            self.profile: Profile = file.profile
        self._shift = _whole_shift(grid, self.original)
        ratio = 1.0 if self._shift else self._ratio()
        if resampling == "classes":
            self._how = Resampling.nearest
        else:
            self._how = Resampling.average if ratio >= WARP_COARSER else Resampling.bilinear
        self._side = max(1, min(SIDE, int(SOURCE_SIDE / ratio)))
        self._squares: OrderedDict[tuple[int, int], Raster] = OrderedDict()

    def read(self, window: Window, check: Callable[[], None] = lambda: None) -> Raster:
        """The pixels of a window of the grid; where the raster holds no data they are not valid, and 0.

        Args:
            window: counted from the grid's first pixel.
            check: called for each part that is read; may raise to stop.

        Raises:
            SourceUnreadable: for a damaged file.
            UnsupportedRaster: for a raster so much finer than the grid that a pixel is made of too many of its.
        """
        with SourceRaster(self._folder, self._source) as file:
            if self._shift:
                down, right = self._shift
                part = file.read(Window(window.row + down, window.col + right, window.height, window.width))
                pixels, valid = part.pixels, part.valid
            else:
                pixels = np.zeros((len(self.bands), window.height, window.width), self.profile.dtype)
                valid = np.zeros((window.height, window.width), np.bool_)
                side = self._side
                for row in range(window.row // side, (window.row_end - 1) // side + 1):
                    for col in range(window.col // side, (window.col_end - 1) // side + 1):
                        check()
                        square = Window(row * side, col * side, side, side)
                        known, here = self._square(file, (row, col)), square.intersection(window)
                        there = here.relative_to(window).slices()
                        rows, cols = here.relative_to(square).slices()
                        pixels[(slice(None), *there)] = known.pixels[:, rows, cols]
                        valid[there] = known.valid[rows, cols]
        pixels[:, ~valid] = 0
        return Raster(pixels, valid, self.grid.crop(window))

    def sample(self, check: Callable[[], None] = lambda: None) -> Raster:
        """The whole raster on its own grid, every n-th pixel of it: see ``SourceRaster.sample``."""
        with SourceRaster(self._folder, self._source) as file:
            return file.sample(check)

    def sha256(self, check: Callable[[], None] = lambda: None) -> str:
        """Hash of the raster's own pixels: see ``SourceRaster.sha256``."""
        with SourceRaster(self._folder, self._source) as file:
            return file.sha256(check)

    def _square(self, file: SourceRaster, index: tuple[int, int]) -> Raster:
        if index in self._squares:
            self._squares.move_to_end(index)
        else:
            side = self._side
            self._squares[index] = self._resampled(file, Window(index[0] * side, index[1] * side, side, side))
            size = (len(self.bands) * self.profile.itemsize + 1) * side * side
            while len(self._squares) > max(1, REMEMBERED // size):
                self._squares.popitem(last=False)
        return self._squares[index]

    def _resampled(self, file: SourceRaster, window: Window) -> Raster:
        grid = self.grid.crop(window)
        nothing = Raster(np.zeros((len(self.bands), *grid.shape), self.profile.dtype), np.zeros(grid.shape, bool), grid)
        below = self._below(window)
        if below is None:
            return nothing
        if below.height * below.width * len(self.bands) > SOURCE_LIMIT:
            raise UnsupportedRaster(
                "The raster is too fine for the grid that it is needed on.", "Choose a coarser version of the layer."
            )
        part = file.read(below)
        if not part.valid.any():
            return nothing
        if self._how is Resampling.nearest:
            pixels, known = _warped(part.pixels, part.grid, grid, self._how), part.valid[None].astype(np.uint8)
            return Raster(pixels, _warped(known, part.grid, grid, self._how)[0] > 0, grid)
        dtype = np.dtype(self.profile.dtype)
        # float32 has every number of 16 bits
        exact = np.float32 if dtype.itemsize <= 2 or dtype == np.float32 else np.float64
        stack = np.concatenate([part.pixels, part.valid[None]]).astype(exact)
        stack[:-1, ~part.valid] = 0  # fill of any size would drown its neighbours
        *bands, share = _warped(stack, part.grid, grid, self._how)
        valid = share > 0.5
        values = np.stack(bands) / np.where(valid, share, 1)
        if dtype.kind != "f":
            limits = np.iinfo(dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        return Raster(np.where(valid, values, 0).astype(dtype), valid, grid)

    def _below(self, window: Window) -> Window | None:
        """The pixels of the raster that a window of the grid is made of, and some more; None where there are none."""
        for count in (_PLACES, 4 * _PLACES):
            rows = np.linspace(window.row, window.row_end, count)
            cols = np.linspace(window.col, window.col_end, count)
            col, row = self._places(*(axis.ravel() for axis in np.meshgrid(cols, rows)))
            known = np.isfinite(col) & np.isfinite(row)
            if known.all():
                break  # else the ground ends in this square, and there it is bent most
        if not known.any():
            return None
        col, row = col[known], row[known]
        # between the places the outline may bulge: never by more than a step of theirs
        beyond_col, beyond_row = (2 + np.ptp(axis) / (_PLACES - 1) for axis in (col, row))
        # cut to the raster before numbers become integers: they may be huge
        limits = (self.original.height, self.original.width)
        first = [max(0, math.floor(v)) for v in (max(row.min() - beyond_row, 0), max(col.min() - beyond_col, 0))]
        last = [
            math.ceil(min(v, limit))
            for v, limit in zip((row.max() + beyond_row, col.max() + beyond_col), limits, strict=True)
        ]
        if first[0] >= last[0] or first[1] >= last[1]:
            return None
        return Window(first[0], first[1], last[0] - first[0], last[1] - first[1])

    def _ratio(self) -> float:
        """Pixels of the raster along the side of a pixel of the grid, at the grid's centre."""
        col, row = self.grid.width / 2, self.grid.height / 2
        x, y = self._places(np.array([col, col + 1, col]), np.array([row, row, row + 1]))
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise UnsupportedGrid("The raster's coordinate reference system does not reach to the extent.")
        area = abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]))
        return float(max(math.sqrt(area), 1e-6))

    def _places(
        self, cols: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Places on the grid -> (columns, rows) of the raster, counted from pixel corners; not finite where none."""
        a, b, c, d, e, f = self.grid.transform
        x, y = _transformed(self.grid.crs, self.original.crs, a * cols + b * rows + c, d * cols + e * rows + f)
        a, b, c, d, e, f = self.original.transform
        with np.errstate(invalid="ignore"):  # infinite less infinite, where there is no such place
            return (e * (x - c) - b * (y - f)) / (a * e - b * d), (a * (y - f) - d * (x - c)) / (a * e - b * d)


def _transformed(
    crs: str, other: str, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map (x, y) of one CRS -> another, by GDAL as in the warp itself; infinite where the other has no such place."""
    systems = to_rasterio(crs), to_rasterio(other)
    with environment():
        try:
            there_x, there_y = transform(*systems, x.tolist(), y.tolist())
        except GDAL_ERRORS:  # one bad place spoils all
            there_x, there_y = zip(*(_one_transformed(systems, *place) for place in zip(x.tolist(), y.tolist())))
    return np.array(there_x), np.array(there_y)


def _one_transformed(systems: tuple[CRS, CRS], x: float, y: float) -> tuple[float, float]:
    try:
        (there_x,), (there_y,) = transform(*systems, [x], [y])
    except GDAL_ERRORS:
        return math.inf, math.inf
    return there_x, there_y


def _whole_shift(grid: GeoBox, original: GeoBox) -> tuple[int, int] | None:
    """(rows, columns) from the grid's first pixel to the raster's, where both have the same pixels; else None."""
    if to_rasterio(grid.crs) != to_rasterio(original.crs):
        return None
    col, row = original.to_pixel(*grid.to_map(0, 0))
    far_col, far_row = original.to_pixel(*grid.to_map(grid.width, grid.height))
    down, right = round(row), round(col)
    off = (row - down, col - right, far_row - down - grid.height, far_col - right - grid.width)
    return (down, right) if max(abs(each) for each in off) < _SAME else None


def _warped(pixels: NDArray[np.generic], source: GeoBox, grid: GeoBox, how: Resampling) -> NDArray[np.generic]:
    """Pixels (n, h, w) of one grid on another; 0 beyond them."""
    # GDAL would guess a scale for each square from its outline, and widen the bilinear kernel by it
    scale = {} if how is Resampling.average else {"XSCALE": "1", "YSCALE": "1"}
    count, (height, width) = len(pixels), source.shape
    try:
        # through a file in memory, because ``rasterio.warp.reproject`` of arrays knows no tolerance but 0.125 pixel
        with environment(), rasterio.MemoryFile() as memory:
            with memory.open(
                driver="GTiff",
                count=count,
                height=height,
                width=width,
                dtype=pixels.dtype.name,
                crs=to_rasterio(source.crs),
                transform=rasterio.Affine(*source.transform),
                photometric="minisblack",
                **({"alpha": "unspecified"} if count > 1 else {}),
            ) as file:
                file.write(pixels)
            with (
                memory.open(driver="GTiff") as file,
                WarpedVRT(
                    file,
                    crs=to_rasterio(grid.crs),
                    transform=rasterio.Affine(*grid.transform),
                    height=grid.height,
                    width=grid.width,
                    resampling=how,
                    tolerance=WARP_TOLERANCE,
                    warp_mem_limit=64,
                    **scale,
                ) as warped,
            ):
                return warped.read()
    except GDAL_ERRORS as error:
        raise SourceUnreadable("The raster cannot be brought onto the grid that it is needed on.") from error
