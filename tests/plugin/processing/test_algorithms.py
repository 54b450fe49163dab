"""The algorithms: names that scripts rely on, and errors with a code before any work starts."""

from __future__ import annotations

import gc
import json
import os
import weakref
from dataclasses import replace

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

import numpy as np
from afterimage.engine.contract import GeoBox, ModelCard, Output, Provenance, Result, Role, dumps, target_paths
from afterimage.plugin import cards
from afterimage.plugin.jobs import read_job
from afterimage.plugin.maps.temporal import set_layer_date
from afterimage.plugin.processing import base
from afterimage.plugin.processing.provider import AfterimageProvider
from osgeo import gdal, osr
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsRasterLayer,
    QgsRectangle,
    QgsReferencedRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QDate, QDateTime

SPAIN = "-0.78,-0.76,38.10,38.12 [EPSG:4326]"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AFTERIMAGE_TEST_MODELS", "1")
    monkeypatch.setenv("AFTERIMAGE_ENGINE_PYTHON", "/usr/bin/true")


@pytest.fixture
def provider(qgis_app):
    provider = AfterimageProvider()
    provider.refreshAlgorithms()
    return provider


@pytest.fixture
def picture(qgis_app, tmp_path):
    path = str(tmp_path / "picture.tif")
    file = gdal.GetDriverByName("GTiff").Create(path, 40, 30, 4, gdal.GDT_UInt16)
    file.SetGeoTransform((500000, 10, 0, 5000000, 0, -10))
    file.SetProjection(QgsCoordinateReferenceSystem("EPSG:32633").toWkt())
    for band in range(1, 5):
        data = (np.arange(1200) + 100 * band).astype("uint16")
        file.GetRasterBand(band).WriteRaster(0, 0, 40, 30, data.tobytes())
    file.FlushCache()
    return path


@pytest.fixture
def generate(provider):
    return provider.algorithm("generate")


@pytest.fixture
def super_resolve(provider):
    return provider.algorithm("superresolve")


@pytest.fixture
def edit(provider):
    return provider.algorithm("edit")


@pytest.fixture
def parcels(context):
    """Two squares of 50 m in the upper left corner of the picture; the second is selected."""
    layer = QgsVectorLayer("Polygon?crs=EPSG:32633", "Parcels", "memory")
    for left in (500010, 500100):
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, 4999940, left + 50, 4999990)))
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    layer.selectByIds([2])
    context.project().addMapLayer(layer)
    return layer


def draft(algorithm, context, **parameters):
    return algorithm.create().draft(parameters, context)


def test_names_are_those_that_scripts_rely_on(generate, super_resolve, edit, provider):
    assert provider.id() == "afterimage" and not provider.icon().isNull()
    assert {parameter.name() for parameter in generate.parameterDefinitions()} == set(
        "EXTENT CRS RESOLUTION DATE PROMPT NEGATIVE_PROMPT TRAJECTORY CLOUD_COVER TOLD_GSD".split()
        + "COARSE COARSE_STRENGTH".split()
        + "ROADS ROAD_WIDTH LAND_USE LAND_USE_FIELD LINES LINES_FROM EDGES EDGES_FROM SKETCH DEPTH DEPTH_FROM".split()
        + "MAP CONTENT CONTROL_STRENGTH".split()
        + "REGIONS REGIONS_FIELD REGIONS_ONLY".split()
        + "MODEL SEED STEPS GUIDANCE SCHEDULER SAMPLES OUTPUT".split()
    )
    assert {parameter.name() for parameter in super_resolve.parameterDefinitions()} == set(
        "INPUT BANDS FACTOR DATE CLOUD_COVER PROMPT NEGATIVE_PROMPT".split()
        + "MODEL SEED STEPS GUIDANCE SCHEDULER SAMPLES OUTPUT SPREAD".split()
    )
    assert {parameter.name() for parameter in edit.parameterDefinitions()} == set(
        "INPUT MASK STRENGTH PROMPT NEGATIVE_PROMPT BANDS DATE".split()
        + "IMAGE_GUIDANCE MARGIN CLOUD_COVER TOLD_GSD".split()
        + "MODEL SEED STEPS GUIDANCE SCHEDULER SAMPLES OUTPUT".split()
    )
    assert edit.id() == "afterimage:edit"
    assert [output.name() for output in edit.outputDefinitions()] == ["OUTPUT", "OUTPUTS"]
    assert [output.name() for output in generate.outputDefinitions()] == ["OUTPUT", "OUTPUTS", "FRAMES"]
    assert [output.name() for output in super_resolve.outputDefinitions()] == ["OUTPUT", "OUTPUTS", "SPREAD"]


