"""Larger images out of chips: real everywhere, and no straight border between them."""

import numpy as np
import pytest
import torch
from afterimage.engine.training import quilting
from afterimage.engine.training.datasets import read_eurosat
from afterimage.engine.training.quilting import OVERLAP, Quilts, quilt, read_quilts

SIDE, ACROSS = 64, 3
WHOLE = ACROSS * (SIDE - OVERLAP) + OVERLAP


@pytest.fixture(scope="module")
def chips():
    """Squares of one smooth random landscape, each of a tone of its own."""
    rng = np.random.default_rng(0)
    waves = np.hypot(np.fft.fftfreq(600)[:, None], np.fft.fftfreq(600))[..., None]
    rough = np.fft.fft2(rng.normal(size=(600, 600, 3)), axes=(0, 1))
    land = np.fft.ifft2(rough * np.exp(-((25 * waves) ** 2) / 2), axes=(0, 1)).real
    land = 120 + 25 * land / land.std()
    corners = rng.integers(0, 600 - SIDE, (60, 2))
    cut = np.stack([land[top : top + SIDE, left : left + SIDE] for top, left in corners])
    return (cut + rng.normal(0, 4, (60, 1, 1, 3))).clip(0, 255).astype(np.uint8)


def borders(images):
    """Mean squared step across the lines where chips end, over that of all steps."""
    step = np.square(np.diff(images.astype(float), axis=2)).mean(axis=(0, 1, 3))
    at = np.arange(1, ACROSS) * (SIDE - OVERLAP)
    return max(step[at - 1].mean(), step[at + OVERLAP - 1].mean()) / step.mean()


def test_a_quilt_has_no_straight_borders_and_a_pasted_one_has(chips):
    made = quilt(chips, 8, ACROSS, np.random.default_rng(1))
    assert made.shape == (8, WHOLE, WHOLE, 3) and made.dtype == np.uint8
    rng, step = np.random.default_rng(2), SIDE - OVERLAP
    pasted = np.zeros_like(made)
    for image in pasted:
        for row in range(ACROSS):
            for col in range(ACROSS):
                top, left = row * step, col * step
                image[top : top + SIDE, left : left + SIDE] = chips[rng.integers(len(chips))]
    assert borders(pasted) > 5
    assert borders(made) < 1.6


def test_a_quilt_is_as_rough_as_its_chips(chips):
    made = quilt(chips, 8, ACROSS, np.random.default_rng(1)).astype(float)
    ours, theirs = (np.square(np.diff(each.astype(float), axis=2)).mean() for each in (made, chips))
    assert 0.75 * theirs < ours < 1.3 * theirs


def test_a_seed_makes_the_same_quilts_and_another_seed_others(chips):
    one, again, other = (quilt(chips, 2, 2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_the_cut_goes_where_two_chips_differ_least():
    rng = np.random.default_rng(3)
    wanted = 8 + np.cumsum(rng.integers(-1, 2, 40)).clip(-5, 5)
    differ = np.ones((1, 40, OVERLAP), np.float32)
    differ[0, np.arange(40), wanted] = 0
    path = quilting._cut(differ)[0]
    assert np.abs(np.diff(path)).max() <= 1
    assert quilting.FADE <= path.min() and path.max() < OVERLAP - quilting.FADE
    assert differ[0, np.arange(40), path].sum() <= differ[0, np.arange(40), wanted].sum() + 3


def test_few_chips_make_a_quilt_too(chips):
    assert quilt(chips[:1], 1, 2, np.random.default_rng(0)).shape == (1, 112, 112, 3)


def test_windows_are_squares_of_quilts_of_their_class_and_quilts_are_kept(plain_data, tmp_path):
    train = read_eurosat(plain_data, "train")
    quilts = read_quilts(train, 2, tmp_path / "quilts.safetensors", seed=0)
    written = (tmp_path / "quilts.safetensors").stat().st_mtime_ns
    again = read_quilts(train, 2, tmp_path / "quilts.safetensors", seed=0)
    assert torch.equal(quilts.pixels, again.pixels) and quilts.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (tmp_path / "quilts.safetensors").stat().st_mtime_ns == written
    read_quilts(train, 2, tmp_path / "quilts.safetensors", seed=1)
    assert (tmp_path / "quilts.safetensors").stat().st_mtime_ns != written
    places = torch.arange(208).view(1, 208, 1).expand(3, 208, 208).to(torch.uint8)
    rows = Quilts(places[None], torch.zeros(1, dtype=torch.long))
    for seed in range(8):  # a row's number is its colour, however the window is turned
        window, _ = rows.windows(1, 128, 8, torch.Generator().manual_seed(seed))
        assert round(float(window.min() * 255)) % 8 == 0 and round(float((window.max() - window.min()) * 255)) == 127
    pixels, labels = quilts.windows(40, 128, 8, torch.Generator().manual_seed(0))
    assert pixels.shape == (40, 3, 128, 128) and pixels.max() <= 1
    for label in range(3):
        colour = torch.from_numpy(train.pixels[train.labels == label]).float().mean(dim=(0, 1, 2)) / 255
        assert (pixels[labels == label].mean(dim=(0, 2, 3)) - colour).abs().max() < 0.06
