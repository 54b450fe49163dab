import time

import pytest
from afterimage.engine.contract import ErrorCode
from afterimage.plugin.maps.acquisition import Acquisition, acquisition
from afterimage.plugin.maps.series import Member, shared_window
from afterimage.plugin.maps.sources import describe
from afterimage.plugin.maps.temporal import layer_date, set_layer_date
from osgeo import gdal, osr
from qgis.core import QgsDateTimeRange, QgsLayerMetadata, QgsMultiBandColorRenderer, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime

from .conftest import LEFT, codes, forecaster, names, write_raster


@pytest.fixture
def make(make_forecast):
    return make_forecast


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
