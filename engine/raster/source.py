"""A raster that the engine was given: opened as if it were hostile, read window by window."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as RasterioWindow

from ..contract import PIXELS_LIMIT, GeoBox, Source, Window
from ..errors import EngineError, InvalidRequest, SourceUnreadable, UnknownCrs, UnsupportedGrid, UnsupportedRaster
from .crs import from_rasterio, to_rasterio
from .jobfile import job_file
from .options import GDAL_ERRORS, environment
from .pixels import Profile, Raster

#: Most bands that are read.
BANDS_LIMIT = 64
#: Side of the decimated read that statistics are taken from, in pixels.
SAMPLE_SIDE = 1024
#: Numbers of this size are no measurements but fill that nobody declared (-3.4e38 and the like): they are no data.
FILL = 1e30
#: Bytes of a part that is read at once: as a rule, and at most.
_PART, _PART_LIMIT = 16_000_000, 128_000_000
#: Parts that the sample is read in, at most, so that reading a large file can be stopped.
_SAMPLE_PARTS = 32
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


class SourceRaster:
    """A plain GeoTIFF inside the job folder. Use it in one thread, in a ``with`` block.

    Args:
        folder: the job folder.
        source: which file of it, and which bands.

    Attributes:
        grid: where it lies.
        profile: pixel type, names, nodata and so on of the bands that are used.
        bands: 1-based numbers of the bands that are used, never an alpha band.
        tags: what the file says about itself, by the names of its metadata.

    Raises:
        SourceUnreadable: where there is no such file, or it is not a GeoTIFF.
        UnsupportedRaster: for complex numbers, a palette, or more pixels than can be handled.
        UnknownCrs: where it has no CRS.
        UnsupportedGrid: where it has no georeferencing.
        InvalidRequest: for bands that it does not have.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        try:
            path = job_file(folder, source.path)
        except FileNotFoundError as error:
            raise SourceUnreadable(f"The raster {error}.") from error
        try:
            with environment(), warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)  # told in a sentence, below
                self._file = rasterio.open(path, driver="GTiff")
        except GDAL_ERRORS as error:
            raise SourceUnreadable("The raster is not a readable GeoTIFF.") from error
        try:
            self._examine(source)
        except EngineError:
            self._file.close()
            raise
        except GDAL_ERRORS as error:  # a damaged file can fail at any of its fields
            self._file.close()
            raise SourceUnreadable("The raster is damaged: it cannot be examined.") from error

    def _examine(self, source: Source) -> None:
        file = self._file
        if file.width * file.height > PIXELS_LIMIT or file.count > BANDS_LIMIT:
            raise UnsupportedRaster(
                f"The raster has {file.width} x {file.height} pixels and {file.count} bands, which is too much.",
                "Cut out the part that you need.",
            )
        interpretation = file.colorinterp
        data = [i for i in range(1, file.count + 1) if interpretation[i - 1] is not ColorInterp.alpha]
        self.bands = tuple(source.bands) or tuple(data)
        if not self.bands or not set(self.bands) <= set(data) or len(set(self.bands)) != len(self.bands):
            raise InvalidRequest(f"The raster has the bands {data}, not {list(self.bands)}.", "Choose other bands.")
        types = {file.dtypes[i - 1] for i in self.bands}
        if len(types) > 1:
            raise UnsupportedRaster("The bands have different pixel types.", "Choose bands of one type.")
        dtype = types.pop()
        if dtype not in _TYPES:
            kind = "complex numbers" if dtype.startswith("complex") else f"the type {dtype}"
            raise UnsupportedRaster(f"The pixels are of {kind}.", "Convert the layer to a real number type.")
        if any(interpretation[i - 1] is ColorInterp.palette for i in self.bands):
            raise UnsupportedRaster(
                "The pixels are numbers of colours in a palette, or of classes.", "Convert the layer to RGB first."
            )
        if file.transform == rasterio.Affine.identity() and not file.crs:
            raise UnsupportedGrid("The raster is not georeferenced.", "Georeference the layer first.")
        if not file.crs:
            raise UnknownCrs("The raster has no coordinate reference system.")
        try:
            transform = tuple(file.transform)[:6]
            self.grid = GeoBox(from_rasterio(file.crs), transform, (file.height, file.width))
        except ValueError as error:
            if isinstance(error, UnknownCrs):
                raise
            raise UnsupportedGrid("The raster's georeferencing is not usable.") from error
        to_rasterio(self.grid.crs)
        self._alpha = [i for i in range(1, file.count + 1) if i not in data]
        self._masked = any(
            MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags for flags in file.mask_flag_enums
        )
        self._nodata = [file.nodatavals[i - 1] for i in self.bands]
        self.profile = self._describe(dtype)
        self.tags: dict[str, str] = dict(file.tags())

    def _describe(self, dtype: str) -> Profile:
        file, at = self._file, [i - 1 for i in self.bands]
        names = [file.descriptions[i] or f"band {i + 1}" for i in at]
        colors = [file.colorinterp[i].name for i in at]
        return Profile(
            dtype=dtype,
            bands=tuple(names),
            nodata=_one_nodata(self._nodata, dtype, has_mask=self._masked or bool(self._alpha)),
            scales=tuple(file.scales[i] for i in at),
            offsets=tuple(file.offsets[i] for i in at),
            colors=tuple(color if color in _COLORS else "undefined" for color in colors),
            units=tuple(file.units[i] or "" for i in at),
        )

    def __enter__(self) -> SourceRaster:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, window: Window) -> Raster:
        """The pixels of a window; what lies outside the raster is not valid, and 0.

        Raises:
            SourceUnreadable: for a damaged file.
        """
        count, dtype = len(self.bands), self.profile.dtype
        pixels = np.zeros((count, window.height, window.width), dtype)
        valid = np.zeros((window.height, window.width), np.bool_)
        if window.intersects(self.grid.window):
            inside = window.intersection(self.grid.window)
            rows, cols = inside.relative_to(window).slices()
            pixels[:, rows, cols], valid[rows, cols] = self._read(inside, (inside.height, inside.width))
        return Raster(pixels, valid, self.grid.crop(window))

    def sample(self, check: Callable[[], None] = lambda: None) -> Raster:
        """The whole raster, every n-th pixel of it, for statistics.

        Args:
            check: called for each part that is read; may raise to stop.

        Raises:
            SourceUnreadable: for a damaged file.
        """
        step = max(1, -(-max(self.grid.shape) // SAMPLE_SIDE))
        shape = (-(-self.grid.height // step), -(-self.grid.width // step))
        block = self._file.block_shapes[self.bands[0] - 1][0]
        rows = max(-(-shape[0] // _SAMPLE_PARTS), -(-block // step))  # of the sample; no block is in three parts
        parts = []
        for row in range(0, shape[0], rows):
            check()
            count = min(rows, shape[0] - row)
            height = min(count * step, self.grid.height - row * step)
            parts.append(self._read(Window(row * step, 0, height, self.grid.width), (count, shape[1])))
        pixels, valid = (np.concatenate(part, axis=-2) for part in zip(*parts))
        a, b, c, d, e, f = self.grid.transform
        return Raster(pixels, valid, GeoBox(self.grid.crs, (a * step, b * step, c, d * step, e * step, f), shape))

    def sha256(self, check: Callable[[], None] = lambda: None) -> str:
        """Hash of the pixels that are used and of where they hold data, row by row, whatever the file's blocks.

        Args:
            check: called for each part that is read; may raise to stop.

        Raises:
            SourceUnreadable: for a damaged file.
        """
        digest = hashlib.sha256(f"{self.profile.dtype} {len(self.bands)} {self.grid.shape}".encode())
        rows = self._rows_at_once()
        for row in range(0, self.grid.height, rows):
            check()
            part = self.read(Window(row, 0, min(rows, self.grid.height - row), self.grid.width))
            for pixels, valid in zip(part.pixels.swapaxes(0, 1), part.valid):
                digest.update(pixels.tobytes())
                digest.update(np.packbits(valid).tobytes())
        return digest.hexdigest()

    def _rows_at_once(self) -> int:
        """Rows of a part of a moderate size: whole rows of blocks, so that none is unpacked twice, where they fit."""
        row_bytes = self.grid.width * len(self.bands) * self.profile.itemsize
        block = self._file.block_shapes[self.bands[0] - 1][0]
        if block * row_bytes > _PART_LIMIT:
            return max(1, _PART // row_bytes)
        return int(max(1, _PART // (block * row_bytes)) * block)

    def _read(self, window: Window, shape: tuple[int, int]) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        where = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            with environment():
                pixels = self._file.read(list(self.bands), window=where, out_shape=(len(self.bands), *shape))
                valid = np.ones(shape, np.bool_)
                for index in self._alpha:
                    valid &= self._file.read(index, window=where, out_shape=shape) > 0
                if self._masked:
                    valid &= self._file.read_masks(self.bands[0], window=where, out_shape=shape) > 0
        except GDAL_ERRORS as error:
            raise SourceUnreadable("The raster is damaged: a part of it cannot be read.") from error
        for band, nodata in zip(pixels, self._nodata):
            if nodata is not None and not np.isnan(nodata):
                # as QGIS draws it: a pixel is empty where any of the bands in use is; compared in the pixels' own
                # type, since -3.4e38 is another number in float64
                valid &= band != _in_type(nodata, self.profile.dtype)
            if band.dtype.kind == "f":
                valid &= np.abs(band) < FILL  # false for what is not a number
        return pixels, valid


_COLORS = frozenset({"gray", "red", "green", "blue", "undefined"})


def _in_type(nodata: float, dtype: str) -> np.generic | float:
    """Nodata as a number of the pixel type; itself where the type does not have it, so that no pixel equals it."""
    if np.dtype(dtype).kind == "f":
        return np.dtype(dtype).type(nodata)
    limits = np.iinfo(dtype)
    if nodata != int(nodata) or not limits.min <= nodata <= limits.max:
        return float(nodata)
    return np.dtype(dtype).type(int(nodata))


def _one_nodata(values: list[float | None], dtype: str, has_mask: bool) -> float | None:
    """The nodata value for the output: the first band's, if the pixel type has it; NaN for floats without any."""
    is_float = np.dtype(dtype).kind == "f"
    value = values[0]
    if value is None or (np.isnan(value) and not is_float):
        return float("nan") if is_float and not has_mask else None
    if is_float:
        return float(np.dtype(dtype).type(value))
    limits = np.iinfo(dtype)
    return float(value) if np.isfinite(value) and value == int(value) and limits.min <= value <= limits.max else None
