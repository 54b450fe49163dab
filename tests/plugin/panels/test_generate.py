import time

import pytest
from afterimage.engine.contract import FRAMES_LIMIT, SAMPLES_LIMIT, ErrorCode
from afterimage.plugin.panels import GeneratePanel
from afterimage.plugin.report import Problem
from qgis.core import QgsCoordinateReferenceSystem, QgsRectangle
from qgis.PyQt.QtCore import QMimeData, QPoint, Qt
from qgis.PyQt.QtGui import QGuiApplication

from .conftest import LEFT, able, codes, guided, painter


def test_without_an_extent_it_says_what_to_choose(panel):
    assert codes(panel) == [ErrorCode.EMPTY_EXTENT, ErrorCode.PROMPT_NOT_UNDERSTOOD]
    assert panel.estimate() is None
    with pytest.raises(Problem) as caught:
        panel.draft()
    assert caught.value.failure.code is ErrorCode.EMPTY_EXTENT


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


def test_the_form_fits_a_narrow_dock_with_all_that_a_layer_needs(placed, road):
    placed.set_cards((guided(uses=("prompt", "gsd", "control_strength")),))
    placed.controls.rows["roads"].layer.setLayer(road)
    placed.told_gsd.set_value(2.5)
    placed.advanced.setCollapsed(False)
    assert placed.controls.rows["roads"].strength.isVisible() and placed.told_gsd.number.isVisible()
    assert placed.minimumSizeHint().width() <= 300
    placed.set_cards((able(),))
    assert placed.coarse.isVisible() and placed.minimumSizeHint().width() <= 300
