"""Layers become what a model is to see of them: on its own grid, in its own colours, before anything is drawn."""

import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from afterimage.engine.contract import ErrorCode, GeoBox, ModelCard
from afterimage.plugin.maps import control, geotiff
from afterimage.plugin.maps import guide as guiding
from afterimage.plugin.maps.control import prepare_control
from afterimage.plugin.maps.guide import Guide, likely_field, require_controls, usual_derive
from afterimage.plugin.maps.heights import height_range
from afterimage.plugin.report import Problem
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsFillSymbol,
    QgsGeometry,
    QgsProject,
    QgsSingleSymbolRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QRunnable, QThreadPool

#: 200 by 150 pixels of 2 m, in UTM zone 33.
GRID = GeoBox("EPSG:32633", (2.0, 0.0, 500000.0, 0.0, -2.0, 5000000.0), (150, 200))
GSD = 2.0
LOVEDA = {"background": "#ffffff", "building": "#ff0000", "road": "#ffff00", "water": "#0000ff", "forest": "#00ff00"}
CONTEXT = QgsCoordinateTransformContext()


def card(**more):
    facts = dict(
        id="m",
        name="Model",
        summary="",
        family="f",
        version="1",
        tasks=("Generate",),
        bands=("red", "green", "blue"),
        gsd=(1.0, 4.0),
        window=32,
        stride=24,
        schedulers=("DDIM",),
        steps=2,
        controls=("roads", "land_use", "lines", "edges", "sketch", "depth", "map"),
        palettes={"land_use": LOVEDA},
    )
    return ModelCard(**{**facts, **more})


@pytest.fixture
def vector(qgis_new_project):
    def make(kind, rows, crs="EPSG:32633"):
        """Rows of (wkt in EPSG:32633, value of the field "use")."""
        layer = QgsVectorLayer(f"{kind}?crs={crs}&field=name:string&field=use:string", "Shapes", "memory")
        way = QgsCoordinateTransform(
            QgsCoordinateReferenceSystem("EPSG:32633"), QgsCoordinateReferenceSystem(crs), QgsProject.instance()
        )
        features = []
        for wkt, use in rows:
            geometry = QgsGeometry.fromWkt(wkt)
            geometry.transform(way)
            features.append(QgsFeature(layer.fields()))
            features[-1].setGeometry(geometry)
            features[-1].setAttributes(["x", use])
        assert layer.dataProvider().addFeatures(features)[0]
        layer.updateExtents()
        return layer

    return make


def box(left, top, right, bottom):
    """A polygon of pixel corners of the grid."""
    (x0, y0), (x1, y1) = GRID.to_map(left, top), GRID.to_map(right, bottom)
    return f"Polygon(({x0} {y0}, {x1} {y0}, {x1} {y1}, {x0} {y1}, {x0} {y0}))"


def line(*points):
    return "LineString(" + ", ".join("{} {}".format(*GRID.to_map(*point)) for point in points) + ")"


def written(guide, folder, model=None):
    """The control on the grid itself, shape (3, 150, 200), from the file that a worker thread wrote."""
    export = prepare_control(guide, model or card(), GRID, GSD, CONTEXT)
    failures = []

    def work():
        try:
            export.write(str(folder), lambda: False)
        except Problem as problem:
            failures.append(problem.failure)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    if failures:
        raise Problem.of(failures[0])
    assert os.listdir(folder / "inputs") == [f"control_{guide.kind}.tif"]
    file = gdal.Open(str(folder / export.control.source.path))
    left, _, _, top, _, _ = file.GetGeoTransform()
    col, row = round((500000 - left) / 2), round((top - 5000000) / 2)
    assert (col, row) == (32, 32)  # as far as a window of the model may reach
    return file.ReadAsArray()[:, row : row + 150, col : col + 200]


def code(guide, folder=None, model=None):
    with pytest.raises(Problem) as caught:
        export = prepare_control(guide, model or card(), GRID, GSD, CONTEXT)
        export.write(str(folder), lambda: False)
    assert caught.value.failure.message.endswith(".") and caught.value.failure.hint.endswith(".")
    return caught.value.failure.code


