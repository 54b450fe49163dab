"""The identities of the velocity, and the schedule's ends."""

import torch
from afterimage.engine.models.schedulers import SCHEDULE
from afterimage.engine.training.velocity import add_noise, alphas_cumprod, denoised, draw_timesteps, velocity
from diffusers import DDPMScheduler


def drawn(count=64):
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, count, 3, 4, 4, generator=generator)
    return x0, noise, draw_timesteps(count, generator), alphas_cumprod()


def test_noisy_sample_and_velocity_give_the_clean_sample_back():
    x0, noise, t, alphas = drawn()
    x, v = add_noise(x0, noise, t, alphas), velocity(x0, noise, t, alphas)
    assert torch.allclose(denoised(x, v, t, alphas), x0, atol=1e-5)


def test_noisy_sample_and_velocity_give_the_noise_back():
    x0, noise, t, alphas = drawn()
    x, v = add_noise(x0, noise, t, alphas), velocity(x0, noise, t, alphas)
    abar = alphas[t].view(-1, 1, 1, 1)
    assert torch.allclose((1 - abar).sqrt() * x + abar.sqrt() * v, noise, atol=1e-5)


def test_it_is_what_diffusers_calls_velocity():
    x0, noise, t, alphas = drawn()
    scheduler = DDPMScheduler(**SCHEDULE)
    assert torch.allclose(velocity(x0, noise, t, alphas), scheduler.get_velocity(x0, noise, t), atol=1e-6)
    assert torch.allclose(add_noise(x0, noise, t, alphas), scheduler.add_noise(x0, noise, t), atol=1e-6)


def test_the_first_level_is_almost_clean_and_the_last_holds_no_signal():
    alphas = alphas_cumprod()
    assert alphas[0] > 0.9999 and alphas[-1] < 1e-8
    assert (alphas.diff() < 0).all()


def test_leaning_timesteps_come_more_often_from_high_levels():
    t = draw_timesteps(1000, torch.Generator().manual_seed(0), lean=2.0)
    assert 0 <= t.min() and t.max() <= 999
    assert (t > 500).float().mean() > 0.65


def test_timesteps_are_spread_evenly():
    t = draw_timesteps(100, torch.Generator().manual_seed(0))
    assert torch.equal(t.sort().values // 10, torch.arange(100))
