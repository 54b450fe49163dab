import json
import math
import time

import pytest
from afterimage.engine.contract import (
    FRAMES_LIMIT,
    ONE_TEXTURE,
    OR_COARSER,
    SAMPLES_LIMIT,
    ErrorCode,
    Generate,
    Regions,
)
from afterimage.plugin.maps.guide import Guide
from afterimage.plugin.panels import GeneratePanel
from afterimage.plugin.report import Problem
from afterimage.plugin.widgets import regions
from afterimage.plugin.widgets.estimate import EstimateLine
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRectangle,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QMimeData, QPoint, Qt
from qgis.PyQt.QtGui import QGuiApplication
from qgis.PyQt.QtTest import QTest

from .conftest import painter

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def panel(qtbot, canvas, cards):
    panel = GeneratePanel(canvas)
    qtbot.addWidget(panel)
    panel.set_cards(cards)
    panel.show()
    return panel


@pytest.fixture
def placed(panel, qtbot):
    qtbot.mouseClick(panel.extent.view_button, LEFT)
    panel.prompt.set_text("forest")
    return panel


def codes(panel):
    return [problem.code for problem in panel.problems()]


def test_without_an_extent_it_says_what_to_choose(panel):
    assert codes(panel) == [ErrorCode.EMPTY_EXTENT, ErrorCode.PROMPT_NOT_UNDERSTOOD]
    assert panel.estimate() is None
    with pytest.raises(Problem) as caught:
        panel.draft()
    assert caught.value.failure.code is ErrorCode.EMPTY_EXTENT


def test_the_map_view_becomes_a_request_on_a_metric_grid(placed, canvas):
    assert placed.problems() == []
    request = placed.draft().request
    assert isinstance(request, Generate)
    assert request.grid == request.lattice
    assert request.grid.crs == "EPSG:32633"
    left, bottom, right, top = request.grid.bounds
    view = canvas.extent()
    assert left <= view.xMinimum() and right >= view.xMaximum()
    assert bottom <= view.yMinimum() and top >= view.yMaximum()
    assert request.grid.resolution == (10.0, 10.0)
    assert request.longitude == pytest.approx(12.35, abs=0.05)


def test_all_of_a_rotated_map_is_covered(panel, qtbot, canvas):
    canvas.setRotation(30)
    panel.prompt.set_text("forest")
    qtbot.mouseClick(panel.extent.view_button, LEFT)
    bounds = QgsRectangle(*panel.draft().request.grid.bounds)
    corners = canvas.mapSettings().visiblePolygon()
    assert not bounds.isNull()
    assert all(bounds.contains(corner.x(), corner.y()) for corner in corners)


def test_a_rectangle_drawn_on_the_map_is_taken(panel, qtbot, canvas):
    canvas.show()
    qtbot.mouseClick(panel.extent.draw_button, LEFT)
    view = canvas.viewport()
    QTest.mousePress(view, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(100, 50))
    QTest.mouseMove(view, QPoint(150, 80))
    QTest.mouseMove(view, QPoint(200, 100))
    QTest.mouseRelease(view, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(200, 100))
    extent = panel.extent.extent()
    assert extent.width() == pytest.approx(100 * canvas.mapUnitsPerPixel(), rel=0.05)
    assert codes(panel) == [ErrorCode.PROMPT_NOT_UNDERSTOOD]


def test_the_asked_crs_is_the_result_s(placed):
    placed.crs.setCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    request = placed.draft().request
    assert request.grid.crs == "EPSG:4326"
    assert request.lattice.crs == "EPSG:32633"
    placed.crs.setCrs(QgsCoordinateReferenceSystem())
    assert placed.draft().request.grid.crs == "EPSG:32633"


@pytest.mark.parametrize("gsd, refused", [(10.0, False), (5.0, False), (40.0, False), (4.9, True), (41.0, True)])
def test_a_resolution_out_of_reach_is_refused_with_what_to_choose(placed, gsd, refused):
    placed.gsd.setValue(gsd)
    assert codes(placed) == ([ErrorCode.UNSUPPORTED_RESOLUTION] if refused else [])
    if refused:
        assert placed.problems()[0].hint == "Choose 5 m to 40 m."


def test_an_extent_that_is_too_large_is_refused(panel):
    panel.extent.set_extent(QgsRectangle(-60, -60, 60, 60), QgsCoordinateReferenceSystem("EPSG:4326"))
    assert panel.problems()[0].hint


