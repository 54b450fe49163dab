"""The algorithms: names that scripts rely on, and errors with a code before any work starts."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")
from afterimage.plugin.processing.provider import AfterimageProvider
from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingParameterDefinition,
)

from .conftest import SPAIN, refusal

pytestmark = pytest.mark.usefixtures("environment")


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
        + "MODEL SEED STEPS GUIDANCE SCHEDULER SAMPLES OUTPUT MEAN SPREAD".split()
    )
    assert {parameter.name() for parameter in edit.parameterDefinitions()} == set(
        "INPUT MASK STRENGTH PROMPT NEGATIVE_PROMPT BANDS DATE".split()
        + "IMAGE_GUIDANCE MARGIN CLOUD_COVER TOLD_GSD".split()
        + "MODEL SEED STEPS GUIDANCE SCHEDULER SAMPLES OUTPUT".split()
    )
    assert edit.id() == "afterimage:edit"
    assert [output.name() for output in edit.outputDefinitions()] == ["OUTPUT", "OUTPUTS"]
    assert [output.name() for output in generate.outputDefinitions()] == ["OUTPUT", "OUTPUTS", "FRAMES"]
    assert [output.name() for output in super_resolve.outputDefinitions()] == ["OUTPUT", "OUTPUTS", "MEAN", "SPREAD"]


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


def test_what_only_the_request_refuses_has_a_code_too(generate, context, monkeypatch):
    def broken(*_):
        raise ValueError("gsd must be metres per pixel, above 0")

    monkeypatch.setattr(type(generate), "draft", broken)
    asked = {"EXTENT": SPAIN, "PROMPT": "sea", "OUTPUT": "TEMPORARY_OUTPUT"}
    assert refusal(generate, asked, context) == "INVALID_REQUEST"


def test_a_model_for_tests_is_not_offered(qgis_app, monkeypatch):
    monkeypatch.delenv("AFTERIMAGE_TEST_MODELS")
    provider = AfterimageProvider()
    provider.refreshAlgorithms()
    for name in ("generate", "superresolve"):
        assert "tiny" not in " ".join(provider.algorithm(name).parameterDefinition("MODEL").options())