def test_they_run_on_a_worker_thread_in_batch_and_can_be_cancelled(generate, super_resolve, edit):
    for algorithm in (generate, super_resolve, edit):
        flags = algorithm.flags()
        assert not flags & QgsProcessingAlgorithm.Flag.FlagNoThreading
        assert flags & QgsProcessingAlgorithm.Flag.FlagSupportsBatch
        assert flags & QgsProcessingAlgorithm.Flag.FlagCanCancel
        assert "AI-generated" in algorithm.shortHelpString() and "AI" in algorithm.displayName()
        for name in ("STEPS", "SCHEDULER"):
            definition = algorithm.parameterDefinition(name)
            assert definition.flags() & QgsProcessingParameterDefinition.Flag.FlagAdvanced


def test_generate_becomes_a_request(generate, context):
    found = draft(
        generate,
        context,
        EXTENT=SPAIN,
        PROMPT="  a\tforest\u202e ",
        RESOLUTION="10",
        DATE="2024-06-30",
        MODEL="tiny-generate",
        SEED="9007199254740993",
        STEPS="7",
        SAMPLES="2",
        OUTPUT="TEMPORARY_OUTPUT",
    ).request
    assert (found.prompt, found.date, found.gsd) == ("a forest", "2024-06-30", 10)
    assert (found.sampling.seed, found.sampling.steps, found.sampling.samples) == (9007199254740993, 7, 2)
    assert found.sampling.scheduler == "DPM++ 2M" and found.grid.crs == "EPSG:32630"
    assert found.longitude == pytest.approx(-0.77) and found.latitude == pytest.approx(38.11)


def test_extents_and_dates_come_in_every_form(generate, context):
    forms = [
        SPAIN,
        QgsReferencedRectangle(QgsRectangle(-0.78, 38.10, -0.76, 38.12), QgsCoordinateReferenceSystem("EPSG:4326")),
    ]
    dates = ["2024-06-30", QDate(2024, 6, 30), QDateTime.fromString("2024-06-30T10:00:00", 1), "2024-06-30T10:00:00Z"]
    for extent in forms:
        for date in dates:
            found = draft(generate, context, EXTENT=extent, DATE=date, PROMPT="forest").request
            assert found.date == "2024-06-30" and found.grid.crs == "EPSG:32630"
    default = generate.parameterDefinition("MODEL").defaultValue()
    assert draft(generate, context, EXTENT=SPAIN, PROMPT="river").request.model == default


def test_an_extent_can_be_that_of_a_layer(generate, context, picture):
    layer = QgsRasterLayer(picture, "picture", "gdal")
    context.project().addMapLayer(layer)
    for extent in (layer.id(), picture):
        found = draft(generate, context, EXTENT=extent, RESOLUTION=10, PROMPT="forest").request
        assert found.grid.bounds == (500000, 4999700, 500400, 5000000) and found.grid.crs == "EPSG:32633"


def test_super_resolve_becomes_a_request(super_resolve, context, picture):
    found = draft(super_resolve, context, INPUT=picture, BANDS="3;1", FACTOR="2", SAMPLES=2, SPREAD="TEMPORARY_OUTPUT")
    assert (found.request.factor, found.request.source.bands, found.request.spread) == (2, (3, 1), True)
    assert found.request.gsd == pytest.approx(10, rel=0.001) and len(found.exports) == 1
    assert found.request.sampling.guidance_scale == 1
    for bands, expected in (([3, 1], (3, 1)), (["4"], (4,)), (2, (2,)), ("4,3,2", (4, 3, 2)), ("", ()), (None, ())):
        assert draft(super_resolve, context, INPUT=picture, BANDS=bands).request.source.bands == expected


def test_edit_becomes_a_request(edit, context, picture, parcels, tmp_path):
    asked = {
        "INPUT": picture,
        "PROMPT": " a  forest",
        "STRENGTH": "0.5",
        "GUIDANCE": 3,
        "DATE": "2030-05-01",
        "SEED": 7,
    }
    found = draft(edit, context, MASK=parcels, **asked)
    assert (found.request.prompt, found.request.strength, found.request.date) == ("a forest", 0.5, "2030-05-01")
    assert (found.request.sampling.guidance_scale, found.request.sampling.seed) == (3, 7)
    assert found.request.gsd == pytest.approx(10, rel=0.001) and found.request.source.bands == (1, 2, 3)
    assert found.title == "a forest in Parcels, picture" and found.request.mask.name == "Parcels"
    assert polygons(found, tmp_path / "all") == 2
    selected = QgsProcessingFeatureSourceDefinition(parcels.id(), True)
    assert polygons(draft(edit, context, MASK=selected, **asked), tmp_path / "one") == 1
    whole = draft(edit, context, MASK="", **asked)
    assert whole.request.mask is None and whole.title == "a forest, picture" and len(whole.exports) == 1


