"""A raster layer as a source: what it is, and how it gets into a job folder through QGIS's own data provider."""

import math
import os
from dataclasses import dataclass
from typing import Callable, Optional, Sequence, Tuple

import numpy as np
from qgis.core import QgsCoordinateReferenceSystem

from ...engine.contract import GSD_LIMIT, ErrorCode, GeoBox, Source, Window
from ...engine.contract.bands import find_bands
from ..report import Problem, tr
from .crs import crs_of, ground_resolution, longitude_latitude
from .geotiff import write_source
from .native import Native, native
from .reading import Reading
from .storable import require_storable
from .style import shown_bands
from .temporal import layer_date

#: Where the engine finds the source, relative to the job folder.
SOURCE_PATH = "inputs/source.tif"
_WKT = QgsCoordinateReferenceSystem.WktVariant.WKT2_2018


@dataclass(frozen=True)
class SourceInfo:
    """What a raster layer is, as far as a form needs to know.

    Attributes:
        grid: of its pixels.
        gsd: metres on the ground of one pixel, in the middle of the layer.
        band_names: of the data bands.
        data_bands: their 1-based numbers, as QGIS counts.
        dtype: numpy name of the type that holds all of them.
        itemsize: bytes per pixel and band.
        nodata: value that means "no data" in the first data band, None where there is none.
        date: ISO 8601 date of the layer's temporal range, None without one.
        files: that its pixels come from.
        descriptions: what a copy of the source calls the data bands: a sensor's own names, colours, "" for neither.
    """

    grid: GeoBox
    gsd: float
    band_names: Tuple[str, ...]
    data_bands: Tuple[int, ...]
    dtype: str
    itemsize: int
    nodata: Optional[float]
    date: Optional[str]
    files: Tuple[str, ...]
    descriptions: Tuple[str, ...] = ()


def describe(layer) -> SourceInfo:
    """What a layer is; cheap enough for the main thread.

    Raises:
        Problem: SOURCE_UNREADABLE, UNSUPPORTED_RASTER, UNKNOWN_CRS or UNSUPPORTED_GRID, with what to do.
    """
    found = native(layer)
    dtype = _common_type(layer, found.dtypes)
    return SourceInfo(
        grid=found.grid,
        gsd=_gsd(found.grid),
        band_names=tuple(layer.bandName(band) for band in found.bands),
        data_bands=found.bands,
        dtype=dtype,
        itemsize=np.dtype(dtype).itemsize,
        nodata=found.nodata[0],
        date=layer_date(layer),
        files=found.files,
        descriptions=found.descriptions,
    )


def require_sensor(layer, info: SourceInfo, bands: Sequence[str]) -> None:
    """Refuse a layer without bands that a model must be given.

    Args:
        layer: a raster layer.
        info: what it is.
        bands: names of bands of Sentinel-2.

    Raises:
        Problem: UNSUPPORTED_RASTER.
    """
    found = find_bands(info.descriptions)
    missing = found.missing(bands)
    if not missing:
        return
    if found.is_ordered:
        what = tr("The {number} bands of the layer '{name}' do not say which of Sentinel-2's they are.").format(
            number=len(info.data_bands), name=layer.name()
        )
        hint = tr("Choose a layer whose bands are named B1 to B12, or one with all 13 (12 without B10) in their order.")
    else:
        what = tr("The layer '{name}' lacks the Sentinel-2 bands {bands}.").format(
            name=layer.name(), bands=", ".join(missing)
        )
        hint = tr("Choose a layer that has the bands {bands}.").format(bands=", ".join(bands))
    raise Problem(ErrorCode.UNSUPPORTED_RASTER, what, hint)


def colours(layer, info: SourceInfo) -> Tuple[int, ...]:
    """The three bands that a layer shows as red, green and blue, else those that are named so, else its first three.

    One band where it has fewer than three.
    """
    return shown_bands(layer, info.band_names, info.data_bands)


def require_colours(layer, bands: Sequence[int]) -> None:
    """Refuse a layer without red, green and blue.

    Raises:
        Problem: UNSUPPORTED_RASTER.
    """
    if len(bands) < 3:
        raise Problem(
            ErrorCode.UNSUPPORTED_RASTER,
            tr("The layer '{}' has {} of the 3 bands (red, green, blue) that are needed.").format(
                layer.name(), len(bands)
            ),
            tr("Choose a colour image, or join its bands in one raster first: Raster, Miscellaneous, Merge."),
        )


