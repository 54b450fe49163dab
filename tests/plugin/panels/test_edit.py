import json
import os

import pytest
from afterimage.engine.contract import Edit, ErrorCode
from afterimage.plugin.panels import EditPanel
from afterimage.plugin.report import Problem
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas, QgsMapTool
from qgis.PyQt.QtCore import QCoreApplication, QEvent, QPoint, Qt

from .conftest import painter, write_raster

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
#: In the middle of the raster, which is 400 m wide.
FIELD = "Polygon((300100 5299900, 300200 5299900, 300200 5299800, 300100 5299800, 300100 5299900))"


#: Inputs as they stand in the form, from the top.
ORDER = "model layer mask draw_mask clear_mask margin prompt strength_slider strength date samples seed".split() + (
    "negative_prompt red green blue cloud_cover told_gsd_kind steps scheduler guidance".split()
)


def editor(**more):
    uses = ("prompt", "gsd", "cloud_cover", "strength", "margin")
    return painter(**{"id": "editor", "name": "Editor", "tasks": ("Generate", "Edit"), "uses": uses, **more})


def instructed(**more):
    """A model that is shown the raster, and told what happens."""
    facts = {"id": "instructed", "uses": ("prompt", "image_guidance"), "vocabulary": (), "image_guidance_scale": 1.8}
    return editor(**{**facts, **more})


@pytest.fixture
def picture(tmp_path, qgis_new_project):
    layer = QgsRasterLayer(write_raster(tmp_path / "picture.tif"), "picture")
    QgsProject.instance().addMapLayer(layer)
    return layer


@pytest.fixture
def canvas(qgis_new_project):
    """A map of its own, as large as it says: clicks on it have to land where they should."""
    canvas, crs = QgsMapCanvas(), QgsCoordinateReferenceSystem("EPSG:32633")
    QgsProject.instance().setCrs(crs)
    canvas.setDestinationCrs(crs)
    canvas.resize(400, 250)
    canvas.show()
    canvas.setExtent(QgsRectangle(299900, 5299550, 300620, 5300000))
    return canvas


@pytest.fixture
def make(qtbot, canvas):
    """Makes the form over a map that shows the raster, which fills most of it."""

    def panel(canvas=canvas, card=None):
        panel = EditPanel(canvas)
        qtbot.addWidget(panel)
        panel.set_cards((card or editor(),))
        panel.show()
        return panel

    return panel


@pytest.fixture
def parcels(qgis_new_project):
    return add_polygons(FIELD)


def add_polygons(*wkts):
    layer = QgsVectorLayer("Polygon?crs=EPSG:32633", "Parcels", "memory")
    for wkt in wkts:
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromWkt(wkt))
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    QgsProject.instance().addMapLayer(layer)
    return layer


def codes(panel):
    return [problem.code for problem in panel.problems()]


def draw(panel, qtbot, canvas, *corners, end=RIGHT):
    """Click the button and then the corners on the map, given as shares of its width and height."""
    qtbot.mouseClick(panel.mask.draw_button, LEFT)
    assert canvas.mapTool() is not None and panel.mask.how.isVisible()
    view = canvas.viewport()
    for u, v in corners:
        qtbot.mouseClick(view, LEFT, pos=QPoint(int(u * view.width()), int(v * view.height())))
    if isinstance(end, Qt.Key):
        qtbot.keyClick(canvas, end)
    elif end is not None:
        qtbot.mouseClick(view, end, pos=QPoint(int(u * view.width()), int(v * view.height())))


CORNERS = ((0.4, 0.3), (0.6, 0.3), (0.6, 0.6))


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


@pytest.mark.parametrize("end", [RIGHT, Qt.Key.Key_Return])
def test_a_polygon_drawn_on_the_map_becomes_a_request(picture, make, canvas, qtbot, tmp_path, end):
    panel = make()
    before = canvas.mapTool()
    with qtbot.waitSignal(panel.changed):
        draw(panel, qtbot, canvas, *CORNERS, end=end)
    assert canvas.mapTool() is before and not panel.mask.draw_button.isChecked()
    assert panel.mask.draw_button.text() == "Redraw"
    panel.prompt.add("forest")
    panel.strength.number.setValue(60)
    panel.date.set_value("2027-03-01")
    draft = panel.draft()
    request = draft.request
    assert isinstance(request, Edit) and request.mask.name == ""
    assert (request.prompt, request.strength, request.date) == ("forest", 0.6, "2027-03-01")
    assert request.gsd == pytest.approx(10.0, rel=0.01) and request.source.bands == ()
    assert draft.title == "forest in a drawn polygon, picture"
    for export in draft.exports:
        export.write(str(tmp_path), lambda: False)
    assert os.path.exists(tmp_path / request.source.path)
    content = json.loads((tmp_path / request.mask.path).read_text())
    (ring,) = content["features"][0]["geometry"]["coordinates"]
    view = canvas.viewport()
    to_map = canvas.getCoordinateTransform().toMapCoordinates
    for (u, v), (x, y) in zip(CORNERS, ring):
        point = to_map(int(u * view.width()), int(v * view.height()))
        assert (x, y) == pytest.approx((point.x(), point.y()))