def test_edit_draws_beyond_the_raster_and_tells_the_model_what_it_is_told(edit, context, picture, parcels, monkeypatch):
    able = replace(cards.card("tiny-generate", "Edit"), uses=("prompt", "strength", "margin"))
    monkeypatch.setattr(cards, "card", lambda model, task: able)
    asked = {"INPUT": picture, "PROMPT": "forest", "MARGIN": "24", "CLOUD_COVER": 12.5, "TOLD_GSD": 0}
    request = draft(edit, context, **asked).request
    assert (request.margin, request.mask, request.cloud_cover, request.told_gsd) == (24, None, 12.5, 0)
    assert draft(edit, context, MASK=parcels, **asked).request.mask.name == "Parcels"
    plain = draft(edit, context, INPUT=picture, PROMPT="forest").request
    assert (plain.margin, plain.cloud_cover, plain.told_gsd, plain.image_guidance_scale) == (0, None, None, 1.5)
    assert draft(edit, context, INPUT=picture, PROMPT="forest", IMAGE_GUIDANCE=4).request.image_guidance_scale == 4


def test_edit_asks_of_each_model_what_it_can(edit, context, picture, monkeypatch):
    shown = replace(cards.card("tiny-generate", "Edit"), uses=("prompt", "image_guidance"), image_guidance_scale=2.5)
    monkeypatch.setattr(cards, "card", lambda model, task: shown)
    asked = {"INPUT": picture, "PROMPT": "forest", "OUTPUT": "TEMPORARY_OUTPUT"}
    assert draft(edit, context, **asked).request.image_guidance_scale == 2.5
    assert draft(edit, context, IMAGE_GUIDANCE=1, **asked).request.image_guidance_scale == 1
    for change in ({"STRENGTH": 0.5}, {"MARGIN": 5}):
        assert refusal(edit, {**asked, **change}, context) == "INVALID_REQUEST"


def test_edit_takes_its_bands_in_the_order_of_the_colours(edit, context, picture):
    layer = QgsRasterLayer(picture, "picture", "gdal")
    context.project().addMapLayer(layer)
    layer.renderer().setRedBand(4)
    assert draft(edit, context, INPUT=layer, PROMPT="forest").request.source.bands == (4, 2, 3)
    assert draft(edit, context, INPUT=layer, PROMPT="forest", BANDS="3;4;1").request.source.bands == (3, 4, 1)


def test_edit_takes_polygons_from_a_file_in_another_crs(edit, context, picture, tmp_path):
    path = str(tmp_path / "field.geojson")
    box = QgsRectangle(500010, 4999940, 500060, 4999990)
    there = QgsCoordinateTransform(
        QgsCoordinateReferenceSystem("EPSG:32633"), QgsCoordinateReferenceSystem("EPSG:4326"), context.project()
    )
    field = QgsGeometry.fromRect(box)
    field.transform(there)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{{"type": "Feature", "properties": {{}}, "geometry": {field.asJson(12)}}}')
    found = draft(edit, context, INPUT=picture, MASK=path, PROMPT="forest")
    assert polygons(found, tmp_path / "job") == 1
    with open(tmp_path / "job" / found.request.mask.path, encoding="utf-8") as file:
        (ring,) = json.load(file)["features"][0]["geometry"]["coordinates"]
    for x, y in ring:
        assert min(abs(x - box.xMinimum()), abs(x - box.xMaximum())) < 1e-3
        assert min(abs(y - box.yMinimum()), abs(y - box.yMaximum())) < 1e-3


def polygons(found, folder):
    """How many of them the engine gets."""
    (mask,) = found.exports[1:]
    mask.write(str(folder), lambda: False)
    with open(folder / found.request.mask.path, encoding="utf-8") as file:
        return len(json.load(file)["features"])


def test_the_date_of_the_layer_is_used_unless_another_is_given(super_resolve, context, picture):
    layer = QgsRasterLayer(picture, "picture", "gdal")
    set_layer_date(layer, "2020-01-02")
    context.project().addMapLayer(layer)
    assert draft(super_resolve, context, INPUT=layer).request.source.date == "2020-01-02"
    assert draft(super_resolve, context, INPUT=layer, DATE="2021-01-02").request.source.date == "2021-01-02"


