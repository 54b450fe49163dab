"""Reading a layer's pixels on a worker thread: through QGIS's data provider, as they are stored."""

import math
import sys
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import numpy as np
from osgeo import gdal
from qgis.core import QgsDataProvider, QgsProviderRegistry, QgsRasterRange, QgsRectangle

from ...engine.contract import ErrorCode, Window
from ..report import Problem, tr
from .native import GDAL_TYPES, Native, own_transform

#: Types of alpha bands by size in bytes.
_ALPHA_TYPES = {1: "uint8", 2: "uint16", 4: "float32", 8: "float64"}


@dataclass(frozen=True)
class Reading:
    """What is read; plain values, so that it can wait, and go to any thread.

    Attributes:
        provider: key of QGIS's data provider.
        uri: what the provider opens.
        name: of the layer.
        crs: WKT.
        native: what the layer really is.
        bands: numbers of the bands to read.
        dtype: numpy name of the file's type.
        ranges: real (scaled) values of each band that the person declared to mean "no data".
        window: the pixels to read, of the whole layer.
    """

    provider: str
    uri: str
    name: str
    crs: str
    native: Native
    bands: Tuple[int, ...]
    dtype: str
    ranges: Dict[int, Tuple[QgsRasterRange, ...]]
    window: Window

    @property
    def nodata(self) -> Optional[float]:
        """The value that means "no data" in every band that is read, None where there is no such value."""
        values = [self.native.nodata[self.native.bands.index(band)] for band in self.bands]
        first = values[0]
        if first is None or any(value is None or not _same(value, first) for value in values):
            return None
        return first if _fits(first, self.dtype) else None

    @property
    def has_mask(self) -> bool:
        """Whether it takes more than one value to say where data is."""
        declared = any(self.native.nodata[self.native.bands.index(band)] is not None for band in self.bands)
        return self.native.alpha is not None or any(self.ranges.values()) or (declared and self.nodata is None)