def prepare(layer, bands: Sequence[int] = (), path: str = SOURCE_PATH, window: Optional[Window] = None) -> "Export":
    """Get a layer ready to be written into a job folder from another thread; call it on the main thread.

    Args:
        layer: a raster layer.
        bands: 1-based numbers of the bands to use, in order; empty for all data bands.
        path: where to write it, relative to the job folder.
        window: the pixels to write, all inside the layer; None for all.

    Raises:
        Problem: as ``describe``, and INVALID_REQUEST for bands that the layer does not have.
    """
    found = native(layer)
    require_storable(layer.crs())
    wrong = [band for band in bands if band not in found.bands]
    if wrong or len(set(bands)) != len(tuple(bands)):
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The layer '{}' has no data band {}.").format(layer.name(), ", ".join(map(str, wrong)))
            if wrong
            else tr("A band is listed twice."),
            tr("It has the bands {}.").format(", ".join(map(str, found.bands))),
        )
    return Export(layer, found, tuple(bands), path, window)


class Export:
    """A layer on its way into a job folder.

    Attributes:
        source: as it stands in the request.
        grid: of the pixels that are written.
        gsd: metres on the ground of one pixel, in the middle.
        itemsize: bytes per pixel and band.
        count: bands that are used.
        files: that the pixels come from.
    """

    def __init__(self, layer, found: Native, bands: Tuple[int, ...], path: str, window: Optional[Window]):
        """Take note of what is read later; use ``prepare`` to get one."""
        used = bands or found.bands
        dtype = _common_type(layer, [found.dtypes[found.bands.index(band)] for band in used])
        # Bands keep QGIS's numbers in the file. Alpha comes last nearly always: the file simply ends before it.
        is_gapless = found.bands == tuple(range(1, len(found.bands) + 1))
        self.source = Source(path, layer.name(), bands if bands or is_gapless else used, layer_date(layer))
        self.grid = found.grid if window is None else found.grid.crop(window)
        self.gsd = _gsd(self.grid)
        self.itemsize = np.dtype(dtype).itemsize
        self.count = len(used)
        self.files = found.files
        provider = layer.dataProvider()
        self._reading = Reading(
            provider=provider.name(),
            uri=provider.dataSourceUri(),
            name=layer.name(),
            crs=layer.crs().toWkt(_WKT),
            native=found,
            bands=used,
            dtype=dtype,
            ranges={band: tuple(provider.userNoDataValues(band)) for band in used},
            window=found.grid.window if window is None else window,
        )

    def write(self, folder: str, cancelled: Callable[[], bool]) -> None:
        """Write the raster into the job folder, on any one thread; returns early, without a file, once cancelled.

        Raises:
            Problem: SOURCE_UNREADABLE, SOURCE_EMPTY, DISK_FULL or OUTPUT_NOT_WRITABLE.
        """
        write_source(self._reading, folder, self.source.path, cancelled)


def require_kept(files: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse results that would be written over what they are made from.

    Args:
        files: that the pixels come from.
        targets: where results are to be written.

    Raises:
        Problem: OUTPUT_NOT_WRITABLE.
    """
    for target in targets:
        if os.path.exists(target) and any(_is_same(target, file) for file in files):
            raise Problem(
                ErrorCode.OUTPUT_NOT_WRITABLE,
                tr("A result would replace '{}', which it is made from.").format(os.path.basename(target)),
                tr("Choose another name for the result."),
            )


def _is_same(target: str, file: str) -> bool:
    try:
        return os.path.exists(file) and os.path.samefile(target, file)
    except OSError:  # a file that may not be looked at
        return os.path.normcase(os.path.realpath(target)) == os.path.normcase(os.path.realpath(file))


def _common_type(layer, dtypes: Sequence[str]) -> str:
    """The one type that holds the values of all bands, for a file that has one type."""
    dtype = np.result_type(*dtypes).name
    if dtype not in ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"):
        raise Problem(
            ErrorCode.UNSUPPORTED_RASTER,
            tr("The bands of the layer '{}' have types that do not go together.").format(layer.name()),
            tr("Choose bands of one type, or convert the layer: Raster, Conversion, Translate."),
        )
    return dtype


def _gsd(grid: GeoBox) -> float:
    """Metres on the ground of one pixel in the middle of a grid: the mean over both axes."""
    left, bottom, right, top = grid.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    crs = crs_of(grid.crs)
    longitude_latitude(crs, x, y)
    gx, gy = ground_resolution(crs, x, y, *grid.resolution)
    gsd = math.sqrt(gx * gy) if gx > 0 and gy > 0 else 0.0
    if gsd <= 0:
        raise Problem(
            ErrorCode.UNSUPPORTED_GRID,
            tr("The pixels in the middle of the layer have no size on the ground."),
            tr("Warp it to a projected coordinate reference system first."),
        )
    if gsd >= GSD_LIMIT:
        raise Problem(
            ErrorCode.UNSUPPORTED_GRID,
            tr("The pixels in the middle of the layer are {:.0f} km wide on the ground.").format(gsd / 1000),
            tr("Check its georeferencing and its coordinate reference system: less than {:.0f} km is possible.").format(
                GSD_LIMIT / 1000
            ),
        )
    return gsd
