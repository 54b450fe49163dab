"""``afterimage:edit``: polygons and models of every kind, and each reason not to start with its code."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")
from afterimage.plugin import cards
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsProcessingFeatureSourceDefinition,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)

from .conftest import draft, refusal

pytestmark = pytest.mark.usefixtures("environment")


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
