"""Rasters made on the spot with QGIS's own GDAL."""

from __future__ import annotations

import gc

import numpy as np
import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsRasterLayer

gdal.UseExceptions()  # the stricter of the two ways, and the one to come; newer GDAL warns where neither was chosen

TYPES = {
    "uint8": gdal.GDT_Byte,
    "uint16": gdal.GDT_UInt16,
    "int16": gdal.GDT_Int16,
    "uint32": gdal.GDT_UInt32,
    "int32": gdal.GDT_Int32,
    "float32": gdal.GDT_Float32,
    "float64": gdal.GDT_Float64,
    "complex64": gdal.GDT_CFloat32,
}


@pytest.fixture(autouse=True)
def collected():
    """Layers that an exception's traceback holds must not outlive QGIS."""
    yield
    gc.collect()


@pytest.fixture
def raster(qgis_app, tmp_path):
    """Writes a GeoTIFF and returns its path: ``raster(pixels, crs=..., transform=..., nodata=..., edit=...)``."""

    def make(
        pixels,
        crs="EPSG:32633",
        transform=(500000, 10, 0, 5000000, 0, -10),
        nodata=None,
        name="r.tif",
        edit=None,
        options=("PHOTOMETRIC=MINISBLACK", "ALPHA=NO"),
    ):
        path = str(tmp_path / name)
        count, height, width = pixels.shape
        file = gdal.GetDriverByName("GTiff").Create(path, width, height, count, TYPES[pixels.dtype.name], list(options))
        if transform:
            file.SetGeoTransform(transform)
        if crs:
            file.SetProjection(QgsCoordinateReferenceSystem(crs).toWkt())
        for number, band in enumerate(pixels, 1):
            file.GetRasterBand(number).WriteRaster(0, 0, width, height, np.ascontiguousarray(band).tobytes())
            if nodata is not None:
                file.GetRasterBand(number).SetNoDataValue(nodata)
        if edit:
            edit(file)
        file.FlushCache()
        return path

    return make


@pytest.fixture
def layer(raster):
    """As ``raster``, but returns a layer."""

    def make(pixels, **more):
        return QgsRasterLayer(raster(pixels, **more), "a layer", "gdal")

    return make


@pytest.fixture
def ramp():
    """Pixels that all differ, as far as their type can: ``ramp(bands, height, width, dtype)``."""

    def make(bands=3, height=40, width=50, dtype="uint8"):
        values = np.arange(bands * height * width).reshape(bands, height, width)
        if dtype == "uint8":
            values = values % 251 + 1
        elif "float" in dtype:
            values = values * 0.37 - 100
        else:
            values = values + 1
        return values.astype(dtype)

    return make
