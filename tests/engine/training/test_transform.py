"""The fitted transform: orthonormal, the same each time, and latents of the strength that was asked for."""

import pytest
import torch
from afterimage.engine.training.transform import fit_autoencoder, principal_components

NETWORK = {"latent_channels": 12, "scale": 8, "width": 16, "blocks": 1}


@pytest.fixture(scope="module")
def pixels():
    """Smooth random pictures: noise blurred over a few pixels, bands alike but not the same."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(60, 3, 38, 38, generator=generator) + torch.randn(60, 1, 38, 38, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 7, 1)
    return (smooth * 200 + 120).clamp(0, 255).byte()


def test_components_are_orthonormal_and_fall_in_strength(pixels):
    mean, basis, deviations = principal_components(pixels, 8, 12)
    assert torch.allclose(basis @ basis.T, torch.eye(12), atol=1e-5)
    assert (deviations.diff() <= 0).all() and (deviations > 0).all()
    assert torch.allclose(mean, (pixels.float() / 127.5 - 1).mean(dim=(0, 2, 3)), atol=1e-5)
    largest = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()


def test_fitting_again_gives_the_same(pixels):
    one, other = (fit_autoencoder(pixels, NETWORK, 0.6, seed=3).state_dict() for _ in range(2))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("whitening", [0.0, 0.6, 1.0])
def test_deviations_are_those_of_the_components_to_the_power_that_is_left(pixels, whitening):
    autoencoder = fit_autoencoder(pixels, NETWORK, whitening, seed=0)
    z = autoencoder.encode(pixels.float() / 255).detach().permute(1, 0, 2, 3).flatten(1)
    assert z.mean(dim=1).square().mean() < 0.05
    assert z.square().mean() == pytest.approx(1.0, rel=0.05)
    deviations = principal_components(pixels, 8, 12)[2]
    wanted = deviations ** (1 - whitening)
    wanted = wanted / wanted.square().mean().sqrt()
    assert torch.allclose(z.std(dim=1), wanted, rtol=0.1)


def test_what_the_components_keep_is_reconstructed(pixels):
    few = fit_autoencoder(pixels, NETWORK, 0.6, seed=0)
    every = fit_autoencoder(pixels, NETWORK | {"latent_channels": 192}, 0.0, seed=0)
    real = pixels.float() / 255
    assert torch.allclose(every(real).detach(), real, atol=2e-3)
    blocks = real.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2) * 2 - 1
    mean, basis, _ = principal_components(pixels, 8, 12)
    centred = blocks - mean.repeat_interleave(64)
    lost = (centred - centred @ basis.T @ basis).square().mean() / 4  # seen as -1..1, measured as 0..1
    assert float((few(real) - real).detach().square().mean()) == pytest.approx(float(lost), rel=1e-2)
