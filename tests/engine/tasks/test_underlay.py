"""The source under a super-resolution is the same whoever asks for whatever part of it, and is read once."""

import numpy as np
import pytest
import rasterio
import torch
from afterimage.engine.contract import Source, Window
from afterimage.engine.radiometry import Radiometry
from afterimage.engine.raster import SourceRaster
from afterimage.engine.tasks import gaps, underlay
from afterimage.engine.tasks.underlay import SIDE, Underlay

SHAPE, ORIGIN = (70, 2 * SIDE + 30), (-20, 3 * SIDE - 11)
MEAN = np.array([0.25, 0.5], np.float32)
RADIOMETRY = Radiometry("uint16", (0.0, 10.0), (5000.0, 9000.0))
WHOLE = Window(ORIGIN[0] - 40, ORIGIN[1] - 40, SHAPE[0] + 80, SHAPE[1] + 80)


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 9000, (2, *SHAPE)).astype(np.uint16)
    pixels[:, rng.random(SHAPE) < 0.1] = 0
    pixels[:, 20:60, 200:260] = 0
    profile = {"count": 2, "height": SHAPE[0], "width": SHAPE[1], "dtype": "uint16", "nodata": 0}
    with rasterio.open(
        tmp_path / "source.tif", "w", crs="EPSG:32633", transform=rasterio.Affine(10, 0, 0, 0, -10, 0), **profile
    ) as file:
        file.write(pixels)
    return Source("source.tif")


@pytest.fixture
def under(tmp_path, source):
    return Underlay(tmp_path, source, RADIOMETRY, MEAN, ORIGIN)


def test_it_is_the_source_with_its_gaps_filled_at_once(tmp_path, source, under):
    margin = gaps.REACH
    wide = WHOLE.pad(margin)
    with SourceRaster(tmp_path, source) as file:
        raster = file.read(Window(wide.row - ORIGIN[0], wide.col - ORIGIN[1], wide.height, wide.width))
    expected = gaps.filled(RADIOMETRY.to_unit(raster.known), raster.valid, MEAN)[:, margin:-margin, margin:-margin]
    found = under.read(WHOLE)
    assert np.array_equal(found.lr.numpy(), expected)
    assert np.array_equal(found.valid.numpy(), raster.valid[margin:-margin, margin:-margin])
    assert found.valid.any() and not found.valid.all()


@pytest.mark.parametrize("window", [(-30, 3 * SIDE - 5, 33, 40), (3, 3 * SIDE + 5, 20, 30), (-5, 4 * SIDE - 1, 9, 2)])
def test_a_part_is_a_crop_of_the_whole(under, window):
    part, whole = under.read(Window(*window)), under.read(WHOLE).crop(Window(*window))
    assert torch.equal(part.lr, whole.lr) and torch.equal(part.valid, whole.valid)
    assert under.holds_data(Window(*window)) == bool(whole.valid.any())


def test_windows_beside_the_source_hold_no_data(under):
    assert not under.holds_data(Window(ORIGIN[0] + SHAPE[0], ORIGIN[1], 300, 300))
    assert under.holds_data(Window(ORIGIN[0] + SHAPE[0] - 1, ORIGIN[1], 300, 300))


def test_a_square_is_read_once(under, monkeypatch):
    reads = []
    read = SourceRaster.read
    monkeypatch.setattr(SourceRaster, "read", lambda file, window: reads.append(window) or read(file, window))
    under.read(WHOLE)
    count = len(reads)
    assert count == len(set(reads)) == 8  # two rows of four
    under.read(WHOLE)
    assert len(reads) == count


def test_a_forgetful_one_gives_the_same(tmp_path, source, under, monkeypatch):
    monkeypatch.setattr(underlay, "MEMORY", 0)
    monkeypatch.setattr(underlay, "LEAST", 1)
    forgetful = Underlay(tmp_path, source, RADIOMETRY, MEAN, ORIGIN)
    for _ in range(2):
        assert torch.equal(forgetful.read(WHOLE).lr, under.read(WHOLE).lr)
