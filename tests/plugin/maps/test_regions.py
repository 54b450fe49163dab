"""Polygons with texts of any layer become a file in the CRS that is drawn in, each with its own text."""

import json
import os

import pytest
from afterimage.engine.contract import TEXTS_LIMIT, ErrorCode, GeoBox, Window
from afterimage.plugin.maps.plan import layer_plan, source_plan, usual_field
from afterimage.plugin.maps.polygons import source_polygons
from afterimage.plugin.maps.regions import REGIONS_PATH, prepare_regions
from afterimage.plugin.maps.survey import survey
from afterimage.plugin.report import Problem
from qgis.core import (
    NULL,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsFeatureRequest,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
)

from ..panels.conftest import painter

#: 2 by 1.5 km at 10 m, in UTM zone 33.
LATTICE = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (150, 200))
CARD = painter()
LEFT = "Polygon((500000 5000000, 501000 5000000, 501000 4998500, 500000 4998500, 500000 5000000))"
RIGHT = "Polygon((501000 5000000, 502000 5000000, 502000 4998500, 501000 4998500, 501000 5000000))"
BESIDE = "Polygon((502000 5000000, 502500 5000000, 502500 4998500, 502000 4998500, 502000 5000000))"
FAR = "Polygon((700000 4000000, 700100 4000000, 700100 4000100, 700000 4000000))"


@pytest.fixture
def make(qgis_new_project):
    def layer(*parcels, crs="EPSG:32633", warp=True, fields="field=code:integer&field=prompt:string(200)"):
        curved = any(wkt.startswith("Curve") for wkt, _ in parcels)
        made = QgsVectorLayer(f"{'CurvePolygon' if curved else 'MultiPolygon'}?crs={crs}&{fields}", "Zoning", "memory")
        there = QgsCoordinateReferenceSystem(crs)
        way = QgsCoordinateTransform(QgsCoordinateReferenceSystem("EPSG:32633"), there, QgsProject.instance())
        features = []
        for number, (wkt, text) in enumerate(parcels):
            geometry = QgsGeometry.fromWkt(wkt)
            if warp:
                geometry.transform(way)
            features.append(QgsFeature(made.fields()))
            features[-1].setGeometry(geometry)
            features[-1].setAttributes([number, text])
        assert made.dataProvider().addFeatures(features)[0]
        made.updateExtents()
        QgsProject.instance().addMapLayer(made)
        return made

    return layer


def plan_of(layer, **more):
    return layer_plan(layer, "prompt", **more)


def written(plan, folder, lattice=LATTICE, card=CARD):
    """What the engine gets: (text, geometry) of each."""
    export = prepare_regions(plan, card, lattice)
    assert (export.regions.path, export.regions.name) == (REGIONS_PATH, plan.polygons.name)
    assert export.regions.only == plan.only and export.files == ()
    export.write(str(folder), lambda: False)
    assert os.listdir(folder / "inputs") == ["regions.geojson"]
    content = json.loads((folder / REGIONS_PATH).read_text())
    assert content["type"] == "FeatureCollection"
    return [(feature["properties"]["prompt"], shape(feature["geometry"])) for feature in content["features"]]


def shape(geometry):
    """A GeoJSON geometry as one of QGIS's, read by hand: no other reader's idea of a CRS comes in."""
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    rings = [", ".join("(" + ", ".join(f"{x!r} {y!r}" for x, y in ring) + ")" for ring in part) for part in parts]
    return QgsGeometry.fromWkt(f"MultiPolygon({', '.join(f'({part})' for part in rings)})")


def refusal(call, *arguments):
    with pytest.raises(Problem) as caught:
        call(*arguments)
    return caught.value.failure


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857", "EPSG:3035"])
def test_each_polygon_keeps_its_text_and_its_ground(make, tmp_path, crs):
    found = written(plan_of(make((LEFT, "forest"), (RIGHT, "river"), crs=crs)), tmp_path)
    assert [text for text, _ in found] == ["forest", "river"]
    for (_, ground), expected in zip(found, (LEFT, RIGHT)):
        before = QgsGeometry.fromWkt(expected)
        assert ground.symDifference(before).area() < 2e-3 * before.area()


