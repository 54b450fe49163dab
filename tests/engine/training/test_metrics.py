"""Metrics against cases with a known answer."""

import pytest
import torch
from afterimage.engine.training.metrics import (
    blockiness,
    frechet,
    gradient_energy,
    nearest,
    precision_recall,
    psnr,
    share_nearer,
    spectrum_slope,
    ssim,
)


def test_psnr_of_a_known_error():
    truth = torch.full((2, 3, 16, 16), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-3)


def test_ssim_is_one_for_the_same_and_less_for_another():
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert ssim(x, x) == pytest.approx(1.0, abs=1e-5)
    assert ssim(x, x.flip(-1)) < 0.3


def test_frechet_distance_of_shifted_and_scaled_gaussians():
    x = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    assert frechet(x, x) == pytest.approx(0.0, abs=1e-6)
    assert frechet(x + 2, x) == pytest.approx(16.0, rel=1e-3)
    assert frechet(x * 3, x) == pytest.approx(4 * (3 - 1) ** 2, rel=0.05)


def test_blocks_are_seen_and_noise_has_none():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(8, 3, 64, 64, generator=generator)
    blocks = torch.rand(8, 3, 8, 8, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert blockiness(noise) == pytest.approx(1.0, abs=0.05)
    assert blockiness(noise * 0.1 + blocks) > 5
    assert gradient_energy(blocks) > 0


def features(count, seed, shift=0.0):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) + shift


def test_the_same_set_is_wholly_precise_and_recalled_and_a_far_one_not_at_all():
    x = features(200, 0)
    assert precision_recall(x, x) == (1.0, 1.0)
    assert precision_recall(features(200, 1, shift=100.0), x) == (0.0, 0.0)


def test_one_mode_of_two_is_precise_and_recalls_half():
    truth = torch.cat([features(300, 0), features(300, 1, shift=50.0)])
    precision, recall = precision_recall(features(300, 2), truth)
    assert precision > 0.85 and 0.4 < recall <= 0.5
    swapped = precision_recall(truth, features(300, 2))
    assert swapped == (recall, precision)


def test_three_neighbours_decide_how_far_a_manifold_reaches():
    line = torch.tensor([[0.0], [1.0], [2.0], [4.0], [100.0]])
    # the third neighbours of 0 and 4 are each other, 4 away, and that of the lonely one is 99 away
    assert precision_recall(torch.tensor([[-3.9], [-4.1], [150.0], [200.0]]), line)[0] == 0.5
    assert precision_recall(torch.tensor([[-4.1], [-4.2], [-4.3], [-4.4]]), line)[0] == 0.0


@pytest.mark.parametrize("exponent", [0.0, 1.5, 3.0])
def test_the_slope_of_a_synthesised_spectrum_is_found(exponent):
    generator = torch.Generator().manual_seed(0)
    noise = torch.fft.fft2(torch.randn(64, 3, 128, 128, generator=generator, dtype=torch.float64))
    f = torch.fft.fftfreq(128, dtype=torch.float64)
    radius = (f.square() + f[:, None].square()).sqrt().clamp_min(1 / 128)
    pixels = torch.fft.ifft2(noise * radius ** (-exponent / 2)).real[..., :64, :64]
    assert spectrum_slope(pixels) == pytest.approx(exponent, abs=0.15)
    assert spectrum_slope(pixels * 5 + 3) == pytest.approx(spectrum_slope(pixels), abs=1e-6)


def test_distances_to_the_nearest_are_those_of_the_nearest():
    known = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert nearest(torch.tensor([[0.0, 1.0], [3.0, 4.0], [6.0, 8.0]]), known).tolist() == pytest.approx([1, 0, 5])


def test_what_lies_nearer_than_real_ones_is_counted():
    held_out = torch.arange(1.0, 101.0)
    assert share_nearer(held_out, held_out) == 0.01
    assert share_nearer(torch.tensor([0.0, 0.0, 50.0, 50.0]), held_out) == 0.5