def test_a_road_is_as_wide_as_it_is_in_metres(vector, tmp_path):
    roads = vector("LineString", [(line((0, 50.5), (200, 50.5)), ""), (line((100.5, 0), (100.5, 150)), "")])
    found = written(Guide("roads", roads, width=6.0), tmp_path)
    assert set(np.unique(found)) == {0, 255} and (found[0] == found[1]).all() and (found[0] == found[2]).all()
    assert np.flatnonzero(found[0][:, 10]).tolist() == [49, 50, 51]
    assert np.flatnonzero(found[0][10]).tolist() == [99, 100, 101]


@pytest.mark.parametrize("end", [(200, 80), (200, 10), (60, 150)])
def test_a_thin_road_is_a_pixel_wide_and_whole(vector, tmp_path, end):
    roads = vector("LineString", [(line((0, 10), end), "")])
    found = written(Guide("roads", roads, width=0.5), tmp_path)[0] > 0
    rows, cols = np.nonzero(found)
    longer = max(np.ptp(rows), np.ptp(cols)) + 1
    assert longer <= found.sum() <= longer + 2
    along = found.any(axis=int(np.ptp(rows) < np.ptp(cols)) - 1)
    assert along[along.argmax() : len(along) - along[::-1].argmax()].all()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:3035"])
def test_shapes_of_any_crs_lie_where_they_are(vector, tmp_path, crs):
    (tmp_path / "here").mkdir()
    here = written(Guide("land_use", vector("Polygon", [(box(20, 30, 90, 100), "forest")]), "use"), tmp_path / "here")
    there = written(Guide("land_use", vector("Polygon", [(box(20, 30, 90, 100), "forest")], crs), "use"), tmp_path)
    assert (here != there).any(0).sum() <= 4


def test_land_use_has_the_palette_s_colours_and_nothing_between(vector, tmp_path):
    rows = [(box(0, 0, 100, 75), "Forest"), (box(50, 40, 150, 120), "buildings"), (box(150, 0, 200, 50), "quarry")]
    found = np.moveaxis(written(Guide("land_use", vector("Polygon", rows), "use"), tmp_path), 0, 2)
    assert {tuple(colour) for colour in found.reshape(-1, 3)} == {(255, 255, 255), (0, 255, 0), (255, 0, 0)}
    assert tuple(found[10, 10]) == (0, 255, 0) and tuple(found[60, 60]) == (255, 0, 0)
    assert tuple(found[10, 190]) == (255, 255, 255)  # no class of the model: its background
    assert (found[:75, :50] == (0, 255, 0)).all()


def test_a_class_of_the_ground_s_colour_covers_others(vector, tmp_path):
    rows = [(box(0, 0, 100, 100), "forest"), (box(20, 20, 40, 40), "background")]
    found = written(Guide("land_use", vector("Polygon", rows), "use"), tmp_path)
    assert (found[:, 20:40, 20:40] == 255).all() and tuple(found[:, 10, 10]) == (0, 255, 0)


def test_without_a_palette_land_use_is_as_qgis_draws_it_on_black(vector, tmp_path):
    layer = vector("Polygon", [(box(20, 20, 80, 80), "")])
    layer.setRenderer(QgsSingleSymbolRenderer(QgsFillSymbol.createSimple({"color": "10,20,30", "outline_style": "no"})))
    found = np.moveaxis(written(Guide("land_use", layer), tmp_path, card(palettes={})), 0, 2)
    assert {tuple(colour) for colour in found.reshape(-1, 3)} == {(0, 0, 0), (10, 20, 30)}
    assert (found[20:80, 20:80] == (10, 20, 30)).all()


def test_a_map_is_as_qgis_draws_it_on_white(vector, tmp_path):
    layer = vector("Polygon", [(box(20, 20, 80, 80), "")])
    layer.setRenderer(QgsSingleSymbolRenderer(QgsFillSymbol.createSimple({"color": "10,20,30", "outline_style": "no"})))
    layer.setScaleBasedVisibility(True)
    layer.setMinimumScale(10.0)
    found = np.moveaxis(written(Guide("map", layer), tmp_path), 0, 2)
    assert {tuple(colour) for colour in found.reshape(-1, 3)} == {(255, 255, 255), (10, 20, 30)}


@pytest.mark.parametrize("kind", ["lines", "edges", "sketch"])
def test_lines_are_white_and_a_pixel_wide_and_of_areas_the_outlines(vector, tmp_path, kind):
    found = written(Guide(kind, vector("Polygon", [(box(20.5, 20.5, 80.5, 80.5), "")])), tmp_path)
    assert set(np.unique(found)) == {0, 255}
    assert found[0, 50, 50] == 0 and found[0, 20, 50] == 255 and found[0, 19, 50] == found[0, 22, 50] == 0