def test_escape_keeps_what_was_drawn_before(picture, make, canvas, qtbot):
    panel = make()
    draw(panel, qtbot, canvas, *CORNERS)
    first = panel.mask.polygons().extent
    draw(panel, qtbot, canvas, (0.1, 0.1), (0.2, 0.1), end=Qt.Key.Key_Escape)
    assert panel.mask.polygons().extent == first and not panel.mask.draw_button.isChecked()
    qtbot.mouseClick(panel.mask.clear_button, LEFT)
    assert ErrorCode.MASK_EMPTY in codes(panel) and not panel.mask.clear_button.isEnabled()


def test_two_corners_are_no_polygon_and_one_can_be_taken_back(picture, make, canvas, qtbot):
    panel = make()
    draw(panel, qtbot, canvas, *CORNERS, end=Qt.Key.Key_Backspace)
    qtbot.keyClick(canvas, Qt.Key.Key_Return)
    assert panel.mask.draw_button.isChecked() and ErrorCode.MASK_EMPTY in codes(panel)
    view = canvas.viewport()
    qtbot.mouseClick(view, LEFT, pos=QPoint(view.width() // 2, view.height() // 2))
    qtbot.keyClick(canvas, Qt.Key.Key_Return)
    assert not panel.mask.draw_button.isChecked() and ErrorCode.MASK_EMPTY not in codes(panel)


def test_the_polygon_is_on_the_map_while_the_form_is_open(picture, make, canvas, qtbot):
    def bands():
        return [item for item in canvas.scene().items() if type(item).__name__ == "QgsRubberBand" and item.isVisible()]

    panel = make()
    assert bands() == []
    draw(panel, qtbot, canvas, *CORNERS)
    assert len(bands()) == 1
    panel.hide()
    assert bands() == []
    panel.show()
    assert len(bands()) == 1
    panel.mask.choose("whole")
    assert bands() == []


def test_drawing_ends_with_the_form(picture, make, canvas, qtbot):
    panel = make()
    draw(panel, qtbot, canvas, (0.1, 0.1), end=None)
    panel.hide()
    assert not panel.mask.draw_button.isChecked()
    panel.show()
    qtbot.mouseClick(panel.mask.draw_button, LEFT)
    qtbot.mouseClick(panel.mask.draw_button, LEFT)
    assert not panel.mask.draw_button.isChecked()


def test_a_polygon_beside_the_raster_is_refused(picture, make):
    panel = make()
    panel.prompt.add("forest")
    far = QgsGeometry.fromWkt("Polygon((0 0, 100 0, 100 100, 0 0))")
    panel.mask.set_polygon(far, QgsCoordinateReferenceSystem("EPSG:32633"))
    assert codes(panel) == [ErrorCode.MASK_EMPTY] and "does not lie on the raster" in panel.problems()[0].message


def test_polygons_of_a_layer_become_a_request(picture, parcels, make):
    panel = make()
    panel.mask.choose("layer")
    panel.prompt.add("river")
    assert panel.problems() == []
    assert panel.fields.note_text(panel.mask) == "Within 100 m \u00d7 100 m."
    draft = panel.draft()
    assert draft.title == "river in Parcels, picture" and draft.request.mask.name == "Parcels"
    panel.mask.selected_only.setChecked(True)
    assert codes(panel) == [ErrorCode.MASK_EMPTY] and "selected" in panel.problems()[0].message


def test_a_selection_is_followed(picture, parcels, make, qtbot):
    panel = make()
    panel.prompt.add("river")
    panel.mask.choose("layer")
    panel.mask.selected_only.setChecked(True)
    with qtbot.waitSignal(panel.changed):
        parcels.selectAll()
    assert panel.problems() == []


def boxes(count):
    """Rectangles on the raster, as features."""
    for number in range(count):
        x, y = 300000 + number % 50 * 3, 5299700 + number // 50 * 3
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(x, y, x + 2, y + 2)))
        yield feature


