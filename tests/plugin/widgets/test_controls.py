"""The layers that guide a picture: rows for what the model takes, and a small picture of each."""

import json
import time

import numpy as np
import pytest
from afterimage.engine.contract import ErrorCode
from afterimage.plugin.maps import guide
from afterimage.plugin.maps.grid import place
from afterimage.plugin.report import Problem
from afterimage.plugin.widgets import pictures
from afterimage.plugin.widgets.controls import ControlsInput
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QThreadPool

from ..panels.conftest import painter

UTM = QgsCoordinateReferenceSystem("EPSG:32633")
LOVEDA = {"background": "#ffffff", "water": "#0000ff", "forest": "#00ff00"}


def guided(**more):
    facts = dict(
        uses=("prompt",), controls=("depth", "roads", "land_use", "edges"), palettes={"land_use": LOVEDA}, vocabulary=()
    )
    return painter(**{**facts, **more})


@pytest.fixture
def where(qgis_app):
    return place(QgsRectangle(300000, 5298000, 304000, 5300000), UTM, 10.0)


def vector(kind, rows):
    layer = QgsVectorLayer(f"{kind}?crs=EPSG:32633&field=name:string&field=use:string", kind, "memory")
    for wkt, use in rows:
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromWkt(wkt))
        feature.setAttributes(["x", use])
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    QgsProject.instance().addMapLayer(layer)
    return layer


def box(left, bottom, right, top):
    return QgsGeometry.fromRect(QgsRectangle(left, bottom, right, top)).asWkt()


@pytest.fixture
def land(qgis_new_project):
    return vector(
        "Polygon",
        [(box(300000, 5298000, 302000, 5300000), "wood"), (box(303000, 5298000, 304000, 5300000), "quarry")],
    )


@pytest.fixture
def roads(qgis_new_project):
    return vector("LineString", [("LineString(299000 5299000, 305000 5299000)", "")])


