"""Writing a source raster into a job folder: block by block, in its own type, all that is needed inside the file."""

import os
import secrets
import shutil
from contextlib import contextmanager
from typing import Callable, Iterator, Optional

import numpy as np
from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem

from ...engine.contract import ErrorCode, GeoBox, Window
from ..report import Problem, tr
from .crs import crs_of
from .gdaloption import gdal_option
from .native import GDAL_TYPES
from .reading import Pixels, Reading

#: Columns and rows that are read at once: some megabytes, so that cancelling is prompt.
_COLUMNS, _ROWS = 4096, 256
#: Side of the squares in which a picture is painted.
_SQUARE = 2048
#: Bytes that stay free on the disk.
_SPARE = 10_000_000
_OPTIONS = (
    *("TILED=YES", "BLOCKXSIZE=256", "BLOCKYSIZE=256", "SPARSE_OK=TRUE", "BIGTIFF=IF_SAFER", "INTERLEAVE=BAND"),
    *("PHOTOMETRIC=MINISBLACK", "ALPHA=NO"),  # else the fourth of four 8-bit bands would count as alpha
)

_WKT = QgsCoordinateReferenceSystem.WktVariant.WKT2_2018
_COLOURS = {"red": gdal.GCI_RedBand, "green": gdal.GCI_GreenBand, "blue": gdal.GCI_BlueBand}


def write_source(reading: Reading, folder: str, path: str, cancelled: Callable[[], bool]) -> None:
    """Write ``path`` below ``folder``; leaves nothing behind where that fails or is cancelled.

    Raises:
        Problem: SOURCE_UNREADABLE, SOURCE_EMPTY, DISK_FULL or OUTPUT_NOT_WRITABLE.
    """
    box = reading.native.grid.crop(reading.window)
    needed = box.pixels * len(reading.bands) * np.dtype(reading.dtype).itemsize
    with _replaced(folder, path, needed) as part:
        has_data = _write(reading, part, cancelled)
        if not has_data and not cancelled():
            raise Problem(
                ErrorCode.SOURCE_EMPTY,
                tr("The layer '{}' holds no data: every pixel is empty.").format(reading.name),
                tr("Choose another layer, other bands, or check its 'no data' value in the layer properties."),
            )
        if cancelled():
            os.remove(part)


def write_colours(
    paint: Callable[[GeoBox], np.ndarray], grid: GeoBox, folder: str, path: str, cancelled: Callable[[], bool]
) -> None:
    """Write a picture of red, green and blue block by block; leaves nothing behind where that fails or is cancelled.

    Args:
        paint: grid of a block -> 8-bit colours, shape (3, height, width).
        grid: of the picture.
        folder: the job folder.
        path: below it.
        cancelled: whether to stop.

    Raises:
        Problem: what ``paint`` raises, DISK_FULL or OUTPUT_NOT_WRITABLE.
    """
    with _replaced(folder, path, 3 * grid.pixels) as part:
        dataset = _new(part, grid, 3, gdal.GDT_Byte, crs_of(grid.crs).toWkt(_WKT))
        try:
            for band, name in enumerate(_COLOURS, 1):
                dataset.GetRasterBand(band).SetDescription(name)
                dataset.GetRasterBand(band).SetColorInterpretation(_COLOURS[name])
            for row in range(0, grid.height, _SQUARE):
                for col in range(0, grid.width, _SQUARE):
                    block = Window(row, col, min(_SQUARE, grid.height - row), min(_SQUARE, grid.width - col))
                    if not cancelled():
                        for band, values in enumerate(paint(grid.crop(block)), 1):
                            _put(dataset.GetRasterBand(band), block, values)
            _flush(dataset, part)
        finally:
            dataset = None  # closes the file
        if cancelled():
            os.remove(part)