GENERATE = [
    ({"MODEL": "no-such-model"}, "UNKNOWN_MODEL"),
    ({"EXTENT": "13,12,52,53 [EPSG:4326]"}, "EMPTY_EXTENT"),
    ({"EXTENT": "13,13,52,53 [EPSG:4326]"}, "EMPTY_EXTENT"),
    ({"EXTENT": "nan,13,52,53 [EPSG:4326]"}, "EMPTY_EXTENT"),
    ({"EXTENT": ""}, "EMPTY_EXTENT"),
    ({"EXTENT": "13,13.1,52,52.1"}, "UNKNOWN_CRS"),
    ({"CRS": "EPSG:99999"}, "UNKNOWN_CRS"),
    ({"EXTENT": "-180,180,-90,90 [EPSG:4326]"}, "EXTENT_TOO_LARGE"),
    ({"EXTENT": "0,30,30,60 [EPSG:4326]"}, "EXTENT_TOO_LARGE"),
    ({"DATE": "2024-02-31"}, "INVALID_REQUEST"),
    ({"DATE": "yesterday"}, "INVALID_REQUEST"),
    ({"PROMPT": "\n"}, "PROMPT_NOT_UNDERSTOOD"),
    ({"PROMPT": "x" * 1_000_000}, "PROMPT_TOO_LONG"),
    ({"NEGATIVE_PROMPT": "x" * 5000}, "PROMPT_TOO_LONG"),
    ({"RESOLUTION": "ten"}, "INVALID_REQUEST"),
    ({"RESOLUTION": "nan"}, "INVALID_REQUEST"),
    ({"RESOLUTION": 0}, "UNSUPPORTED_RESOLUTION"),
    ({"RESOLUTION": 1000}, "UNSUPPORTED_RESOLUTION"),
    ({"SEED": -1}, "INVALID_REQUEST"),
    ({"SEED": 1.5}, "INVALID_REQUEST"),
    ({"STEPS": 0}, "INVALID_REQUEST"),
    ({"SAMPLES": 65}, "INVALID_REQUEST"),
    ({"GUIDANCE": 99}, "INVALID_REQUEST"),
    ({"SCHEDULER": "Euler?"}, "UNKNOWN_SCHEDULER"),
    ({"OUTPUT": "/no/such/folder/x.tif"}, "OUTPUT_NOT_WRITABLE"),
    ({"OUTPUT": "/tmp/x.png"}, "OUTPUT_NOT_WRITABLE"),
]


def refusal(algorithm, parameters, context):
    is_well, text = algorithm.create().checkParameterValues(parameters, context)
    assert not is_well
    code, _, rest = text.partition(": ")
    assert len(text) < 600 and rest.count(".") >= 2, "a sentence and a next step"
    # in a model nobody checks beforehand: preparing the run refuses in the same words
    said = []

    class Feedback(QgsProcessingFeedback):
        def reportError(self, error, fatalError=False):  # noqa: N802, N803
            said.append(error)

    assert not algorithm.create().prepare(parameters, context, Feedback())
    assert said == [text]
    return code


@pytest.mark.parametrize(("change", "code"), GENERATE, ids=[f"{c}-{next(iter(p))}" for p, c in GENERATE])
def test_generate_refuses_with_a_code(generate, context, change, code):
    parameters = {"EXTENT": SPAIN, "PROMPT": "forest", "RESOLUTION": 10, "OUTPUT": "TEMPORARY_OUTPUT", **change}
    assert refusal(generate, parameters, context) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"INPUT": None}, "SOURCE_UNREADABLE"),
        ({"INPUT": "/no/such/file.tif"}, "SOURCE_UNREADABLE"),
        ({"INPUT": __file__}, "SOURCE_UNREADABLE"),
        ({"FACTOR": 3}, "INVALID_REQUEST"),
        ({"FACTOR": 8}, "INVALID_REQUEST"),
        ({"FACTOR": 17}, "INVALID_REQUEST"),
        ({"PROMPT": "x" * 5000}, "PROMPT_TOO_LONG"),
        ({"BANDS": [9]}, "INVALID_REQUEST"),
        ({"BANDS": "red"}, "INVALID_REQUEST"),
        ({"SPREAD": "TEMPORARY_OUTPUT"}, "INVALID_REQUEST"),
        ({"OUTPUT": "INPUT"}, "OUTPUT_NOT_WRITABLE"),
    ],
)
def test_super_resolve_refuses_with_a_code(super_resolve, context, picture, change, code):
    parameters = {"INPUT": picture, "FACTOR": 2, "OUTPUT": "TEMPORARY_OUTPUT", **change}
    if parameters["OUTPUT"] == "INPUT":
        parameters["OUTPUT"] = picture
    assert refusal(super_resolve, parameters, context) == code


SENTINEL2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")


