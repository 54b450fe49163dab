import os

import pytest
from afterimage.engine.contract import ErrorCode, SuperResolve
from afterimage.plugin.maps.sources import describe
from afterimage.plugin.maps.temporal import set_layer_date
from afterimage.plugin.panels import SuperResolvePanel
from afterimage.plugin.report import Problem
from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import Qt

from .conftest import codes, sharpener, write_raster


@pytest.fixture
def make(qtbot, cards):
    def panel():
        panel = SuperResolvePanel()
        qtbot.addWidget(panel)
        panel.set_cards(cards)
        panel.show()
        return panel

    return panel


def test_without_a_raster_it_says_what_to_add(make, qgis_new_project):
    QgsProject.instance().addMapLayer(QgsVectorLayer("Point?crs=EPSG:4326", "points", "memory"))
    panel = make()
    assert codes(panel) == [ErrorCode.SOURCE_UNREADABLE]
    assert panel.estimate() is None
    with pytest.raises(Problem):
        panel.draft()


def test_the_layer_becomes_a_request(make, layer, tmp_path):
    draft = make().draft()
    request = draft.request
    assert isinstance(request, SuperResolve)
    assert (request.factor, request.spread) == (2, False)
    assert request.gsd == pytest.approx(10.0, rel=0.01)
    assert request.source.name == "four"
    assert draft.title == "four, 2\u00d7 finer"
    (export,) = draft.exports
    folder = tmp_path / "job"
    folder.mkdir()
    export.write(str(folder), lambda: False)
    assert os.path.exists(folder / request.source.path)


def test_a_layer_that_comes_later_is_offered(make, qgis_new_project, tmp_path):
    panel = make()
    assert codes(panel) == [ErrorCode.SOURCE_UNREADABLE]
    QgsProject.instance().addMapLayer(QgsRasterLayer(write_raster(tmp_path / "late.tif"), "late"))
    assert panel.problems() == []
    QgsProject.instance().removeAllMapLayers()
    assert codes(panel) == [ErrorCode.SOURCE_UNREADABLE]


def test_all_data_bands_are_checked_and_any_can_be_dropped(make, layer):
    panel = make()
    assert panel.bands.value() == (1, 2, 3, 4)
    panel.bands.setItemCheckState(3, Qt.CheckState.Unchecked)
    assert panel.draft().request.source.bands == (1, 2, 3)
    for index in range(3):
        panel.bands.setItemCheckState(index, Qt.CheckState.Unchecked)
    assert codes(panel) == [ErrorCode.INVALID_REQUEST]


def test_fewer_bands_take_less(make, layer):
    panel = make()
    whole = panel.estimate()
    assert whole.shape == (80, 80)
    panel.bands.setItemCheckState(3, Qt.CheckState.Unchecked)
    assert panel.estimate().gflop < whole.gflop


def test_the_new_pixel_size_is_shown(make, layer):
    panel = make()
    assert panel.fields.note_text(panel.factor) == "Pixels of 10 m become 5 m."
    panel.factor.setCurrentIndex(1)
    assert panel.draft().request.factor == 4
    assert "2.5 m" in panel.fields.note_text(panel.factor)


def test_a_resolution_that_the_model_was_not_trained_for_is_said(make, layer):
    panel = make()
    panel.set_cards((sharpener(gsd=(0.1, 0.2)),))
    assert "trained for 0.1 m to 0.2 m" in panel.fields.note_text(panel.factor)


def test_a_spread_needs_samples(make, layer, qtbot):
    panel = make()
    assert not panel.spread.isEnabled()
    assert panel.fields.note_text(panel.spread)
    panel.samples.setValue(4)
    qtbot.keyClick(panel.spread, Qt.Key.Key_Space)
    assert panel.draft().request.spread
    panel.samples.setValue(1)
    assert not panel.draft().request.spread
    panel.set_cards((sharpener(gives_mean=True),))  # it tells how sure it is
    assert panel.spread.isEnabled() and not panel.fields.note_text(panel.spread)
    assert panel.draft().request.spread and panel.draft().request.sampling.samples == 1


def test_the_mean_is_asked_for_where_the_model_gives_it(make, layer, qtbot):
    panel = make()
    assert not panel.mean.isEnabled() and "does not give" in panel.fields.note_text(panel.mean)
    panel.set_cards((sharpener(gives_mean=True), sharpener(id="other", name="Other")))
    assert panel.mean.isEnabled() and not panel.fields.note_text(panel.mean)
    assert "Measure on this one" in panel.mean.toolTip()
    without = panel.estimate()
    assert not panel.draft().request.mean
    with qtbot.waitSignal(panel.changed):
        qtbot.keyClick(panel.mean, Qt.Key.Key_Space)
    request = panel.draft().request
    assert request.mean and request.sampling.samples == 1 and not request.spread
    assert panel.estimate().gflop > without.gflop and panel.estimate().tiles == 2 * without.tiles
    panel.model.pick("other")
    assert not panel.mean.isEnabled() and not panel.draft().request.mean


