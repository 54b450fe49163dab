"""An uncompressed GeoTIFF on the way to a result: written window by window, then checked against what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from ..contract import GeoBox, Window
from ..errors import OutputDamaged
from .crs import same_place, to_rasterio
from .options import environment
from .pixels import Profile, Raster

#: What was written where: the only thing that a file is believed against.
Ledger = dict[Window, bytes]
Check = Callable[[], None]
#: Side of its blocks; a chunk is a whole number of them, so no block is written twice.
BLOCK = 256


def digest(pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> bytes:
    """Fingerprint of a window as it must be read back."""
    value = hashlib.sha256(np.ascontiguousarray(pixels).tobytes())
    value.update(np.packbits(valid).tobytes())
    return value.digest()


def write(
    path: Path,
    parts: Iterable[tuple[Window, Raster]],
    grid: GeoBox,
    profile: Profile,
    tags: dict[str, str],
    domains: dict[str, dict[str, str]],
    check: Check,
    **options: str,
) -> Ledger:
    """Write parts of a grid into a new file.

    Args:
        path: the file, made anew.
        parts: windows of the grid with their pixels; each pixel once.
        grid: where the file lies.
        profile: its pixel type, names and so on.
        tags: TIFF tags and metadata of the default domain.
        domains: metadata of other domains.
        check: called between parts; raises to stop.
        options: further creation options of GDAL.
    """
    ledger = {}
    with environment(), rasterio.open(path, "w", **layout(grid, profile, **options)) as file:
        describe(file, profile, tags, domains)
        for window, part in parts:
            check()
            pixels = profile.fill(part)
            where = RasterioWindow(window.col, window.row, window.width, window.height)
            file.write(pixels, window=where)
            if profile.nodata is None:
                file.write_mask(part.valid, window=where)
            ledger[window] = digest(pixels, part.valid)
    return ledger


def layout(grid: GeoBox, profile: Profile, **options: str) -> dict[str, Any]:
    """What GDAL must know to make a file for a grid."""
    count = len(profile.bands)
    # A colour meaning is only given to what QGIS draws as a picture: a fourth band must not become transparency.
    is_rgb = profile.colors[:3] == ("red", "green", "blue") and profile.dtype in ("uint8", "uint16")
    return {
        "driver": "GTiff",
        "count": count,
        "height": grid.height,
        "width": grid.width,
        "dtype": profile.dtype,
        "crs": to_rasterio(grid.crs),
        "transform": rasterio.Affine(*grid.transform),
        "nodata": profile.nodata,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "interleave": "pixel",
        "bigtiff": "IF_SAFER",
        "photometric": "rgb" if is_rgb and count >= 3 else "minisblack",
        **({"alpha": "unspecified"} if count > 1 else {}),
        **options,
    }


def describe(
    file: rasterio.io.DatasetWriter, profile: Profile, tags: dict[str, str], domains: dict[str, dict[str, str]]
) -> None:
    """Give a new file its names, colours, units and metadata."""
    file.descriptions = profile.bands
    colors = profile.colors or ("undefined",) * len(profile.bands)
    file.colorinterp = [ColorInterp[color] for color in colors]
    if profile.scales:
        file.scales = profile.scales
    if profile.offsets:
        file.offsets = profile.offsets
    for index, unit in enumerate(profile.units, start=1):
        if unit:
            file.set_band_unit(index, unit)
    file.update_tags(**tags)
    for domain, items in domains.items():
        file.update_tags(ns=domain, **items)


def verify(path: Path, ledger: Ledger, grid: GeoBox, profile: Profile, check: Check) -> None:
    """Open the file anew and compare it with what was written, window by window.

    Raises:
        OutputDamaged: at the first difference.
    """
    try:
        with environment(), rasterio.open(path, driver="GTiff") as file:
            verify_header(file, grid, profile)
            for window, expected in ledger.items():
                check()
                pixels, valid = read(file, window, profile)
                if digest(pixels, valid) != expected:
                    raise OutputDamaged("The file on disk does not hold the pixels that were written.")
    except (RasterioError, CPLE_BaseError) as error:
        raise OutputDamaged("The file on disk cannot be read back.") from error


def verify_header(file: rasterio.io.DatasetReader, grid: GeoBox, profile: Profile) -> None:
    """Compare what a file says of itself with what was asked. Raises OutputDamaged."""
    wanted = (grid.shape, len(profile.bands), {profile.dtype})
    if ((file.height, file.width), file.count, set(file.dtypes)) != wanted:
        raise OutputDamaged("The file on disk has another size or pixel type than was written.")
    if not file.transform.almost_equals(rasterio.Affine(*grid.transform), precision=1e-12 + _precision(grid)):
        raise OutputDamaged("The file on disk lies elsewhere than was written.")
    if not same_place(file.crs, grid):
        raise OutputDamaged("The file on disk has another coordinate reference system than was written.")
    found, nodata = file.nodata, profile.nodata
    same = found == nodata or (found is not None and nodata is not None and np.isnan(found) and np.isnan(nodata))
    has_mask = MaskFlags.per_dataset in file.mask_flag_enums[0]
    if not same or has_mask != (nodata is None):
        raise OutputDamaged("The file on disk has lost its nodata value or its mask.")


def _precision(grid: GeoBox) -> float:
    return 1e-9 * min(grid.resolution)


def read(
    file: rasterio.io.DatasetReader, window: Window, profile: Profile
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Pixels (bands, h, w) and validity (h, w) of a window of a file that ``write`` made."""
    where = RasterioWindow(window.col, window.row, window.width, window.height)
    pixels = file.read(window=where)
    if profile.nodata is None:
        return pixels, file.read_masks(1, window=where) > 0
    if np.isnan(profile.nodata):
        return pixels, ~np.isnan(pixels).all(axis=0)
    return pixels, (pixels != pixels.dtype.type(profile.nodata)).all(axis=0)


def blocks(grid: GeoBox, side: int = 512) -> Iterator[Window]:
    """Windows that cover a grid, row by row."""
    for row in range(0, grid.height, side):
        for col in range(0, grid.width, side):
            yield Window(row, col, min(side, grid.height - row), min(side, grid.width - col))
