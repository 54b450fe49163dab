import json
import os

import pytest
from afterimage.engine.contract import Edit, ErrorCode
from afterimage.plugin.panels import EditPanel
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsMapTool
from qgis.PyQt.QtCore import QCoreApplication, QEvent, QPoint, Qt

from .conftest import LEFT, codes, editor, write_raster

RIGHT = Qt.MouseButton.RightButton
#: In the middle of the raster, which is 400 m wide.
FIELD = "Polygon((300100 5299900, 300200 5299900, 300200 5299800, 300100 5299800, 300100 5299900))"
CORNERS = ((0.4, 0.3), (0.6, 0.3), (0.6, 0.6))


@pytest.fixture
def canvas(own_canvas):
    return own_canvas


@pytest.fixture
def make(make_edit):
    return make_edit


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


def test_a_margin_and_polygons_go_together(picture, parcels, make):
    panel = make()
    panel.mask.choose("layer")
    panel.prompt.add("forest")
    panel.margin.setValue(20)
    request = panel.draft().request
    assert request.margin == 20 and request.mask.name == "Parcels"
    assert panel.fields.note_text(panel.mask) == "Within 100 m \u00d7 100 m."
    assert panel.estimate().shape == (80, 80)