def test_a_palette_says_the_ink_and_the_paper_of_lines(vector, tmp_path):
    model = card(palettes={"sketch": {"background": "#ffffff", "line": "#000000"}})
    found = written(Guide("sketch", vector("LineString", [(line((0, 50.5), (200, 50.5)), "")])), tmp_path, model)
    assert found[0, 50].max() == 0 and found[0, 40].min() == 255


def test_edits_that_are_not_saved_count(vector, tmp_path):
    layer = vector("Polygon", [(box(0, 0, 5, 5), "forest")])
    assert layer.startEditing()
    feature = QgsFeature(layer.fields())
    feature.setGeometry(QgsGeometry.fromWkt(box(50, 50, 90, 90)))
    feature.setAttributes(["x", "water"])
    assert layer.addFeature(feature)
    found = written(Guide("land_use", layer, "use"), tmp_path)
    assert tuple(found[:, 70, 70]) == (0, 0, 255)


def test_blocks_fit_without_a_seam(vector, tmp_path, monkeypatch):
    rows = [(box(5.3, 7.1, 150.2, 131.7), "forest"), (box(60, 20, 190, 90), "water")]
    layer, roads = vector("Polygon", rows), vector("LineString", [(line((3, 5), (190, 140)), "")])
    guides = [Guide("land_use", layer, "use"), Guide("map", layer), Guide("roads", roads, width=11.0)]
    whole = []
    for guide in guides:
        (tmp_path / guide.kind).mkdir()
        whole.append(written(guide, tmp_path / guide.kind))
    monkeypatch.setattr(geotiff, "_SQUARE", 37)
    for guide, found in zip(guides, whole):
        (tmp_path / f"{guide.kind}_cut").mkdir()
        differing = (written(guide, tmp_path / f"{guide.kind}_cut") != found).any(0).sum()
        assert differing <= (4 if guide.kind == "map" else 0)  # Qt rounds the corners of symbols as it likes


@pytest.fixture
def byte(layer, ramp):
    """A picture on the grid's own pixels, and what its file holds."""

    def make(bands=3, **more):
        pixels = ramp(bands, 150, 200)
        return layer(pixels, transform=(500000, 2, 0, 5000000, 0, -2), **more), pixels

    return make


def test_a_ready_raster_on_the_grid_keeps_its_values(byte, tmp_path):
    shown, pixels = byte(3)
    np.testing.assert_array_equal(written(Guide("lines", shown), tmp_path), pixels)


def test_a_ready_raster_of_one_band_is_grey_whatever_its_contrast(layer, tmp_path):
    pixels = np.zeros((1, 150, 200), np.uint8)
    pixels[0, 70] = 255  # so few that QGIS's usual stretch has no range
    found = written(Guide("lines", layer(pixels, transform=(500000, 2, 0, 5000000, 0, -2))), tmp_path)
    np.testing.assert_array_equal(found, np.repeat(pixels, 3, 0))


def test_a_picture_in_which_lines_are_found_reaches_the_engine_as_colours(byte, tmp_path):
    shown, pixels = byte(3)
    guide = Guide("lines", shown, derive=usual_derive("lines", shown))
    export = prepare_control(guide, card(), GRID, GSD, CONTEXT)
    assert export.control.derive == "lines" and export.files
    np.testing.assert_array_equal(written(guide, tmp_path), pixels)


def test_heights_reach_the_engine_as_they_are_and_only_those_around(layer, ramp, tmp_path):
    heights = ramp(1, 300, 300, "float32")
    model = layer(heights, transform=(498000, 20, 0, 5002000, 0, -20))
    assert usual_derive("depth", model) == "depth"
    export = prepare_control(Guide("depth", model, derive="depth"), card(), GRID, GSD, CONTEXT)
    export.write(str(tmp_path), lambda: False)
    file = gdal.Open(str(tmp_path / "inputs" / "control_depth.tif"))
    left, _, _, top, _, _ = file.GetGeoTransform()
    col, row = round((left - 498000) / 20), round((5002000 - top) / 20)
    found = file.ReadAsArray()
    np.testing.assert_array_equal(found, heights[0, row : row + found.shape[0], col : col + found.shape[1]])
    assert found.shape < (40, 45)
    assert left <= 500000 - 64 and top >= 5000000 + 64
    small, is_anywhere = export.picture(GRID, GSD, lambda: False)
    assert is_anywhere and np.ptp(small.astype(int)) > 150


