"""Polygons of any layer, in any CRS, become a file in the CRS of the raster that covers the same ground."""

import json
import os

import pytest
from afterimage.engine.contract import ErrorCode, GeoBox, Window
from afterimage.plugin.maps.mask import MASK_PATH, mask_window, prepare_mask
from afterimage.plugin.maps.polygons import drawn_polygon, layer_polygons, source_polygons
from afterimage.plugin.report import Problem
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
)

#: 2 by 1.5 km at 10 m, in UTM zone 33.
GRID = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (150, 200))
HOLED = "Polygon((500100 4999900, 500900 4999900, 500900 4999100, 500100 4999100, 500100 4999900),\
(500300 4999700, 500600 4999700, 500600 4999400, 500300 4999400, 500300 4999700))"
TWO = "MultiPolygon(((501000 4999900, 501100 4999900, 501100 4999800, 501000 4999900)),\
((501300 4999900, 501500 4999900, 501500 4999700, 501300 4999900)))"
FAR = "Polygon((700000 4000000, 700100 4000000, 700100 4000100, 700000 4000000))"


@pytest.fixture
def make(qgis_new_project):
    def layer(*wkts, crs="EPSG:32633", warp=True):
        kind = "CurvePolygon" if any(wkt.startswith("Curve") for wkt in wkts) else "MultiPolygon"
        made = QgsVectorLayer(f"{kind}?crs={crs}", "Parcels", "memory")
        there = QgsCoordinateReferenceSystem(crs)
        way = QgsCoordinateTransform(QgsCoordinateReferenceSystem("EPSG:32633"), there, QgsProject.instance())
        features = []
        for wkt in wkts:
            geometry = QgsGeometry.fromWkt(wkt)
            if warp:
                geometry.transform(way)
            features.append(QgsFeature())
            features[-1].setGeometry(geometry)
        assert made.dataProvider().addFeatures(features)[0]
        made.updateExtents()
        QgsProject.instance().addMapLayer(made)
        return made

    return layer


def written(polygons, folder, grid=GRID):
    """What the engine gets: one geometry a feature."""
    export = prepare_mask(polygons, grid)
    assert export.mask.path == MASK_PATH and export.mask.name == polygons.name
    export.write(str(folder), lambda: False)
    content = json.loads((folder / MASK_PATH).read_text())
    assert content["type"] == "FeatureCollection"
    assert os.listdir(folder / "inputs") == ["mask.geojson"]
    for feature in content["features"]:
        assert feature["type"] == "Feature" and feature["geometry"]["type"] in ("Polygon", "MultiPolygon")
    return [feature["geometry"] for feature in content["features"]]


def shape(geometry):
    """A GeoJSON geometry as one of QGIS's, read by hand: no other reader's idea of a CRS comes in."""
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    rings = [["(" + ", ".join(f"{x!r} {y!r}" for x, y in ring) + ")" for ring in part] for part in parts]
    return QgsGeometry.fromWkt("MultiPolygon(" + ", ".join("(" + ", ".join(part) + ")" for part in rings) + ")")


def test_holes_and_parts_come_through_unchanged(make, tmp_path):
    holed, two = written(layer_polygons(make(HOLED, TWO)), tmp_path)
    assert (holed["type"], two["type"]) == ("Polygon", "MultiPolygon")
    assert shape(holed).isGeosEqual(QgsGeometry.fromWkt(HOLED)) and len(holed["coordinates"]) == 2
    assert shape(two).isGeosEqual(QgsGeometry.fromWkt(TWO)) and len(two["coordinates"]) == 2


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32632", "EPSG:3035"])
def test_a_layer_in_another_crs_lies_on_the_same_ground(make, tmp_path, crs):
    holed, two = written(layer_polygons(make(HOLED, TWO, crs=crs)), tmp_path)
    for found, expected in ((holed, HOLED), (two, TWO)):
        before = QgsGeometry.fromWkt(expected)
        assert shape(found).symDifference(before).area() < 2e-3 * before.area()
        assert shape(found).hausdorffDistance(before) < 1.0


def test_a_long_edge_bends_with_its_crs(make, tmp_path):
    """A parallel, straight in degrees, is a curve in UTM: 12 m off its chord over 40 km at 45 degrees north."""
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 480000.0, 0.0, -10.0, 5000000.0), (2000, 4000))
    there = "Polygon((14.75 45.0, 15.25 45.0, 15.25 45.1, 14.75 45.1, 14.75 45.0))"
    (found,) = written(layer_polygons(make(there, crs="EPSG:4326", warp=False)), tmp_path, grid)
    ring = found["coordinates"][0]
    assert len(ring) > 8
    way = QgsCoordinateTransform(
        QgsCoordinateReferenceSystem("EPSG:4326"), QgsCoordinateReferenceSystem(grid.crs), QgsProject.instance()
    )
    finely = QgsGeometry.fromWkt(there).densifyByCount(2000)
    finely.transform(way)
    edge = shape(found).convertToType(1, True)
    for point in finely.asPolygon()[0][1:2000]:  # the southern side
        assert edge.distance(QgsGeometry.fromPointXY(point)) < 0.1 * 10


