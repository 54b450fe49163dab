"""Gaps are filled from their rims, locally."""

import numpy as np
from afterimage.engine.tasks.gaps import REACH, closed, filled

MEAN = np.array([9.0, -9.0], np.float32)


def test_a_rim_continues_what_is_beside_it_and_the_inside_is_the_mean():
    pixels = np.full((2, 80, 80), 3.0, np.float32)
    valid = np.zeros((80, 80), bool)
    valid[:, :10] = True
    full = filled(np.where(valid, pixels, np.nan), valid, MEAN)
    assert (full[:, :, : 10 + REACH] == 3.0).all()
    assert (full[0, :, 10 + REACH :] == 9.0).all() and (full[1, :, 10 + REACH :] == -9.0).all()


def test_what_holds_data_is_left_alone():
    rng = np.random.default_rng(0)
    pixels, valid = rng.random((2, 50, 60), np.float32), rng.random((50, 60)) < 0.4
    assert np.array_equal(filled(pixels, valid, MEAN)[:, valid], pixels[:, valid])
    assert np.array_equal(filled(pixels, np.ones_like(valid), MEAN), pixels)


def test_a_part_read_with_its_margin_has_the_same_bits():
    rng = np.random.default_rng(1)
    pixels, valid = rng.random((2, 120, 130), np.float32), rng.random((120, 130)) < 0.01
    whole = filled(pixels, valid, MEAN)
    part = filled(pixels[:, 20:100, 30:101], valid[20:100, 30:101], MEAN)
    assert np.array_equal(part[:, REACH:-REACH, REACH:-REACH], whole[:, 20:100, 30:101][:, REACH:-REACH, REACH:-REACH])


def test_without_any_data_there_is_only_the_mean():
    full = filled(np.zeros((2, 3, 3), np.float32), np.zeros((3, 3), bool), MEAN)
    assert (full == MEAN[:, None, None]).all()


def test_gaps_are_closed_that_are_filled_from_both_sides():
    margin = 2 * REACH
    valid = np.zeros((60 + 2 * margin, 150 + 2 * margin), bool)
    inner = np.ones((60, 150), bool)
    inner[:, :30] = False  # beyond the outline
    inner[:, 50 : 50 + margin] = False
    inner[:, 110 : 110 + margin + 1] = False
    valid[margin:-margin, margin:-margin] = inner
    expected = inner.copy()
    expected[:, 50 : 50 + margin] = True
    assert np.array_equal(closed(valid), expected)