def test_a_layer_that_cannot_be_used_is_refused_with_the_reason(make, qgis_new_project, tmp_path, qtbot):
    layer = QgsRasterLayer(write_raster(tmp_path / "lost.tif"), "lost")
    layer.setCrs(QgsCoordinateReferenceSystem())
    QgsProject.instance().addMapLayer(layer)
    panel = make()
    assert codes(panel) == [ErrorCode.UNKNOWN_CRS]
    assert panel.problems()[0].hint
    with qtbot.waitSignal(panel.changed):
        layer.setCrs(QgsCoordinateReferenceSystem("EPSG:32633"))
    assert panel.problems() == []


def test_the_source_is_never_replaced(make, layer):
    panel = make()
    panel.output.file.setFilePath(layer.source())
    assert codes(panel) == [ErrorCode.OUTPUT_NOT_WRITABLE]


@pytest.mark.parametrize("name", ["four_2.tif", "four_mean.tif", "four_spread.tif", "link.tif"])
def test_no_sample_no_mean_and_no_spread_replaces_the_source(make, qgis_new_project, tmp_path, name):
    path = write_raster(tmp_path / "four_2.tif")
    if name == "link.tif":
        os.symlink(path, tmp_path / "link.tif")
    elif name != "four_2.tif":
        os.rename(path, tmp_path / name)
        path = str(tmp_path / name)
    QgsProject.instance().addMapLayer(QgsRasterLayer(path, "source"))
    panel = make()
    panel.set_cards((sharpener(gives_mean=True),))
    panel.output.file.setFilePath(str(tmp_path / ("link.tif" if name == "link.tif" else "four.tif")))
    assert (codes(panel) == []) is (name != "link.tif")
    panel.samples.setValue(2)
    panel.mean.setChecked(True)
    panel.spread.setChecked(True)
    assert codes(panel) == [ErrorCode.OUTPUT_NOT_WRITABLE]
    with pytest.raises(Problem):
        panel.draft()
    panel.output.file.setFilePath(str(tmp_path / "other.tif"))
    assert panel.problems() == []


def test_the_form_comes_back_as_it_was_left(make, layer):
    panel = make()
    panel.factor.setCurrentIndex(1)
    panel.samples.setValue(8)
    panel.mean.setChecked(True)
    panel.spread.setChecked(True)
    panel.remember()
    other = make()
    other.recall()
    assert other.mean.isChecked() and other.spread.isChecked()
    assert other.held() == {**panel.held(), "seed": other.seed.value()}


SENTINEL2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")


def sentinel(**more):
    facts = dict(
        id="sentinel",
        name="From Sentinel-2",
        gsd=(0.3, 5.0),
        factors=(4, 2, 8),
        guidance_scale=5.0,
        uses=("prompt", "negative_prompt", "gsd", "date", "place", "cloud_cover"),
        source_bands=("B4", "B3", "B2", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),
    )
    return sharpener(**{**facts, **more})


@pytest.fixture
def spectral(tmp_path, qgis_new_project):
    """Adds a layer with bands that are described so."""

    def add(names, **tags):
        path = write_raster(tmp_path / "bands.tif", bands=len(names), dtype=gdal.GDT_UInt16)
        dataset = gdal.Open(path, gdal.GA_Update)
        for band, name in enumerate(names, 1):
            dataset.GetRasterBand(band).SetDescription(name)
        dataset.SetMetadata(tags)
        dataset = None
        layer = QgsRasterLayer(path, "bands")
        QgsProject.instance().addMapLayer(layer)
        return layer

    return add