def test_neighbours_in_another_crs_leave_no_gap(make, tmp_path):
    """A border that two polygons share bends the same way in both."""
    (_, left), (_, right) = written(plan_of(make((LEFT, "forest"), (RIGHT, "river"), crs="EPSG:3035")), tmp_path)
    assert left.intersection(right).area() < 1e-3
    assert left.combine(right).area() == pytest.approx(left.area() + right.area(), rel=1e-9)
    assert len(left.combine(right).asGeometryCollection()) == 1


def test_a_text_is_cleaned_and_written_as_unicode(make, tmp_path):
    ((text, _),) = written(plan_of(make((LEFT, " W\u00e4lder,\n\u68ee\u6797\u202e "))), tmp_path)
    assert text == "W\u00e4lder, \u68ee\u6797"


def test_polygons_lie_as_their_ids_say_whatever_order_they_come_in(make, tmp_path):
    layer = make((LEFT, "one"), (LEFT, "two"), (LEFT, "three"))
    layer.startEditing()
    for text in ("four", "five"):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromWkt(LEFT))
        feature.setAttributes([9, text])
        assert layer.addFeature(feature)
    plan = plan_of(layer)
    assert [text for text, _ in written(plan, tmp_path)] == ["one", "two", "three", "four", "five"]
    assert [text for text, _ in survey(plan, LATTICE).shapes] == ["one", "two", "three", "four", "five"]
    layer.rollBack()


@pytest.mark.parametrize("empty", [NULL, "", "  \n "])
def test_what_has_no_text_is_counted_and_left_out(make, tmp_path, empty):
    plan = plan_of(make((LEFT, "forest"), (RIGHT, empty)))
    found = survey(plan, LATTICE)
    assert (found.texts, found.empty, found.is_part) == ({"forest": 1}, 1, False)
    assert [text for text, _ in written(plan, tmp_path)] == ["forest"]


def test_where_nothing_has_a_text_that_is_said(make, tmp_path):
    plan = plan_of(make((LEFT, NULL), (BESIDE, "forest")))
    failure = refusal(prepare_regions, plan, CARD, LATTICE)
    assert failure.code is ErrorCode.PROMPT_NOT_UNDERSTOOD and "Zoning" in failure.message and failure.hint


@pytest.mark.parametrize("where", [FAR, BESIDE])
def test_polygons_elsewhere_are_refused_one_that_only_touches_too(make, where):
    failure = refusal(prepare_regions, plan_of(make((where, "forest"))), CARD, LATTICE)
    assert failure.code is ErrorCode.MASK_EMPTY and "Zoning" in failure.message and "extent" in failure.message


def test_the_survey_counts_what_lies_in_the_extent_the_most_frequent_first(make):
    small = "Polygon((500100 4999900, 500200 4999900, 500200 4999800, 500100 4999900))"
    found = survey(plan_of(make((LEFT, "river"), (small, "forest"), (RIGHT, "forest"), (BESIDE, "sea"))), LATTICE)
    assert list(found.texts.items()) == [("forest", 2), ("river", 1)] and found.empty == 0


def test_a_survey_stops_and_says_so_and_the_job_looks_at_all(make, tmp_path, monkeypatch):
    monkeypatch.setattr("afterimage.plugin.maps.survey.FIRST", 1)
    plan = plan_of(make((LEFT, NULL), (RIGHT, "river")))
    found = survey(plan, LATTICE)
    assert (found.is_part, found.looked, found.texts) == (True, 1, {})
    assert [text for text, _ in written(plan, tmp_path)] == ["river"]


def test_a_model_that_reads_no_text_takes_no_regions(make):
    failure = refusal(prepare_regions, plan_of(make((LEFT, "forest"))), painter(uses=("gsd",)), LATTICE)
    assert failure.code is ErrorCode.INVALID_REQUEST and "Painter" in failure.message


