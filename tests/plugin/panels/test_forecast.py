import json
import os
import time
from dataclasses import replace

import pytest
from afterimage.engine.contract import ErrorCode, Forecast, Offer, dumps
from afterimage.plugin import catalogue
from afterimage.plugin.jobs import read_job
from afterimage.plugin.link.channel import ProcessChannel
from afterimage.plugin.maps.acquisition import Acquisition, acquisition
from afterimage.plugin.maps.series import Member, shared_window
from afterimage.plugin.maps.sources import describe
from afterimage.plugin.maps.temporal import layer_date, set_layer_date
from afterimage.plugin.panels import ForecastPanel
from afterimage.plugin.report import Problem
from afterimage.plugin.session import Session
from osgeo import gdal, osr
from qgis.core import (
    QgsDateTimeRange,
    QgsLayerMetadata,
    QgsMultiBandColorRenderer,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime
from qgis.PyQt.QtWidgets import QScrollArea

from .conftest import painter, write_raster

LEFT = Qt.MouseButton.LeftButton


def forecaster(**more):
    facts = dict(id="seer", name="Seer", tasks=("Forecast",), frames=3, gsd=(1.0, 10.0), vocabulary=())
    uses = ("prompt", "negative_prompt", "date", "place", "gsd", "cloud_cover")
    return painter(**{**facts, "uses": uses, **more})


@pytest.fixture
def raster(tmp_path, qgis_new_project):
    """Adds a raster to the project; its upper left corner is that of all others, unless it says another."""

    def make(name, gsd=10.0, side=40, date=None, corner=(300000.0, 5300000.0), bands=3, epsg=32633):
        kind = gdal.GDT_UInt16 if bands > 3 else gdal.GDT_Byte  # of four bands of bytes the last would be alpha
        path = write_raster(tmp_path / f"{name}.tif", bands=bands, dtype=kind, side=side, epsg=epsg)
        file = gdal.Open(path, gdal.GA_Update)
        file.SetGeoTransform((corner[0], gsd, 0.0, corner[1], 0.0, -gsd))
        file.FlushCache()
        del file
        layer = QgsRasterLayer(path, name)
        assert layer.isValid()
        if date:
            set_layer_date(layer, date)
        QgsProject.instance().addMapLayer(layer)
        return layer

    return make


@pytest.fixture
def make(qtbot, qgis_new_project):
    """Makes the form, with layers in it and a date."""

    def panel(*layers, date="2030-06-01", card=None):
        panel = ForecastPanel()
        qtbot.addWidget(panel)
        panel.set_cards((card or forecaster(),))
        for layer in layers:
            panel.series.add(layer)
        panel.date.set_value(date)
        panel.show()
        return panel

    return panel


@pytest.fixture
def pair(raster):
    return raster("coarse", 10.0, 40, "2016-09-11"), raster("fine", 1.0, 100, "2018-11-20")


def codes(panel):
    return [problem.code for problem in panel.problems()]


def names(panel):
    return [row.layer.name() for row in panel.series.rows]


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


def test_the_finest_leads_until_somebody_moves_a_layer(pair, raster, make, qtbot):
    coarse, fine = pair
    panel = make(coarse)
    assert names(panel) == ["coarse"]
    panel.series.add(fine)
    assert names(panel) == ["fine", "coarse"]
    qtbot.mouseClick(panel.series.rows[1].up_button, LEFT)
    assert names(panel) == ["coarse", "fine"]
    assert "Finer than the first" in panel.series.rows[1].note.text()
    assert panel.estimate().shape == (40, 40)
    panel.series.add(raster("finest", 0.5, 100, "2019-01-01"))
    assert names(panel) == ["coarse", "fine", "finest"]
    qtbot.mouseClick(panel.series.rows[0].down_button, LEFT)
    assert [source.name for source in panel.draft().request.sources] == ["fine", "coarse", "finest"]
    tops = [panel.series._column.itemAt(place).widget().layer.name() for place in range(3)]
    assert tops == names(panel)


def test_layers_that_are_about_equally_fine_keep_their_order(raster, make):
    panel = make(raster("a", 10.0, date="2016-01-01"), raster("b", 9.95, date="2017-01-01"))
    assert names(panel) == ["a", "b"]


def test_an_empty_form_says_what_to_add(make):
    panel = make(date=None)
    assert codes(panel) == [ErrorCode.INVALID_REQUEST] and "Add raster layers" in panel.problems()[0].hint
    assert panel.estimate() is None
    with pytest.raises(Problem):
        panel.draft()


def test_a_layer_without_a_date_is_named_and_a_date_can_be_written(raster, make):
    panel = make(raster("old", date="2016-09-11"), raster("undated"))
    assert codes(panel) == [ErrorCode.INVALID_REQUEST]
    assert panel.problems()[0].message == "The layer 'undated' has no date."
    panel.series.rows[1].date.set_value("2017-02-03")
    assert panel.problems() == []
    assert [source.date for source in panel.draft().request.sources] == ["2016-09-11", "2017-02-03"]


def test_a_date_comes_from_the_layer_s_metadata_or_its_file_too(raster, make):
    described, stored, silent = raster("described"), raster("stored"), raster("silent")
    metadata, extent = QgsLayerMetadata(), QgsLayerMetadata.Extent()
    day = QDateTime(QDate(2015, 5, 4), QTime(10, 0), Qt.TimeSpec.UTC)
    extent.setTemporalExtents([QgsDateTimeRange(day, day)])
    metadata.setExtent(extent)
    described.setMetadata(metadata)
    file = gdal.Open(stored.source(), gdal.GA_Update)
    file.SetMetadata({"ACQUISITIONDATETIME": "2014-03-02 10:11:12", "CLOUDCOVER": "12.4"}, "IMAGERY")
    del file
    assert acquisition(described) == Acquisition("2015-05-04", None)
    assert acquisition(stored) == Acquisition("2014-03-02", 12.4)
    assert acquisition(silent) == Acquisition()
    panel = make(stored)
    assert panel.series.rows[0].date.value() == "2014-03-02" and panel.series.rows[0].clouds.value() == 12
    set_layer_date(stored, "2013-01-01")
    assert panel.series.rows[0].date.value() == "2013-01-01"


def test_what_was_written_stays_when_the_layer_changes(raster, make):
    layer = raster("old", date="2016-09-11")
    panel = make(layer)
    panel.series.rows[0].date.set_value("2016-09-12")
    layer.setName("older")
    set_layer_date(layer, "2016-10-01")
    assert panel.series.rows[0].date.value() == "2016-09-12"
    assert panel.draft().request.sources[0].name == "older"


def test_the_date_of_a_fine_layer_is_no_date_for_the_result_that_of_a_coarse_one_is(pair, make):
    panel = make(*pair, date="2016-09-11")
    assert codes(panel) == []
    panel.date.set_value("2018-11-20")
    assert codes(panel) == [ErrorCode.INVALID_REQUEST] and "'fine' is of that date" in panel.problems()[0].message
    panel.date.set_value(None)
    assert codes(panel) == [ErrorCode.INVALID_REQUEST] and "no date for the result" in panel.problems()[0].message


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("2030-06-01", "After the last of the layers, 2018-11-20."),
        ("2010-06-01", "Before the first of the layers, 2016-09-11."),
        ("2017-06-01", "Between the layers."),
    ],
)
def test_it_says_whether_the_date_lies_before_or_after(pair, make, date, said):
    panel = make(*pair, date=date)
    assert panel.fields.note_text(panel.date) == said and panel.problems() == []


