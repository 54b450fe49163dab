"""Cards, maps and layers to fill forms with, and the forms that several files of tests fill."""

import numpy as np
import pytest
from afterimage.engine.contract import Measure, ModelCard
from afterimage.plugin.maps.temporal import set_layer_date
from afterimage.plugin.panels import EditPanel, ForecastPanel, GeneratePanel
from osgeo import gdal, osr
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsSettings,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import Qt

gdal.UseExceptions()

LEFT = Qt.MouseButton.LeftButton
WEST = "Polygon((300000 5300000, 304000 5300000, 304000 5305000, 300000 5305000, 300000 5300000))"
EAST = "Polygon((304000 5300000, 308000 5300000, 308000 5305000, 304000 5305000, 304000 5300000))"


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


def editor(**more):
    uses = ("prompt", "gsd", "cloud_cover", "strength", "margin")
    return painter(**{"id": "editor", "name": "Editor", "tasks": ("Generate", "Edit"), "uses": uses, **more})


def forecaster(**more):
    facts = dict(id="seer", name="Seer", tasks=("Forecast",), frames=3, gsd=(1.0, 10.0), vocabulary=())
    uses = ("prompt", "negative_prompt", "date", "place", "gsd", "cloud_cover")
    return painter(**{**facts, "uses": uses, **more})


def guided(**more):
    facts = dict(controls=("roads", "depth"), uses=("prompt", "gsd", "cloud_cover"), vocabulary=())
    return painter(**{**facts, **more})


def able(**more):
    return painter(id="able", gsd=(1.0, 80.0), uses=("prompt", "gsd", "strength"), vocabulary=(), **more)


def codes(panel):
    return [problem.code for problem in panel.problems()]


def names(panel):
    return [row.layer.name() for row in panel.series.rows]


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


@pytest.fixture
def picture(tmp_path, qgis_new_project):
    """A layer of three bands in the project."""
    layer = QgsRasterLayer(write_raster(tmp_path / "picture.tif"), "picture")
    QgsProject.instance().addMapLayer(layer)
    return layer


def make_map(width, height, extent):
    """A map of so many pixels, in UTM, that no other test has touched."""
    canvas, crs = QgsMapCanvas(), QgsCoordinateReferenceSystem("EPSG:32633")
    QgsProject.instance().setCrs(crs)
    canvas.setDestinationCrs(crs)
    canvas.resize(width, height)
    canvas.show()
    canvas.setExtent(extent)
    return canvas


@pytest.fixture
def own_canvas(qgis_new_project):
    """A map of its own, as large as it says: clicks on it have to land where they should."""
    return make_map(400, 250, QgsRectangle(299900, 5299550, 300620, 5300000))


@pytest.fixture
def make_edit(qtbot, own_canvas):
    """Makes the form of Edit over a map that shows the raster, which fills most of it."""

    def panel(canvas=own_canvas, card=None):
        panel = EditPanel(canvas)
        qtbot.addWidget(panel)
        panel.set_cards((card or editor(),))
        panel.show()
        return panel

    return panel


@pytest.fixture
def raster(tmp_path, qgis_new_project):
    """Adds a raster to the project; its upper left corner is that of all others, unless it says another."""

    def make(name, gsd=10.0, side=40, date=None, corner=(300000.0, 5300000.0), bands=3, epsg=32633):
        kind = gdal.GDT_UInt16 if bands > 3 else gdal.GDT_Byte  # of four bands of bytes the last would be alpha
        path = write_raster(tmp_path / f"{name}.tif", bands=bands, dtype=kind, side=side, epsg=epsg)
        file = gdal.Open(path, gdal.GA_Update)
        file.SetGeoTransform((corner[0], gsd, 0.0, corner[1], 0.0, -gsd))
        file.FlushCache()
        del file
        layer = QgsRasterLayer(path, name)
        assert layer.isValid()
        if date:
            set_layer_date(layer, date)
        QgsProject.instance().addMapLayer(layer)
        return layer

    return make


@pytest.fixture
def pair(raster):
    """A coarse layer and a finer, later one."""
    return raster("coarse", 10.0, 40, "2016-09-11"), raster("fine", 1.0, 100, "2018-11-20")


@pytest.fixture
def make_forecast(qtbot, qgis_new_project):
    """Makes the form of Forecast, with layers in it and a date."""

    def panel(*layers, date="2030-06-01", card=None):
        panel = ForecastPanel()
        qtbot.addWidget(panel)
        panel.set_cards((card or forecaster(),))
        for layer in layers:
            panel.series.add(layer)
        panel.date.set_value(date)
        panel.show()
        return panel

    return panel


@pytest.fixture
def panel(qtbot, canvas, cards):
    """The form of Generate."""
    panel = GeneratePanel(canvas)
    qtbot.addWidget(panel)
    panel.set_cards(cards)
    panel.show()
    return panel


@pytest.fixture
def placed(panel, qtbot):
    """The form of Generate over the view of the map, with a prompt."""
    qtbot.mouseClick(panel.extent.view_button, LEFT)
    panel.prompt.set_text("forest")
    return panel


@pytest.fixture
def road(canvas):
    """A layer of one line across the map, in the project."""
    layer = QgsVectorLayer("LineString?crs=EPSG:32633", "Road", "memory")
    feature = QgsFeature()
    feature.setGeometry(QgsGeometry.fromWkt("LineString(300000 5302000, 308000 5303000)"))
    assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    QgsProject.instance().addMapLayer(layer)
    return layer


@pytest.fixture
def zoning(canvas):
    """Makes a layer of polygons with texts in the project."""

    def make(*parcels, crs="EPSG:32633", name="Zoning"):
        layer = QgsVectorLayer(f"Polygon?crs={crs}&field=id:integer&field=prompt:string(99)", name, "memory")
        features = []
        for wkt, text in parcels or ((WEST, "forest"), (EAST, "river")):
            features.append(QgsFeature(layer.fields()))
            features[-1].setGeometry(QgsGeometry.fromWkt(wkt))
            features[-1].setAttributes([len(features), text])
        assert layer.dataProvider().addFeatures(features)[0]
        layer.updateExtents()
        QgsProject.instance().addMapLayer(layer)
        return layer

    return make