def test_all_that_windows_of_every_phase_look_at_is_written_and_no_more(make, tmp_path):
    country = "Polygon((0 4000000, 900000 4000000, 900000 6000000, 0 6000000, 0 4000000))"
    ((_, ground),) = written(
        plan_of(make((country, "forest"))), tmp_path, card=painter(phases=((64, 48), (64, 48)), halo=8)
    )
    around = QgsRectangle(*LATTICE.pad(2 * 64 + 8).bounds)
    assert ground.boundingBox().contains(around) and ground.boundingBox().width() < 1.2 * around.width()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633"])
def test_overlapping_extents_are_given_outlines_with_the_same_corners(make, tmp_path, crs):
    long = "Polygon((480000 4999800, 530000 4999300, 530000 4999000, 480000 4999800))"
    plan = plan_of(make((LEFT, "forest"), (long, "river"), (BESIDE, "sea"), crs=crs))
    east = LATTICE.crop(Window(0, 100, 150, 100))
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    first, second = written(plan, tmp_path / "a"), written(plan, tmp_path / "b", east)
    assert [(text, ground.asWkt(17)) for text, ground in first] == [(text, ground.asWkt(17)) for text, ground in second]


def test_a_polygon_of_a_continent_is_cut_off_where_the_crs_ends(make, tmp_path):
    world = "Polygon((-179 -80, 179 -80, 179 80, -179 80, -179 -80))"
    ((_, ground),) = written(plan_of(make((world, "forest"), crs="EPSG:4326", warp=False)), tmp_path)
    assert ground.contains(QgsGeometry.fromRect(QgsRectangle(*LATTICE.bounds))) and ground.area() < 4 * 2000 * 1500


def test_invalid_and_curved_polygons_are_made_straight_and_valid(make, tmp_path):
    bow = "CurvePolygon((500100 4999900, 500500 4999500, 500500 4999900, 500100 4999500, 500100 4999900))"
    circle = (
        "CurvePolygon(CircularString(500500 4999900, 500900 4999500, 500500 4999100, 500100 4999500, 500500 4999900))"
    )
    (_, first), (_, second) = written(plan_of(make((bow, "forest"), (circle, "river"))), tmp_path)
    assert first.isGeosValid() and first.area() == pytest.approx(2 * 400 * 200 / 2)
    assert second.area() == pytest.approx(3.14159 * 400**2, rel=1e-3)


def test_parts_and_holes_stay(make, tmp_path):
    two = "MultiPolygon(((500100 4999900, 500900 4999900, 500900 4999100, 500100 4999900),\
(500300 4999800, 500600 4999800, 500600 4999700, 500300 4999800)), ((501100 4999900, 501500 4999900, 501500 4999700, \
501100 4999900)))"
    ((_, ground),) = written(plan_of(make((two, "forest"))), tmp_path)
    assert ground.isGeosEqual(QgsGeometry.fromWkt(two))


def test_an_expression_says_the_texts(make, tmp_path):
    layer = make((LEFT, "forest"), (RIGHT, "river"))
    plan = layer_plan(layer, "'a ' || \"prompt\" || if(\"code\" = 1, ' in spring', '')")
    assert [text for text, _ in written(plan, tmp_path)] == ["a forest", "a river in spring"]
    assert survey(layer_plan(layer, '"code"'), LATTICE).texts == {"0": 1, "1": 1}


@pytest.mark.parametrize("expression", ["1 +", '"missing"', 'to_date("prompt")', "$geometry", "array(\"prompt\", 'a')"])
def test_what_says_no_text_is_refused_with_the_fields_that_there_are(make, expression):
    failure = refusal(prepare_regions, layer_plan(make((LEFT, "forest")), expression), CARD, LATTICE)
    assert failure.code is ErrorCode.INVALID_REQUEST and "prompt" in failure.hint


def test_no_field_has_a_sentence_of_its_own(make):
    failure = refusal(survey, layer_plan(make((LEFT, "forest")), " "), LATTICE)
    assert failure.code is ErrorCode.INVALID_REQUEST and "No field" in failure.message
    assert failure.hint == "Choose one of its fields: prompt."  # as the form offers them


