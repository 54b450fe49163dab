"""``afterimage:forecast``: dated rasters in every form, and each reason not to start with its code."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

import numpy as np
from afterimage.engine.contract import (
    Forecast,
    GeoBox,
    Job,
    ModelCard,
    Offer,
    Output,
    Provenance,
    Result,
    Role,
    Sampling,
    Source,
    dumps,
    target_paths,
)
from afterimage.plugin import catalogue
from afterimage.plugin.jobs import create_folder, read_job
from afterimage.plugin.maps.layers import dress
from afterimage.plugin.maps.opening import open_raster
from afterimage.plugin.maps.temporal import layer_date, set_layer_date
from afterimage.plugin.processing import base
from afterimage.plugin.processing.command import command
from afterimage.plugin.processing.provider import AfterimageProvider
from osgeo import gdal
from qgis import core
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QDate

SEER = ModelCard(
    id="seer",
    name="Seer",
    summary="",
    family="",
    version="0",
    tasks=("Forecast",),
    bands=("red", "green", "blue"),
    gsd=(1.0, 10.0),
    window=64,
    stride=48,
    schedulers=("DDIM", "DDPM"),
    steps=4,
    guidance_scale=2.0,
    uses=("prompt", "date", "cloud_cover"),
    frames=3,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AFTERIMAGE_ENGINE_PYTHON", "/usr/bin/true")
    monkeypatch.setenv("AFTERIMAGE_TEST_MODELS", "1")
    monkeypatch.setenv("AFTERIMAGE_MODELS", str(tmp_path / "models"))
    folder = tmp_path / "models" / SEER.id
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(dumps(SEER))


@pytest.fixture
def forecast(provider):
    return provider.algorithm("forecast")


@pytest.fixture
def raster(qgis_app, tmp_path):
    """Writes a raster of three bands or more, and returns its path."""

    def make(name, gsd=10.0, side=30, bands=3, left=500000.0):
        path = str(tmp_path / name)
        file = gdal.GetDriverByName("GTiff").Create(path, side, side, bands, gdal.GDT_UInt16)
        file.SetGeoTransform((left, gsd, 0, 5000000, 0, -gsd))
        file.SetProjection(QgsCoordinateReferenceSystem("EPSG:32633").toWkt())
        data = (np.arange(side * side) + 1).astype("uint16")
        for band in range(1, bands + 1):
            file.GetRasterBand(band).WriteRaster(0, 0, side, side, data.tobytes())
        file.FlushCache()
        return path

    return make


@pytest.fixture
def coarse(raster):
    return raster("coarse.tif")


@pytest.fixture
def fine(raster):
    return raster("fine.tif", 1.0, 100)


def draft(algorithm, context, **parameters):
    return algorithm.create().draft(parameters, context)


def refusal(algorithm, context, **parameters):
    is_well, text = algorithm.create().checkParameterValues({"OUTPUT": "a.tif", **parameters}, context)
    assert not is_well
    return text


def sources(request):
    return [(source.name, source.date) for source in request.sources]


def test_its_names_are_those_that_scripts_rely_on(forecast):
    assert forecast.id() == "afterimage:forecast"
    assert {parameter.name() for parameter in forecast.parameterDefinitions()} == set(
        "INPUTS DATES DATE PROMPT NEGATIVE_PROMPT CLOUD_COVER CLOUD_COVERS BANDS KEEP_ORDER".split()
        + "MODEL SEED STEPS GUIDANCE SCHEDULER SAMPLES OUTPUT".split()
    )
    assert [output.name() for output in forecast.outputDefinitions()] == ["OUTPUT", "OUTPUTS"]
    flags = forecast.flags()
    assert not flags & QgsProcessingAlgorithm.Flag.FlagNoThreading
    assert flags & QgsProcessingAlgorithm.Flag.FlagSupportsBatch and flags & QgsProcessingAlgorithm.Flag.FlagCanCancel
    assert "AI-generated" in forecast.shortHelpString() and "AI" in forecast.displayName() and "past" in forecast.tags()
    for name in "NEGATIVE_PROMPT CLOUD_COVER CLOUD_COVERS BANDS KEEP_ORDER STEPS".split():
        assert forecast.parameterDefinition(name).flags() & QgsProcessingParameterDefinition.Flag.FlagAdvanced
    assert "tiny" not in " ".join(forecast.parameterDefinition("MODEL").options())


def test_it_becomes_a_request_on_the_grid_of_the_finest(forecast, context, coarse, fine):
    found = draft(
        forecast,
        context,
        INPUTS=[coarse, fine],
        DATES="2016-09-11; 2018-11-20",
        DATE="2030-06-01",
        PROMPT=" new  houses",
        NEGATIVE_PROMPT="clouds",
        CLOUD_COVER="5",
        CLOUD_COVERS=";12.5",
        MODEL="seer",
        SEED="9007199254740993",
        STEPS=3,
        GUIDANCE=1.5,
        SAMPLES=2,
    )
    request = found.request
    assert sources(request) == [("fine", "2018-11-20"), ("coarse", "2016-09-11")]
    assert [source.path for source in request.sources] == ["inputs/source_1.tif", "inputs/source_2.tif"]
    assert [source.cloud_cover for source in request.sources] == [12.5, None]
    assert [source.gsd for source in request.sources] == pytest.approx([1.0, 10.0], rel=1e-3)
    assert (request.gsd, request.date, request.cloud_cover) == (request.sources[0].gsd, "2030-06-01", 5)
    assert (request.prompt, request.negative_prompt) == ("new houses", "clouds")
    assert request.sampling == Sampling(9007199254740993, 3, "DDIM", 1.5, 2)
    assert found.title == "fine on 2030-06-01" and len(found.exports) == 2


def test_the_order_can_be_kept(forecast, context, coarse, fine):
    asked = dict(INPUTS=[coarse, fine], DATES=["2016-09-11", "2018-11-20"], DATE=QDate(2010, 1, 1))
    assert sources(draft(forecast, context, **asked).request)[0][0] == "fine"
    assert sources(draft(forecast, context, **asked, KEEP_ORDER=True).request)[0][0] == "coarse"


def test_dates_are_the_layers_own_where_none_are_given(forecast, context, coarse, fine):
    layers = [QgsRasterLayer(path, name, "gdal") for path, name in ((coarse, "a"), (fine, "b"))]
    context.project().addMapLayers(layers)
    set_layer_date(layers[0], "2016-09-11")
    set_layer_date(layers[1], "2018-11-20")
    for given in (layers, [layer.id() for layer in layers], ["a", "b"], "a;b"):
        found = draft(forecast, context, INPUTS=given, DATE="2030-06-01").request
        assert sources(found) == [("b", "2018-11-20"), ("a", "2016-09-11")]
    found = draft(forecast, context, INPUTS=layers, DATES=";2019-01-01", DATE="2030-06-01").request
    assert sources(found) == [("b", "2019-01-01"), ("a", "2016-09-11")]


def test_one_raster_is_enough_and_may_be_written_without_a_list(forecast, context, fine):
    for given in (fine, [fine]):
        found = draft(forecast, context, INPUTS=given, DATES="2018-11-20", DATE="2019-01-01").request
        assert sources(found) == [("fine", "2018-11-20")] and found.sampling.steps == 4
        assert found.sampling.guidance_scale == 2.0 and found.cloud_cover is None


def test_bands_are_as_the_layer_shows_them_or_as_asked(forecast, context, raster):
    path = raster("other.tif", bands=4)
    layer = QgsRasterLayer(raster("four.tif", bands=4), "four", "gdal")
    context.project().addMapLayer(layer)
    layer.renderer().setRedBand(4)
    asked = dict(DATES="2018-11-20;2019-01-01", DATE="2020-01-01")
    found = draft(forecast, context, INPUTS=[layer, path], **asked).request
    assert [source.bands for source in found.sources] == [(4, 2, 3), (1, 2, 3)]
    found = draft(forecast, context, INPUTS=[layer, path], BANDS=";4,3,2", **asked).request
    assert [source.bands for source in found.sources] == [(4, 2, 3), (4, 3, 2)]


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (dict(DATES=""), "INVALID_REQUEST", "The layer 'fine' has no date."),
        (dict(DATES="2016-09-11"), "INVALID_REQUEST", "DATES has 1 entries for 2 inputs."),
        (dict(DATES="2016-09-31;2018-11-20"), "INVALID_REQUEST", "'2016-09-31' is not a date."),
        (dict(DATE=None), "INVALID_REQUEST", "There is no date for the result."),
        (dict(DATE="tomorrow"), "INVALID_REQUEST", "'tomorrow' is not a date."),
        (dict(DATE="2018-11-20"), "INVALID_REQUEST", "the layer 'fine' is of that date"),
        (dict(INPUTS=[]), "INVALID_REQUEST", "There is no layer to start from."),
        (dict(INPUTS=["nowhere.tif", "gone.tif"]), "SOURCE_UNREADABLE", "'nowhere.tif' cannot be opened"),
        (dict(CLOUD_COVER=101), "INVALID_REQUEST", "Cloud_cover must be from 0 to 100"),
        (dict(CLOUD_COVERS="5;much"), "INVALID_REQUEST", "'much' is no cloud cover."),
        (dict(BANDS="1,2;1,2,3"), "INVALID_REQUEST", "BANDS must be three bands"),
        (dict(BANDS="1,2,9;1,2,3"), "INVALID_REQUEST", "has no data band 9"),
        (dict(MODEL="eurosat-generate"), "UNKNOWN_MODEL", "Choose one of: seer."),
        (dict(SCHEDULER="Magic"), "UNKNOWN_SCHEDULER", "DDIM, DDPM"),
        (dict(PROMPT="x" * 4001), "PROMPT_TOO_LONG", "4001"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(forecast, context, coarse, fine, asked, code, said):
    good = dict(INPUTS=[coarse, fine], DATES="2016-09-11;2018-11-20", DATE="2030-06-01")
    text = refusal(forecast, context, **{**good, **asked})
    assert text.startswith(f"{code}: ") and said in text


def test_rasters_that_do_not_go_together_are_refused(forecast, context, raster, fine):
    asked = dict(DATE="2030-06-01")
    away, coarse = raster("away.tif", left=600000.0), raster("wide.tif", 60.0)
    text = refusal(forecast, context, INPUTS=[fine, away], DATES="2016-09-11;2018-11-20", **asked)
    assert text.startswith("INVALID_REQUEST: The layers 'away' and 'fine' do not overlap.")
    text = refusal(forecast, context, INPUTS=[coarse], DATES="2016-09-11", **asked)
    assert text.startswith("UNSUPPORTED_RESOLUTION: ") and "0.5 m to 20 m" in text
    dates = ";".join(f"{year}-01-01" for year in range(2010, 2014))
    text = refusal(forecast, context, INPUTS=[fine] * 4, DATES=dates, **asked)
    assert text.startswith("INVALID_REQUEST: The model 'seer' starts from at most 3 layers; there are 4.")
    text = refusal(forecast, context, INPUTS=[raster("grey.tif", bands=1)], DATES="2016-09-11", **asked)
    assert text.startswith("UNSUPPORTED_RASTER: ")


def test_without_a_model_it_names_the_public_ones(qgis_app, context, fine, tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERIMAGE_MODELS", "")
    (tmp_path / "seer.json").write_text(dumps(Offer(SEER, "zenodo", "1", "", "No licence stated.", 1000)))
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path)
    provider = AfterimageProvider()
    provider.refreshAlgorithms()
    text = refusal(provider.algorithm("forecast"), context, INPUTS=[fine], DATES="2016-09-11", DATE="2030-06-01")
    assert text.startswith("UNKNOWN_MODEL: No model for this is installed.") and text.endswith("Public ones: Seer.")


def test_a_run_writes_every_source_and_its_result_is_dated(forecast, context, coarse, fine, tmp_path, monkeypatch):
    folders = []

    def run_job(folder, feedback):
        folders.append(folder)
        job = read_job(folder)
        grid = GeoBox("EPSG:32633", (1.0, 0.0, 500000.0, 0.0, -1.0, 5000000.0), (100, 100))
        text, date = dumps(job), job.request.date
        made = Provenance("Forecast", "seer", {}, "", "", text, "", "", date, 1, "", 1, 1.0, (), grid, "0", "")
        (path,) = target_paths(job.request, job.output)
        gdal.Translate(path, fine)
        return Result((Output(path, Role.SAMPLE, 1, grid, SEER.bands, "uint16", date),), made, (), 0.1)

    monkeypatch.setattr(base, "run_job", run_job)
    monkeypatch.setattr("afterimage.plugin.settings.jobs_folder", lambda: str(tmp_path / "jobs"))
    output = str(tmp_path / "drawn.tif")
    details = QgsProcessingContext.LayerDetails("plain", context.project(), "OUTPUT")
    context.addLayerToLoadOnCompletion(output, details)
    asked = dict(INPUTS=[coarse, fine], DATES="2016-09-11;2018-11-20", DATE="2030-06-01", OUTPUT=output)
    feedback = QgsProcessingFeedback()
    results, is_well = forecast.create().run(asked, context, feedback)
    assert is_well and results["OUTPUT"] == output and results["OUTPUTS"] == [output]
    for source in read_job(folders[0]).request.sources:
        assert gdal.Open(f"{folders[0]}/{source.path}").RasterCount == 3
    layer = open_raster(output, "drawn")
    context.layerToLoadOnCompletionDetails(output).postProcessor().postProcessLayer(layer, context, feedback)
    assert layer_date(layer) == "2030-06-01" and layer.name() == "AI-generated: fine on 2030-06-01"


def asked_again(text):
    """The arguments of ``processing.run`` in the text."""
    found = []

    class Processing:
        run = staticmethod(lambda *arguments: found.append(arguments))

    exec(text, {**vars(core), "processing": Processing})
    return found[0]


def test_a_job_copied_as_text_asks_for_the_same(forecast, context, raster, tmp_path):
    names = ["coarse.tif", "fine.tif"]
    raster("coarse.tif", bands=4)
    raster("fine.tif", 1.0, 100)
    asked = dict(
        INPUTS=[str(tmp_path / name) for name in names],
        DATES="2016-09-11;2018-11-20",
        DATE="2030-06-01",
        PROMPT='it\'s a "house"',
        NEGATIVE_PROMPT="clouds",
        CLOUD_COVER=7.5,
        CLOUD_COVERS="0;12.5",
        BANDS="4,3,2;1,2,3",
        KEEP_ORDER=True,
        SEED=2**40 + 1,
        SAMPLES=3,
        GUIDANCE=2.5,
        STEPS=5,
    )
    first = draft(forecast, context, **asked)
    _, folder = create_folder(str(tmp_path / "jobs"), first)
    for export in first.exports:
        export.write(folder, lambda: False)
    name, parameters = asked_again(command(folder))
    assert name == "afterimage:forecast" and parameters["OUTPUT"] == "TEMPORARY_OUTPUT"
    assert set(parameters) <= {definition.name() for definition in forecast.parameterDefinitions()}
    again = draft(forecast, context, **parameters).request
    wanted = [replace(one, name="", gsd=None) for one in first.request.sources]
    assert [replace(one, name="", gsd=None) for one in again.sources] == wanted
    assert [one.gsd for one in again.sources] == pytest.approx([one.gsd for one in first.request.sources], rel=1e-4)
    assert replace(again, sources=first.request.sources, gsd=first.request.gsd) == first.request


def test_a_forecast_says_what_it_was_made_from(qgis_app, fine):
    sources = tuple(Source(f"inputs/source_{n}.tif", f"layer {n}", (), f"201{n}-01-01", 1.0) for n in (1, 2))
    request = Forecast("seer", sources, 1.0, "2030-06-01", Sampling(1, 2, "DDIM"))
    job = Job("j", request, title="t")
    grid = GeoBox("EPSG:32633", (1.0, 0.0, 500000.0, 0.0, -1.0, 5000000.0), (100, 100))
    made = Provenance(
        "Forecast", "seer", {}, "", "", dumps(job), "", "", request.date, 1, "", 1, 1.0, (), grid, "0", ""
    )
    layer = open_raster(fine, "drawn")
    dress(layer, Output(fine, Role.SAMPLE, 1, grid, SEER.bands, "uint16", request.date), made)
    assert "Made from: layer 1 (2011-01-01), layer 2 (2012-01-01)" in layer.metadata().abstract()
    assert "Date that it is meant to show: 2030-06-01" in layer.metadata().abstract()
    assert layer_date(layer) == "2030-06-01"
