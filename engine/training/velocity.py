"""The diffusion objective: noise to a random level, and the error of the predicted velocity."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ..models.schedulers import SCHEDULE


def alphas_cumprod() -> Tensor:
    """Share of signal power at each of the 1000 levels, (1000,) float32, decreasing."""
    return DDPMScheduler(**SCHEDULE).alphas_cumprod


def draw_timesteps(count: int, generator: torch.Generator, levels: int = 1000, lean: float = 1.0) -> Tensor:
    """Timesteps (count,), one from each of ``count`` strata of equal weight, in random order.

    Strata lower the variance of the batch's loss (Kingma et al. 2021, "Variational Diffusion Models", section I.1).

    Args:
        count: how many.
        generator: draws them.
        levels: of the schedule.
        lean: 1 is uniform, as in Algorithm 1 of Ho et al. 2020; above 1, high levels come more often, where a sampler
            of few steps decides most.
    """
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    shuffled = places[torch.randperm(count, generator=generator)]
    return ((1 - (1 - shuffled) ** lean) * levels).long().clamp_(max=levels - 1)


def add_noise(x0: Tensor, noise: Tensor, t: Tensor, alphas: Tensor) -> Tensor:
    """Noisy samples: sqrt(abar) x0 + sqrt(1 - abar) noise.

    Args:
        x0: (B, ...) clean.
        noise: same shape, standard normal.
        t: (B,) timesteps.
        alphas: of ``alphas_cumprod``.

    Source: Ho et al. 2020, eq. 4.
    """
    signal, sigma = _levels(x0, t, alphas)
    return signal * x0 + sigma * noise


def velocity(x0: Tensor, noise: Tensor, t: Tensor, alphas: Tensor) -> Tensor:
    """The target v = sqrt(abar) noise - sqrt(1 - abar) x0; shapes as in ``add_noise``.

    Source: Salimans & Ho 2022, "Progressive Distillation for Fast Sampling of Diffusion Models", appendix D.
    """
    signal, sigma = _levels(x0, t, alphas)
    return signal * noise - sigma * x0


def denoised(x: Tensor, v: Tensor, t: Tensor, alphas: Tensor) -> Tensor:
    """The clean estimate that a velocity stands for: sqrt(abar) x - sqrt(1 - abar) v."""
    signal, sigma = _levels(x, t, alphas)
    return signal * x - sigma * v


def _levels(x: Tensor, t: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    abar = alphas[t].view(-1, *[1] * (x.ndim - 1))
    return abar.sqrt(), (1 - abar).sqrt()