def test_numbers_and_dates_are_written_as_people_write_them(make):
    for expression, text in (("1.5", "1.5"), ("30.0", "30"), ("to_date('2027-03-01')", "2027-03-01"), ("NULL", None)):
        found = survey(layer_plan(make((LEFT, "forest")), expression), LATTICE)
        assert found.texts == ({} if text is None else {text: 1})


@pytest.mark.parametrize(
    "expression",
    ["aggregate('Zoning', 'count', $id)", "count($id)", "array_to_string(overlay_within('Zoning', $id))", "eval('1')"],
)
def test_what_looks_at_other_features_is_refused_before_a_thread_does(make, expression):
    failure = refusal(survey, layer_plan(make((LEFT, "forest")), expression), LATTICE)
    assert failure.code is ErrorCode.INVALID_REQUEST and "other features" in failure.message
    assert "field calculator" in failure.hint


def test_layers_without_an_index_are_looked_at_for_a_while_only(make, tmp_path, monkeypatch):
    """QGIS cannot be stopped on its way to the first polygon in a rectangle; here each comes out."""
    path = tmp_path / "zoning.csv"
    near = "".join(f'"POLYGON((14 10,14.0001 10,14 10.0001,14 10))",far {n}\n' for n in range(3000))
    ground = QgsGeometry.fromWkt(LEFT)
    ground.transform(
        QgsCoordinateTransform(
            QgsCoordinateReferenceSystem("EPSG:32633"), QgsCoordinateReferenceSystem("EPSG:4326"), QgsProject.instance()
        )
    )
    path.write_text(f'WKT,prompt\n{near}"{ground.asWkt(12)}",forest\n')
    layer = QgsVectorLayer(str(path), "Zoning", "ogr")
    layer.setCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    plan = plan_of(layer)
    assert plan.polygons.is_scanned
    found = survey(plan, LATTICE)
    assert (found.texts, found.looked, found.is_part) == ({"forest": 1}, 1, False)
    monkeypatch.setattr("afterimage.plugin.maps.survey._SCAN", 0.0)
    found = survey(plan, LATTICE)
    assert (found.texts, found.looked, found.is_part) == ({}, 0, True)


def test_a_text_that_is_too_long_is_refused(make):
    plan = layer_plan(make((LEFT, "forest")), "lpad('forest', 5000, 'x')")
    assert refusal(survey, plan, LATTICE).code is ErrorCode.PROMPT_TOO_LONG


def test_too_many_different_texts_are_refused_those_just_outside_the_extent_counted(make, tmp_path):
    many = [(LEFT, f"text {number}") for number in range(TEXTS_LIMIT)]
    assert len(written(plan_of(make(*many)), tmp_path)) == TEXTS_LIMIT
    failure = refusal(prepare_regions, plan_of(make(*many, (RIGHT, "one more"))), CARD, LATTICE)
    assert failure.code is ErrorCode.INVALID_REQUEST and str(TEXTS_LIMIT + 1) in failure.message
    outside = plan_of(make(*many, (BESIDE, "one more")))
    failure = refusal(prepare_regions, outside, CARD, LATTICE)
    assert failure.code is ErrorCode.INVALID_REQUEST and "1 of them lie just outside" in failure.message


def test_one_picture_is_told_of_what_its_window_sees_and_of_nothing_further(make, tmp_path):
    card = painter(window=200, stride=150, whole=True)
    beyond = "Polygon((502900 5000000, 503000 5000000, 503000 4999000, 502900 5000000))"  # 900 m from the extent
    plan = plan_of(make((LEFT, "forest"), (BESIDE, "sea"), (beyond, "moon")))
    found = survey(plan, LATTICE, card)
    assert (dict(found.texts), found.beyond) == ({"forest": 1}, {"sea"})
    assert [text for text, _ in written(plan, tmp_path, card=card)] == ["forest", "sea"]
    assert survey(plan, LATTICE, painter(window=200, stride=150)).beyond == {"sea", "moon"}


