"""Any extent in any CRS becomes grids of the asked ground resolution, or is refused with the reason."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import ErrorCode
from afterimage.plugin.maps.crs import ground_resolution
from afterimage.plugin.maps.grid import crs_of, crs_text, extent_in, place
from afterimage.plugin.report import Problem
from qgis.core import QgsCoordinateReferenceSystem, QgsGeometry, QgsMapSettings, QgsRectangle
from qgis.PyQt.QtCore import QSize

ALBERS = "+proj=aea +lat_1=51 +lat_2=53 +lat_0=51.3 +lon_0=12.34 +x_0=77 +datum=WGS84 +units=m"
SPAIN = (-0.78, 38.08, -0.74, 38.12)

pytestmark = pytest.mark.usefixtures("qgis_app")


def crs(name):
    found = QgsCoordinateReferenceSystem.fromProj(name) if name.startswith("+") else QgsCoordinateReferenceSystem(name)
    assert found.isValid()
    return found


def on_the_ground(box):
    """Metres of the pixel in the middle of a grid."""
    left, bottom, right, top = box.bounds
    return ground_resolution(crs_of(box.crs), (left + right) / 2, (bottom + top) / 2, *box.resolution)


def covers(box, extent):
    left, bottom, right, top = box.bounds
    slack = 0.01 * box.resolution[0]
    return (
        left <= extent.xMinimum() + slack
        and bottom <= extent.yMinimum() + slack
        and right >= extent.xMaximum() - slack
        and top >= extent.yMaximum() - slack
    )


@pytest.mark.parametrize(
    ("bounds", "source", "target", "expected"),
    [
        (SPAIN, "EPSG:4326", None, "EPSG:32630"),
        ((11.95, 52, 12.05, 52.1), "EPSG:4326", None, "EPSG:32633"),  # across a border of UTM zones
        ((13, -33.1, 13.1, -33), "EPSG:4326", None, "EPSG:32733"),
        ((1446000, 8399000, 1456000, 8409000), "EPSG:3857", None, "EPSG:32633"),
        (SPAIN, "EPSG:4326", "EPSG:25830", "EPSG:25830"),
        ((13, 60, 13.1, 60.05), "EPSG:4326", "EPSG:3857", "EPSG:3857"),
        ((500000, 500000, 520000, 520000), "EPSG:3031", "EPSG:3031", "EPSG:3031"),
        ((500000, 500000, 520000, 520000), "EPSG:3031", None, "EPSG:5042"),
        ((0, 86, 10, 88), "EPSG:4326", None, "EPSG:5041"),
        ((-74.0, 40.7, -73.95, 40.75), "EPSG:4326", "EPSG:2263", "EPSG:2263"),  # US survey feet
        ((13, 52, 13.1, 52.1), "EPSG:4326", ALBERS, None),
        ((179.9, 51, 180.1, 51.1), "EPSG:4326", None, "EPSG:32601"),
        ((20027508, 6600000, 20047508, 6620000), "EPSG:3857", None, "EPSG:32660"),
        ((20027508, 6600000, 20047508, 6620000), "EPSG:3857", "EPSG:3857", "EPSG:3857"),
        ((179.9, 51, 180.1, 51.1), "EPSG:4326", "EPSG:3857", "EPSG:3857"),
        ((0, 40, 20, 50), "EPSG:4326", None, None),  # too wide for UTM: equal area
    ],
)
def test_a_metric_grid_is_drawn_on_directly(bounds, source, target, expected):
    extent = QgsRectangle(*bounds)
    gsd = 300.0 if extent.width() == 20 else 10.0
    found = place(extent, crs(source), gsd, crs(target) if target else None)
    assert found.grid == found.lattice and found.gsd == gsd
    if expected:
        assert found.grid.crs == expected
    gx, gy = on_the_ground(found.grid)
    assert abs(gx / gsd - 1) < 0.02 and abs(gy / gsd - 1) < 0.02
    assert covers(found.grid, extent_in(extent, crs(source), crs_of(found.grid.crs)))
    assert found.grid.width < 3 * found.grid.height and found.grid.height < 3 * found.grid.width


def test_web_mercator_at_60_north_is_true_on_the_ground_not_in_map_units():
    found = place(QgsRectangle(13, 60, 13.1, 60.05), crs("EPSG:4326"), 10, crs("EPSG:3857"))
    assert 19.9 < found.grid.resolution[0] < 20.1
    assert on_the_ground(found.grid) == pytest.approx((10, 10), rel=0.005)


@pytest.mark.parametrize("target", ["EPSG:4326", "EPSG:4258", "ESRI:54016", "EPSG:32662"])
def test_a_distorting_map_is_warped_to_from_a_metric_lattice(target):
    extent = QgsRectangle(*SPAIN)
    found = place(extent, crs("EPSG:4326"), 10, crs(target))
    assert found.grid.crs == target and found.lattice.crs == "EPSG:32630"
    assert found.lattice.resolution == (10, 10)
    assert max(on_the_ground(found.grid)) == pytest.approx(10, rel=0.02)
    assert on_the_ground(found.lattice) == pytest.approx((10, 10), rel=0.002)
    # every corner of the result has drawn pixels around it
    inside = extent_in(QgsRectangle(*found.grid.bounds), crs(target), crs("EPSG:32630"))
    assert covers(found.lattice.pad(-4), inside)


def test_a_sheared_map_is_not_drawn_on():
    """Far from its central meridian the sinusoidal map has no right angles."""
    near = place(QgsRectangle(0.1, 52, 0.2, 52.1), crs("EPSG:4326"), 10, crs("ESRI:54008"))
    far = place(QgsRectangle(13, 52, 13.1, 52.1), crs("EPSG:4326"), 10, crs("ESRI:54008"))
    assert near.grid == near.lattice and far.lattice.crs == "EPSG:32633"


def test_degrees_are_those_of_the_usual_products():
    """8.983152841195215e-05 degrees for 10 m, as Earth Engine and Sen1Floods11 have it."""
    found = place(QgsRectangle(*SPAIN), crs("EPSG:4326"), 10, crs("EPSG:4326"))
    assert found.grid.resolution == pytest.approx((8.983152841195215e-05,) * 2, rel=1e-12)


def test_across_the_antimeridian_longitudes_go_on_beyond_180():
    found = place(QgsRectangle(179.9, 51, 180.1, 51.1), crs("EPSG:4326"), 30, crs("EPSG:4326"))
    left, _, right, _ = found.grid.bounds
    assert left < 179.91 and 180.09 < right < 180.11
    assert found.lattice.crs == "EPSG:32601" and found.lattice.width < 600
    assert abs(found.longitude) == pytest.approx(180)


def test_a_canvas_in_web_mercator_that_shows_the_antimeridian_gives_one_connected_grid():
    extent = QgsRectangle(20027508, 6600000, 20047508, 6620000)
    found = place(extent, crs("EPSG:3857"), 30, crs("EPSG:4326"))
    left, _, right, _ = found.grid.bounds
    assert left < 180 < right and right - left < 0.2


def test_overlapping_extents_share_pixels():
    for target in (None, crs("EPSG:3857"), crs("EPSG:4326"), crs("EPSG:25833")):
        a = place(QgsRectangle(13.000, 52.000, 13.10, 52.1), crs("EPSG:4326"), 10, target).grid
        b = place(QgsRectangle(13.0123, 52.01, 13.11, 52.105), crs("EPSG:4326"), 10, target).grid
        assert a.crs == b.crs and a.resolution == b.resolution
        col, row = a.to_pixel(*b.to_map(0, 0))
        assert col == pytest.approx(round(col), abs=1e-3) and row == pytest.approx(round(row), abs=1e-3)


def test_a_rotated_canvas_is_covered():
    settings = QgsMapSettings()
    settings.setDestinationCrs(crs("EPSG:25833"))
    settings.setOutputSize(QSize(400, 300))
    settings.setExtent(QgsRectangle(400000, 5700000, 404000, 5703000))
    settings.setRotation(30)
    shown = QgsGeometry.fromPolygonXY([[point for point in _corners(settings)]])
    found = place(settings.visibleExtent(), settings.destinationCrs(), 10, settings.destinationCrs())
    assert QgsGeometry.fromRect(QgsRectangle(*found.grid.bounds)).contains(shown)
    assert found.grid.is_axis_aligned


def _corners(settings):
    from qgis.core import QgsPointXY

    return [QgsPointXY(point) for point in settings.visiblePolygon()]


@pytest.mark.parametrize(
    ("extent", "source", "gsd", "target", "code"),
    [
        ((13, 52, 13, 53), "EPSG:4326", 10, None, ErrorCode.EMPTY_EXTENT),
        ((14, 52, 13, 53), "EPSG:4326", 10, None, ErrorCode.EMPTY_EXTENT),
        ((math.nan, 52, 13, 53), "EPSG:4326", 10, None, ErrorCode.EMPTY_EXTENT),
        ((13, 52, math.inf, 53), "EPSG:4326", 10, None, ErrorCode.EMPTY_EXTENT),
        ((0, 0, 1e-9, 1e-9), "EPSG:4326", 10, None, ErrorCode.EMPTY_EXTENT),
        ((0, 0, 1e-9, 1e-9), "EPSG:4326", 10, "EPSG:4326", ErrorCode.EMPTY_EXTENT),
        ((0, 0, 0.9, 0.9), "EPSG:3857", 10, "EPSG:3857", ErrorCode.EMPTY_EXTENT),
        ((-180, -90, 180, 90), "EPSG:4326", 1e5, None, ErrorCode.EXTENT_TOO_LARGE),
        ((-180, 80, 180, 90), "EPSG:4326", 1e4, None, ErrorCode.EXTENT_TOO_LARGE),
        ((-2e7, -2e7, 2e7, 2e7), "EPSG:3857", 1e5, None, ErrorCode.EXTENT_TOO_LARGE),
        ((0, 40, 20, 50), "EPSG:4326", 0.5, None, ErrorCode.EXTENT_TOO_LARGE),
        ((0, 40, 20, 50), "EPSG:4326", 0.5, "EPSG:4326", ErrorCode.EXTENT_TOO_LARGE),
        ((0, 80, 1, 100), "EPSG:4326", 10, None, ErrorCode.UNSUPPORTED_GRID),
        ((83, 40, 85, 41), "EPSG:4326", 10, ALBERS.replace("12.34", "-96"), ErrorCode.UNSUPPORTED_GRID),
        ((13, 52, 14, 53), "EPSG:4978", 10, None, ErrorCode.UNKNOWN_CRS),
        ((13, 52, 14, 53), "EPSG:4326", 10, "+proj=isea", ErrorCode.UNKNOWN_CRS),  # no GeoTIFF can say it
        ((13, 52, 14, 53), "EPSG:4326", 0, None, ErrorCode.UNSUPPORTED_RESOLUTION),
        ((13, 52, 14, 53), "EPSG:4326", math.nan, None, ErrorCode.UNSUPPORTED_RESOLUTION),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_code_and_a_next_step(extent, source, gsd, target, code):
    with pytest.raises(Problem) as caught:
        place(QgsRectangle(*extent, False), crs(source), gsd, crs(target) if target else None)
    assert caught.value.failure.code is code
    assert caught.value.failure.message.endswith(".") and caught.value.failure.hint.endswith(".")


def test_a_thin_extent_is_one_pixel_wide():
    assert 1 in place(QgsRectangle(0, 0, 0.1, 100), crs("EPSG:3857"), 10, crs("EPSG:3857")).grid.shape


def test_a_grid_that_is_too_large_says_how_large_and_which_resolution_would_do():
    with pytest.raises(Problem) as caught:
        place(QgsRectangle(0, 40, 20, 50), crs("EPSG:4326"), 1)
    assert "1704" in caught.value.failure.message
    coarser = float(caught.value.failure.hint.split("resolution of ")[1].split(" m")[0])
    place(QgsRectangle(0, 40, 20, 50), crs("EPSG:4326"), coarser)


def test_a_missing_or_local_crs_is_refused():
    local = QgsCoordinateReferenceSystem()
    local.createFromWkt('LOCAL_CS["site",UNIT["metre",1]]')
    for unknown in (QgsCoordinateReferenceSystem(), local):
        for arguments in ((unknown, 10, None), (crs("EPSG:4326"), 10, unknown)):
            with pytest.raises(Problem) as caught:
                place(QgsRectangle(13, 52, 14, 53), *arguments)
            assert caught.value.failure.code is ErrorCode.UNKNOWN_CRS


def test_a_crs_is_a_code_only_where_that_is_exact():
    assert crs_text(crs("EPSG:32633")) == "EPSG:32633"
    custom = crs(ALBERS)
    text = crs_text(custom)
    assert text.startswith("PROJCRS[")
    assert crs_of(text) == custom and crs_of("EPSG:32633") == crs("EPSG:32633")
    assert not crs_of("EPSG:99999").isValid()


def test_extents_come_back():
    extent = QgsRectangle(400000, 5700000, 404000, 5703000)
    there = extent_in(extent, crs("EPSG:25833"), crs("EPSG:4326"))
    back = extent_in(there, crs("EPSG:4326"), crs("EPSG:25833"))
    assert back.contains(extent) and back.width() < 1.1 * extent.width()
