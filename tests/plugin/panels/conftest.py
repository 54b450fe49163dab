"""Cards, a map and a raster to fill forms with."""

import numpy as np
import pytest
from afterimage.engine.contract import Measure, ModelCard
from osgeo import gdal, osr
from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer, QgsRectangle, QgsSettings

gdal.UseExceptions()


def painter(**more) -> ModelCard:
    facts = dict(
        id="painter",
        name="Painter",
        summary="Draws fields & woods.",
        family="tiny",
        version="1.0.0",
        tasks=("Generate",),
        bands=("red", "green", "blue"),
        gsd=(10.0, 20.0),
        window=64,
        stride=48,
        schedulers=("DDIM", "DDPM"),
        steps=25,
        guidance_scale=3.0,
        uses=("prompt", "gsd"),
        vocabulary=("forest", "river", "annual crop"),
        licence="CC BY 4.0",
        training_data=("EuroSAT RGB, train",),
        limitations="No clouds.",
        measures=(Measure("Accuracy", "EuroSAT test", 81.2, "%", "real: 96.1 %"),),
        memory_mb=900,
        gflop_per_window_step=0.8,
    )
    return ModelCard(**{**facts, **more})


def sharpener(**more) -> ModelCard:
    facts = dict(id="sharpener", name="Sharpener", tasks=("SuperResolve",), gsd=(0.3, 10.0), factors=(2, 4), uses=())
    return painter(**{**facts, "guidance_scale": 1.0, "vocabulary": (), "steps": 20, **more})


@pytest.fixture(autouse=True)
def nothing_remembered():
    QgsSettings().remove("afterimage")
    yield
    QgsSettings().remove("afterimage")


@pytest.fixture
def cards():
    return (
        painter(),
        painter(id="second", name="Second", uses=("date", "negative_prompt", "place", "prompt")),
        sharpener(),
    )


@pytest.fixture
def canvas(qgis_canvas, qgis_new_project):
    """A map of 8 by about 5 kilometres east of Munich, in UTM."""
    crs = QgsCoordinateReferenceSystem("EPSG:32633")
    QgsProject.instance().setCrs(crs)
    qgis_canvas.setDestinationCrs(crs)
    qgis_canvas.setRotation(0)
    qgis_canvas.resize(400, 250)
    qgis_canvas.setExtent(QgsRectangle(300000, 5300000, 308000, 5305000))
    return qgis_canvas


def write_raster(path, bands=3, dtype=gdal.GDT_Byte, side=40, epsg=32633):
    raster = gdal.GetDriverByName("GTiff").Create(str(path), side, side, bands, dtype)
    raster.SetGeoTransform((300000.0, 10.0, 0.0, 5300000.0, 0.0, -10.0))
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(epsg)
    raster.SetProjection(reference.ExportToWkt())
    pixels = np.random.default_rng(1).integers(1, 200, (side, side))
    for band in range(1, bands + 1):
        raster.GetRasterBand(band).WriteArray(pixels)
        raster.GetRasterBand(band).SetDescription(f"b{band}")
    raster.FlushCache()
    return str(path)


@pytest.fixture
def layer(tmp_path, qgis_new_project):
    """A layer of four bands in the project."""
    layer = QgsRasterLayer(write_raster(tmp_path / "four.tif", bands=4, dtype=gdal.GDT_UInt16), "four")
    assert layer.isValid()
    QgsProject.instance().addMapLayer(layer)
    return layer


@pytest.fixture(autouse=True)
def polygons_are_awaited(monkeypatch):
    """However busy the machine, forms know at once what is in a layer of a few polygons."""
    monkeypatch.setattr("afterimage.plugin.widgets.surveyor.PATIENCE", 30.0)