@pytest.fixture
def spectral(tmp_path, monkeypatch):
    """Writes a raster with bands of these names; the model that is found draws from those of Sentinel-2."""
    card = ModelCard(
        id="sentinel",
        name="From Sentinel-2",
        summary="",
        family="diffusionsat_control",
        version="1",
        tasks=("SuperResolve",),
        bands=("red", "green", "blue"),
        gsd=(0.3, 5.0),
        window=512,
        stride=384,
        schedulers=("DDIM",),
        steps=50,
        guidance_scale=5.0,
        factors=(4, 2, 8, 10, 16),
        uses=("prompt", "negative_prompt", "date", "cloud_cover"),
        source_bands=("B4", "B3", "B2", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),
    )
    monkeypatch.setattr("afterimage.plugin.cards.card", lambda model, task: card)

    def write(names):
        path = str(tmp_path / f"bands{len(names)}.tif")
        file = gdal.GetDriverByName("GTiff").Create(path, 40, 30, len(names), gdal.GDT_UInt16)
        file.SetGeoTransform((500000, 10, 0, 5000000, 0, -10))
        reference = osr.SpatialReference()
        reference.ImportFromEPSG(32633)
        file.SetProjection(reference.ExportToWkt())
        for band, name in enumerate(names, 1):
            file.GetRasterBand(band).SetDescription(name)
            file.GetRasterBand(band).WriteArray(np.arange(1200, dtype="uint16").reshape(30, 40) + band)
        file.FlushCache()
        return path

    return write


def test_all_bands_of_sentinel_2_go_to_a_model_that_needs_them(super_resolve, context, spectral):
    asked = {"INPUT": spectral(SENTINEL2), "FACTOR": 8, "PROMPT": "a farm", "NEGATIVE_PROMPT": "clouds"}
    made = draft(super_resolve, context, **asked, BANDS="4;3;2", DATE="2019-08-31")
    assert made.title == "bands13, 8\u00d7 finer"
    found = made.request
    assert (found.source.bands, found.source.date, found.factor) == ((), "2019-08-31", 8)
    assert (found.prompt, found.negative_prompt, found.sampling.guidance_scale) == ("a farm", "clouds", 5.0)
    assert draft(super_resolve, context, **asked, GUIDANCE=2).request.sampling.guidance_scale == 2.0
    asked["OUTPUT"] = "TEMPORARY_OUTPUT"
    assert refusal(super_resolve, {**asked, "CLOUD_COVER": 101}, context) == "INVALID_REQUEST"
    assert refusal(super_resolve, {**asked, "FACTOR": 5}, context) == "INVALID_REQUEST"
    coarse = asked["INPUT"].replace("bands13.tif", "coarse.tif")
    gdal.Translate(coarse, asked["INPUT"], xRes=60, yRes=60)
    assert refusal(super_resolve, {**asked, "INPUT": coarse, "FACTOR": 2}, context) == "UNSUPPORTED_RESOLUTION"
    assert refusal(super_resolve, {**asked, "INPUT": spectral(SENTINEL2[:9])}, context) == "UNSUPPORTED_RASTER"
    assert refusal(super_resolve, {**asked, "INPUT": spectral(("",) * 4)}, context) == "UNSUPPORTED_RASTER"