@pytest.fixture
def raster(qgis_new_project, tmp_path):
    def make(bands, dtype=gdal.GDT_Byte):
        path = str(tmp_path / f"{bands}.tif")
        file = gdal.GetDriverByName("GTiff").Create(path, 400, 300, bands, dtype)
        file.SetGeoTransform((300000, 10, 0, 5300500, 0, -10))
        file.SetProjection(UTM.toWkt())
        for band in range(1, bands + 1):
            file.GetRasterBand(band).WriteArray(np.arange(120000).reshape(300, 400) // 500)
        file.FlushCache()
        layer = QgsRasterLayer(path, f"{bands} bands")
        QgsProject.instance().addMapLayer(layer)
        return layer

    return make


@pytest.fixture
def controls(qtbot, monkeypatch, qgis_new_project):
    monkeypatch.setattr(pictures, "_REST", 1)
    monkeypatch.setattr(pictures, "_ENGINE_REST", 0.05)
    made = ControlsInput()
    qtbot.addWidget(made)
    made.set_card(guided())
    made.show()
    return made


def colours(row):
    """What a picture shows, shape (height, width, 3)."""
    image = row.picture.pixmap().toImage()
    return np.array(
        [[image.pixelColor(x, y).getRgb()[:3] for x in range(image.width())] for y in range(image.height())]
    )


def test_models_without_controls_have_no_group(controls):
    assert list(controls.rows) == ["roads", "land_use", "edges", "depth"] and not controls.isHidden()
    controls.set_card(painter())
    assert controls.rows == {} and controls.isHidden() and controls.guides() == []


def test_no_layer_is_chosen_at_first_unless_the_model_needs_one(qtbot, roads, where):
    made = ControlsInput()
    qtbot.addWidget(made)
    made.set_card(guided())
    assert made.guides() == [] and made.problems(where) == []
    assert made.rows["roads"].layer.currentText() == "none"
    made.set_card(guided(required=("roads",)))
    assert [guide.layer for guide in made.guides()] == [roads]


def test_a_needed_layer_that_is_missing_is_a_problem(controls, where):
    controls.set_card(guided(required=("roads",)))
    failure = controls.problems(where)[0]
    assert failure.code is ErrorCode.INVALID_REQUEST and "roads" in failure.message and failure.hint
    with pytest.raises(Problem):
        controls.exports(where)


def test_only_layers_that_can_show_it_are_offered(controls, land, roads, raster):
    raster(1)
    offered = {
        kind: {row.layer.itemText(index) for index in range(row.layer.count())} for kind, row in controls.rows.items()
    }
    assert offered["roads"] == offered["edges"] == {"none", "Polygon", "LineString", "1 bands"}
    assert offered["land_use"] == {"none", "Polygon", "1 bands"}
    assert offered["depth"] == {"none", "1 bands"}


def test_what_a_layer_needs_is_shown_and_nothing_else(controls, land, roads, raster):
    row, use, edges, depth = (controls.rows[kind] for kind in ("roads", "land_use", "edges", "depth"))
    assert not any(part.isVisible() for part in (row.width, row.how, row.field, row.strength))
    row.layer.setLayer(roads)
    assert row.width.isVisible() and not row.how.isVisible() and not row.strength.isVisible()
    use.layer.setLayer(land)
    assert use.field.isVisible() and use.field.currentField() == "use"
    edges.layer.setLayer(raster(3))
    assert edges.how.isVisible() and edges.guide().derive == "edges"
    depth.layer.setLayer(raster(1))
    assert depth.guide().derive == "depth"
    controls.set_card(guided(uses=("control_strength",)))
    row.strength.setValue(0.4)
    assert row.strength.isVisible() and row.guide().strength == 0.4


def test_what_matched_and_what_did_not_is_told(controls, land, where):
    row = controls.rows["land_use"]
    row.layer.setLayer(land)
    assert row.remark() == "Classes: forest. No class of the model, drawn as background: quarry."
    row.field.setField("name")
    assert controls.problems(where)[0].code is ErrorCode.INVALID_REQUEST


def test_problems_follow_the_place_and_the_layer(controls, roads, where):
    controls.rows["roads"].layer.setLayer(roads)
    assert controls.problems(where) == []
    away = place(QgsRectangle(400000, 5298000, 404000, 5300000), UTM, 10.0)
    assert [failure.code for failure in controls.problems(away)] == [ErrorCode.SOURCE_EMPTY]


def test_a_picture_shows_what_the_model_will_see(controls, land, where, qtbot):
    controls.rows["land_use"].layer.setLayer(land)
    controls.show_pictures(where)
    picture = controls.rows["land_use"].picture
    qtbot.waitUntil(lambda: picture.isVisible(), timeout=30000)
    seen = colours(controls.rows["land_use"])
    assert seen.shape == (64, 128, 3)
    assert {tuple(colour) for colour in seen.reshape(-1, 3)} == {(0, 255, 0), (255, 255, 255)}
    assert (seen[:, :60] == (0, 255, 0)).all() and (seen[:, 70:] == 255).all()
    controls.rows["land_use"].layer.choose(None)
    assert not picture.isVisible()


def test_a_row_says_that_not_all_shapes_were_looked_at(controls, land, monkeypatch):
    monkeypatch.setattr(guide, "FIRST", 2)
    monkeypatch.setattr(guide, "is_near", lambda layer: False)
    controls.rows["land_use"].layer.setLayer(land)
    assert (
        "forest" in controls.rows["land_use"].remark() and "the job looks at all" in controls.rows["land_use"].remark()
    )
    monkeypatch.undo()
    controls.rows["land_use"]._look_again()
    assert "the job looks at all" not in controls.rows["land_use"].remark()


def test_a_picture_follows_the_layer(controls, land, where, qtbot):
    row = controls.rows["land_use"]
    row.layer.setLayer(land)
    controls.changed.connect(lambda: controls.show_pictures(where))
    controls.show_pictures(where)
    qtbot.waitUntil(lambda: row.picture.isVisible(), timeout=30000)
    assert land.startEditing() and land.changeAttributeValue(2, 1, "water")
    qtbot.waitUntil(lambda: (colours(row) == (0, 0, 255)).all(2).any(), timeout=30000)
    assert "water" in row.remark()
    assert land.rollBack()


def test_edges_come_from_the_engine(controls, raster, where, qtbot, monkeypatch):
    asked = []

    def seen(folder, out, cancelled):
        with open(f"{folder}/request.json") as file:
            asked.append(json.load(file)["request"])
        path = f"{out}/edges.tif"
        file = gdal.GetDriverByName("GTiff").Create(path, where.lattice.width, where.lattice.height, 3)
        for band in (1, 2, 3):
            line = np.zeros(where.lattice.shape, np.uint8)
            line[101] = 255
            file.GetRasterBand(band).WriteArray(line)
        file.FlushCache()
        return {"edges": path}

    monkeypatch.setattr(pictures, "seen_controls", seen)
    row = controls.rows["edges"]
    row.layer.setLayer(raster(3))
    controls.show_pictures(where)
    qtbot.waitUntil(
        lambda: bool(asked) and row.picture.isVisible() and len(np.unique(colours(row))) == 2, timeout=30000
    )
    found = colours(row)
    assert np.flatnonzero(found[:, 5, 0]).tolist() == [101 // 4]  # a line of a pixel is not lost
    assert asked[0]["controls"][0]["derive"] == "edges"


def test_no_engine_is_started_for_a_question_that_does_not_rest(controls, raster, where, qtbot, monkeypatch):
    asked, pool = [], QThreadPool.globalInstance()
    monkeypatch.setattr(pictures, "_ENGINE_REST", 60)
    monkeypatch.setattr(pictures, "seen_controls", lambda *_: asked.append(1) or {})
    row = controls.rows["edges"]
    row.layer.setLayer(raster(3))
    controls.show_pictures(where)
    qtbot.waitUntil(row.picture.isVisible, timeout=30000)
    work = controls._pictures._work
    qtbot.waitUntil(lambda: pool.activeThreadCount() == 0, timeout=5000)  # waiting takes no place from others
    assert not work.over.is_set() and asked == []
    controls._pictures.stop()
    assert work.over.wait(5) and asked == []


def test_the_window_does_not_wait_long_for_a_thread_that_does_not_end(controls, land, where, qtbot):
    controls.rows["land_use"].layer.setLayer(land)
    controls.show_pictures(where)
    qtbot.waitUntil(lambda: controls.rows["land_use"].picture.isVisible(), timeout=30000)
    controls._pictures._work.over.clear()
    began = time.monotonic()
    controls._pictures._end()
    assert time.monotonic() - began < 2


def test_without_an_engine_the_picture_is_the_layer_and_the_remark_says_so(controls, raster, where, qtbot, monkeypatch):
    def missing(*_):
        raise Problem(ErrorCode.ENGINE_MISSING, "There is no engine.", "Install it.")

    monkeypatch.setattr(pictures, "seen_controls", missing)
    controls.rows["edges"].layer.setLayer(raster(3))
    controls.show_pictures(where)
    qtbot.waitUntil(lambda: "no engine" in controls.remark("edges"), timeout=30000)
    assert "The job finds edges in it." in controls.remark("edges") and controls.rows["edges"].picture.isVisible()


def test_nothing_is_painted_while_it_cannot_be_seen(controls, land, where, qtbot, monkeypatch):
    started = []
    monkeypatch.setattr(pictures, "_Work", lambda *_: started.append(1))
    controls.hide()
    controls.rows["land_use"].layer.setLayer(land)
    controls.show_pictures(where)
    qtbot.wait(60)
    assert started == []


def test_layers_come_back_as_they_were_left(controls, roads, land, qtbot):
    controls.rows["roads"].layer.setLayer(roads)
    controls.rows["roads"].width.setValue(12.0)
    controls.rows["land_use"].layer.setLayer(land)
    controls.rows["land_use"].field.setField("name")
    kept = json.loads(json.dumps(controls.held()))
    other = ControlsInput()
    qtbot.addWidget(other)
    other.hold(kept)
    other.set_card(guided())
    guides = {guide.kind: guide for guide in other.guides()}
    assert guides["roads"].width == 12.0 and guides["land_use"].field == "name"
    other.set_card(painter())
    other.set_card(guided())  # by way of a model without controls
    assert [guide.kind for guide in other.guides()] == ["roads", "land_use"]
    for strange in (None, [], {"roads": 3}, {"roads": {"layer": roads.id(), "width": "x", "field": 3}}):
        other.hold(strange)
        assert other.rows["roads"].guide().width == 12.0
    other.hold({"roads": {"layer": "gone"}, "land_use": {"layer": roads.id()}})
    assert other.guides() == []


def test_a_layer_that_is_removed_is_no_longer_chosen(controls, roads, where):
    controls.rows["roads"].layer.setLayer(roads)
    QgsProject.instance().removeMapLayer(roads.id())
    assert controls.guides() == [] and controls.problems(where) == []


def test_content_is_a_raster_and_has_a_strength_of_its_own(controls, raster, roads, where, qtbot):
    controls.set_card(guided(controls=("roads", "content"), uses=("prompt", "content_strength")))
    row = controls.rows["content"]
    listed = [row.layer.layer(index) for index in range(row.layer.count())]
    assert roads not in listed
    row.layer.setLayer(raster(3))
    controls.rows["roads"].layer.setLayer(roads)
    assert not row.strength.isHidden() and controls.rows["roads"].strength.isHidden()
    row.strength.setValue(0.5)
    strengths = {guide.kind: guide.strength for guide in controls.guides()}
    assert strengths == {"roads": 1.0, "content": 0.5} and controls.problems(where) == []
    controls.show_pictures(where)
    qtbot.waitUntil(lambda: row.picture.isVisible(), timeout=30000)
    assert "The middle square of the extent." in controls.remark("content")
    image = row.picture.pixmap()
    assert image.width() == image.height() == pictures.SIDE


def test_content_of_a_layer_elsewhere_says_what_is_taken(controls, raster, qtbot):
    controls.set_card(guided(controls=("content",), uses=("prompt",)))
    row = controls.rows["content"]
    row.layer.setLayer(raster(3))
    away = place(QgsRectangle(500000, 5298000, 504000, 5300000), UTM, 10.0)
    assert row.strength.isHidden() and controls.problems(away) == []
    controls.show_pictures(away)
    qtbot.waitUntil(lambda: "the middle square of the layer" in controls.remark("content"), timeout=30000)
    assert colours(row).any()
