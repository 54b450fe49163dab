"""A coarser level first, as parameters of ``afterimage:generate``."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import Generate, Job, ModelCard, dumps
from afterimage.plugin.processing.command import command_of
from afterimage.plugin.processing.generate import GenerateAlgorithm
from qgis.core import QgsProcessingParameterDefinition

ASKED = dict(EXTENT="500000,500400,4999700,5000000 [EPSG:32633]", PROMPT="fields", RESOLUTION=2, STEPS=4, SEED=1)


@pytest.fixture(autouse=True)
def models(monkeypatch, tmp_path):
    """A model of pixels of 1 to 8 m that can start from a picture, and one that cannot."""
    monkeypatch.setenv("AFTERIMAGE_ENGINE_PYTHON", "/usr/bin/true")
    monkeypatch.setenv("AFTERIMAGE_MODELS", str(tmp_path / "models"))
    for name, more in (("able", ("gsd", "strength")), ("other", ("gsd",))):
        (tmp_path / "models" / name).mkdir(parents=True)
        bands, gsd = ("red", "green", "blue"), (1.0, 8.0)
        uses = ("prompt", *more)
        card = ModelCard(name, name, "", "f", "1", ("Generate",), bands, gsd, 32, 24, ("DDIM",), 4, uses=uses)
        (tmp_path / "models" / name / "card.json").write_text(dumps(card))


@pytest.fixture
def generate(qgis_app):
    algorithm = GenerateAlgorithm()
    algorithm.initAlgorithm()
    return algorithm


def draft(generate, context, **parameters):
    return generate.create().draft({**ASKED, "MODEL": "able", **parameters}, context).request


def test_without_it_nothing_is_drawn_first(generate, context):
    request = draft(generate, context)
    assert (request.coarse, request.coarse_strength) == (1, Generate.coarse_strength)
    for name in ("COARSE", "COARSE_STRENGTH"):
        flags = generate.parameterDefinition(name).flags()
        assert flags & QgsProcessingParameterDefinition.Flag.FlagOptional
        assert flags & QgsProcessingParameterDefinition.Flag.FlagAdvanced


def test_it_is_asked_for_and_asked_for_again(generate, context):
    request = draft(generate, context, COARSE="4", COARSE_STRENGTH=0.55)
    assert (request.coarse, request.coarse_strength) == (4, 0.55)
    assert "'COARSE': 4" in command_of(Job("j", request)) and "'COARSE_STRENGTH': 0.55" in command_of(Job("j", request))
    assert "COARSE" not in command_of(Job("j", draft(generate, context)))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"COARSE": 3}, "one of 2, 4, 8"),
        ({"COARSE": 8}, "16 m. Choose at most 4 times."),
        ({"COARSE": 2, "MODEL": "other"}, "cannot start from a picture"),
        ({"COARSE": 2, "TRAJECTORY": 2}, "teps cannot be kept with a coarser level"),
        ({"COARSE": 2, "TOLD_GSD": 0}, "told the resolution"),
        ({"COARSE": 2, "COARSE_STRENGTH": 1.5}, ""),
    ],
)
def test_what_cannot_be_is_refused_before_a_job_begins(generate, context, parameters, words):
    asked = {**ASKED, "MODEL": "able", "OUTPUT": "TEMPORARY_OUTPUT", **parameters}
    is_well, text = generate.create().checkParameterValues(asked, context)
    assert not is_well and text.startswith("INVALID_REQUEST") and words in text
