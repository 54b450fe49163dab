"""A small georeferenced picture of an unfinished raster."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from ..contract import GeoBox
from .crs import to_rasterio
from .options import GDAL_ERRORS, environment
from .pixels import Raster

#: Longest side of a preview, in pixels.
SIDE = 512


def write_preview(path: Path, raster: Raster) -> None:
    """Write the raster, every n-th pixel of it, in its own type, with an internal mask.

    Raises:
        OSError: where it cannot be written; no file is left behind.
    """
    try:
        _write(path, raster)
    except GDAL_ERRORS as error:
        path.unlink(missing_ok=True)
        raise OSError(errno.EIO, "the preview cannot be written") from error


def _write(path: Path, raster: Raster) -> None:
    step = max(1, math.ceil(max(raster.grid.shape) / SIDE))
    pixels, valid = raster.pixels[:, ::step, ::step], raster.valid[::step, ::step]
    a, b, c, d, e, f = raster.grid.transform
    grid = GeoBox(raster.grid.crs, (a * step, b * step, c, d * step, e * step, f), valid.shape)
    with (
        environment(),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=pixels.shape[0],
            height=grid.height,
            width=grid.width,
            dtype=pixels.dtype.name,
            crs=to_rasterio(grid.crs),
            transform=rasterio.Affine(*grid.transform),
            compress="deflate",
            photometric="rgb" if pixels.shape[0] == 3 and pixels.dtype == np.uint8 else "minisblack",
        ) as target,
    ):
        if pixels.shape[0] > 3:
            target.colorinterp = [ColorInterp.undefined] * pixels.shape[0]
        target.write(pixels)
        target.write_mask(valid)
