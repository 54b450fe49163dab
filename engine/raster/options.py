"""The settings that GDAL runs under: nothing but plain GeoTIFFs, nothing beside them, nothing from the network."""

from __future__ import annotations

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

#: What rasterio raises for a file that is not as it should be. It lets some of GDAL's own errors through, which have
#: no public name.
GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError)
#: Bytes of GDAL's block cache; its default is a share of all memory.
CACHE_BYTES = 128 * 1024 * 1024


def environment() -> rasterio.Env:
    """A GDAL environment for hostile input; files are also opened with a fixed driver.

    Side files are neither looked for nor read, so an overview or a statistics file cannot name another file.
    Source: reliability note, section 3.4.
    """
    return rasterio.Env(
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_PAM_ENABLED="NO",
        GDAL_VRT_ENABLE_PYTHON="NO",
        GDAL_VRT_ENABLE_RAWRASTERBAND="NO",
        CPL_VSIL_CURL_ALLOWED_FILENAME="nothing matches this",
        GDAL_TIFF_INTERNAL_MASK="YES",
        GDAL_CACHEMAX=CACHE_BYTES,
        GDAL_NUM_THREADS="1",
        PROJ_NETWORK="OFF",
    )