def test_the_cloud_cover_of_the_layer_is_used_unless_another_is_given(super_resolve, context, spectral, monkeypatch):
    asked = {"INPUT": spectral(SENTINEL2), "FACTOR": 8}
    assert draft(super_resolve, context, **asked).request.source.cloud_cover is None
    file = gdal.Open(asked["INPUT"], gdal.GA_Update)
    file.SetMetadata({"PRODUCT_START_TIME": "2022-06-01T10:10:31Z", "CLOUD_COVERAGE_ASSESSMENT": "12.5"})
    file = None
    assert draft(super_resolve, context, **asked).request.source.cloud_cover == 12.5
    assert draft(super_resolve, context, **asked, CLOUD_COVER=0).request.source.cloud_cover == 0.0
    card = cards.card("sentinel", "SuperResolve")
    monkeypatch.setattr(cards, "card", lambda model, task: replace(card, uses=("prompt",)))
    assert draft(super_resolve, context, **asked).request.source.cloud_cover is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"INPUT": "/no/such/file.tif"}, "SOURCE_UNREADABLE"),
        ({"INPUT": "grey"}, "UNSUPPORTED_RASTER"),
        ({"INPUT": "coarse"}, "UNSUPPORTED_RESOLUTION"),
        ({"MASK": "/no/such/file.gpkg"}, "MASK_UNREADABLE"),
        ({"MASK": "elsewhere"}, "MASK_EMPTY"),
        ({"MASK": "empty"}, "MASK_EMPTY"),
        ({"PROMPT": ""}, "PROMPT_NOT_UNDERSTOOD"),
        ({"PROMPT": "x" * 5000}, "PROMPT_TOO_LONG"),
        ({"STRENGTH": 0}, "INVALID_REQUEST"),
        ({"STRENGTH": 1.5}, "INVALID_REQUEST"),
        ({"STRENGTH": "half"}, "INVALID_REQUEST"),
        ({"MARGIN": 24, "STRENGTH": 0.5}, "INVALID_REQUEST"),
        ({"MARGIN": -1}, "INVALID_REQUEST"),
        ({"MARGIN": 5000}, "INVALID_REQUEST"),
        ({"MARGIN": 1.5}, "INVALID_REQUEST"),
        ({"IMAGE_GUIDANCE": 0.5}, "INVALID_REQUEST"),
        ({"CLOUD_COVER": 101}, "INVALID_REQUEST"),
        ({"BANDS": [1, 2]}, "INVALID_REQUEST"),
        ({"BANDS": [1, 2, 9]}, "INVALID_REQUEST"),
        ({"BANDS": [1, 1, 2]}, "INVALID_REQUEST"),
        ({"MODEL": "tiny-superresolve"}, "UNKNOWN_MODEL"),
        ({"DATE": "2024-02-31"}, "INVALID_REQUEST"),
        ({"OUTPUT": "INPUT"}, "OUTPUT_NOT_WRITABLE"),
    ],
)
def test_edit_refuses_with_a_code(edit, context, picture, parcels, tmp_path, change, code):
    files = {"grey": {"bandList": [1]}, "coarse": {"outputBounds": (500000, 5000000, 600000, 4900000)}}
    for name, options in files.items():
        gdal.Translate(str(tmp_path / f"{name}.tif"), picture, **options)
    for name, rows in (("empty", ()), ("elsewhere", (QgsRectangle(0, 0, 9, 9),))):
        layer = QgsVectorLayer("Polygon?crs=EPSG:32633", name, "memory")
        for row in rows:
            feature = QgsFeature()
            feature.setGeometry(QgsGeometry.fromRect(row))
            layer.dataProvider().addFeature(feature)
        layer.updateExtents()
        context.project().addMapLayer(layer)
    parameters = {"INPUT": picture, "MASK": parcels, "PROMPT": "forest", "OUTPUT": "TEMPORARY_OUTPUT", **change}
    if parameters["INPUT"] in files:
        parameters["INPUT"] = str(tmp_path / f"{parameters['INPUT']}.tif")
    if parameters["OUTPUT"] == "INPUT":
        parameters["OUTPUT"] = picture
    assert refusal(edit, parameters, context) == code


def test_without_an_engine_it_says_how_to_get_one(generate, context, monkeypatch, tmp_path):
    monkeypatch.delenv("AFTERIMAGE_ENGINE_PYTHON")
    monkeypatch.setattr("afterimage.plugin.settings.engine_python", lambda: None)
    asked = {"EXTENT": SPAIN, "PROMPT": "sea", "OUTPUT": "TEMPORARY_OUTPUT"}
    assert refusal(generate, asked, context) == "ENGINE_MISSING"


@pytest.mark.parametrize("missing", [True, False])
def test_an_engine_that_cannot_be_used_is_refused_before_any_work(generate, context, monkeypatch, tmp_path, missing):
    if missing:
        monkeypatch.setenv("AFTERIMAGE_ENGINE_PYTHON", str(tmp_path / "python"))
    else:
        monkeypatch.setattr("afterimage.plugin.link.environment.is_current", lambda: False)
    asked = {"EXTENT": SPAIN, "PROMPT": "sea", "OUTPUT": "TEMPORARY_OUTPUT"}
    assert refusal(generate, asked, context) == "ENGINE_MISSING"
    text = generate.create().checkParameterValues(asked, context)[1]
    assert ("AFTERIMAGE_ENGINE_PYTHON" if missing else "Update engine") in text and "install the engine" not in text


