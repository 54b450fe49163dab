"""Metrics against cases with a known answer."""

import pytest
import torch
from afterimage.engine.training.metrics import blockiness, frechet, gradient_energy, psnr, ssim


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