def test_fewer_layers_than_the_model_takes_are_filled_and_more_are_refused(raster, make):
    layers = [raster(f"y{year}", date=f"{year}-01-01") for year in range(2010, 2014)]
    panel = make(*layers[:2])
    assert "takes 3 layers: the first stands in" in panel.fields.note_text(panel.series)
    panel.series.add(layers[2])
    assert panel.fields.note_text(panel.series) == "" and panel.problems() == []
    assert not panel.series.add_button.isEnabled()
    panel.set_cards((forecaster(frames=2),))
    assert (
        codes(panel) == [ErrorCode.INVALID_REQUEST] and "at most 2 layers; there are 3" in panel.problems()[0].message
    )


def test_layers_of_another_place_are_refused_and_half_of_one_is_told(raster, make):
    first = raster("here", date="2016-01-01")
    away = raster("away", date="2017-01-01", corner=(900000.0, 5300000.0))
    half = raster("half", date="2018-01-01", corner=(300200.0, 5300000.0))
    panel = make(first, away)
    assert codes(panel) == [ErrorCode.INVALID_REQUEST]
    assert panel.problems()[0].message == "The layers 'away' and 'here' do not overlap."
    panel.series.remove(panel.series.rows[1])
    panel.series.add(half)
    assert panel.problems() == [] and "covers 50 % of the first" in panel.series.rows[1].note.text().replace(
        "\u00a0", " "
    )
    panel.series.move(panel.series.rows[1], -1)  # neighbours that share an edge share no ground
    panel.series.remove(panel.series.rows[1])
    panel.series.add(raster("beside", date="2019-01-01", corner=(300600.0, 5300000.0)))
    assert codes(panel) == [ErrorCode.INVALID_REQUEST]