def test_the_range_of_heights_is_read_once_by_who_paints(layer, ramp, monkeypatch):
    model, asked = layer(ramp(1, 300, 300, "float32"), transform=(498000, 20, 0, 5002000, 0, -20)), []

    def read(copy, *where):
        asked.append((threading.current_thread(), copy is model))
        return height_range(copy, *where)

    monkeypatch.setattr(control, "height_range", read)
    export = prepare_control(Guide("depth", model, derive="depth"), card(), GRID, GSD, CONTEXT)
    assert asked == []
    pictures = []
    worker = threading.Thread(
        target=lambda: pictures.extend(export.picture(GRID, GSD, lambda: False)[0] for _ in range(2))
    )
    worker.start()
    worker.join()
    assert asked == [(worker, False)]
    assert np.ptp(pictures[0].astype(int)) > 150
    np.testing.assert_array_equal(*pictures)


def test_which_rasters_are_ready_and_which_are_not(byte):
    assert [usual_derive(kind, byte(3)[0]) for kind in ("lines", "edges", "depth", "sketch")] == [
        "lines",
        "edges",
        "",
        "",
    ]
    assert [usual_derive(kind, byte(1)[0]) for kind in ("lines", "edges", "depth", "map")] == ["", "", "depth", ""]


def test_of_a_layer_from_a_network_the_first_shapes_are_looked_at_and_all_are_drawn(vector, tmp_path, monkeypatch):
    monkeypatch.setattr(guiding, "FIRST", 2)
    rows = [(box(0, 0, 5, 5), "quarry"), (box(5, 0, 9, 5), "mine"), (box(100, 50, 150, 100), "woods")]
    layer = vector("Polygon", rows)
    assert guiding.is_near(layer) and not guiding.classes(layer, "use", LOVEDA).is_part
    far = SimpleNamespace(providerType=lambda: "WFS", source=lambda: "url='https://example.org' typename='land'")
    assert not guiding.is_near(far)
    assert not guiding.is_near(SimpleNamespace(providerType=lambda: "ogr", source=lambda: "/vsicurl/https://x/y.gpkg"))
    monkeypatch.setattr(guiding, "is_near", lambda layer: False)
    layer.uniqueValues = lambda *_: pytest.fail("it would ask for all shapes")
    found = guiding.classes(layer, "use", LOVEDA)
    assert found.is_part and found.classes == {} and found.others == ("mine", "quarry")
    drawn = written(Guide("land_use", layer, "use"), tmp_path)
    assert (drawn[:, 75, 125] == (0, 255, 0)).all() and (drawn[:, 2, 2] == 255).all()
    monkeypatch.setattr(guiding, "FIRST", 1000)
    assert not guiding.classes(layer, "use", LOVEDA).is_part and guiding.classes(layer, "use", LOVEDA).classes


def test_the_field_with_most_classes_is_the_likely_one(vector):
    layer = vector("Polygon", [(box(0, 0, 5, 5), "forest"), (box(5, 0, 9, 5), "quarry")])
    assert likely_field(layer, LOVEDA) == "use"
    assert likely_field(layer, {"ice": "#ffffff"}) == ""


@pytest.fixture
def small_pool(qgis_app):
    """Qt's global pool with as many threads as it is told, as on a machine of so few cores."""
    pool = QThreadPool.globalInstance()
    before = pool.maxThreadCount()

    def make(threads):
        pool.setMaxThreadCount(threads)
        return pool

    yield make
    pool.setMaxThreadCount(before)
    assert pool.waitForDone(10000)


