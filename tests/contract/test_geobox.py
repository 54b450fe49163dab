"""A grid keeps its promises, whatever its numbers."""

from __future__ import annotations

import math

import pytest
from afterimage.engine.contract import GeoBox, Window
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.integers(1, 400)
COORDINATES = st.floats(-1e7, 1e7)
RESOLUTIONS = st.floats(1e-5, 1e4)
ANGLES = st.floats(0, 2 * math.pi)


@st.composite
def grids(draw):
    size, angle = draw(RESOLUTIONS), draw(ANGLES)
    cos, sin = math.cos(angle) * size, math.sin(angle) * size
    transform = (cos, sin, draw(COORDINATES), sin, -cos, draw(COORDINATES))
    return GeoBox("EPSG:32633", transform, (draw(SIZES), draw(SIZES)))


def near(a, b, grid):
    scale = max(abs(value) for point in grid.corners for value in point) + min(grid.resolution)
    return all(abs(x - y) <= 1e-9 * scale for x, y in zip(a, b))


@given(grids(), st.integers(1, 8))
def test_a_finer_grid_covers_the_same_ground(grid, factor):
    fine = grid.zoom(factor)
    assert fine.shape == (grid.height * factor, grid.width * factor)
    for there, here in zip(fine.corners, grid.corners):
        assert near(there, here, grid)
    assert fine.resolution == pytest.approx([size / factor for size in grid.resolution])


@given(grids(), st.integers(0, 50))
def test_growing_and_cutting_back_is_nothing(grid, pixels):
    back = grid.pad(pixels).crop(Window(pixels, pixels, *grid.shape))
    assert back.shape == grid.shape
    assert near(back.to_map(0, 0), grid.to_map(0, 0), grid)


@given(grids(), st.floats(-500, 500), st.floats(-500, 500))
def test_to_the_map_and_back(grid, col, row):
    back = grid.to_pixel(*grid.to_map(col, row))
    slack = 1e-6 + 1e-8 * max(abs(grid.transform[2]), abs(grid.transform[5])) / min(grid.resolution)
    assert back == pytest.approx((col, row), abs=slack)


@given(COORDINATES, COORDINATES, st.floats(1, 5000), st.floats(1, 5000), st.floats(0.5, 100))
def test_an_anchored_grid_covers_its_bounds_and_lies_on_the_lattice(left, bottom, width, height, resolution):
    bounds = (left, bottom, left + width, bottom + height)
    grid = GeoBox.from_bounds("EPSG:32633", bounds, resolution)
    slack = 1e-5 * resolution
    assert grid.bounds[0] <= left + slack and grid.bounds[1] <= bottom + slack
    assert grid.bounds[2] >= left + width - slack and grid.bounds[3] >= bottom + height - slack
    assert grid.width <= width / resolution + 2 and grid.height <= height / resolution + 2
    row, col = grid.anchor()
    assert (col * resolution, -row * resolution) == (grid.transform[2], grid.transform[5])


def test_neighbours_share_their_lattice():
    a = GeoBox.from_bounds("EPSG:32633", (500003, 4999911, 500203, 5000111), 10)
    b = GeoBox.from_bounds("EPSG:32633", (500103, 4999811, 500303, 5000011), 10)
    (row_a, col_a), (row_b, col_b) = a.anchor(), b.anchor()
    assert b.to_map(0, 0) == a.to_map(col_b - col_a, row_b - row_a)


def test_an_edge_on_the_lattice_gains_no_pixel():
    grid = GeoBox.from_bounds("EPSG:4326", (0.1, 0.2, 0.4, 0.7), 0.1)
    assert grid.shape == (5, 3)


@pytest.mark.parametrize(
    "bounds",
    [(0, 0, 0, 10), (0, 0, 10, 0), (10, 0, 0, 10), (0, 10, 10, 0), (math.nan, 0, 1, 1), (0, 0, math.inf, 1)],
)
def test_bounds_without_area_are_refused(bounds):
    with pytest.raises(ValueError, match="bounds"):
        GeoBox.from_bounds("EPSG:32633", bounds, 10)


@pytest.mark.parametrize("resolution", [0, -1, math.nan, math.inf])
def test_a_resolution_that_is_none_is_refused(resolution):
    with pytest.raises(ValueError, match="resolution"):
        GeoBox.from_bounds("EPSG:32633", (0, 0, 10, 10), resolution)


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (-1, 1)])
def test_a_window_has_pixels(size):
    with pytest.raises(ValueError):
        Window(0, 0, *size)


@given(*[st.integers(-50, 50)] * 4, *[st.integers(1, 60)] * 4)
def test_windows_cut_each_other_as_sets_of_pixels_do(r0, c0, r1, c1, h0, w0, h1, w1):
    a, b = Window(r0, c0, h0, w0), Window(r1, c1, h1, w1)
    rows = set(range(a.row, a.row_end)) & set(range(b.row, b.row_end))
    cols = set(range(a.col, a.col_end)) & set(range(b.col, b.col_end))
    assert a.intersects(b) == b.intersects(a) == bool(rows and cols)
    if rows and cols:
        cut = a.intersection(b)
        assert (cut.row, cut.row_end, cut.col, cut.col_end) == (min(rows), max(rows) + 1, min(cols), max(cols) + 1)
    else:
        with pytest.raises(ValueError):
            a.intersection(b)


def test_a_grid_that_is_turned_by_a_right_angle_has_an_anchor():
    assert GeoBox("EPSG:32633", (0.0, 10.0, 500.0, 10.0, 0.0, 300.0), (4, 5)).anchor() == (50, 30)
    assert GeoBox("EPSG:32633", (10.0, 0.0, 500.0, 0.0, -10.0, 300.0), (4, 5)).anchor() == (-30, 50)
