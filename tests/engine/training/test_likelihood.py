"""The bound against what can be written down: Gaussians, a decoder that adds up to one, data with a known denoiser."""

import math

import numpy as np
import pytest
import torch
from afterimage.engine.contract import Measure
from afterimage.engine.models import catalog
from afterimage.engine.models.ddpm import SCHEDULE, to_signed
from afterimage.engine.settings import Settings
from afterimage.engine.training import likelihood
from afterimage.engine.training.likelihood import (
    bounds,
    discretised_log_likelihood,
    gaussian_bits,
    gaussian_divergence,
    measure_ddpm,
    png_bits,
    prior_bits,
    terms,
)
from diffusers import DDPMScheduler
from torch.distributions import Normal, kl_divergence

BETAS = DDPMScheduler(**SCHEDULE).betas
LEVELS = to_signed(torch.arange(256).double() / 255)


def test_the_divergence_is_that_of_two_gaussians():
    one, other = Normal(torch.tensor(0.3), torch.tensor(0.7)), Normal(torch.tensor(-0.2), torch.tensor(1.9))
    expected = kl_divergence(one, other)
    assert torch.allclose(gaussian_divergence(torch.tensor(0.5), torch.tensor(0.49), torch.tensor(1.9**2)), expected)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.01), (0.83, 0.001), (-1.0, 0.3), (3.0, 0.2), (0.1, 5.0)])
def test_the_decoder_adds_up_to_one(mean, deviation):
    mean, deviation = (torch.tensor(value, dtype=torch.float64) for value in (mean, deviation))
    assert discretised_log_likelihood(LEVELS, mean, deviation).exp().sum() == pytest.approx(1.0, abs=1e-9)


def test_the_decoder_stays_finite_far_away():
    found = discretised_log_likelihood(LEVELS, torch.tensor(0.9, dtype=torch.float64), torch.tensor(1e-3).double())
    assert torch.isfinite(found).all() and (found <= 0).all()
    # the nearest edge of the lowest level is 1.9 - 1/255 away: about -z^2 / 2
    assert float(found[0]) == pytest.approx(-(((1.9 - 1 / 255) / 1e-3) ** 2) / 2, rel=1e-4)


def test_the_decoder_is_the_integral_over_a_level():
    mean, deviation = torch.tensor(0.2).double(), torch.tensor(0.05).double()
    fine = torch.linspace(float(LEVELS[150]) - 1 / 255, float(LEVELS[150]) + 1 / 255, 20001).double()
    integral = torch.trapezoid(Normal(mean, deviation).log_prob(fine).exp(), fine)
    assert float(discretised_log_likelihood(LEVELS[150], mean, deviation).exp()) == pytest.approx(float(integral))


def test_the_prior_is_almost_reached():
    x0 = torch.ones(2, 3, 4, 4)
    abar = (1 - BETAS.double()).prod()
    expected = kl_divergence(Normal(abar.sqrt(), (1 - abar).sqrt()), Normal(0.0, 1.0)) / math.log(2)
    assert torch.allclose(prior_bits(x0, BETAS), expected.expand(2), rtol=1e-6)
    assert float(expected) < 1e-4


def test_noise_that_is_known_costs_what_the_variances_differ_by():
    """A denoiser that knows x0 makes the means agree: fixed_small then costs nothing, fixed_large its ratio."""
    x0 = LEVELS[torch.randint(256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0))].float()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([1, 2, 50, 500, 999])
    small, large = terms(lambda x, t: noise, x0, noise, t, BETAS)
    abar = (1 - BETAS.double()).cumprod(0)
    ratio = (1 - abar[t - 1]) / (1 - abar[t])
    assert small.abs().max() < 1e-3
    assert torch.allclose(large - small, 0.5 * (ratio - 1 - ratio.log()) / math.log(2), atol=1e-9)


def test_a_step_costs_the_weighted_error_of_the_paper():
    """Eq. 12: an error of the noise costs beta^2 / (2 sigma^2 alpha (1 - abar)) of its square."""
    x0 = torch.zeros(1, 1, 4, 4)
    noise = torch.full_like(x0, 0.5)
    betas = BETAS.double()
    abar = (1 - betas).cumprod(0)
    for step in (1, 10, 300):
        t = torch.tensor([step])
        found = terms(lambda x, t: noise + 0.1, x0, noise, t, BETAS)[1]
        base = terms(lambda x, t: noise, x0, noise, t, BETAS)[1]
        expected = betas[step] / (2 * (1 - betas[step]) * (1 - abar[step])) * 0.1**2 / math.log(2)
        assert float(found - base) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("variance", likelihood.VARIANCES)
