import json

import pytest
from afterimage.engine.contract import ErrorCode, Regions
from afterimage.plugin.panels import GeneratePanel
from afterimage.plugin.report import Problem
from afterimage.plugin.widgets import regions
from afterimage.plugin.widgets.estimate import EstimateLine
from qgis.core import QgsCoordinateTransformContext, QgsProject, QgsVectorFileWriter, QgsVectorLayer

from .conftest import EAST, WEST, codes, painter


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


def test_the_form_fits_a_narrow_dock_with_regions(placed, zoning):
    placed.regions.layer.setLayer(zoning(name="A land-use plan of the whole of the district, in force since 2031"))
    assert placed.regions.text.isVisible() and placed.minimumSizeHint().width() <= 300