def test_typed_text_and_clicked_words_are_the_prompt(placed, qtbot):
    placed.prompt.set_text("")
    qtbot.keyClicks(placed.prompt.edit, "morning light")
    words = placed.prompt.words
    item = words.findItems("river", Qt.MatchFlag.MatchExactly)[0]
    qtbot.mouseClick(words.viewport(), LEFT, pos=words.visualItemRect(item).center())
    assert placed.draft().request.prompt == "morning light, river"


def test_a_word_is_taken_with_the_keyboard_too(placed, qtbot):
    words = placed.prompt.words
    words.setFocus()
    words.setCurrentRow(0)
    qtbot.keyClick(words, Qt.Key.Key_Return)
    assert placed.draft().request.prompt == "forest, forest"


def test_a_prompt_of_a_megabyte_is_refused_at_once(placed):
    data = QMimeData()
    data.setText("a river " * 131072)
    QGuiApplication.clipboard().setMimeData(data)
    placed.prompt.edit.clear()
    began = time.process_time()
    placed.prompt.edit.paste()
    assert codes(placed) == [ErrorCode.PROMPT_TOO_LONG]
    placed.prompt.set_text("a river " * 131072)
    assert codes(placed) == [ErrorCode.PROMPT_TOO_LONG]
    assert time.process_time() - began < 0.5


def test_the_title_is_the_prompt_or_the_model(placed):
    placed.prompt.set_text("a forest\nby a river")
    assert placed.draft().title == "a forest by a river"
    placed.set_cards((painter(uses=()),))
    assert placed.draft().title == "Painter"


def test_inputs_that_the_model_does_not_use_say_so(panel):
    assert not panel.negative.isEnabledTo(panel.advanced)
    assert "Not used by this model" in panel.more.note_text(panel.negative)
    assert panel.date.isEnabledTo(panel)  # it dates the layer all the same
    assert "Not used by this model" in panel.fields.note_text(panel.date)
    panel.model.pick("second")
    assert panel.negative.isEnabledTo(panel.advanced)
    assert panel.more.note_text(panel.negative) == ""
    assert panel.fields.note_text(panel.date) == ""


def test_what_the_model_does_not_use_is_not_asked(placed):
    placed.negative.set_text("clouds")
    assert placed.draft().request.negative_prompt == ""
    placed.model.pick("second")
    assert placed.draft().request.negative_prompt == "clouds"


def test_the_date_is_unknown_until_it_is_set(placed):
    assert placed.draft().request.date is None
    placed.date.set_value("2027-03-01")
    assert placed.draft().request.date == "2027-03-01"