@pytest.mark.parametrize(
    ("source", "output", "spread"),
    [
        ("scene_2.tif", "scene.tif", None),
        ("scene_2.tif", "sub/../scene.tif", None),
        ("spread.tif", "scene.tif", "spread.tif"),
        ("spread.tif", None, "spread.tif"),
    ],
)
def test_no_sample_and_no_spread_replaces_the_source(super_resolve, context, picture, tmp_path, source, output, spread):
    (tmp_path / "sub").mkdir()
    os.rename(picture, tmp_path / source)
    parameters = {"INPUT": str(tmp_path / source), "FACTOR": 2, "SAMPLES": 2}
    parameters["OUTPUT"] = "TEMPORARY_OUTPUT" if output is None else str(tmp_path / output)
    if spread:
        parameters["SPREAD"] = str(tmp_path / spread)
    assert refusal(super_resolve, parameters, context) == "OUTPUT_NOT_WRITABLE"
    parameters.update(OUTPUT=str(tmp_path / "other.tif"), SPREAD=str(tmp_path / "other_spread.tif"))
    assert super_resolve.create().checkParameterValues(parameters, context) == (True, "")


def test_what_only_the_request_refuses_has_a_code_too(generate, context, monkeypatch):
    def broken(*_):
        raise ValueError("gsd must be metres per pixel, above 0")

    monkeypatch.setattr(type(generate), "draft", broken)
    asked = {"EXTENT": SPAIN, "PROMPT": "sea", "OUTPUT": "TEMPORARY_OUTPUT"}
    assert refusal(generate, asked, context) == "INVALID_REQUEST"


def run(algorithm, parameters, context):
    """What came of it and what was said, as Processing runs it."""
    said = []

    class Feedback(QgsProcessingFeedback):
        def reportError(self, error, fatalError=False):  # noqa: N802, N803
            said.append(error)

    return (*algorithm.create().run(parameters, context, Feedback()), said)


@pytest.fixture
def finished(monkeypatch, tmp_path):
    """Jobs that end at once, with the results that they name."""
    monkeypatch.setattr("afterimage.plugin.settings.jobs_folder", lambda: str(tmp_path / "jobs"))

    def run_job(folder, feedback):
        job = read_job(folder)
        grid = GeoBox("EPSG:32633", (5.0, 0.0, 500000.0, 0.0, -5.0, 5000000.0), (60, 80))
        made = Provenance("SuperResolve", "m", {}, "", "", "", "", "", None, 1, "", 1, 1.0, (), grid, "0", "")
        paths = target_paths(job.request, job.output, job.spread_output)
        outputs = [Output(path, Role.SAMPLE, k, grid, ("1",), "uint8") for k, path in enumerate(paths, 1)]
        return Result(tuple(outputs), made, (), 0.1)

    monkeypatch.setattr(base, "run_job", run_job)


@pytest.fixture
def prepared(super_resolve, context, picture, tmp_path, monkeypatch, finished):
    """A run that is about to begin, and asks whether what it is to write is kept by anybody."""
    kept = []

    class Export:
        files = ()

        def write(self, folder, cancelled):
            pass

    checked = base.AfterimageAlgorithm._checked_draft

    def with_export(self, *asked):
        export = Export()
        kept.append(weakref.ref(export))
        return replace(checked(self, *asked), exports=(export,))

    monkeypatch.setattr(base.AfterimageAlgorithm, "_checked_draft", with_export)
    asked = {"INPUT": picture, "FACTOR": 2, "OUTPUT": str(tmp_path / "finer.tif")}
    algorithm = super_resolve.create()
    assert algorithm.prepare(asked, context, QgsProcessingFeedback())

    def is_kept():
        gc.collect()
        return kept[-1]() is not None

    assert is_kept()
    return algorithm, asked, is_kept


def test_a_run_that_never_began_keeps_no_layer_when_the_plugin_ends(prepared):
    algorithm, _, is_kept = prepared
    registry, provider = QgsApplication.processingRegistry(), AfterimageProvider()
    assert registry.addProvider(provider) and registry.removeProvider("afterimage")
    assert not is_kept() and algorithm is not None


def test_a_run_keeps_no_layer_once_it_is_over(prepared, context):
    algorithm, asked, is_kept = prepared
    algorithm.runPrepared(asked, context, QgsProcessingFeedback())
    assert not is_kept()


