"""Models that were fetched or imported: the toolbox offers them as the dock does."""

import pytest
from afterimage.engine.contract import ErrorCode, dumps
from afterimage.plugin import cards
from afterimage.plugin.processing.provider import AfterimageProvider
from afterimage.plugin.report import Problem
from qgis.core import QgsProcessingContext, QgsProject

from ..conftest import public

ASKED = {"EXTENT": "500000,501280,5000000,5001280 [EPSG:32633]", "PROMPT": "a harbour", "RESOLUTION": 5}


@pytest.fixture
def context(qgis_app):
    context, project = QgsProcessingContext(), QgsProject()
    context.setProject(project)  # which does not keep it
    yield context
    project.clear()


@pytest.fixture
def keep(shop, monkeypatch):
    """Puts a model where fetched ones lie, as the variable says."""
    monkeypatch.setenv("AFTERIMAGE_STORE", str(shop.parent / "elsewhere"))

    def put(offer):
        folder = shop.parent / "elsewhere" / offer.card.id
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(dumps(offer.card), encoding="utf-8")

    return put


def algorithm(provider, name):
    """As QGIS makes one for each run."""
    return provider.algorithm(name).create()


def test_a_fetched_model_can_be_run_without_a_restart(qgis_app, context, keep):
    provider = AfterimageProvider()
    provider.refreshAlgorithms()
    assert "sketcher" not in algorithm(provider, "generate").parameterDefinition("MODEL").options()
    keep(public())
    found = algorithm(provider, "generate")
    assert "sketcher" in found.parameterDefinition("MODEL").options()
    parameters = {**ASKED, "MODEL": "sketcher", "OUTPUT": "TEMPORARY_OUTPUT"}
    assert found.checkParameterValues(parameters, context) == (True, "")
    request = found.draft(parameters, context).request
    assert (request.model, request.sampling.scheduler, request.sampling.steps) == ("sketcher", "DDIM", 50)


def test_a_shipped_model_stays_the_default(qgis_app, context, keep):
    keep(public("aaa"))
    provider = AfterimageProvider()
    provider.refreshAlgorithms()
    assert (
        provider.algorithm("generate").draft({**ASKED, "PROMPT": "forest", "RESOLUTION": 10}, context).request.model
        == "eurosat-generate"
    )
    assert [card.id for card in cards.installed()][-1] == "aaa"


def test_a_task_without_a_model_says_which_could_be_fetched(qgis_app, shop):
    with pytest.raises(Problem) as refused:
        cards.card("", "Forecast")
    assert refused.value.failure.code is ErrorCode.UNKNOWN_MODEL
    assert refused.value.failure.hint.endswith("Public ones: Prophet.")
