"""Polygons with texts as parameters: what is drawn from them, and what is refused before any work starts."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import ErrorCode, Regions
from afterimage.plugin import cards
from afterimage.plugin.processing.generate import GenerateAlgorithm
from afterimage.plugin.report import Problem
from qgis.core import (
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
)

from ..panels.conftest import painter

EXTENT = "300000,302000,5300000,5301500 [EPSG:32633]"


@pytest.fixture(autouse=True)
def models(monkeypatch):
    known = {"painter": painter(), "blind": painter(id="blind", uses=(), vocabulary=())}
    monkeypatch.setattr(cards, "cards", lambda task: tuple(card for card in known.values() if task in card.tasks))
    monkeypatch.setattr(cards, "card", lambda id, task: known[id])


@pytest.fixture
def zoning(qgis_new_project):
    layer = QgsVectorLayer("Polygon?crs=EPSG:32633&field=use:string&field=Prompt:string", "Zoning", "memory")
    for left, use, text in ((300000, "wood", "forest"), (301000, "water", "river")):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, 5300000, left + 1000, 5301500)))
        feature.setAttributes([use, text])
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    QgsProject.instance().addMapLayer(layer)
    return layer


def draft(**parameters):
    algorithm = GenerateAlgorithm()
    algorithm.initAlgorithm()
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    return algorithm.draft({"EXTENT": EXTENT, "RESOLUTION": 10, "MODEL": "painter", **parameters}, context)


def texts(made, folder):
    made.exports[-1].write(str(folder), lambda: False)
    content = json.loads((folder / made.request.regions.path).read_text())
    return [feature["properties"]["prompt"] for feature in content["features"]]


def refused(**parameters):
    with pytest.raises(Problem) as caught:
        draft(**parameters)
    return caught.value.failure


def test_without_regions_nothing_is_other_than_before(zoning):
    made = draft(PROMPT="forest")
    assert made.request.regions is None and made.exports == () and made.title == "forest"


def test_the_field_is_the_prompt_unless_another_is_named(zoning, tmp_path):
    made = draft(PROMPT="annual crop", REGIONS=zoning)
    assert made.request.regions == Regions("inputs/regions.geojson", "Zoning", False)
    assert made.request.prompt == "annual crop" and made.title == "Zoning, elsewhere annual crop"
    assert texts(made, tmp_path) == ["forest", "river"]
    assert texts(draft(PROMPT="annual crop", REGIONS="Zoning", REGIONS_FIELD="use"), tmp_path) == ["wood", "water"]
    assert texts(draft(PROMPT="forest", REGIONS=zoning.id(), REGIONS_FIELD=["use"]), tmp_path) == ["wood", "water"]


def test_where_only_regions_are_drawn_no_prompt_is_needed(zoning):
    assert refused(REGIONS=zoning).code is ErrorCode.PROMPT_NOT_UNDERSTOOD
    made = draft(REGIONS=zoning, REGIONS_ONLY=True)
    assert made.request.regions.only and made.request.prompt == "" and made.title == "Zoning"
    assert draft(REGIONS=zoning, REGIONS_ONLY=True, PROMPT="forest").request.prompt == ""


def test_selected_features_alone(zoning, tmp_path):
    zoning.selectByIds([2])
    named = QgsProcessingFeatureSourceDefinition(zoning.id(), selectedFeaturesOnly=True)
    assert texts(draft(PROMPT="forest", REGIONS=named), tmp_path) == ["river"]


@pytest.mark.parametrize(
    ("parameters", "code", "word"),
    [
        ({"REGIONS_FIELD": "height"}, ErrorCode.INVALID_REQUEST, "height"),
        ({"REGIONS": "/nowhere/zoning.gpkg"}, ErrorCode.MASK_UNREADABLE, "zoning.gpkg"),
        ({"EXTENT": "400000,402000,5300000,5301500 [EPSG:32633]"}, ErrorCode.MASK_EMPTY, "Zoning"),
        ({"MODEL": "blind"}, ErrorCode.INVALID_REQUEST, "no text"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_what_to_do(zoning, parameters, code, word):
    failure = refused(**{"PROMPT": "forest", "REGIONS": zoning, **parameters})
    assert failure.code is code and word in failure.message and failure.hint


def test_a_run_that_is_cancelled_while_its_regions_are_read_begins_nothing(zoning):
    feedback = QgsProcessingFeedback()
    feedback.cancel()
    algorithm = GenerateAlgorithm().create()
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    given = {"EXTENT": EXTENT, "RESOLUTION": 10, "MODEL": "painter", "PROMPT": "forest", "REGIONS": zoning}
    assert not algorithm.prepare(given, context, feedback)


def test_a_layer_without_the_usual_field_is_told_which_it_has(zoning):
    zoning.dataProvider().deleteAttributes([1])
    zoning.updateFields()
    failure = refused(PROMPT="forest", REGIONS=zoning)
    assert failure.code is ErrorCode.INVALID_REQUEST and "'prompt'" in failure.message and "use" in failure.hint