@pytest.mark.parametrize(("threads", "tasks"), [(1, 1), (2, 2), (1, 3)])
def test_who_waits_for_a_map_leaves_the_pool_to_who_draws_it(byte, small_pool, threads, tasks):
    shown, pixels = byte(3)
    exports = [prepare_control(Guide("edges", shown), card(), GRID, GSD, CONTEXT) for _ in range(tasks)]
    pool, stop = small_pool(threads), threading.Event()
    together, drawn = threading.Barrier(min(threads, tasks)), []

    class Painting(QRunnable):
        def __init__(self, export, is_early):
            super().__init__()
            self.export, self.is_early = export, is_early

        def run(self):
            if self.is_early:
                together.wait(10)
            drawn.append(self.export.picture(GRID, GSD, stop.is_set)[0])
            self.export = None

    for number, export in enumerate(exports):
        pool.start(Painting(export, number < threads))
    is_done = pool.waitForDone(10000)
    stop.set()
    if not is_done:
        pool.setMaxThreadCount(threads + tasks)  # so that no copy of the layer is still at work when QGIS ends
        pool.waitForDone(10000)
    assert is_done and len(drawn) == tasks
    for found in drawn:
        np.testing.assert_array_equal(found, pixels)
    assert pool.maxThreadCount() == threads and pool.activeThreadCount() == 0


def test_what_cannot_be_is_refused_before_work(vector, layer, ramp, tmp_path):
    far = vector("Polygon", [("Polygon((700000 4000000, 700100 4000000, 700100 4000100, 700000 4000000))", "forest")])
    assert code(Guide("land_use", far, "use")) is ErrorCode.SOURCE_EMPTY
    near = vector("Polygon", [(box(0, 0, 50, 50), "quarry")])
    assert code(Guide("land_use", near, "use")) is ErrorCode.INVALID_REQUEST
    assert code(Guide("land_use", near, "landuse")) is ErrorCode.INVALID_REQUEST
    assert code(Guide("land_use", near)) is ErrorCode.INVALID_REQUEST
    assert code(Guide("depth", near)) is ErrorCode.INVALID_REQUEST
    assert code(Guide("roads", vector("Point", [("Point(500100 4999900)", "")]))) is ErrorCode.INVALID_REQUEST
    assert code(Guide("roads", near, derive="lines")) is ErrorCode.INVALID_REQUEST
    assert code(Guide("roads", near, strength=0.5)) is ErrorCode.INVALID_REQUEST
    assert code(Guide("map", vector("Polygon", []))) is ErrorCode.SOURCE_EMPTY
    nowhere = vector("Polygon", [(box(0, 0, 50, 50), "forest")])
    nowhere.setCrs(QgsCoordinateReferenceSystem())
    assert code(Guide("roads", nowhere)) is ErrorCode.UNKNOWN_CRS
    prepare_control(Guide("roads", near, strength=0.5), card(uses=("control_strength",)), GRID, GSD, CONTEXT)


def test_a_layer_around_the_extent_that_shows_nothing_in_it_is_refused_and_leaves_no_file(vector, tmp_path):
    corners = [(box(-500, -500, -480, -480), "forest"), (box(500, 500, 520, 520), "forest")]
    assert code(Guide("roads", vector("Polygon", corners)), tmp_path) is ErrorCode.SOURCE_EMPTY
    assert os.listdir(tmp_path / "inputs") == []


def test_a_cancelled_export_leaves_no_file(vector, tmp_path):
    export = prepare_control(Guide("roads", vector("Polygon", [(box(0, 0, 9, 9), "")])), card(), GRID, GSD, CONTEXT)
    export.write(str(tmp_path), lambda: True)
    assert os.listdir(tmp_path / "inputs") == []


def test_a_model_is_given_what_it_takes_and_needs():
    require_controls(card(), ["roads", "depth"])
    for model, kinds in ((card(controls=()), ["roads"]), (card(controls=("map",)), ["depth"])):
        with pytest.raises(Problem) as caught:
            require_controls(model, kinds)
        assert caught.value.failure.code is ErrorCode.INVALID_REQUEST and caught.value.failure.hint
    with pytest.raises(Problem, match="needs a layer for: map"):
        require_controls(card(required=("map",)), ["roads"])


def test_a_small_picture_shows_what_the_file_will(vector):
    layer = vector("Polygon", [(box(0, 0, 100, 150), "forest")])
    export = prepare_control(Guide("land_use", layer, "use"), card(), GRID, GSD, CONTEXT)
    coarse = GeoBox("EPSG:32633", (20.0, 0.0, 500000.0, 0.0, -20.0, 5000000.0), (15, 20))
    pixels, is_anywhere = export.picture(coarse, 20.0, lambda: False)
    assert is_anywhere and pixels.shape == (3, 15, 20)
    assert (pixels[:, :, :10] == np.array([[[0]], [[255]], [[0]]])).all() and (pixels[:, :, 10:] == 255).all()
