import pytest
from afterimage.engine.contract import ErrorCode
from afterimage.plugin.report import Problem
from osgeo import gdal
from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import Qt

from .conftest import codes, editor, write_raster

#: Inputs as they stand in the form, from the top.
ORDER = "model layer mask draw_mask clear_mask margin prompt strength_slider strength date samples seed".split() + (
    "negative_prompt red green blue cloud_cover told_gsd_kind steps scheduler guidance".split()
)


@pytest.fixture
def make(make_edit):
    return make_edit


def instructed(**more):
    """A model that is shown the raster, and told what happens."""
    facts = {"id": "instructed", "uses": ("prompt", "image_guidance"), "vocabulary": (), "image_guidance_scale": 1.8}
    return editor(**{**facts, **more})


def test_without_a_raster_it_says_what_to_add(make, qgis_new_project):
    panel = make()
    assert codes(panel) == [ErrorCode.SOURCE_UNREADABLE]
    assert panel.estimate() is None
    with pytest.raises(Problem):
        panel.draft()


def test_it_asks_for_a_polygon_and_a_text(picture, make):
    panel = make()
    assert codes(panel) == [ErrorCode.MASK_EMPTY, ErrorCode.PROMPT_NOT_UNDERSTOOD]
    assert panel.problems()[0].message == "Draw where to change the raster."
    panel.prompt.add("forest")
    assert codes(panel) == [ErrorCode.MASK_EMPTY]


def test_one_grey_band_is_refused(qgis_new_project, make, tmp_path):
    QgsProject.instance().addMapLayer(QgsRasterLayer(write_raster(tmp_path / "grey.tif", bands=1), "grey"))
    panel = make()
    assert codes(panel)[0] is ErrorCode.UNSUPPORTED_RASTER and "1 of the 3 bands" in panel.problems()[0].message
    assert panel.estimate() is None and not panel.colours.isEnabled()


def test_pixels_that_the_model_does_not_draw_are_refused_with_those_that_it_does(picture, make):
    panel = make(card=editor(gsd=(0.3, 0.5)))
    assert codes(panel)[0] is ErrorCode.UNSUPPORTED_RESOLUTION
    assert "0.15 m to 1 m" in panel.problems()[0].hint
    panel = make(card=editor(gsd=(15.0, 30.0)))
    assert ErrorCode.UNSUPPORTED_RESOLUTION not in codes(panel)
    assert "trained for 15 m to 30 m" in panel.fields.note_text(panel.layer)


def test_the_bands_that_the_map_shows_are_red_green_and_blue(make, layer):
    renderer = layer.renderer()
    renderer.setRedBand(4)
    renderer.setGreenBand(3)
    renderer.setBlueBand(2)
    panel = make()
    panel.mask.choose("whole")
    panel.prompt.add("forest")
    assert panel.draft().request.source.bands == (4, 3, 2)
    assert "three of its bands" in panel.fields.note_text(panel.layer)
    panel.colours.lists[0].setCurrentIndex(0)
    assert panel.draft().request.source.bands == (1, 3, 2)
    panel.colours.lists[1].setCurrentIndex(0)
    assert codes(panel) == [ErrorCode.INVALID_REQUEST]


def test_strength_is_a_slider_and_a_number(make, picture, qtbot):
    strength = make().strength
    assert strength.value() == 1.0 and "anew" in strength.remark()
    strength.slider.setValue(40)
    assert strength.number.value() == 40 and strength.value() == 0.4 and "layout" in strength.remark()
    qtbot.keyClick(strength.slider, Qt.Key.Key_Right)
    assert strength.value() == 0.41
    strength.slider.setValue(0)
    assert strength.value() == 0.01


def shown(panel):
    panel.advanced.setCollapsed(False)
    inputs = ("strength", "image_guidance", "margin", "cloud_cover", "told_gsd")
    return [name for name in inputs if getattr(panel, name).isVisible()]


def test_each_model_has_the_inputs_that_it_uses(picture, make):
    assert shown(make()) == ["strength", "margin", "cloud_cover", "told_gsd"]
    assert shown(make(card=instructed())) == ["image_guidance"]
    assert shown(make(card=editor(uses=("prompt", "mask", "margin")))) == ["margin"]


def test_what_a_model_does_not_use_is_not_asked_of_it(picture, make):
    panel = make()
    panel.mask.choose("whole")
    panel.prompt.add("forest")
    panel.strength.number.setValue(40)
    panel.cloud_cover.set_value(30)
    panel.told_gsd.set_value(5.0)
    request = panel.draft().request
    assert (request.strength, request.cloud_cover, request.told_gsd) == (0.4, 30.0, 5.0)
    panel.strength.number.setValue(100)
    panel.margin.setValue(64)
    assert panel.draft().request.margin == 64
    panel.set_cards((instructed(),))
    request = panel.draft().request
    assert (request.strength, request.margin, request.cloud_cover, request.told_gsd) == (1.0, 0, None, None)
    panel.set_cards((editor(id="other", uses=("prompt",)),))
    panel.image_guidance.setValue(7.0)
    assert panel.draft().request.image_guidance_scale == 1.5