def test_each_run_draws_a_seed_unless_it_is_kept(placed, qtbot):
    assert placed.draft().request.sampling.seed != placed.draft().request.sampling.seed
    assert placed.draft().request.sampling.seed == placed.seed.value()
    qtbot.mouseClick(placed.seed.keep, LEFT, pos=QPoint(8, placed.seed.keep.height() // 2))
    assert placed.seed.keep.isChecked()
    assert placed.draft().request.sampling.seed == placed.draft().request.sampling.seed
    before = placed.seed.value()
    qtbot.mouseClick(placed.seed.random_button, LEFT)
    assert placed.seed.value() != before


def test_the_card_s_values_are_the_first(placed):
    sampling = placed.draft().request.sampling
    assert (sampling.steps, sampling.scheduler, sampling.guidance_scale, sampling.samples) == (25, "DDIM", 3.0, 1)
    placed.sampling.steps.setValue(5)
    placed.sampling.scheduler.setCurrentText("DDPM")
    placed.sampling.guidance.setValue(1.5)
    placed.samples.setValue(3)
    sampling = placed.draft().request.sampling
    assert (sampling.steps, sampling.scheduler, sampling.guidance_scale, sampling.samples) == (5, "DDPM", 1.5, 3)


def test_the_estimate_grows_with_samples(placed):
    one = placed.estimate()
    placed.samples.setValue(3)
    assert placed.estimate().tiles == 3 * one.tiles
    assert placed.estimate(gflops=1.0).seconds > placed.estimate(gflops=100.0).seconds


def test_a_model_with_a_closed_list_must_be_told_what_and_the_estimate_does_not_wait_for_it(placed, cards):
    placed.prompt.set_text("  ")
    assert codes(placed) == [ErrorCode.PROMPT_NOT_UNDERSTOOD]
    assert placed.estimate() is not None
    placed.set_cards((painter(vocabulary=()),))
    assert codes(placed) == []


def test_no_model_is_a_problem(panel):
    panel.set_cards(())
    assert codes(panel) == [ErrorCode.UNKNOWN_MODEL]


def test_new_cards_keep_the_choice(panel, cards):
    panel.model.pick("second")
    panel.set_cards(cards[1:])
    assert panel.model.card.id == "second"


def test_an_output_that_cannot_be_written_is_refused(placed, tmp_path):
    placed.output.file.setFilePath(str(tmp_path / "missing" / "out.tif"))
    assert codes(placed) == [ErrorCode.OUTPUT_NOT_WRITABLE]
    placed.output.file.setFilePath(str(tmp_path / "out"))
    assert placed.draft().output == str(tmp_path / "out.tif")


def test_the_form_comes_back_as_it_was_left(placed, qtbot, canvas, cards):
    placed.model.pick("second")
    placed.prompt.set_text("a river")
    placed.date.set_value("2027-03-01")
    placed.gsd.setValue(12.5)
    placed.samples.setValue(4)
    placed.remember()
    other = GeneratePanel(canvas)
    qtbot.addWidget(other)
    other.set_cards(cards)
    other.recall()
    assert other.held() == {**placed.held(), "seed": other.seed.value()}
    assert other.extent.extent().isNull()


def test_what_was_remembered_may_be_nonsense(panel):
    from afterimage.plugin import settings

    for text in (
        "",
        "{",
        "[]",
        '{"samples": "x", "gsd": null, "seed": -1, "keep_seed": true, "model": 3}',
        '{"seed": 1e30, "samples": 99999999999, "keep_seed": true}',
    ):
        settings.write(panel.key, text)
        panel.recall()


@pytest.mark.parametrize("typed", ["0,0,0,0 [EPSG:4326]", "10,10,50,50 [EPSG:4326]", "a,b,c,d", "nan,nan,1,1"])
def test_an_empty_rectangle_is_refused(panel, qtbot, typed):
    panel.extent.edit.clear()
    qtbot.keyClicks(panel.extent.edit, typed)
    qtbot.keyClick(panel.extent.edit, Qt.Key.Key_Return)
    assert ErrorCode.EMPTY_EXTENT in codes(panel)


def test_a_prompt_of_strange_words_is_remarked_on(panel):
    for text, strange in (("", False), ("a castle", True), ("a Forest by night", False)):
        panel.prompt.set_text(text)
        assert bool(panel.fields.note_text(panel.prompt)) is strange


def test_the_steps_are_kept_as_pictures_and_never_more_than_there_are(placed):
    assert placed.draft().request.trajectory == 0
    placed.sampling.steps.setValue(40)
    placed.trajectory.setValue(30)
    assert placed.draft().request.trajectory == 30
    assert "30 pictures" in placed.more.note_text(placed.trajectory)
    plain = placed.estimate()
    placed.sampling.steps.setValue(12)
    assert placed.trajectory.value() == 12 and placed.draft().request.trajectory == 12
    placed.trajectory.setValue(0)
    assert placed.estimate().disk_mb < plain.disk_mb
    assert placed.more.note_text(placed.trajectory) == ""


def test_the_pictures_of_all_samples_stay_within_what_a_job_keeps(placed):
    placed.sampling.steps.setValue(40)
    placed.trajectory.setValue(30)
    seen = []
    placed.changed.connect(lambda: seen.append(placed.estimate()))
    placed.samples.setValue(6)
    assert placed.trajectory.value() == 30 and "fewer samples" not in placed.more.note_text(placed.trajectory)
    placed.samples.setValue(SAMPLES_LIMIT)
    assert placed.trajectory.value() == FRAMES_LIMIT // SAMPLES_LIMIT
    assert "at most 200" in placed.more.note_text(placed.trajectory)
    assert seen and None not in seen  # no announcement in between of more than the contract lets pass
    placed.samples.setValue(1)
    placed.trajectory.setValue(40)
    assert placed.draft().request.trajectory == 40 and "fewer samples" not in placed.more.note_text(placed.trajectory)


def test_the_number_of_pictures_is_remembered(placed):
    placed.trajectory.setValue(8)
    kept = placed.held()
    placed.trajectory.setValue(0)
    placed.hold(kept)
    assert placed.trajectory.value() == 8
    for strange in ("many", -1, 10**6, None):
        placed.hold({**kept, "trajectory": strange})
        assert placed.trajectory.value() == 8


def test_a_model_that_is_told_nothing_needs_no_words(panel, qtbot):
    panel.set_cards((painter(id="ddpm", uses=(), vocabulary=(), guidance_scale=1.0, steps=1000),))
    qtbot.mouseClick(panel.extent.view_button, LEFT)
    panel.prompt.set_text("left from before")
    assert panel.problems() == [] and not panel.prompt.isEnabled()
    assert "Not used" in panel.fields.note_text(panel.prompt)
    request = panel.draft().request
    assert (request.prompt, request.sampling.guidance_scale, request.sampling.steps) == ("", 1.0, 1000)


def guided(**more):
    facts = dict(controls=("roads", "depth"), uses=("prompt", "gsd", "cloud_cover"), vocabulary=())
    return painter(**{**facts, **more})


@pytest.fixture
def road(canvas):
    layer = QgsVectorLayer("LineString?crs=EPSG:32633", "Road", "memory")
    feature = QgsFeature()
    feature.setGeometry(QgsGeometry.fromWkt("LineString(300000 5302000, 308000 5303000)"))
    assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    QgsProject.instance().addMapLayer(layer)
    return layer


def test_layers_guide_a_model_that_takes_them(placed, road, tmp_path):
    assert not placed.controls.isVisible() and placed.draft().exports == ()
    placed.set_cards((guided(),))
    assert placed.controls.isVisible()
    placed.controls.rows["roads"].layer.setLayer(road)
    draft = placed.draft()
    assert [(control.kind, control.source.name) for control in draft.request.controls] == [("roads", "Road")]
    draft.exports[0].write(str(tmp_path), lambda: False)
    assert (tmp_path / draft.request.controls[0].source.path).is_file()
    placed.set_cards((painter(),))
    assert placed.draft().request.controls == ()


def test_a_layer_elsewhere_or_one_that_is_missing_is_a_problem_and_the_estimate_does_not_wait(placed, road):
    placed.set_cards((guided(required=("depth",)),))
    placed.controls.rows["roads"].layer.setLayer(road)
    assert codes(placed) == [ErrorCode.INVALID_REQUEST]
    placed.set_cards((guided(id="other"),))
    placed.extent.set_extent(QgsRectangle(400000, 5300000, 408000, 5305000), QgsCoordinateReferenceSystem("EPSG:32633"))
    assert codes(placed) == [ErrorCode.SOURCE_EMPTY] and placed.estimate() is not None
    with pytest.raises(Problem):
        placed.draft()


def test_what_the_model_is_told_of_clouds_and_resolution(placed):
    placed.cloud_cover.set_value(30)
    assert placed.draft().request.cloud_cover is None
    assert "Not used" in placed.more.note_text(placed.cloud_cover)
    placed.set_cards((guided(),))
    placed.told_gsd.set_value(0.0)
    request = placed.draft().request
    assert (request.cloud_cover, request.told_gsd) == (30.0, 0.0)
    placed.set_cards((guided(id="other", uses=("prompt",)),))
    assert not placed.told_gsd.isVisibleTo(placed.advanced)
    assert (placed.draft().request.cloud_cover, placed.draft().request.told_gsd) == (None, None)


def able(**more):
    return painter(id="able", gsd=(1.0, 80.0), uses=("prompt", "gsd", "strength"), vocabulary=(), **more)


def choose(placed, factor):
    choice = placed.coarse.choice
    choice.setCurrentIndex(choice.findData(factor))
    choice.activated.emit(choice.currentIndex())


def test_a_coarser_level_is_offered_where_the_model_can_take_it(placed):
    placed.advanced.setCollapsed(False)
    assert not placed.coarse.isVisible()
    placed.set_cards((able(),))
    placed.gsd.setValue(10.0)
    assert placed.coarse.isVisible() and placed.coarse.factors == (2, 4, 8)
    assert placed.draft().request.coarse == 1
    choose(placed, 8)
    assert placed.draft().request.coarse == 8 and "80" in placed.more.note_text(placed.coarse)
    placed.gsd.setValue(20.0)  # 160 m is beyond what it knows
    assert placed.coarse.factors == (2, 4) and placed.draft().request.coarse == 1
    placed.gsd.setValue(10.0)
    assert placed.draft().request.coarse == 8
    placed.told_gsd.set_value(0.0)
    assert not placed.coarse.isVisible() and placed.draft().request.coarse == 1
    placed.told_gsd.set_value(30.0)
    assert placed.coarse.factors == (2,)


def test_a_coarser_level_costs_work_and_gives_structure(placed):
    placed.set_cards((able(),))
    placed.gsd.setValue(10.0)
    said, windows = placed.fields.note_text(placed.extent), placed.estimate().windows
    assert ONE_TEXTURE in said and OR_COARSER in said  # 800 x 500 pixels, of a window of 64
    choose(placed, 8)
    assert ONE_TEXTURE not in placed.fields.note_text(placed.extent) and placed.estimate().windows > windows
    choose(placed, 2)
    assert OR_COARSER in placed.fields.note_text(placed.extent)


def test_a_coarser_level_waits_while_something_stands_in_its_way(placed, monkeypatch, road):
    placed.set_cards((able(),))
    choose(placed, 2)
    placed.trajectory.setValue(4)
    assert not placed.coarse.isEnabled() and "steps are kept" in placed.more.note_text(placed.coarse)
    assert (placed.draft().request.coarse, placed.draft().request.trajectory) == (1, 4)
    placed.trajectory.setValue(0)
    assert placed.draft().request.coarse == 2
    placed.sampling.steps.setValue(1)
    assert placed.draft().request.coarse == 1
    placed.sampling.steps.setValue(9)
    monkeypatch.setattr(placed.controls, "guides", lambda: [Guide("roads", road)])
    placed.samples.setValue(2)
    assert "layers guide" in placed.more.note_text(placed.coarse) and placed.coarse.value() == 1


def test_a_small_extent_that_is_one_window_has_no_coarser_level(placed):
    placed.advanced.setCollapsed(False)
    placed.set_cards((able(whole=True),))
    assert placed.coarse.factors and placed.coarse.isVisible()
    placed.extent.set_extent(QgsRectangle(300000, 5300000, 300060, 5300060), QgsCoordinateReferenceSystem("EPSG:32633"))
    assert placed.coarse.factors == () and not placed.coarse.isVisible()


def test_a_coarser_level_is_remembered(placed):
    placed.set_cards((able(),))
    choose(placed, 4)
    held = placed.held()
    choose(placed, 1)
    placed.hold(held)
    assert placed.coarse.value() == 4
    for odd in (None, "4", True, 3):
        placed.hold({**held, "coarse": odd})
        assert placed.coarse.value() in (1, 4)


def test_the_form_fits_a_narrow_dock_with_all_that_a_layer_needs(placed, road):
    placed.set_cards((guided(uses=("prompt", "gsd", "control_strength")),))
    placed.controls.rows["roads"].layer.setLayer(road)
    placed.told_gsd.set_value(2.5)
    placed.advanced.setCollapsed(False)
    assert placed.controls.rows["roads"].strength.isVisible() and placed.told_gsd.number.isVisible()
    assert placed.minimumSizeHint().width() <= 300
    placed.set_cards((able(),))
    assert placed.coarse.isVisible() and placed.minimumSizeHint().width() <= 300


WEST = "Polygon((300000 5300000, 304000 5300000, 304000 5305000, 300000 5305000, 300000 5300000))"
EAST = "Polygon((304000 5300000, 308000 5300000, 308000 5305000, 304000 5305000, 304000 5300000))"


@pytest.fixture
def zoning(canvas):
    """Makes a layer of polygons with texts in the project."""

    def make(*parcels, crs="EPSG:32633", name="Zoning"):
        layer = QgsVectorLayer(f"Polygon?crs={crs}&field=id:integer&field=prompt:string(99)", name, "memory")
        features = []
        for wkt, text in parcels or ((WEST, "forest"), (EAST, "river")):
            features.append(QgsFeature(layer.fields()))
            features[-1].setGeometry(QgsGeometry.fromWkt(wkt))
            features[-1].setAttributes([len(features), text])
        assert layer.dataProvider().addFeatures(features)[0]
        layer.updateExtents()
        QgsProject.instance().addMapLayer(layer)
        return layer

    return make


def test_polygons_are_drawn_each_from_its_own_text(placed, zoning, tmp_path):
    assert placed.regions.isVisible() and placed.regions.isCollapsed() and placed.draft().request.regions is None
    plain = placed.estimate()
    placed.regions.layer.setLayer(zoning())
    assert not placed.regions.isCollapsed() and placed.regions.title() == "Regions: Zoning"
    assert placed.problems() == []
    draft = placed.draft()
    assert draft.request.regions == Regions("inputs/regions.geojson", "Zoning", False)
    assert (draft.request.prompt, draft.title) == ("forest", "Zoning, elsewhere forest")
    (export,) = draft.exports
    export.write(str(tmp_path), lambda: False)
    features = json.loads((tmp_path / "inputs/regions.geojson").read_text())["features"]
    assert [feature["properties"]["prompt"] for feature in features] == ["forest", "river"]
    assert "2 polygons" in placed.regions.summary and "\u201criver\u201d" in placed.regions.summary
    assert "Drawn outside the polygons" in placed.fields.note_text(placed.prompt)
    assert placed.estimate().gflop > plain.gflop


def test_outside_the_polygons_the_prompt_says_what_is_there_or_nothing_is_drawn(placed, zoning):
    placed.prompt.set_text("")
    placed.regions.layer.setLayer(zoning((WEST, "forest")))
    assert codes(placed) == [ErrorCode.PROMPT_NOT_UNDERSTOOD] and "outside" in placed.problems()[0].message
    whole = placed.estimate()
    placed.regions.only.setChecked(True)
    assert placed.problems() == []
    request = placed.draft().request
    assert (request.prompt, request.regions.only, placed.draft().title) == ("", True, "Zoning")
    assert placed.estimate().gflop < 0.7 * whole.gflop
    placed.prompt.set_text("x" * 5000)  # of no use, so no hindrance
    assert placed.problems() == []
    placed.prompt.set_text("river")
    assert placed.draft().request.prompt == "" and "Not used" in placed.fields.note_text(placed.prompt)


def test_polygons_elsewhere_or_without_texts_are_a_problem_and_the_estimate_does_not_wait(placed, zoning):
    far = "Polygon((500000 5300000, 504000 5300000, 504000 5305000, 500000 5300000))"
    placed.regions.layer.setLayer(zoning((far, "forest"), name="Far"))
    assert codes(placed) == [ErrorCode.MASK_EMPTY] and "Far" in placed.problems()[0].message
    with pytest.raises(Problem):
        placed.draft()
    placed.regions.layer.setLayer(zoning((WEST, None), name="Empty"))
    assert codes(placed) == [ErrorCode.PROMPT_NOT_UNDERSTOOD] and "Empty" in placed.problems()[0].message
    assert placed.estimate() is not None and "1 polygon has no text" in placed.regions.summary


def test_what_is_edited_or_selected_counts_at_once(placed, zoning, qtbot):
    layer = zoning((WEST, None), (EAST, "forest"))
    placed.regions.layer.setLayer(layer)
    assert "1 polygon lies in the extent: \u201cforest\u201d.\n1 polygon has no text" in placed.regions.summary
    with qtbot.waitSignal(placed.changed):
        layer.dataProvider().changeAttributeValues({1: {1: "castle"}})
        layer.startEditing()
        layer.changeAttributeValue(1, 1, "castle")
    assert "The model may not understand: \u201ccastle\u201d" in placed.regions.summary
    layer.rollBack()
    placed.regions.selected_only.setChecked(True)
    assert codes(placed) == [ErrorCode.MASK_EMPTY]
    with qtbot.waitSignal(placed.changed):
        layer.selectByIds([2])
    assert placed.problems() == [] and "castle" not in placed.regions.summary


def test_a_form_that_looked_at_some_polygons_only_says_so(placed, zoning, monkeypatch, qtbot):
    monkeypatch.setattr("afterimage.plugin.maps.survey.FIRST", 1)
    placed.regions.layer.setLayer(zoning())
    assert "Only one polygon was looked at" in placed.regions.summary and placed.problems() == []
    line = EstimateLine()
    qtbot.addWidget(line)
    for first, is_least in ((1, True), (5000, False)):
        monkeypatch.setattr("afterimage.plugin.maps.survey.FIRST", first)
        placed.regions.layer.currentLayer().dataChanged.emit()
        qtbot.waitSignal(placed.changed).wait()
        assert placed.is_least is is_least
        line.show_estimate(placed.estimate(), is_least=placed.is_least)
        assert ("at least" in line.text().replace("\u00a0", " ")) is is_least


def test_a_field_or_an_expression_says_the_texts(placed, zoning):
    placed.regions.layer.setLayer(zoning())
    assert placed.regions.text.currentText() == "prompt"
    placed.regions.text.setExpression("'a ' || \"prompt\"")
    assert "\u201ca forest\u201d" in placed.regions.summary
    placed.regions.text.setExpression("1 +")
    assert codes(placed) == [ErrorCode.INVALID_REQUEST]


def test_regions_come_back_as_they_were_left(placed, zoning, qtbot, canvas, cards):
    placed.regions.layer.setLayer(zoning())
    placed.regions.text.setExpression('upper("prompt")')
    placed.regions.only.setChecked(True)
    placed.remember()
    other = GeneratePanel(canvas)
    qtbot.addWidget(other)
    other.set_cards(cards)
    other.recall()
    assert other.held() == {**placed.held(), "seed": other.seed.value()}
    assert other.regions.text.asExpression() == 'upper("prompt")' and other.regions.is_alone
    for strange in (None, 3, {"layer": 3, "text": 4, "only": "x"}, {"layer": "gone"}):
        other.regions.hold(strange)
    assert not other.regions.is_given


@pytest.fixture
def stored(zoning, tmp_path):
    """The same as a file."""
    path = str(tmp_path / "zoning.gpkg")
    options = QgsVectorFileWriter.SaveVectorOptions()
    QgsVectorFileWriter.writeAsVectorFormatV3(zoning(), path, QgsCoordinateTransformContext(), options)
    layer = QgsVectorLayer(path, "Stored")
    QgsProject.instance().addMapLayer(layer)
    return layer


def test_regions_come_back_when_their_project_is_opened_after_the_dock(placed, stored, tmp_path):
    placed.regions.layer.setLayer(stored)
    placed.regions.text.setExpression('upper("prompt")')
    placed.regions.only.setChecked(True)
    kept = placed.regions.held()
    assert QgsProject.instance().write(str(tmp_path / "plan.qgs"))
    QgsProject.instance().clear()
    placed.regions.hold(kept)
    assert not placed.regions.is_given and placed.regions.held() == kept
    assert QgsProject.instance().read(str(tmp_path / "plan.qgs"))
    assert placed.regions.is_alone and placed.regions.held() == kept


def test_a_layer_is_read_once_for_each_state(placed, zoning, monkeypatch):
    plans, plan = [], regions.layer_plan
    monkeypatch.setattr(regions, "layer_plan", lambda *asked: plans.append(asked) or plan(*asked))
    placed.regions.layer.setLayer(zoning())
    for _ in range(3):
        assert placed.problems() == [] and placed.estimate() is not None and placed.regions.summary
    assert len(plans) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.setSubsetString("\"prompt\" = 'river'"),
        lambda layer: layer.setName("Plan"),
        lambda layer: layer.dataProvider().dataChanged.emit(),
    ],
)
def test_what_becomes_of_a_layer_elsewhere_is_followed(placed, stored, qtbot, change):
    placed.regions.layer.setLayer(stored)
    with qtbot.waitSignal(placed.changed):
        change(stored)


