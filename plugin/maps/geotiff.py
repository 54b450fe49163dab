"""Writing a source raster into a job folder: block by block, in its own type, all that is needed inside the file."""

import math
import os
import shutil
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Tuple

import numpy as np
from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsDataProvider, QgsProviderRegistry, QgsRasterRange, QgsRectangle

from ...engine.contract import ErrorCode, Window
from ..report import Problem, tr
from .gdaloption import gdal_option
from .native import GDAL_TYPES, Native

#: Columns and rows that are read at once: some megabytes, so that cancelling is prompt.
_COLUMNS, _ROWS = 4096, 256
_OPTIONS = (
    *("TILED=YES", "BLOCKXSIZE=256", "BLOCKYSIZE=256", "SPARSE_OK=TRUE", "BIGTIFF=IF_SAFER", "INTERLEAVE=BAND"),
    *("PHOTOMETRIC=MINISBLACK", "ALPHA=NO"),  # else the fourth of four 8-bit bands would count as alpha
)

#: Reads a window of a band.
_Read = Callable[[int, Window], np.ndarray]
_COLOURS = {"red": gdal.GCI_RedBand, "green": gdal.GCI_GreenBand, "blue": gdal.GCI_BlueBand}


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
        ranges: values of each band that the person declared to mean "no data".
    """

    provider: str
    uri: str
    name: str
    crs: str
    native: Native
    bands: Tuple[int, ...]
    dtype: str
    ranges: Dict[int, Tuple[QgsRasterRange, ...]]

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


def write_source(reading: Reading, folder: str, path: str, cancelled: Callable[[], bool]) -> None:
    """Write ``path`` below ``folder``; leaves nothing behind where that fails or is cancelled.

    Raises:
        Problem: SOURCE_UNREADABLE, SOURCE_EMPTY, DISK_FULL or OUTPUT_NOT_WRITABLE.
    """
    target = os.path.join(folder, *path.split("/"))
    part = target[: -len(".tif")] + ".part.tif"
    box = reading.native.grid
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        needed = box.pixels * len(reading.bands) * np.dtype(reading.dtype).itemsize
        if shutil.disk_usage(folder).free < needed + 10_000_000:
            raise _disk_full(folder)
        has_data = _write(reading, part, cancelled)
        if cancelled():
            return
        if not has_data:
            raise Problem(
                ErrorCode.SOURCE_EMPTY,
                tr("The layer '{}' holds no data: every pixel is empty.").format(reading.name),
                tr("Choose another layer, other bands, or check its 'no data' value in the layer properties."),
            )
        os.replace(part, target)
        _meet_crs(target)
    except OSError as error:
        raise Problem(
            ErrorCode.OUTPUT_NOT_WRITABLE,
            tr("The job folder cannot be written to."),
            tr("Check the permissions and the free space of {}.").format(folder),
            str(error),
        ) from error
    finally:
        if os.path.exists(part):
            os.remove(part)


def _meet_crs(path: str) -> None:
    """Have QGIS identify a file's CRS here: without a code that takes up to a second, once, and results have it too."""
    file = gdal.OpenEx(path, gdal.OF_RASTER)
    if file is not None:
        QgsCoordinateReferenceSystem.fromWkt(file.GetProjection())


def _write(reading: Reading, path: str, cancelled: Callable[[], bool]) -> bool:
    """Write the file; returns whether there is any data in it."""
    with gdal_option("GDAL_TIFF_INTERNAL_MASK", "YES"):
        dataset = _create(reading, path)
        mask = None
        if reading.has_mask:
            dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
            mask = dataset.GetRasterBand(1).GetMaskBand()
        shown = _provider_values(reading)
        read = _stored_values(reading) if reading.native.file else shown
        has_data = False
        height, width = reading.native.grid.shape
        for row in range(0, height, _ROWS):
            for col in range(0, width, _COLUMNS):
                if cancelled():
                    return has_data
                window = Window(row, col, min(_ROWS, height - row), min(_COLUMNS, width - col))
                valid = _write_block(reading, read, shown, dataset, mask, window)
                has_data = has_data or valid
        _flush(dataset, path)
        mask = dataset = None
    return has_data


def _create(reading: Reading, path: str) -> gdal.Dataset:
    box, found = reading.native.grid, reading.native
    kind = next(key for key, name in GDAL_TYPES.items() if name == reading.dtype)
    try:
        dataset = gdal.GetDriverByName("GTiff").Create(
            path, box.width, box.height, max(found.bands), kind, list(_OPTIONS)
        )
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if dataset is None:
        raise OSError(gdal.GetLastErrorMsg())
    a, b, c, d, e, f = box.transform
    dataset.SetGeoTransform((c, a, b, f, d, e))  # GDAL's order
    dataset.SetProjection(reading.crs)
    dataset.SetMetadataItem("AREA_OR_POINT", "Area")
    for band, scale, name in zip(found.bands, found.scales, found.names):
        written = dataset.GetRasterBand(band)
        written.SetDescription(name)
        written.SetColorInterpretation(_COLOURS.get(name, gdal.GCI_GrayIndex if band == 1 else gdal.GCI_Undefined))
        if scale != (1.0, 0.0):
            written.SetScale(scale[0])
            written.SetOffset(scale[1])
    if reading.nodata is not None:
        dataset.GetRasterBand(1).SetNoDataValue(reading.nodata)
    return dataset