def test_image_strength_and_text_strength_pull_at_a_model_that_is_shown_the_raster(picture, make):
    panel = make(card=instructed())
    label = panel.sampling.fields.labelForField(panel.sampling.guidance.parentWidget())
    assert label.text() == "Te&xt strength" and panel.sampling.guidance.accessibleName() == "Text strength"
    assert panel.image_guidance.value() == 1.8
    assert panel.image_guidance.accessibleName() == "Image strength"
    assert "kept" in panel.fields.note_text(panel.image_guidance)
    panel.image_guidance.setValue(3.0)
    panel.prompt.set_text("the river floods the fields")
    panel.mask.choose("whole")
    assert panel.draft().request.image_guidance_scale == 3.0
    panel.set_cards((instructed(id="second", image_guidance_scale=2.2),))
    assert panel.image_guidance.value() == 2.2
    panel.set_cards((editor(),))
    assert label.text() == "&Guidance"


def test_a_margin_is_drawn_around_the_raster_in_metres_and_pixels(picture, make):
    panel = make()
    panel.mask.choose("whole")
    panel.prompt.add("forest")
    whole = panel.estimate()
    assert panel.mask.kind.currentText() == "The whole raster" and panel.fields.note_text(panel.margin) == ""
    panel.margin.setValue(30)
    assert panel.mask.kind.currentText() == "Nothing but the margin"
    assert panel.fields.note_text(panel.mask) == "The raster itself stays as it is."
    assert panel.fields.note_text(panel.margin) == "300 m on each side: 100 \u00d7 100 px in all."
    assert panel.estimate().shape == (100, 100) != whole.shape
    draft = panel.draft()
    assert (draft.request.margin, draft.request.mask) == (30, None) and draft.title == "forest around picture"
    panel.strength.number.setValue(60)
    assert codes(panel) == [ErrorCode.INVALID_REQUEST] and panel.estimate() is None
    panel.margin.setValue(0)
    assert codes(panel) == [] and panel.mask.kind.currentText() == "The whole raster"


def test_a_model_that_reads_no_text_asks_for_none(picture, make):
    panel = make(card=editor(uses=("gsd",)))
    panel.mask.choose("whole")
    assert panel.problems() == [] and not panel.prompt.isEnabled()
    assert panel.draft().request.prompt == "" and panel.draft().title == "changed, picture"


def test_the_source_is_never_replaced(picture, make):
    panel = make()
    panel.mask.choose("whole")
    panel.prompt.add("forest")
    panel.output.file.setFilePath(picture.source())
    assert codes(panel) == [ErrorCode.OUTPUT_NOT_WRITABLE]


def test_the_form_comes_back_as_it_was_left(picture, make):
    panel = make()
    panel.mask.choose("layer")
    panel.prompt.set_text("a river")
    panel.strength.number.setValue(35)
    panel.samples.setValue(3)
    panel.date.set_value("2030-01-01")
    panel.margin.setValue(48)
    panel.cloud_cover.set_value(20)
    panel.told_gsd.set_value(0.0)
    panel.remember()
    other = make()
    other.recall()
    assert other.held() == {**panel.held(), "seed": other.seed.value()}
    assert (other.strength.value(), other.margin.value(), other.told_gsd.value()) == (0.35, 48, 0.0)
    first = make(card=instructed())
    first.image_guidance.setValue(4.0)
    first.remember()
    for card, expected in ((instructed(), 4.0), (instructed(id="another"), 1.8)):
        other = make(card=card)
        other.recall()
        assert other.image_guidance.value() == expected


def test_an_alpha_band_is_no_colour(qgis_new_project, make, tmp_path):
    path = write_raster(tmp_path / "rgba.tif", bands=4)
    file = gdal.Open(path, gdal.GA_Update)
    file.GetRasterBand(4).SetColorInterpretation(gdal.GCI_AlphaBand)
    file = None
    QgsProject.instance().addMapLayer(QgsRasterLayer(path, "rgba"))
    panel = make()
    panel.mask.choose("whole")
    panel.prompt.add("forest")
    assert panel.draft().request.source.bands == () and panel.colours.value() == (1, 2, 3)


def test_tab_goes_down_the_form(picture, make):
    panel = make()
    panel.advanced.setCollapsed(False)
    stops, widget = [], panel.model.combo
    while widget.nextInFocusChain() is not panel.model.combo:
        if widget.isVisible() and widget.objectName() in ORDER:
            stops.append(widget.objectName())
        widget = widget.nextInFocusChain()
    assert stops == ORDER