def test_words_just_outside_the_extent_are_named_too(placed, zoning):
    edge = placed.extent.extent().xMaximum() + 100
    beside = f"Polygon(({edge} 5300000, {edge + 900} 5300000, {edge + 900} 5305000, {edge} 5300000))"
    placed.regions.layer.setLayer(zoning((WEST, "forest"), (beside, "castle")))
    assert "Just outside the extent" in placed.regions.summary and "\u201ccastle\u201d" in placed.regions.summary


def test_a_layer_that_leaves_the_project_is_no_region_any_more(placed, zoning):
    layer = zoning()
    placed.regions.layer.setLayer(layer)
    assert placed.draft().request.regions is not None
    QgsProject.instance().removeMapLayer(layer.id())
    assert placed.problems() == [] and placed.draft().request.regions is None
    assert placed.regions.summary == ""


def test_a_model_that_reads_no_text_takes_no_regions(placed, zoning):
    placed.regions.layer.setLayer(zoning())
    placed.set_cards((painter(id="ddpm", uses=(), vocabulary=()),))
    assert not placed.regions.isVisible() and placed.draft().request.regions is None


def test_one_text_over_many_windows_is_said_to_be_one_texture(placed, zoning, road, monkeypatch):
    assert ONE_TEXTURE in placed.fields.note_text(placed.extent)  # 800 x 500 pixels, of a window of 64
    placed.regions.layer.setLayer(zoning())
    assert ONE_TEXTURE not in placed.fields.note_text(placed.extent)
    placed.regions.layer.setLayer(None)
    assert ONE_TEXTURE in placed.fields.note_text(placed.extent)
    placed.set_cards((guided(),))
    placed.controls.rows["roads"].layer.setLayer(road)
    assert ONE_TEXTURE not in placed.fields.note_text(placed.extent)
    placed.controls.rows["roads"].layer.choose(None)
    monkeypatch.setattr(placed.controls, "guides", lambda: [Guide("content", road)])
    placed.samples.setValue(2)
    assert ONE_TEXTURE in placed.fields.note_text(placed.extent)  # content says what, and not where
    monkeypatch.undo()
    placed.extent.set_extent(QgsRectangle(300000, 5300000, 302560, 5302560), QgsCoordinateReferenceSystem("EPSG:32633"))
    assert ONE_TEXTURE not in placed.fields.note_text(placed.extent)