def test_a_finished_job_is_one_even_where_its_end_cannot_be_recorded(
    super_resolve, context, picture, tmp_path, monkeypatch, finished
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("afterimage.plugin.jobs.write_outcome", full)
    asked = {"INPUT": picture, "FACTOR": 2, "OUTPUT": str(tmp_path / "finer.tif")}
    results, is_well, said = run(super_resolve, asked, context)
    assert is_well and results["OUTPUT"] == str(tmp_path / "finer.tif") and said == []
    monkeypatch.setattr("afterimage.plugin.jobs.mark_prepared", full)
    _, is_well, said = run(super_resolve, asked, context)
    assert not is_well and len(said) == 1 and said[0].startswith("SOURCE_UNREADABLE: ")


@pytest.mark.parametrize("spelled", ["finer.tif", "./sub/../finer.tif", "whole"])
def test_results_are_dressed_however_their_destination_is_spelled(
    super_resolve, context, picture, tmp_path, monkeypatch, finished, spelled
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    output = str(tmp_path / "finer.tif") if spelled == "whole" else spelled
    details = QgsProcessingContext.LayerDetails("plain", context.project(), "OUTPUT")
    context.addLayerToLoadOnCompletion(output, details)
    results, is_well, _ = run(super_resolve, {"INPUT": picture, "FACTOR": 2, "SAMPLES": 2, "OUTPUT": output}, context)
    assert is_well and results["OUTPUT"] == output
    assert set(context.layersToLoadOnCompletion()) == {output, str(tmp_path / "finer_2.tif")}
    for key in context.layersToLoadOnCompletion():
        assert context.layerToLoadOnCompletionDetails(key).postProcessor() is not None


def test_a_model_for_tests_is_not_offered(qgis_app, monkeypatch):
    monkeypatch.delenv("AFTERIMAGE_TEST_MODELS")
    provider = AfterimageProvider()
    provider.refreshAlgorithms()
    for name in ("generate", "superresolve"):
        assert "tiny" not in " ".join(provider.algorithm(name).parameterDefinition("MODEL").options())


def test_the_way_from_noise_is_asked_for_and_has_a_limit(generate, context):
    asked = dict(EXTENT=SPAIN, PROMPT="forest", RESOLUTION=10, MODEL="tiny-generate", STEPS=12)
    assert draft(generate, context, **asked).request.trajectory == 0
    assert draft(generate, context, **asked, TRAJECTORY=12).request.trajectory == 12
    is_well, text = generate.create().checkParameterValues({**asked, "TRAJECTORY": 13, "OUTPUT": "a.tif"}, context)
    assert not is_well and text.startswith("INVALID_REQUEST") and "trajectory" in text.lower()
    many = {**asked, "TRAJECTORY": 12, "SAMPLES": 17, "OUTPUT": "a.tif"}
    is_well, text = generate.create().checkParameterValues(many, context)
    assert not is_well and text.startswith("INVALID_REQUEST") and "at most 200" in text
    assert draft(generate, context, **{**asked, "TRAJECTORY": 12, "SAMPLES": 16}).request.sampling.samples == 16
    definition = generate.parameterDefinition("TRAJECTORY")
    assert definition.flags() & QgsProcessingParameterDefinition.Flag.FlagAdvanced


def test_a_model_that_is_told_nothing_needs_no_prompt(generate, context, tmp_path, monkeypatch):
    card = next(card for card in cards.cards("Generate") if card.id == "tiny-generate")
    card = replace(card, id="tiny-ddpm", uses=(), vocabulary=(), schedulers=("DDPM",), pickable=True)
    folder = tmp_path / "models" / card.id
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(dumps(card))
    monkeypatch.setenv("AFTERIMAGE_MODELS", str(folder.parent))
    asked = dict(EXTENT=SPAIN, RESOLUTION=10, MODEL="tiny-ddpm")
    request = draft(generate, context, **asked).request
    assert (request.prompt, request.sampling.scheduler) == ("", "DDPM")


def test_the_way_from_noise_is_loaded_with_the_result_and_listed_apart(
    generate, context, tmp_path, monkeypatch, finished
):
    run_job = base.run_job

    def drawn(folder, feedback):
        made = run_job(folder, feedback)
        first, *way = made.outputs
        days = ("1999-12-30", "1999-12-31", "2000-01-01")
        way = [replace(one, role=Role.TRAJECTORY, sample=1, frame=n, date=days[n - 1]) for n, one in enumerate(way, 1)]
        return replace(made, outputs=(first, *way))

    monkeypatch.setattr(base, "run_job", drawn)
    output = str(tmp_path / "drawn.tif")
    context.addLayerToLoadOnCompletion(output, QgsProcessingContext.LayerDetails("plain", context.project(), "OUTPUT"))
    asked = dict(EXTENT=SPAIN, PROMPT="forest", RESOLUTION=10, MODEL="tiny-generate", STEPS=6, TRAJECTORY=3)
    results, is_well, said = run(generate, {**asked, "OUTPUT": output}, context)
    frames = [str(tmp_path / f"drawn_frame_{number}.tif") for number in (1, 2, 3)]
    assert is_well and said == [] and results["OUTPUTS"] == [output] and results["FRAMES"] == frames
    assert set(context.layersToLoadOnCompletion()) == {output, *frames}
    for frame in frames:
        details = context.layerToLoadOnCompletionDetails(frame)
        assert details.postProcessor() is not None and "step picture" in details.name