def test_layers_overlap_across_coordinate_systems_and_the_antimeridian(raster, tmp_path):
    to_utm = osr.CoordinateTransformation(*map(_reference, (4326, 32633)))
    longitude, latitude, _ = osr.CoordinateTransformation(*map(_reference, (32633, 4326))).TransformPoint(3e5, 53e5)
    corner = (longitude - 0.005, latitude + 0.005)
    utm, geographic = (
        raster("utm", date="2016-01-01"),
        raster("geographic", 0.0001, 200, "2017-01-01", corner, epsg=4326),
    )
    first, second = (Member(layer, describe(layer), layer_date(layer)) for layer in (utm, geographic))
    window = shared_window(second, first)
    left, top = second.info.grid.to_map(window.col + 16, window.row + 16)  # without the pixels around
    x, y, _ = to_utm.TransformPoint(left, top)
    assert abs(x - 300000) < 30 and abs(y - 5300000) < 30 and window.width < 120
    west = raster("west", 0.01, 40, "2016-01-01", (-180.2, 0.2), epsg=4326)
    east = raster("east", 0.01, 40, "2017-01-01", (179.8, 0.2), epsg=4326)
    one, other = (Member(layer, describe(layer), layer_date(layer)) for layer in (west, east))
    assert shared_window(other, one) == describe(east).grid.window


def _reference(epsg):
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(epsg)
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return reference


def test_only_the_first_layer_s_pixels_must_be_within_the_model_s_reach(raster, make):
    fine, coarse = raster("fine", 5.0, date="2016-01-01"), raster("coarse", 60.0, date="2017-01-01")
    panel = make(fine, coarse)
    assert panel.problems() == []
    panel.series.move(panel.series.rows[0], 1)
    assert codes(panel) == [ErrorCode.UNSUPPORTED_RESOLUTION] and "60 m" in panel.problems()[0].message
    assert "0.5 m to 20 m" in panel.problems()[0].hint


def test_layers_that_cannot_be_drawn_from_are_named(raster, make, tmp_path, qgis_new_project):
    grey = raster("grey", date="2016-01-01", bands=1)
    assert codes(make(grey)) == [ErrorCode.UNSUPPORTED_RASTER]
    table = gdal.ColorTable()
    table.SetColorEntry(1, (255, 0, 0))
    path = write_raster(tmp_path / "classes.tif", bands=1)
    file = gdal.Open(path, gdal.GA_Update)
    file.GetRasterBand(1).SetColorTable(table)
    del file
    classes = QgsRasterLayer(path, "classes")
    QgsProject.instance().addMapLayer(classes)
    panel = make(raster("good", date="2016-01-01"), classes)
    assert codes(panel) == [ErrorCode.UNSUPPORTED_RASTER] and "'classes'" in panel.problems()[0].message
    assert "classes" in panel.series.rows[1].note.text()