@pytest.mark.parametrize("target", [None, "EPSG:4326", "EPSG:3035"])
def test_an_extent_slightly_larger_than_a_window_can_be_made_one(placed, qtbot, target):
    placed.set_cards((painter(id="whole", window=512, stride=384, whole=True),))
    placed.crs.setCrs(QgsCoordinateReferenceSystem() if target is None else QgsCoordinateReferenceSystem(target))
    crs = QgsCoordinateReferenceSystem("EPSG:32633")
    placed.extent.set_extent(QgsRectangle(300000, 5300000, 305500, 5303003), crs)
    assert placed.shrink.button.isVisible() and "9 times faster" in placed.shrink.remark.text()
    before, centre = placed.estimate(), placed.extent.extent().center()
    qtbot.mouseClick(placed.shrink.button, LEFT)
    lattice = placed.draft().request.lattice
    assert placed.model.card.draws_whole(lattice.shape) and not placed.shrink.button.isVisible()
    assert max(lattice.shape) > 0.9 * 512
    assert placed.estimate().windows == 1 and before.windows == 9
    if target != "EPSG:3035":  # a metric grid that is drawn on itself
        assert placed.extent.extent().center().distance(centre) < 20 and placed.extent.crs() == crs
    if target is None:
        assert lattice.shape == (301, 512)