def test_only_selected_polygons_count_if_that_is_asked(make, tmp_path):
    layer = make((LEFT, "forest"), (RIGHT, "river"))
    assert refusal(lambda: plan_of(layer, selected_only=True)).code is ErrorCode.MASK_EMPTY
    layer.selectByIds([2])
    plan = plan_of(layer, selected_only=True, only=True)
    layer.removeSelection()
    assert [text for text, _ in written(plan, tmp_path)] == ["river"]


def test_layers_without_polygons_or_a_crs_are_refused(make):
    assert refusal(survey, plan_of(make()), LATTICE).code is ErrorCode.MASK_EMPTY
    layer = make((LEFT, "forest"))
    layer.setCrs(QgsCoordinateReferenceSystem())
    assert refusal(survey, plan_of(layer), LATTICE).code is ErrorCode.MASK_UNREADABLE


def test_across_the_antimeridian(make, tmp_path):
    lattice = GeoBox("EPSG:32660", (10.0, 0.0, 713500.0, 0.0, -10.0, -5540000.0), (600, 600))
    west = "Polygon((179.99 -50, 180.0 -50, 180.0 -49.99, 179.99 -49.99, 179.99 -50))"
    east = "Polygon((-180.0 -50, -179.99 -50, -179.99 -49.99, -180.0 -49.99, -180.0 -50))"
    lattice = GeoBox("EPSG:32760", (10.0, 0.0, 713500.0, 0.0, -10.0, 4460000.0), (600, 600))
    plan = plan_of(make((west, "forest"), (east, "river"), crs="EPSG:4326", warp=False))
    assert survey(plan, lattice).texts == {"forest": 1, "river": 1}
    (_, first), (_, second) = written(plan, tmp_path, lattice)
    assert first.touches(second) or first.distance(second) < 0.1


def test_what_a_parameter_names_outlives_the_run_s_context(make, tmp_path):
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    source = QgsProcessingFeatureSource(make((LEFT, "forest"), (RIGHT, "river")), context)
    polygons = source_polygons(source, context.transformContext(), LATTICE, QgsFeatureRequest())
    plan = source_plan(source, polygons, "prompt", False)
    QgsProject.instance().removeAllMapLayers()
    del source, context
    assert [text for text, _ in written(plan, tmp_path)] == ["forest", "river"]


def test_a_parameter_s_polygons_are_read_until_the_run_is_cancelled(make):
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    source = QgsProcessingFeatureSource(make((LEFT, "forest"), (RIGHT, "river")), context)
    request, asked = QgsFeatureRequest().setSubsetOfAttributes(["prompt"], source.fields()), []
    found = source_polygons(source, context.transformContext(), LATTICE, request, lambda: asked or asked.append(1))
    assert [feature["prompt"] for feature in found.features(QgsFeatureRequest())] == ["forest"]


def test_the_file_is_read_by_qgis_at_its_place_with_its_texts(make, tmp_path):
    written(plan_of(make((LEFT, "forest"), (RIGHT, "river"), crs="EPSG:4326")), tmp_path)
    read = QgsVectorLayer(str(tmp_path / REGIONS_PATH), "read", "ogr")
    assert read.isValid() and read.crs().authid() == "EPSG:32633" and usual_field(read.fields()) == "prompt"
    assert [feature["prompt"] for feature in read.getFeatures()] == ["forest", "river"]


def test_the_usual_field_is_the_prompt_or_the_first_of_text(make):
    assert usual_field(make().fields()) == "prompt"
    assert usual_field(make(fields="field=id:integer&field=use:string&field=Prompt:string").fields()) == "Prompt"
    assert usual_field(make(fields="field=id:integer&field=day:date&field=use:string").fields()) == "use"
    assert usual_field(make(fields="field=id:integer").fields()) == ""


def test_cancelling_leaves_nothing(make, tmp_path):
    prepare_regions(plan_of(make((LEFT, "forest"))), CARD, LATTICE).write(str(tmp_path), lambda: True)
    assert not (tmp_path / REGIONS_PATH).exists()