@contextmanager
def _replaced(folder: str, path: str, needed: int) -> Iterator[str]:
    """The name of a file to write; at the end it takes the place of the one that is meant, if it is there.

    Args:
        folder: the job folder.
        path: below it.
        needed: bytes, at most.

    Raises:
        Problem: DISK_FULL or OUTPUT_NOT_WRITABLE.
    """
    target = os.path.join(folder, *path.split("/"))
    # A name of its own: after a cancel and a retry, the writer before may still be at its last block.
    part = f"{target[: -len('.tif')]}.{secrets.token_hex(4)}.part.tif"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if shutil.disk_usage(folder).free < needed + _SPARE:
            raise _disk_full(folder)
        yield part
        if os.path.exists(part):
            os.replace(part, target)
            _meet_crs(target)
    except OSError as error:
        if shutil.disk_usage(os.path.dirname(folder) or os.curdir).free < _SPARE:
            raise _disk_full(folder) from error
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
        has_data = False
        height, width = reading.window.height, reading.window.width
        try:
            with Pixels(reading) as pixels:
                for row in range(0, height, _ROWS):
                    for col in range(0, width, _COLUMNS):
                        if cancelled():
                            return has_data
                        window = Window(row, col, min(_ROWS, height - row), min(_COLUMNS, width - col))
                        valid = _write_block(reading, pixels, dataset, mask, window)
                        has_data = has_data or valid
            _flush(dataset, path)
        finally:
            mask = dataset = None  # closes the file
    return has_data


def _create(reading: Reading, path: str) -> gdal.Dataset:
    box, found = reading.native.grid.crop(reading.window), reading.native
    kind = next(key for key, name in GDAL_TYPES.items() if name == reading.dtype)
    dataset = _new(path, box, max(found.bands), kind, reading.crs)
    for key, value in found.tags:
        dataset.SetMetadataItem(key, value)
    for band, scale, name, own in zip(found.bands, found.scales, found.names, found.descriptions):
        written = dataset.GetRasterBand(band)
        written.SetDescription(own)
        written.SetColorInterpretation(_COLOURS.get(name, gdal.GCI_GrayIndex if band == 1 else gdal.GCI_Undefined))
        if scale != (1.0, 0.0):
            written.SetScale(scale[0])
            written.SetOffset(scale[1])
    if reading.nodata is not None:
        dataset.GetRasterBand(1).SetNoDataValue(reading.nodata)
    return dataset


def _new(path: str, box: GeoBox, bands: int, kind: int, crs: str) -> gdal.Dataset:
    try:
        dataset = gdal.GetDriverByName("GTiff").Create(path, box.width, box.height, bands, kind, list(_OPTIONS))
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if dataset is None:
        raise OSError(gdal.GetLastErrorMsg())
    a, b, c, d, e, f = box.transform
    dataset.SetGeoTransform((c, a, b, f, d, e))  # GDAL's order
    dataset.SetProjection(crs)
    dataset.SetMetadataItem("AREA_OR_POINT", "Area")
    return dataset


def _write_block(
    reading: Reading, pixels: Pixels, dataset: gdal.Dataset, mask: Optional[gdal.Band], window: Window
) -> bool:
    """Copy one window of the file, every band of it; returns whether any pixel of it is valid."""
    valid = np.ones((window.height, window.width), bool)
    there = Window(reading.window.row + window.row, reading.window.col + window.col, window.height, window.width)
    for band in reading.bands:
        values = pixels.read(band, there)
        valid &= pixels.has_data(band, values)
        _put(dataset.GetRasterBand(band), window, values.astype(reading.dtype, copy=False))
    if reading.native.alpha is not None:
        valid &= pixels.alpha(there) > 0
    if mask is not None:
        _put(mask, window, valid.astype(np.uint8) * np.uint8(255))
    return bool(valid.any())


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


def _disk_full(folder: str) -> Problem:
    return Problem(
        ErrorCode.DISK_FULL,
        tr("There is not enough space for a copy of the source in {}.").format(folder),
        tr("Free some space, or choose fewer bands or a smaller raster."),
    )
