"""The small picture of a large one, painted bit by bit."""

import numpy as np
import pytest
from afterimage.engine.contract import GeoBox, Window
from afterimage.engine.diffusion.windows import squares
from afterimage.engine.tasks.canvas import SIDE, Canvas


class Shown:
    def __init__(self, shows=True):
        self.shows, self.rasters = shows, []

    def preview(self, raster):
        self.rasters.append(raster)


@pytest.mark.parametrize(("height", "width"), [(100, 90), (1300, 700), (SIDE + 1, 1)])
def test_painted_in_pieces_it_is_every_nth_pixel(height, width):
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6), (height, width))
    picture = np.random.default_rng(0).integers(0, 255, (3, height, width)).astype("uint8")
    canvas, shown = Canvas(grid, 3, "uint8"), Shown()
    for part in squares(Window(-30, -70, height + 100, width + 100), 97):
        pixels = np.zeros((3, part.height, part.width), "uint8")
        if part.intersects(grid.window):
            inside = part.intersection(grid.window)
            pixels[(..., *inside.relative_to(part).slices())] = picture[(..., *inside.slices())]
        canvas.paint(pixels, np.ones(pixels.shape[1:], bool), part)
    canvas.show(shown)
    raster = shown.rasters[0]
    step = -(-max(height, width) // SIDE)
    assert np.array_equal(raster.pixels, picture[:, ::step, ::step]) and raster.valid.all()
    assert raster.grid.resolution == (10.0 * step, 10.0 * step)


def test_a_preview_that_costs_work_is_not_due_at_once_again():
    canvas = Canvas(GeoBox("EPSG:32633", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (4, 4)), 1, "uint8")
    assert canvas.is_due()
    canvas.show(Shown())
    assert not canvas.is_due()


def test_nothing_is_made_for_nobody():
    canvas, shown = Canvas(GeoBox("EPSG:32633", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (4, 4)), 1, "uint8"), Shown(False)
    canvas.show(shown)
    assert not shown.rasters
    assert not canvas.is_due()


@pytest.mark.parametrize("step", [1, 3])
def test_coarser_pixels_are_painted_where_no_finer_ones_were(step):
    side = 96 if step == 1 else SIDE * 3
    canvas, shown = Canvas(GeoBox("EPSG:32633", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (side, side)), 1, "uint8"), Shown()
    coarse = np.random.default_rng(0).integers(1, 200, (1, side // 4 + 2, side // 4 + 2)).astype("uint8")
    fine = Window(8, -4, 40, 60)
    canvas.paint(np.full((1, 40, 60), 255, "uint8"), np.ones((40, 60), bool), fine)
    place = Window(-3, -2, (side // 4 + 2) * 4, (side // 4 + 2) * 4)
    canvas.paint(coarse, np.ones(coarse.shape[1:], bool), place, 4)
    canvas.show(shown)
    expected = coarse.repeat(4, 1).repeat(4, 2)[:, 3:, 2:][:, :side, :side]
    expected[:, 8:48, :56] = 255
    assert np.array_equal(shown.rasters[0].pixels, expected[:, ::step, ::step]) and shown.rasters[0].valid.all()