def test_a_model_of_given_bands_gets_all_of_them_with_their_names(make, spectral, tmp_path):
    spectral(SENTINEL2, PROCESSING_BASELINE="04.00", PRODUCT_START_TIME="2022-06-01T10:10:31Z", SECRET="x")
    panel = make()
    panel.set_cards((sentinel(),))
    assert panel.problems() == [] and not panel.bands.isVisibleTo(panel) and panel.prompt.isVisibleTo(panel)
    assert [panel.factor.itemData(index) for index in range(panel.factor.count())] == [4, 2, 8]
    assert "B4, B3, B2" in panel.fields.note_text(panel.layer)
    panel.prompt.set_text("a harbour")
    panel.negative.set_text("clouds")
    panel.factor.setCurrentIndex(0)
    assert panel.estimate().shape == (160, 160)
    draft = panel.draft()
    request = draft.request
    assert (request.prompt, request.negative_prompt, request.factor) == ("a harbour", "clouds", 4)
    assert request.sampling.guidance_scale == 5.0
    assert (request.source.bands, request.source.date) == ((), "2022-06-01")
    draft.exports[0].write(str(tmp_path), lambda: False)
    written = gdal.Open(str(tmp_path / request.source.path))
    assert tuple(written.GetRasterBand(band).GetDescription() for band in range(1, 14)) == SENTINEL2
    assert written.GetMetadataItem("PROCESSING_BASELINE") == "04.00" and written.GetMetadataItem("SECRET") is None


def test_a_model_is_told_the_date_and_the_clouds_that_the_form_shows(make, spectral, tmp_path):
    layer = spectral(SENTINEL2, PRODUCT_START_TIME="2022-06-01T10:10:31Z", CLOUD_COVERAGE_ASSESSMENT="7.6")
    panel = make()
    panel.set_cards((sentinel(),))
    assert panel.date.isVisibleTo(panel) and panel.clouds.isVisibleTo(panel)
    source = panel.draft().request.source
    assert (source.date, source.cloud_cover) == ("2022-06-01", 8.0)
    panel.clouds.number.setValue(40)
    set_layer_date(layer, "2022-06-03")  # what the layer says is followed, what was written stays
    source = panel.draft().request.source
    assert (source.date, source.cloud_cover) == ("2022-06-03", 40.0)
    panel.date.edit.clear()
    assert panel.draft().request.source.date is None
    other = QgsRasterLayer(write_raster(tmp_path / "other.tif"), "other")
    QgsProject.instance().addMapLayer(other)
    panel.layer.setLayer(other)
    assert (panel.date.value(), panel.clouds.value()) == (None, None)


def test_a_model_that_is_told_no_date_still_dates_its_result(make, spectral):
    spectral(SENTINEL2, PRODUCT_START_TIME="2022-06-01T10:10:31Z", CLOUD_COVERAGE_ASSESSMENT="7.6")
    panel = make()
    assert not panel.date.isVisibleTo(panel) and not panel.clouds.isVisibleTo(panel)
    panel.date.edit.clear()
    source = panel.draft().request.source
    assert (source.date, source.cloud_cover) == ("2022-06-01", None)


def test_a_colour_does_not_hide_the_name_of_a_band(make, spectral):
    layer = spectral(SENTINEL2)
    dataset = gdal.Open(layer.source(), gdal.GA_Update)
    for band, colour in enumerate((gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand), 1):
        dataset.GetRasterBand(band).SetColorInterpretation(colour)
    dataset = None
    assert describe(QgsRasterLayer(layer.source(), "coloured")).descriptions == SENTINEL2


def test_bands_without_names_are_taken_in_order_and_missing_ones_refused(make, spectral):
    layer = spectral(("",) * 13)
    panel = make()
    panel.set_cards((sentinel(),))
    assert panel.problems() == [] and "no names" in panel.fields.note_text(panel.layer)
    QgsProject.instance().removeMapLayer(layer.id())
    layer = spectral(("",) * 5)
    assert codes(panel) == [ErrorCode.UNSUPPORTED_RASTER] and "5 bands" in panel.problems()[0].message
    QgsProject.instance().removeMapLayer(layer.id())
    spectral(SENTINEL2[:8])
    assert codes(panel) == [ErrorCode.UNSUPPORTED_RASTER] and "B8A, B11, B12" in panel.problems()[0].message
    assert panel.estimate() is None
    with pytest.raises(Problem):
        panel.draft()


def test_a_factor_that_is_out_of_reach_is_refused(make, spectral):
    spectral(SENTINEL2)
    panel = make()
    panel.set_cards((sentinel(gsd=(0.3, 1.0), factors=(2, 8)),))
    assert codes(panel) == [ErrorCode.UNSUPPORTED_RESOLUTION] and "2 m" in panel.problems()[0].hint
    panel.factor.setCurrentIndex(1)
    assert panel.problems() == []


def test_words_are_asked_for_only_where_the_model_reads_them(make, layer):
    panel = make()
    assert not panel.prompt.isVisibleTo(panel) and not panel.negative.isVisibleTo(panel)
    assert not panel.sampling.guidance.isVisibleTo(panel) and panel.bands.isVisibleTo(panel)
    panel.prompt.set_text("a harbour")
    request = panel.draft().request
    assert request.prompt == "" and request.sampling.guidance_scale == 1.0
