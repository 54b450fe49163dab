"""``afterimage:superresolve``: what a layer says of itself is used, and each reason not to start has its code."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")
import numpy as np
from afterimage.engine.contract import ModelCard
from afterimage.engine.contract.bands import SENTINEL2
from afterimage.plugin import cards
from afterimage.plugin.maps.temporal import set_layer_date
from osgeo import gdal, osr
from qgis.core import (
    QgsRasterLayer,
)

from .conftest import draft, refusal

pytestmark = pytest.mark.usefixtures("environment")


def test_super_resolve_becomes_a_request(super_resolve, context, picture):
    found = draft(super_resolve, context, INPUT=picture, BANDS="3;1", FACTOR="2", SAMPLES=2, SPREAD="TEMPORARY_OUTPUT")
    assert (found.request.factor, found.request.source.bands, found.request.spread) == (2, (3, 1), True)
    assert found.request.gsd == pytest.approx(10, rel=0.001) and len(found.exports) == 1
    assert found.request.sampling.guidance_scale == 1
    for bands, expected in (([3, 1], (3, 1)), (["4"], (4,)), (2, (2,)), ("4,3,2", (4, 3, 2)), ("", ()), (None, ())):
        assert draft(super_resolve, context, INPUT=picture, BANDS=bands).request.source.bands == expected


def test_the_mean_is_asked_for_and_refused_where_there_is_none(super_resolve, context, picture, monkeypatch):
    asked = {"INPUT": picture, "FACTOR": 2, "MODEL": "tiny-superresolve", "OUTPUT": "TEMPORARY_OUTPUT"}
    assert not draft(super_resolve, context, **asked).request.mean
    assert draft(super_resolve, context, **asked, MEAN="TEMPORARY_OUTPUT").request.mean
    assert not draft(super_resolve, context, **asked, SAMPLES=2, SPREAD="TEMPORARY_OUTPUT").request.mean
    assert super_resolve.create().checkParameterValues({**asked, "MEAN": "TEMPORARY_OUTPUT"}, context) == (True, "")
    assert draft(super_resolve, context, **asked, SAMPLES=1, SPREAD="TEMPORARY_OUTPUT").request.spread
    card = replace(cards.card("tiny-superresolve", "SuperResolve"), gives_mean=False)
    monkeypatch.setattr(cards, "card", lambda model, task: card)
    assert refusal(super_resolve, {**asked, "MEAN": "TEMPORARY_OUTPUT"}, context) == "INVALID_REQUEST"
    assert refusal(super_resolve, {**asked, "SPREAD": "TEMPORARY_OUTPUT"}, context) == "INVALID_REQUEST"
    assert draft(super_resolve, context, **asked, SAMPLES=2, SPREAD="TEMPORARY_OUTPUT").request.spread


def test_the_date_of_the_layer_is_used_unless_another_is_given(super_resolve, context, picture):
    layer = QgsRasterLayer(picture, "picture", "gdal")
    set_layer_date(layer, "2020-01-02")
    context.project().addMapLayer(layer)
    assert draft(super_resolve, context, INPUT=layer).request.source.date == "2020-01-02"
    assert draft(super_resolve, context, INPUT=layer, DATE="2021-01-02").request.source.date == "2021-01-02"


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
        ({"OUTPUT": "INPUT"}, "OUTPUT_NOT_WRITABLE"),
    ],
)
def test_super_resolve_refuses_with_a_code(super_resolve, context, picture, change, code):
    parameters = {"INPUT": picture, "FACTOR": 2, "OUTPUT": "TEMPORARY_OUTPUT", **change}
    if parameters["OUTPUT"] == "INPUT":
        parameters["OUTPUT"] = picture
    assert refusal(super_resolve, parameters, context) == code


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
    ("source", "output", "spread"),
    [
        ("scene_2.tif", "scene.tif", None),
        ("scene_2.tif", "sub/../scene.tif", None),
        ("spread.tif", "scene.tif", "spread.tif"),
        ("spread.tif", None, "spread.tif"),
        ("mean.tif", None, None),
    ],
)
def test_no_sample_no_mean_and_no_spread_replaces_the_source(
    super_resolve, context, picture, tmp_path, source, output, spread
):
    (tmp_path / "sub").mkdir()
    os.rename(picture, tmp_path / source)
    parameters = {"INPUT": str(tmp_path / source), "FACTOR": 2, "SAMPLES": 2}
    parameters["OUTPUT"] = "TEMPORARY_OUTPUT" if output is None else str(tmp_path / output)
    if spread:
        parameters["SPREAD"] = str(tmp_path / spread)
    if "mean" in source:
        parameters.update(MODEL="tiny-superresolve", MEAN=str(tmp_path / source))
    assert refusal(super_resolve, parameters, context) == "OUTPUT_NOT_WRITABLE"
    parameters.update(OUTPUT=str(tmp_path / "other.tif"), SPREAD=str(tmp_path / "other_spread.tif"), MEAN=None)
    assert super_resolve.create().checkParameterValues(parameters, context) == (True, "")