class Pixels:
    """The pixels of a layer, open for reading on this thread for the length of a ``with`` block.

    Nothing of QGIS or GDAL outlives the block, not even in the traceback of an exception.
    """

    def __init__(self, reading: Reading):
        """Open nothing yet."""
        self._reading = reading
        self._provider = None
        self._stored: Optional[gdal.Dataset] = None

    def __enter__(self) -> "Pixels":
        """Open the source.

        Raises:
            Problem: SOURCE_UNREADABLE, or UNSUPPORTED_RASTER for one on another grid than it seemed.
        """
        reading = self._reading
        shape = reading.native.grid.shape
        try:
            if reading.native.file:
                self._stored = _open(reading, reading.native.file)
            if reading.provider == "gdal" and not reading.native.is_checked:
                own_transform(reading.name, shape, reading.native.grid.transform, _open(reading, reading.uri))
            provider = QgsProviderRegistry.instance().createProvider(
                reading.provider, reading.uri, QgsDataProvider.ProviderOptions()
            )
            self._provider, provider = provider, None
            if self._provider is None or not self._provider.isValid():
                raise _unreadable(reading)
            if (self._provider.ySize(), self._provider.xSize()) != shape:
                raise _unreadable(reading)
        except Problem:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._provider = self._stored = None

    def read(self, band: int, window: Window) -> np.ndarray:
        """Stored values of a data band, shape (height, width).

        Raises:
            Problem: SOURCE_UNREADABLE.
        """
        native = self._reading.native
        if self._stored is None:
            return self._block(band, window, native.dtypes[native.bands.index(band)])
        stored = self._stored.GetRasterBand(band)
        try:
            data = stored.ReadRaster(window.col, window.row, window.width, window.height)
        except RuntimeError:  # where another plugin turned GDAL's exceptions on
            data = None
        if data is None:
            raise _unreadable(self._reading)
        return np.frombuffer(data, GDAL_TYPES[stored.DataType]).reshape(window.height, window.width)

    def alpha(self, window: Window) -> np.ndarray:
        """Values of the band that says where data is, shape (height, width).

        Raises:
            Problem: SOURCE_UNREADABLE.
        """
        return self._block(self._reading.native.alpha, window, "")

    def has_data(self, band: int, values: np.ndarray) -> np.ndarray:
        """Where the values of a band are data, shape (height, width), bool."""
        return _has_data(self._reading, band, values)

    def _block(self, band: int, window: Window, dtype: str) -> np.ndarray:
        height, width = window.height, window.width
        a, _, c, _, e, f = self._reading.native.grid.transform
        left, top = c + a * window.col, f + e * window.row
        bounds = QgsRectangle(left, top + e * height, left + a * width, top)
        block = self._provider.block(band, bounds, width, height)
        if block is None or not block.isValid() or (block.height(), block.width()) != (height, width):
            raise _unreadable(self._reading)
        data = bytes(block.data())
        dtype = dtype or _ALPHA_TYPES.get(len(data) // (height * width), "uint8")
        if len(data) != height * width * np.dtype(dtype).itemsize:
            raise _unreadable(self._reading)
        return np.frombuffer(data, dtype).reshape(height, width)


def _open(reading: Reading, uri: str) -> gdal.Dataset:
    try:
        dataset = gdal.OpenEx(uri.split("|option:")[0], gdal.OF_RASTER)
    except RuntimeError:
        dataset = None
    if dataset is None:
        raise _unreadable(reading)
    return dataset


def _has_data(reading: Reading, band: int, values: np.ndarray) -> np.ndarray:
    """Where a band has data."""
    nodata = reading.native.nodata[reading.native.bands.index(band)]
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if nodata is not None and not math.isnan(nodata) and _fits(nodata, values.dtype.name):
        with np.errstate(over="ignore"):  # a double that is too large for the type becomes infinite
            valid &= values != values.dtype.type(nodata)
    if not reading.ranges[band]:
        return valid
    # A person declares real values. Without a file of its own the provider has handed out those, unscaled.
    scale, offset = reading.native.scales[reading.native.bands.index(band)]
    is_scaled = bool(reading.native.file) and (scale, offset) != (1.0, 0.0)
    step = abs(scale) if values.dtype.kind in "iu" else 0.0
    real = values.astype(np.float64) * scale + offset if is_scaled else values
    for declared in reading.ranges[band]:
        inside = np.ones(values.shape, bool)
        bounds = declared.bounds()
        kinds = QgsRasterRange.BoundsType
        if not math.isnan(declared.min()):
            has_min = bounds in (kinds.IncludeMinAndMax, kinds.IncludeMin)
            slack = _slack(declared.min(), step) if is_scaled else 0.0
            inside &= real >= declared.min() - slack if has_min else real > declared.min() + slack
        if not math.isnan(declared.max()):
            has_max = bounds in (kinds.IncludeMinAndMax, kinds.IncludeMax)
            slack = _slack(declared.max(), step) if is_scaled else 0.0
            inside &= real <= declared.max() + slack if has_max else real < declared.max() - slack
        valid &= ~inside
    return valid


def _slack(bound: float, step: float) -> float:
    """How far a scaled value may be off a bound that it means: QGIS scales in single precision, people round.

    Args:
        bound: as declared.
        step: between two neighbouring stored values, 0 for floating point.
    """
    rounding = abs(bound) * 2.0**-23 if math.isfinite(bound) else 0.0
    return max(4 * sys.float_info.epsilon, rounding, step / 100)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _fits(value: float, dtype: str) -> bool:
    """Whether a number is one of a type's values."""
    if np.dtype(dtype).kind == "f":
        return True
    limits = np.iinfo(dtype)
    return math.isfinite(value) and value == int(value) and limits.min <= value <= limits.max


def _unreadable(reading: Reading) -> Problem:
    return Problem(
        ErrorCode.SOURCE_UNREADABLE,
        tr("The layer '{}' could not be read to its end.").format(reading.name),
        tr("Check that its file is complete and still there."),
        gdal.GetLastErrorMsg(),
    )