def test_the_bound_of_gaussian_data_with_its_exact_denoiser_is_known(variance):
    """Pixels ~ N(0, s^2): the best guess of x0 is linear in x, and each step's mean squared error has a closed form."""
    s = 0.25
    values = s * torch.randn((64, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    pixels = ((values.clamp(-1, 1) + 1) / 2 * 255).round().to(torch.uint8)
    betas = BETAS.double()
    abar = (1 - betas).cumprod(0)
    gain = abar.sqrt() * s**2 / (abar * s**2 + 1 - abar)  # E[x0 given x] / x

    def predict(x, t):
        signal, part = (each[t].view(-1, 1, 1, 1).float() for each in (abar, gain))
        return (x - signal.sqrt() * part * x) / (1 - signal).sqrt()

    found = bounds(predict, pixels, BETAS, draws=4)[variance]
    spread = to_signed(pixels.double() / 255).var()
    missed = (1 - gain * abar.sqrt()) ** 2 * spread + gain**2 * (1 - abar)
    before = torch.cat([torch.ones(1), abar[:-1]])
    posterior = betas * (1 - before) / (1 - abar)
    ours = posterior if variance == "fixed_small" else betas
    weight = before.sqrt() * betas / (1 - abar)
    nats = 0.5 * (posterior / ours - 1 - (posterior / ours).log() + weight**2 * missed / ours)
    assert found.steps == pytest.approx(float(nats[1:].sum()) / math.log(2), abs=4 * found.error)
    assert found.total == pytest.approx(found.prior + found.steps + found.decoder)
    assert 0 < found.error < 0.05 and found.by_step.shape == (1000,)
    entropy = (0.5 * math.log(2 * math.pi * math.e * s**2) - math.log(2 / 255)) / math.log(2)
    assert found.total > entropy
    if variance == "fixed_large":  # where the data are this wide, beta is nearly the true variance of a reverse step
        assert found.total < entropy + 0.5
        wrong = bounds(lambda x, t: 0.9 * predict(x, t), pixels, BETAS, draws=4)[variance]
        assert wrong.total > found.total + 0.03


def test_the_standard_error_is_what_repetitions_vary_by():
    pixels = torch.randint(256, (50, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    betas = torch.linspace(1e-4, 0.2, 20)
    every = [bounds(lambda x, t: torch.zeros_like(x), pixels, betas, 8, seed) for seed in range(30)]
    found = [one["fixed_large"] for one in every]
    spread = float(np.std([one.total for one in found], ddof=1))
    assert 0.6 * spread < found[0].error < 1.6 * spread


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="draws"):
        bounds(lambda x, t: x, torch.zeros(1, 3, 4, 4, dtype=torch.uint8), BETAS, draws=1)


def test_simple_codes():
    generator = torch.Generator().manual_seed(0)
    uniform = torch.randint(256, (20, 3, 16, 16), generator=generator).to(torch.uint8)
    narrow = (128 + 4 * torch.randn((20, 3, 16, 16), generator=generator)).round().to(torch.uint8)
    assert gaussian_bits(uniform, uniform) > 8
    assert gaussian_bits(narrow, narrow) == pytest.approx(math.log2(4 * math.sqrt(2 * math.pi * math.e)), abs=0.05)
    assert png_bits(np.zeros((2, 64, 64, 3), np.uint8)) < 0.2 < 8 < png_bits(uniform.permute(0, 2, 3, 1).numpy())


def test_a_model_is_measured_on_the_test_split(shared_data, monkeypatch):
    model = catalog.load("tiny-ddpm", Settings(device="cpu", threads=1))
    read = likelihood.read_eurosat
    monkeypatch.setattr(likelihood, "read_eurosat", lambda data, split: read(data, "test").every(100))
    monkeypatch.setattr(
        type(model), "scheduler", lambda self, name: DDPMScheduler(beta_end=0.3, num_train_timesteps=20)
    )
    small, large = measure_ddpm(model, shared_data, draws=2)
    assert isinstance(small, Measure) and small.unit == "bits/dim" and small.value > 4
    assert "fixed_small" in small.name and "fixed_large" in large.name and "PNG" in small.reference
