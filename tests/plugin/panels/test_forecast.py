import json
import os
from dataclasses import replace

import pytest
from afterimage.engine.contract import ErrorCode, Forecast, Offer, dumps
from afterimage.plugin import catalogue
from afterimage.plugin.jobs import read_job
from afterimage.plugin.link.channel import ProcessChannel
from afterimage.plugin.panels import ForecastPanel
from afterimage.plugin.report import Problem
from afterimage.plugin.session import Session
from osgeo import gdal
from qgis.core import QgsProject
from qgis.PyQt.QtWidgets import QScrollArea

from .conftest import codes, forecaster, names


@pytest.fixture
def make(make_forecast):
    return make_forecast


def test_a_filled_form_becomes_a_request_with_the_finest_layer_first(pair, make):
    panel = make(*pair)
    panel.prompt.set_text(" new  houses")
    panel.negative.set_text("clouds")
    panel.clouds.set_value(5)
    panel.series.rows[1].clouds.set_value(30)
    panel.samples.setValue(2)
    panel.sampling.guidance.setValue(2.0)
    assert panel.problems() == []
    draft = panel.draft()
    request = draft.request
    assert isinstance(request, Forecast) and draft.title == "fine on 2030-06-01"
    first, second = request.sources
    assert (first.name, first.date, first.path, first.cloud_cover) == (
        "fine",
        "2018-11-20",
        "inputs/source_1.tif",
        None,
    )
    assert (second.name, second.date, second.path, second.cloud_cover) == (
        "coarse",
        "2016-09-11",
        "inputs/source_2.tif",
        30,
    )
    assert first.gsd == request.gsd == pytest.approx(1.0, rel=1e-3) and second.gsd == pytest.approx(10.0, rel=1e-3)
    assert (request.model, request.date, request.cloud_cover) == ("seer", "2030-06-01", 5)
    assert (request.prompt, request.negative_prompt) == ("new houses", "clouds")
    assert (request.sampling.samples, request.sampling.guidance_scale) == (2, 2.0)


def test_what_is_written_is_what_lies_on_the_first_layer_s_ground(pair, make, tmp_path):
    fine, coarse = make(*pair).draft().exports
    for export in (fine, coarse):
        export.write(str(tmp_path), lambda: False)
    assert gdal.Open(str(tmp_path / "inputs" / "source_1.tif")).RasterXSize == 100
    written = gdal.Open(str(tmp_path / "inputs" / "source_2.tif"))
    assert (written.RasterXSize, written.RasterYSize) == (26, 26)  # 100 m, and 16 pixels to the east and the south
    whole = gdal.Open(pair[0].source())
    assert (written.ReadAsArray() == whole.ReadAsArray(0, 0, 26, 26)).all()


def test_an_empty_form_says_what_to_add(make):
    panel = make(date=None)
    assert codes(panel) == [ErrorCode.INVALID_REQUEST] and "Add raster layers" in panel.problems()[0].hint
    assert panel.estimate() is None
    with pytest.raises(Problem):
        panel.draft()


def test_a_result_is_never_written_over_a_layer_that_it_is_made_from(pair, make):
    panel = make(*pair)
    panel.output.file.setFilePath(pair[0].source())
    assert codes(panel) == [ErrorCode.OUTPUT_NOT_WRITABLE]


def test_without_a_model_it_names_the_public_weights(make, tmp_path, monkeypatch, qtbot):
    offers = tmp_path / "catalogue"
    offers.mkdir()
    for id, task, size, needs in (
        ("seer", "Forecast", 5 * 10**9, ("painter",)),
        ("painter", "Generate", 0, ()),
        ("owl", "Forecast", 0, ()),
        ("oracle", "Forecast", 10**9, ()),
        ("augur", "Forecast", 0, ("painter", "hand")),
    ):
        card = forecaster(id=id, name=id.title(), tasks=(task,))
        offer = Offer(card, "zenodo", "1", "", "No licence stated.", size, needs)
        (offers / f"{id}.json").write_text(dumps(offer))
    (offers / "broken.json").write_text("{")
    monkeypatch.setattr(catalogue, "CATALOGUE", offers)
    panel = ForecastPanel()
    qtbot.addWidget(panel)
    panel.set_cards(())
    assert codes(panel) == [ErrorCode.UNKNOWN_MODEL] and panel.estimate() is None
    said = panel.fields.note_text(panel.model)
    assert sorted(said.split("\n")[1:]) == [
        "\u2022 Augur, made for Painter, hand",
        "\u2022 Oracle, about 1 GB",
        "\u2022 Owl",
        "\u2022 Seer, about 5 GB, made for Painter",
    ]
    panel.set_cards((forecaster(),))
    assert panel.fields.note_text(panel.model) == ""


