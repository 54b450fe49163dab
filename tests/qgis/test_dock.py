"""The plugin in QGIS, the real engine behind it, and a person who clicks: from the dock to layers on the map."""

import os
from dataclasses import replace

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage import classFactory
from afterimage.engine.contract import JobState
from afterimage.plugin import cards, settings
from afterimage.plugin.maps.temporal import layer_date
from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsPointXY, QgsProject, QgsRasterLayer, QgsRectangle, QgsSettings
from qgis.PyQt.QtCore import QPoint, Qt

ENGINE = os.environ.get(settings.PYTHON_VARIABLE) or os.path.expanduser("~/.venvs/engine/bin/python")
LEFT = Qt.MouseButton.LeftButton

if not os.path.isfile(ENGINE):
    if os.environ.get("CI") == "true":
        pytest.fail("the engine's Python is not there", pytrace=False)
    pytest.skip("the engine's Python is not there", allow_module_level=True)


@pytest.fixture
def plugin(qgis_iface, qgis_new_project, qgis_canvas, tmp_path, monkeypatch):
    monkeypatch.setenv(settings.PYTHON_VARIABLE, ENGINE)
    monkeypatch.setenv("AFTERIMAGE_THREADS", "1")
    monkeypatch.setenv("AFTERIMAGE_DEVICE", "cpu")
    monkeypatch.setattr(settings, "profile_folder", lambda: str(tmp_path / "profile"))
    for name in ("addPluginToRasterMenu", "removePluginRasterMenu", "addToolBarIcon", "removeToolBarIcon"):
        monkeypatch.setattr(qgis_iface, name, lambda *_: None, raising=False)
    QgsSettings().remove("afterimage")
    plugin = classFactory(qgis_iface)
    plugin.initGui()
    yield plugin
    plugin.unload()
    QgsSettings().remove("afterimage")


@pytest.fixture
def source(plugin, root, tmp_path):
    """A corner of the demo raster, 5 m, in the project; the map shows it."""
    path = str(tmp_path / "corner.tif")
    whole = str(root / "resources" / "demo" / "naip_wetlands_2018.tif")
    gdal.Translate(path, whole, srcWin=[0, 0, 48, 40])
    layer = QgsRasterLayer(path, "corner")
    assert layer.isValid()
    QgsProject.instance().addMapLayer(layer)
    QgsProject.instance().setCrs(layer.crs())
    canvas = plugin.iface.mapCanvas()
    canvas.setDestinationCrs(layer.crs())
    canvas.setExtent(layer.extent())
    return layer


def run(plugin, qtbot):
    """Click Run, and wait for the end of the job."""
    dock = plugin.dock
    qtbot.waitUntil(dock.run_button.isEnabled, timeout=5000)
    qtbot.mouseClick(dock.run_button, LEFT)
    qtbot.waitUntil(lambda: plugin.session.jobs[0].is_over, timeout=240000)
    record = plugin.session.jobs[0]
    assert record.state is JobState.SUCCEEDED, record.failure
    return record


def layers(record):
    paths = [output.path for output in record.result.outputs]
    found = {layer.source(): layer for layer in QgsProject.instance().mapLayers().values()}
    assert set(paths) <= set(found)
    return [found[path] for path in paths]


@pytest.mark.slow
def test_a_picture_of_the_map_view_is_a_dated_layer_there(plugin, source, qtbot):
    plugin.open_dock()
    panel = plugin.dock.panels[0]
    qtbot.mouseClick(panel.extent.view_button, LEFT)
    qtbot.keyClicks(panel.prompt.edit, "forest")
    panel.date.set_value("2027-03-01")
    panel.sampling.steps.setValue(2)
    record = run(plugin, qtbot)
    (layer,) = layers(record)
    assert "AI-generated" in layer.name() and layer.temporalProperties().isActive()
    assert layer.extent().contains(source.extent())
    assert layer.rasterUnitsPerPixelX() == 10.0
    assert plugin.dock.jobs.row(record.id).state.text().startswith("Finished")


