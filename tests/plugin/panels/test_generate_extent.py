import math

import pytest
from afterimage.engine.contract import ErrorCode, Generate
from qgis.core import QgsCoordinateReferenceSystem, QgsRectangle
from qgis.PyQt.QtCore import QPoint, Qt
from qgis.PyQt.QtTest import QTest

from .conftest import LEFT, codes, painter


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


def test_an_extent_that_is_too_large_is_refused(panel):
    panel.extent.set_extent(QgsRectangle(-60, -60, 60, 60), QgsCoordinateReferenceSystem("EPSG:4326"))
    assert panel.problems()[0].hint


@pytest.mark.parametrize("typed", ["0,0,0,0 [EPSG:4326]", "10,10,50,50 [EPSG:4326]", "a,b,c,d", "nan,nan,1,1"])
def test_an_empty_rectangle_is_refused(panel, qtbot, typed):
    panel.extent.edit.clear()
    qtbot.keyClicks(panel.extent.edit, typed)
    qtbot.keyClick(panel.extent.edit, Qt.Key.Key_Return)
    assert ErrorCode.EMPTY_EXTENT in codes(panel)


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