@pytest.mark.parametrize("north", [48.0, 48.3, -33.0])
@pytest.mark.parametrize("shift", [-1e-9, 0.0, 1e-9, 2e-4])
def test_what_is_shrunk_at_the_border_of_utm_zones_stays_where_it_is(placed, qtbot, north, shift):
    placed.set_cards((painter(id="whole", window=512, stride=384, whole=True),))
    degrees = QgsCoordinateReferenceSystem("EPSG:4326")
    half = 2700 / 111320 / math.cos(math.radians(north))  # 540 pixels wide
    asked = QgsRectangle(12 + shift - half, north, 12 + shift + half, north + 0.02)
    placed.extent.set_extent(asked, degrees)
    assert placed.shrink.button.isVisible()
    qtbot.mouseClick(placed.shrink.button, LEFT)
    request = placed.draft().request
    assert placed.model.card.draws_whole(request.lattice.shape)
    assert abs(request.longitude - 12) < 0.005 and asked.yMinimum() < request.latitude < asked.yMaximum()


@pytest.mark.parametrize("side, is_offered", [(5120, False), (5130, True), (6400, True), (6410, False)])
def test_only_what_is_slightly_larger_is_worth_a_word(placed, side, is_offered):
    placed.set_cards((painter(id="whole", window=512, stride=384, whole=True),))
    crs = QgsCoordinateReferenceSystem("EPSG:32633")
    placed.extent.set_extent(QgsRectangle(300000, 5300000, 300000 + side, 5303000), crs)
    assert placed.shrink.button.isVisible() is is_offered
    placed.set_cards((painter(id="lattice", window=512, stride=384),))
    assert not placed.shrink.button.isVisible()