def test_what_the_model_does_not_use_is_said(pair, make):
    panel = make(*pair, card=forecaster(uses=("gsd",)))
    assert not panel.prompt.isEnabled() and not panel.clouds.isEnabled() and panel.date.isEnabled()
    assert "only dates the layer" in panel.fields.note_text(panel.date)


def test_the_form_is_kept_with_its_layers(pair, make):
    panel = make(*pair)
    panel.series.move(panel.series.rows[0], 1)
    panel.series.rows[0].date.set_value("2011-11-11")
    panel.series.rows[1].clouds.set_value(30)
    panel.series.rows[1].date.set_value(None)
    shown = names(panel), [row.date.value() for row in panel.series.rows], panel.series.rows[1].clouds.value()
    panel.prompt.set_text("new houses")
    panel.clouds.set_value(20)
    panel.remember()
    later = make(date=None)
    later.recall()
    assert (later.prompt.text(), later.date.value(), later.clouds.value()) == ("new houses", "2030-06-01", 20)
    found = names(later), [row.date.value() for row in later.series.rows], later.series.rows[1].clouds.value()
    assert found == shown == (found[0], ["2011-11-11", None], 30)
    assert later.held() == {**panel.held(), "seed": later.seed.value()}
    QgsProject.instance().removeMapLayer(pair[0].id())
    later = make(date=None)
    later.recall()
    assert len(later.series.rows) == 1
    later.hold(json.loads('{"cloud_cover": "much", "date": 7, "prompt": null, "layers": [7, {"layer": "gone"}]}'))
    assert later.date.value() is None and later.clouds.value() is None and names(later) == []


def test_the_estimate_is_that_of_the_first_layer(pair, make):
    panel = make(*pair)
    found = panel.estimate()
    assert found.shape == (100, 100) and found.gflop > 0
    panel.samples.setValue(2)
    assert panel.estimate().windows == 2 * found.windows


def test_its_job_runs_again_with_all_of_its_layers(pair, make, tmp_path, fake_python, qtbot):
    session = Session(root=str(tmp_path / "jobs"), open_channel=lambda: ProcessChannel(fake_python))
    with qtbot.waitSignal(session.result_ready, timeout=20000):
        first = session.submit(make(*pair).draft())
    pair[0].setName("another")
    with qtbot.waitSignal(session.result_ready, timeout=20000):
        second = session.again(first, new_seed=True)
    old, new = (read_job(session.job(id).folder).request for id in (first, second))
    assert new == replace(old, sampling=replace(old.sampling, seed=new.sampling.seed)) and new != old
    for source in new.sources:
        made = [gdal.Open(os.path.join(session.job(id).folder, source.path)) for id in (first, second)]
        assert made[0].GetGeoTransform() == made[1].GetGeoTransform()
        assert (made[0].ReadAsArray() == made[1].ReadAsArray()).all()
    session.stop()
    later = Session(root=str(tmp_path / "jobs"), open_channel=lambda: ProcessChannel(fake_python))
    assert {(job.task, job.title) for job in later.jobs} == {("Forecast", "fine on 2030-06-01")}
    later.stop()


def test_a_negative_prompt_needs_guidance(pair, make):
    panel = make(*pair, card=forecaster(guidance_scale=1.0))
    panel.negative.set_text("clouds")
    assert "guidance above 1" in panel.more.note_text(panel.negative)
    panel.sampling.guidance.setValue(3.0)
    assert panel.more.note_text(panel.negative) == ""
    assert panel.draft().request.sampling.guidance_scale == 3.0


def test_the_catalogue_that_ships_names_weights_for_it():
    assert "Forecast" in {task for offer in catalogue.offers("Forecast") for task in offer.card.tasks}


@pytest.mark.parametrize("width", [320, 430, 460])
def test_remarks_that_get_longer_push_the_rest_down(pair, make, qtbot, width):
    panel, area = make(*pair), QScrollArea()
    qtbot.addWidget(area)
    area.setWidgetResizable(True)
    area.setWidget(panel)
    area.resize(width, 400)
    area.show()
    qtbot.wait(50)
    row = panel.series.rows[0]
    row.note.setText(row.note.text() + " The model was trained for 1 m to 10 m: expect less of it.")
    qtbot.waitUntil(lambda: row.height() >= row.layout().heightForWidth(row.width()), timeout=2000)
