"""Noise is a function of seed, stream, channel and absolute pixel."""

import numpy as np
import torch
from afterimage.engine.contract import Window
from afterimage.engine.diffusion import noise
from hypothesis import given, settings
from hypothesis import strategies as st

places = st.integers(-(2**40), 2**40)
sides = st.integers(1, 150)
PINNED = [[-0.0367395, 0.3801585], [0.4521929, -0.240846]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), row=places, col=places, height=sides, width=sides, data=st.data())
def test_a_crop_of_the_field_is_the_field_of_the_crop(seed, row, col, height, width, data):
    window = Window(row, col, height, width)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    crop = Window(row + top, col + left, height - top, width - left)
    whole = noise.field(seed, 7, window, channels=2)
    assert torch.equal(noise.field(seed, 7, crop, channels=2), whole[:, top:, left:])


def test_a_channel_does_not_depend_on_how_many_are_asked_for():
    window = Window(-5, 100, 70, 70)
    many = noise.field(1, 0, window, channels=5)
    assert torch.equal(noise.field(1, 0, window, channels=2, first_channel=3), many[3:])


def test_fields_of_other_seeds_streams_channels_and_blocks_are_independent():
    window = Window(0, 0, 128, 128)
    here = noise.field(1, 0, window, 1).flatten()
    for other in (
        noise.field(2, 0, window, 1),
        noise.field(1, 1, window, 1),
        noise.field(1, 0, window, 1, first_channel=1),
        noise.field(1, 0, Window(128, 0, 128, 128), 1),
        noise.field(1, 0, Window(0, -128, 128, 128), 1),
    ):
        assert abs(torch.corrcoef(torch.stack([here, other.flatten()]))[0, 1]) < 0.04


def test_the_numbers_are_standard_normal():
    values = noise.field(3, 0, Window(-500, -500, 1000, 1000), 1).double().numpy().ravel()
    assert abs(values.mean()) < 0.005
    assert abs(values.std() - 1) < 0.005
    assert abs((values**4).mean() - 3) < 0.05
    for deviations, share in ((1, 0.31731), (2, 0.04550), (3, 0.00270)):
        assert abs((np.abs(values) > deviations).mean() - share) < 0.002
    grid = values.reshape(1000, 1000)
    for lag in range(1, 4):
        assert abs((grid[:, lag:] * grid[:, :-lag]).mean()) < 0.005
        assert abs((grid[lag:] * grid[:-lag]).mean()) < 0.005


def test_the_numbers_are_those_of_box_and_muller_to_the_last_bit():
    key, counter = np.array([5, 2], dtype=np.uint64), np.array([0, 0, 3, 2**64 - 7], dtype=np.uint64)
    raw = np.random.Philox(key=key, counter=counter).random_raw(noise.BLOCK**2 // 2)
    parts = raw >> np.uint64(32), raw % np.uint64(2**32)
    first, second = ((part.astype(np.float64) + 0.5) * 2.0**-32 for part in parts)
    radius, angle = np.sqrt(-2 * np.log(first)), 2 * np.pi * second
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)]).astype(np.float32)
    window = Window(3 * noise.BLOCK, -7 * noise.BLOCK, noise.BLOCK, noise.BLOCK)
    assert np.array_equal(noise.field(5, 2, window, 1).numpy().ravel(), expected)


def test_the_field_is_pinned():
    """A change of these numbers changes every picture that was ever made from a seed."""
    values = noise.field(20251122, 3, Window(-1, 63, 2, 2), 1)
    expected = torch.tensor([PINNED])
    assert torch.allclose(values, expected, atol=1e-6, rtol=0)