@pytest.mark.slow
def test_a_layer_becomes_finer_with_its_mean_and_its_spread(plugin, source, qtbot):
    plugin.open_dock()
    dock = plugin.dock
    tabs = dock.tabs.tabBar()
    qtbot.mouseClick(tabs, LEFT, pos=tabs.tabRect(1).center())
    panel = dock.panels[1]
    assert panel.layer.currentLayer() == source
    panel.samples.setValue(2)
    for box in (panel.mean, panel.spread):
        qtbot.keyClick(box, Qt.Key.Key_Space)
    panel.sampling.steps.setValue(1)
    record = run(plugin, qtbot)
    made = layers(record)
    assert len(made) == 4 and [layer.name().rpartition(", ")[2] for layer in made[2:]] == ["mean", "spread"]
    for layer in made:
        assert (layer.width(), layer.height()) == (96, 80)
        assert layer.extent() == source.extent()


def test_a_field_becomes_a_forest_where_it_was_drawn(plugin, source, qtbot, monkeypatch):
    monkeypatch.setenv(cards.TESTS, "1")
    tiny = tuple(replace(card, pickable=True) for card in cards.cards("Edit") if card.family == "")
    monkeypatch.setattr("afterimage.plugin.session.installed", lambda: tiny)
    monkeypatch.setattr("afterimage.plugin.session.Session._set_cards", lambda *_: None)
    plugin.open_dock()
    dock, canvas = plugin.dock, plugin.iface.mapCanvas()
    dock.show_task("Edit")
    panel = dock.panel
    assert panel.layer.currentLayer() == source
    qtbot.mouseClick(panel.mask.draw_button, LEFT)
    grid = source.extent()
    for col, row in ((10, 8), (30, 8), (30, 28), (10, 28)):  # of 48 by 40 pixels of 5 m
        place = canvas.getCoordinateTransform().transform(
            QgsPointXY(grid.xMinimum() + 5 * col + 2.5, grid.yMaximum() - 5 * row - 2.5)
        )
        qtbot.mouseClick(canvas.viewport(), LEFT, pos=QPoint(round(place.x()), round(place.y())))
    qtbot.keyClick(canvas, Qt.Key.Key_Return)
    qtbot.keyClicks(panel.prompt.edit, "forest")
    panel.date.set_value("2030-05-01")
    record = run(plugin, qtbot)
    (layer,) = layers(record)
    assert layer.name() == "AI-generated: forest in a drawn polygon, corner"
    assert layer.extent() == source.extent() and layer_date(layer) == "2030-05-01"
    before, after = gdal.Open(source.source()).ReadAsArray(), gdal.Open(layer.source()).ReadAsArray()
    changed = (before != after).any(axis=0)
    assert changed[11:26, 13:28].mean() > 0.8
    changed[6:31, 8:33] = False
    assert not changed.any()
    again = plugin.session.again(record.id, new_seed=False)
    qtbot.waitUntil(lambda: plugin.session.job(again).is_over, timeout=240000)
    twice = plugin.session.job(again)
    assert twice.state is JobState.SUCCEEDED, twice.failure
    assert (gdal.Open(twice.result.outputs[0].path).ReadAsArray() == after).all()


@pytest.mark.slow
def test_a_picture_comes_back_in_the_crs_that_was_asked(plugin, qtbot):
    plugin.open_dock()
    panel = plugin.dock.panels[0]
    panel.extent.set_extent(QgsRectangle(11.0, 48.0, 11.006, 48.004), QgsCoordinateReferenceSystem("EPSG:4326"))
    panel.crs.setCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    qtbot.keyClicks(panel.prompt.edit, "river")
    panel.sampling.steps.setValue(1)
    (layer,) = layers(run(plugin, qtbot))
    assert layer.crs().authid() == "EPSG:4326"
    assert layer.extent().contains(QgsRectangle(11.0, 48.0, 11.006, 48.004))