def test_only_selected_polygons_count_if_that_is_asked(make, tmp_path):
    layer = make(HOLED, TWO)
    with pytest.raises(Problem) as problem:
        layer_polygons(layer, selected_only=True)
    assert problem.value.failure.code is ErrorCode.MASK_EMPTY and "selected" in problem.value.failure.message
    layer.selectByIds([2])
    (two,) = written(layer_polygons(layer, selected_only=True), tmp_path)
    assert shape(two).isGeosEqual(QgsGeometry.fromWkt(TWO))
    assert mask_window(layer_polygons(layer, selected_only=True), GRID) == Window(10, 100, 20, 50)


def test_what_is_selected_later_does_not_matter(make, tmp_path):
    layer = make(HOLED, TWO)
    layer.selectByIds([2])
    polygons = layer_polygons(layer, selected_only=True)
    layer.selectByIds([1])
    assert len(written(polygons, tmp_path)) == 1


def test_edits_that_are_not_saved_yet_count(make, tmp_path):
    layer = make(TWO)
    layer.startEditing()
    feature = QgsFeature()
    feature.setGeometry(QgsGeometry.fromWkt(HOLED))
    assert layer.addFeature(feature)
    assert len(written(layer_polygons(layer), tmp_path)) == 2
    layer.rollBack()


def test_polygons_elsewhere_are_left_out_and_large_ones_cut_off(make, tmp_path):
    country = "Polygon((0 4000000, 900000 4000000, 900000 6000000, 0 6000000, 0 4000000))"
    (found,) = written(layer_polygons(make(FAR, country)), tmp_path)
    box = shape(found).boundingBox()
    assert box.contains(QgsRectangle(*GRID.bounds)) and box.width() < 3000
    assert mask_window(layer_polygons(make(country)), GRID) == GRID.window


def test_polygons_that_do_not_reach_the_raster_are_refused(make, tmp_path):
    with pytest.raises(Problem) as problem:
        mask_window(layer_polygons(make(FAR)), GRID)
    assert problem.value.failure.code is ErrorCode.MASK_EMPTY and "Parcels" in problem.value.failure.message
    around = prepare_mask(layer_polygons(make(FAR, "Polygon((0 6000000, 1 6000000, 1 6000001, 0 6000000))")), GRID)
    with pytest.raises(Problem) as problem:
        around.write(str(tmp_path), lambda: False)
    assert problem.value.failure.code is ErrorCode.MASK_EMPTY and os.listdir(tmp_path / "inputs") == []


@pytest.mark.parametrize("crs", ["EPSG:32733", "EPSG:2154", "EPSG:3031"])
def test_a_layer_of_another_region_is_refused(make, crs):
    with pytest.raises(Problem) as problem:
        mask_window(layer_polygons(make("Polygon((1 1, 2 1, 2 2, 1 1))", crs=crs, warp=False)), GRID)
    assert problem.value.failure.code is ErrorCode.MASK_EMPTY


def test_an_empty_layer_is_refused(make):
    with pytest.raises(Problem) as problem:
        mask_window(layer_polygons(make()), GRID)
    assert problem.value.failure.code is ErrorCode.MASK_EMPTY and problem.value.failure.hint


def test_a_layer_without_a_crs_is_refused(make):
    layer = make(HOLED)
    layer.setCrs(QgsCoordinateReferenceSystem())
    with pytest.raises(Problem) as problem:
        mask_window(layer_polygons(layer), GRID)
    assert problem.value.failure.code is ErrorCode.MASK_UNREADABLE


def test_an_invalid_polygon_is_made_valid(make, tmp_path):
    bow = "Polygon((500100 4999900, 500500 4999500, 500500 4999900, 500100 4999500, 500100 4999900))"
    (found,) = written(layer_polygons(make(bow)), tmp_path)
    assert shape(found).isGeosValid() and shape(found).area() == pytest.approx(2 * 400 * 200 / 2)


def test_curves_become_straight_edges(make, tmp_path):
    circle = (
        "CurvePolygon(CircularString(500500 4999900, 500900 4999500, 500500 4999100, 500100 4999500, 500500 4999900))"
    )
    (found,) = written(layer_polygons(make(circle)), tmp_path)
    assert shape(found).area() == pytest.approx(3.14159 * 400**2, rel=1e-3)