def test_bands_are_those_that_the_layer_shows(raster, make):
    layer = raster("four", date="2016-01-01", bands=4)
    panel = make(layer)
    layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), 4, 3, 2))
    assert "bands\u00a04,\u00a03,\u00a02" in panel.series.rows[0].note.text()
    assert panel.draft().request.sources[0].bands == (4, 3, 2)


def test_the_menu_offers_each_layer_once(pair, make, qtbot):
    panel = make(pair[0])
    panel.series.fill_menu()
    (action,) = panel.series.add_button.menu().actions()
    assert action.text() == "fine"
    action.trigger()
    assert names(panel) == ["fine", "coarse"]
    panel.series.fill_menu()
    (action,) = panel.series.add_button.menu().actions()
    assert not action.isEnabled()
    qtbot.mouseClick(panel.series.rows[0].remove_button, LEFT)
    assert names(panel) == ["coarse"]


def test_a_layer_that_leaves_the_project_leaves_the_form(pair, make, qgis_new_project):
    panel = make(*pair)
    QgsProject.instance().removeMapLayer(pair[1].id())
    assert names(panel) == ["coarse"] and panel.problems() == []
    QgsProject.instance().clear()
    assert names(panel) == [] and codes(panel) == [ErrorCode.INVALID_REQUEST]


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


def test_tab_goes_through_the_layers_as_they_stand(pair, make):
    panel = make(*pair)
    panel.series.move(panel.series.rows[0], 1)
    order, widget = [], panel.series.rows[0].up_button
    for _ in range(60):
        for row in panel.series.rows:
            if widget in row.inputs():
                order.append((row.layer.name(), widget.objectName()))
        widget = widget.nextInFocusChain()
        if widget is panel.series.add_button:
            break
    parts = ["up_layer", "down_layer", "remove_layer", "date", "cloud_cover"]
    assert order == [(name, part) for name in ("coarse", "fine") for part in parts]
    assert widget is panel.series.add_button


def test_the_catalogue_that_ships_names_weights_for_it():
    assert "Forecast" in {task for offer in catalogue.offers("Forecast") for task in offer.card.tasks}


def test_every_input_of_a_layer_says_whose_it_is_and_takes_the_focus(pair, make):
    panel = make(*pair)
    said = [part.accessibleName() for row in panel.series.rows for part in row.inputs()]
    assert len(set(said)) == 10 and all(said)
    assert all(
        name in part.accessibleName()
        for row, name in zip(panel.series.rows, ("fine", "coarse"))
        for part in row.inputs()
    )
    assert all(part.focusPolicy() & Qt.FocusPolicy.TabFocus for row in panel.series.rows for part in row.inputs())
    assert panel.minimumSizeHint().width() <= 300


def test_three_layers_in_other_coordinate_systems_cost_little(raster, make):
    layers = [raster(f"y{year}", date=f"{year}-01-01") for year in (2010, 2011)]
    project = osr.CoordinateTransformation(*map(_reference, (32633, 4326)))
    longitude, latitude, _ = project.TransformPoint(300100, 5299900)
    layers.append(raster("degrees", 0.0001, 60, "2012-01-01", (longitude, latitude), epsg=4326))
    panel = make(*layers)
    assert panel.problems() == []
    began = time.process_time()
    for day in range(1, 11):
        panel.date.set_value(f"2030-01-{day:02d}")
        panel.problems()
        panel.estimate()
    assert (time.process_time() - began) / 10 < 0.1


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
