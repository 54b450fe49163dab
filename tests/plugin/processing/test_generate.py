"""``afterimage:generate``: extents and dates in every form, and each reason not to start with its code."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")
from afterimage.engine.contract import dumps
from afterimage.plugin import cards
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingParameterDefinition,
    QgsRasterLayer,
    QgsRectangle,
    QgsReferencedRectangle,
)
from qgis.PyQt.QtCore import QDate, QDateTime

from .conftest import SPAIN, draft, refusal

pytestmark = pytest.mark.usefixtures("environment")


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


@pytest.mark.parametrize(("change", "code"), GENERATE, ids=[f"{c}-{next(iter(p))}" for p, c in GENERATE])
def test_generate_refuses_with_a_code(generate, context, change, code):
    parameters = {"EXTENT": SPAIN, "PROMPT": "forest", "RESOLUTION": 10, "OUTPUT": "TEMPORARY_OUTPUT", **change}
    assert refusal(generate, parameters, context) == code


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