def test_heights_and_null_geometries_are_left_out(make, tmp_path):
    layer = QgsVectorLayer("PolygonZ?crs=EPSG:32633", "Roofs", "memory")
    high, none = QgsFeature(), QgsFeature()
    high.setGeometry(
        QgsGeometry.fromWkt("PolygonZ((500100 4999900 7, 500500 4999900 8, 500500 4999500 9, 500100 4999900 7))")
    )
    assert layer.dataProvider().addFeatures([high, none])[0]
    (found,) = written(layer_polygons(layer), tmp_path)
    assert all(len(point) == 2 for point in found["coordinates"][0])


def test_a_drawn_polygon_is_written_in_the_raster_s_crs(qgis_new_project, tmp_path):
    there = QgsCoordinateReferenceSystem("EPSG:3857")
    geometry = QgsGeometry.fromWkt(HOLED)
    geometry.transform(QgsCoordinateTransform(QgsCoordinateReferenceSystem(GRID.crs), there, QgsProject.instance()))
    polygons = drawn_polygon(geometry, there)
    window, exact = mask_window(polygons, GRID), Window(10, 10, 80, 80)
    assert window.intersection(exact) == exact and window.intersection(exact.pad(4)) == window
    (found,) = written(polygons, tmp_path)
    assert shape(found).hausdorffDistance(QgsGeometry.fromWkt(HOLED)) < 1.0


@pytest.mark.parametrize("longitude", [-179.99, 180.01])
@pytest.mark.parametrize(
    "grid",
    [
        GeoBox("EPSG:4326", (1e-4, 0.0, 179.98, 0.0, -1e-4, -50.0), (300, 500)),
        GeoBox("EPSG:32660", (10.0, 0.0, 713500.0, 0.0, -10.0, -5540000.0), (600, 600)),
    ],
    ids=["degrees", "metres"],
)
def test_across_the_antimeridian(make, tmp_path, grid, longitude):
    """A triangle at 180.01 to 180.02 degrees east, on rasters that begin west of 180."""
    east = longitude + 0.01
    layer = make(
        f"Polygon(({longitude} -50.02, {east} -50.02, {east} -50.01, {longitude} -50.02))", crs="EPSG:4326", warp=False
    )
    window = mask_window(layer_polygons(layer), grid)
    (found,) = written(layer_polygons(layer), tmp_path, grid)
    pixels = [grid.to_pixel(x, y) for x, y in found["coordinates"][0]]
    assert all(0 < col < grid.width and 0 < row < grid.height for col, row in pixels)
    assert min(col for col, _ in pixels) > grid.width / 4
    assert window.col <= min(col for col, _ in pixels) and max(row for _, row in pixels) <= window.row_end


def test_what_a_parameter_names_outlives_the_run_s_context(make, tmp_path):
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    source = QgsProcessingFeatureSource(make(HOLED, TWO, FAR), context)
    polygons = source_polygons(source, context.transformContext(), GRID)
    QgsProject.instance().removeAllMapLayers()
    del source, context
    assert len(written(polygons, tmp_path)) == 2


def test_the_file_is_read_by_qgis_at_its_place(make, tmp_path):
    written(layer_polygons(make(HOLED)), tmp_path)
    read = QgsVectorLayer(str(tmp_path / MASK_PATH), "read", "ogr")
    assert read.isValid() and read.crs().authid() == "EPSG:32633"
    assert next(read.getFeatures()).geometry().isGeosEqual(QgsGeometry.fromWkt(HOLED))


def test_the_file_is_read_by_qgis_at_its_place_without_a_code(make, tmp_path):
    crs = QgsCoordinateReferenceSystem()
    crs.createFromProj("+proj=laea +lat_0=45 +lon_0=15 +datum=WGS84 +units=m")
    wkt = crs.toWkt(QgsCoordinateReferenceSystem.WktVariant.WKT2_2018)
    grid = GeoBox(wkt, (10.0, 0.0, -5000.0, 0.0, -10.0, 25000.0), (1000, 1000))
    place = "Polygon((-100 20000, 100 20000, 100 20100, -100 20000))"
    layer = make(place, warp=False)
    layer.setCrs(crs)
    (found,) = written(layer_polygons(layer), tmp_path, grid)
    assert shape(found).isGeosEqual(QgsGeometry.fromWkt(place))
    read = QgsVectorLayer(str(tmp_path / MASK_PATH), "read", "ogr")
    way = QgsCoordinateTransform(read.crs(), crs, QgsProject.instance())
    geometry = next(read.getFeatures()).geometry()
    geometry.transform(way)
    assert geometry.hausdorffDistance(QgsGeometry.fromWkt(place)) < 1e-3


def test_cancelling_leaves_nothing(make, tmp_path):
    prepare_mask(layer_polygons(make(HOLED)), GRID).write(str(tmp_path), lambda: True)
    assert os.listdir(tmp_path / "inputs") == []