@pytest.mark.parametrize(
    "extent, code",
    [
        ((11.5, 48.0, 11.5, 48.0), ErrorCode.EMPTY_EXTENT),
        ((11.5, 48.0, 11.6, 48.0), ErrorCode.EMPTY_EXTENT),
        ((179.9, -17.0, -179.9, -16.9), ErrorCode.EXTENT_TOO_LARGE),
        ((10.0, 89.9, 11.0, 90.1), ErrorCode.UNSUPPORTED_GRID),
        ((10.0, -91.0, 11.0, -90.0), ErrorCode.UNSUPPORTED_GRID),
    ],
)
def test_extents_without_ground_over_a_pole_or_the_wrong_way_around_are_refused_in_a_sentence(placed, extent, code):
    placed.extent.set_extent(QgsRectangle(*extent), QgsCoordinateReferenceSystem("EPSG:4326"))
    assert codes(placed) == [code] and placed.estimate() is None
    assert placed.problems()[0].message.endswith(".") and placed.problems()[0].hint.endswith(".")


def test_an_extent_across_the_antimeridian_is_drawn_with_its_regions(placed, zoning):
    placed.extent.set_extent(QgsRectangle(179.98, -17.0, 180.02, -16.98), QgsCoordinateReferenceSystem("EPSG:4326"))
    beyond = "Polygon((-180 -17, -179.9 -17, -179.9 -16.9, -180 -16.9, -180 -17))"
    placed.regions.layer.setLayer(zoning((beyond, "river"), crs="EPSG:4326"))
    assert placed.problems() == [] and "\u201criver\u201d" in placed.regions.summary


def test_an_extent_around_a_pole_is_drawn_on_a_polar_grid(placed):
    placed.extent.set_extent(QgsRectangle(-2000, -2000, 2000, 2000), QgsCoordinateReferenceSystem("EPSG:3995"))
    assert placed.problems() == [] and placed.draft().request.lattice.crs == "EPSG:5041"


def test_the_form_fits_a_narrow_dock_with_regions(placed, zoning):
    placed.regions.layer.setLayer(zoning(name="A land-use plan of the whole of the district, in force since 2031"))
    assert placed.regions.text.isVisible() and placed.minimumSizeHint().width() <= 300