def _write_block(
    reading: Reading, read: _Read, shown: _Read, dataset: gdal.Dataset, mask: Optional[gdal.Band], window: Window
) -> bool:
    """Copy one window of every band; returns whether any pixel of it is valid."""
    valid = np.ones((window.height, window.width), bool)
    for band in reading.bands:
        values = read(band, window)
        valid &= _has_data(reading, band, values)
        _put(dataset.GetRasterBand(band), window, values.astype(reading.dtype, copy=False))
    if reading.native.alpha is not None:
        valid &= shown(reading.native.alpha, window) > 0
    if mask is not None:
        _put(mask, window, valid.astype(np.uint8) * np.uint8(255))
    return bool(valid.any())


def _provider_values(reading: Reading) -> _Read:
    """A function that reads a window of a band through QGIS's provider."""
    a, _, c, _, e, f = reading.native.grid.transform
    # opened on the thread that reads, and gone when the reading is over
    provider = QgsProviderRegistry.instance().createProvider(
        reading.provider, reading.uri, QgsDataProvider.ProviderOptions()
    )
    shape = reading.native.grid.shape
    if provider is None or not provider.isValid() or (provider.ySize(), provider.xSize()) != shape:
        raise _unreadable(reading)

    def read(band: int, window: Window) -> np.ndarray:
        height, width = window.height, window.width
        left, top = c + a * window.col, f + e * window.row
        block = provider.block(band, QgsRectangle(left, top + e * height, left + a * width, top), width, height)
        size = height * width
        if block is None or not block.isValid() or (block.height(), block.width()) != (height, width):
            raise _unreadable(reading)
        data = bytes(block.data())
        kind = _BLOCK_TYPES.get(len(data) // size)
        dtype = reading.native.dtypes[reading.native.bands.index(band)] if band in reading.native.bands else kind
        if len(data) != size * np.dtype(dtype).itemsize:
            raise _unreadable(reading)
        return np.frombuffer(data, dtype).reshape(height, width)

    return read


#: Types of alpha bands by size in bytes.
_BLOCK_TYPES = {1: "uint8", 2: "uint16", 4: "float32", 8: "float64"}


def _stored_values(reading: Reading) -> _Read:
    """A function that reads a window of a band as it is stored, where QGIS would hand out scaled values."""
    dataset = gdal.OpenEx(reading.native.file.split("|option:")[0], gdal.OF_RASTER)
    if dataset is None:
        raise _unreadable(reading)

    def read(band: int, window: Window) -> np.ndarray:
        stored = dataset.GetRasterBand(band)
        data = stored.ReadRaster(window.col, window.row, window.width, window.height)
        if data is None:
            raise _unreadable(reading)
        return np.frombuffer(data, GDAL_TYPES[stored.DataType]).reshape(window.height, window.width)

    return read


def _has_data(reading: Reading, band: int, values: np.ndarray) -> np.ndarray:
    """Where a band has data."""
    nodata = reading.native.nodata[reading.native.bands.index(band)]
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if nodata is not None and not math.isnan(nodata) and _fits(nodata, values.dtype.name):
        valid &= values != values.dtype.type(nodata)
    for declared in reading.ranges[band]:
        inside = np.ones(values.shape, bool)
        bounds = declared.bounds()
        kinds = QgsRasterRange.BoundsType
        if not math.isnan(declared.min()):
            has_min = bounds in (kinds.IncludeMinAndMax, kinds.IncludeMin)
            inside &= values >= declared.min() if has_min else values > declared.min()
        if not math.isnan(declared.max()):
            has_max = bounds in (kinds.IncludeMinAndMax, kinds.IncludeMax)
            inside &= values <= declared.max() if has_max else values < declared.max()
        valid &= ~inside
    return valid


def _put(band: gdal.Band, window: Window, values: np.ndarray) -> None:
    place = (window.col, window.row, window.width, window.height)
    try:
        status = band.WriteRaster(*place, values.tobytes(), buf_type=band.DataType)
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if status != gdal.CE_None:
        raise OSError(gdal.GetLastErrorMsg())


def _flush(dataset: gdal.Dataset, path: str) -> None:
    gdal.ErrorReset()
    try:
        dataset.FlushCache()
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if gdal.GetLastErrorType() >= gdal.CE_Failure:
        raise OSError(gdal.GetLastErrorMsg() or path)


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


def _disk_full(folder: str) -> Problem:
    return Problem(
        ErrorCode.DISK_FULL,
        tr("There is not enough space for a copy of the source in {}.").format(folder),
        tr("Free some space, or choose fewer bands or a smaller raster."),
    )
