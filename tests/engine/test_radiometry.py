"""The straight line between a raster's numbers and a model's range."""

from __future__ import annotations

import numpy as np
import pytest
from afterimage.engine.contract import GeoBox
from afterimage.engine.errors import SourceEmpty
from afterimage.engine.radiometry import Radiometry, cast, fitted, measure, rgb8
from afterimage.engine.raster import Profile, Raster
from hypothesis import given, settings
from hypothesis import strategies as st

TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def raster(pixels, valid=None):
    grid = GeoBox("EPSG:32633", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), pixels.shape[1:])
    return Raster(pixels, np.ones(pixels.shape[1:], bool) if valid is None else valid, grid)


def profile(dtype, bands=1):
    return Profile(dtype, tuple(f"b{i}" for i in range(bands)))


def test_bytes_keep_their_own_range():
    assert measure(raster(np.full((3, 4, 4), 7, np.uint8)), profile("uint8", 3)) == rgb8()


@pytest.mark.parametrize("dtype", TYPES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_there_and_back_is_the_same_number(dtype, data):
    limits = np.iinfo(dtype) if np.dtype(dtype).kind != "f" else np.finfo("float32")
    low, high = (float(limits.min) / 4, float(limits.max) / 4)
    values = data.draw(st.lists(st.floats(low, high), min_size=16, max_size=16))
    pixels = np.array(values).astype(dtype).reshape(1, 4, 4)
    line = measure(raster(pixels), profile(dtype))
    back = line.from_unit(line.to_unit(pixels).astype(np.float64))
    assert back.dtype == np.dtype(dtype)
    # float32 in the middle: seven digits of the line's length
    span = max(line.high[0] - line.low[0], float(np.abs(pixels.astype(np.float64)).max()))
    assert np.abs(back.astype(np.float64) - pixels.astype(np.float64)).max() <= span * 1e-5 + 1


@pytest.mark.parametrize("dtype", TYPES)
def test_a_constant_band_is_safe(dtype):
    pixels = np.full((1, 4, 4), 42, dtype)
    line = measure(raster(pixels), profile(dtype))
    unit = line.to_unit(pixels)
    assert np.isfinite(unit).all()
    assert np.array_equal(line.from_unit(unit), pixels)


@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_beyond_the_type_is_cut_before_the_cast(dtype):
    with np.errstate(all="raise"):
        values = cast(np.array([-1e300, -1.4, 0.6, 1e300]), dtype)
    if np.dtype(dtype).kind == "f":
        assert np.isfinite(values).all()
    else:
        limits = np.iinfo(dtype)
        assert list(values) == [limits.min, max(-1, limits.min), 1, limits.max]


def test_not_a_number_never_reaches_a_cast():
    unit = np.array([[[np.nan, np.inf, -np.inf, 0.5]]])
    assert list(rgb8(1).from_unit(unit).ravel()) == [0, 255, 0, 128]
    assert np.isfinite(rgb8(1).to_unit(np.array([[[np.nan, np.inf]]]))).all()


def test_outliers_do_not_decide_the_line():
    pixels = np.tile(np.arange(100, dtype=np.int16), 100).reshape(1, 100, 100)
    pixels[0, 0, 0] = 32767
    line = measure(raster(pixels), profile("int16"))
    assert line.high[0] < 101
    unit = line.to_unit(pixels)
    assert unit.max() > 300, "numbers beyond the line are kept"
    assert line.from_unit(unit)[0, 0, 0] == pytest.approx(32767, abs=1)


def test_nodata_does_not_decide_the_line():
    pixels = np.full((1, 10, 10), -9999.0, np.float32)
    valid = np.zeros((10, 10), bool)
    pixels[0, :5], valid[:5] = np.linspace(0, 1, 50).reshape(5, 10), True
    line = measure(raster(pixels, valid), profile("float32"))
    assert -0.1 < line.low[0] < line.high[0] < 1.1


def test_an_empty_raster_is_refused():
    with pytest.raises(SourceEmpty, match="0"):
        measure(raster(np.zeros((1, 20, 20), np.uint8), np.zeros((20, 20), bool)), profile("uint8"))


def test_a_line_must_be_one():
    with pytest.raises(ValueError):
        Radiometry("uint8", (0.0,), (0.0,))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_a_sparse_band_takes_its_least_and_greatest(dtype):
    pixels = np.zeros((1, 100, 100), dtype)
    pixels[0, 50, :10] = np.linspace(1, 60_000 if dtype == "uint16" else 1e9, 10)
    line = measure(raster(pixels), profile(dtype))
    assert (line.low[0], line.high[0]) == (0, float(pixels.max()))
    back = line.from_unit(line.to_unit(pixels))
    assert np.allclose(back.astype(float), pixels.astype(float), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_that_the_statistics_did_not_see_come_back(dtype):
    line = measure(raster(np.zeros((1, 10, 10), dtype)), profile(dtype))
    pixels = np.array([[[-1e9, 0, 1.5, 1e9]]], dtype)
    with np.errstate(all="raise"):
        assert np.allclose(line.from_unit(line.to_unit(pixels)), pixels, rtol=1e-6, atol=0)
        assert np.isfinite(line.to_unit(np.full((1, 1, 1), 1e30, dtype))).all()


#: Mean and covariance of EuroSAT's training pixels, to three digits.
USUAL = np.array([0.344, 0.381, 0.409])
COVARIANCE = np.array([[0.0405, 0.0262, 0.0209], [0.0262, 0.0188, 0.0151], [0.0209, 0.0151, 0.0135]])


@pytest.mark.parametrize("mean", [(0.157, 0.256, 0.300), (0.492, 0.461, 0.451), (0.344, 0.381, 0.409)])
def test_a_scene_of_one_land_cover_is_left_as_it_is(mean):
    """Forests and fields of EuroSAT, whose own colours these are."""
    assert fitted(rgb8(), np.array(mean), USUAL, COVARIANCE) == rgb8()


def test_a_scene_in_foreign_colours_is_moved_until_it_is_plausible_and_no_further():
    mean = np.array([0.351, 0.400, 0.308])  # less blue than any of EuroSAT's classes
    line = fitted(rgb8(), mean, USUAL, COVARIANCE)
    seen = line.to_unit((mean * 255)[:, None, None])[:, 0, 0].astype(np.float64)
    variances, axes = np.linalg.eigh(COVARIANCE)
    along, before = (np.abs(axes.T @ (colour - USUAL)) / np.sqrt(variances) for colour in (seen, mean))
    assert before.max() > 2 and along.max() == pytest.approx(1.0, abs=1e-3)
    assert seen[2] > mean[2] + 0.02 and [high - low for low, high in zip(line.low, line.high)] == pytest.approx(
        [255] * 3
    )
    assert fitted(line, seen, USUAL, COVARIANCE).low == pytest.approx(line.low, abs=0.1)