def test_many_edits_of_a_layer_are_followed_once(picture, parcels, make, qtbot):
    panel = make()
    panel.prompt.add("river")
    panel.mask.choose("layer")
    panel.mask.selected_only.setChecked(True)
    seen = []
    panel.changed.connect(lambda: seen.append(panel.mask.problems()))
    parcels.startEditing()
    with qtbot.waitSignal(panel.changed):
        parcels.addFeatures(list(boxes(300)))
        parcels.selectAll()
    assert seen == [[]]
    with qtbot.waitSignal(panel.changed):
        parcels.deleteSelectedFeatures()
    assert len(seen) == 2 and [problem.code for problem in seen[1]] == [ErrorCode.MASK_EMPTY]
    parcels.rollBack()


def test_only_the_layer_that_is_chosen_is_followed(picture, parcels, make, qtbot):
    free = parcels.receivers(parcels.featureAdded)
    panel = make()
    panel.mask.layer.setLayer(parcels)
    assert parcels.receivers(parcels.featureAdded) == free  # a drawn polygon is asked for
    panel.mask.choose("layer")
    panel.mask.choose("layer")
    assert parcels.receivers(parcels.featureAdded) == free + 1
    parcels.startEditing()
    parcels.addFeatures(list(boxes(3)))
    panel.mask.choose("whole")
    with qtbot.assertNotEmitted(panel.changed, wait=400):
        parcels.selectAll()
    panel.mask.choose("layer")
    panel.mask.layer.setLayer(add_polygons(FIELD))
    assert parcels.receivers(parcels.featureAdded) == free
    with qtbot.assertNotEmitted(panel.changed, wait=400):
        parcels.selectAll()
    panel.mask.layer.setLayer(parcels)
    parcels.rollBack()
    with qtbot.waitSignal(panel.changed):
        QgsProject.instance().removeMapLayer(parcels.id())
    assert panel.mask.layer.currentLayer().featureCount() == 1 and panel.mask.problems() == []
    panel.mask.choose("whole")  # nothing of the layer that is gone is asked


def test_nothing_is_left_on_the_map_when_the_form_ends(picture, make, canvas, qtbot):
    def left():
        bands = [item for item in canvas.scene().items() if type(item).__name__ == "QgsRubberBand"]
        return len(bands), len(canvas.findChildren(QgsMapTool)), canvas.mapTool()

    before = left()
    panel = EditPanel(canvas)
    panel.set_cards((editor(),))
    panel.show()
    draw(panel, qtbot, canvas, *CORNERS)
    qtbot.mouseClick(panel.mask.draw_button, LEFT)
    assert left()[1] == before[1] + 1
    panel.hide()
    panel.deleteLater()
    for _ in range(2):  # the form, and then what it gave up
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert left() == before


def test_without_a_polygon_layer_it_says_so(picture, make):
    panel = make()
    panel.mask.choose("layer")
    assert codes(panel)[0] is ErrorCode.MASK_EMPTY and "no polygon layer" in panel.problems()[0].message


def test_the_whole_raster_needs_no_polygon(picture, make):
    panel = make()
    panel.mask.choose("whole")
    panel.prompt.add("forest")
    assert panel.problems() == []
    assert panel.fields.note_text(panel.mask) == "All of it: 400 m \u00d7 400 m."
    draft = panel.draft()
    assert draft.request.mask is None and draft.title == "forest, picture" and len(draft.exports) == 1


def test_a_small_polygon_takes_less_than_the_whole(qgis_new_project, canvas, make, tmp_path):
    layer = QgsRasterLayer(write_raster(tmp_path / "large.tif", side=600), "large")
    QgsProject.instance().addMapLayer(layer)
    add_polygons(FIELD)
    panel = make()
    panel.mask.choose("whole")
    whole = panel.estimate()
    panel.mask.choose("layer")
    part = panel.estimate()
    assert whole.shape == part.shape == (600, 600) and part.gflop < whole.gflop / 4


def test_without_a_map_nothing_can_be_drawn(picture, make):
    panel = make(canvas=None)
    assert panel.mask.kind.findData("drawn") == -1 and not panel.mask.drawing.isVisible()


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


def test_a_margin_and_polygons_go_together(picture, parcels, make):
    panel = make()
    panel.mask.choose("layer")
    panel.prompt.add("forest")
    panel.margin.setValue(20)
    request = panel.draft().request
    assert request.margin == 20 and request.mask.name == "Parcels"
    assert panel.fields.note_text(panel.mask) == "Within 100 m \u00d7 100 m."
    assert panel.estimate().shape == (80, 80)


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
