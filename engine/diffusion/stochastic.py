"""One step of a diffusers scheduler whose noise is handed in instead of drawn.

Noise must be a function of the absolute pixel, so a scheduler may draw none of its own. Some take it
(``variance_noise``), some are deterministic, and for the two ancestral samplers the noise is added here, in the
published form. Any other scheduler is refused instead of being sampled with noise that could not be repeated.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

#: What a network may predict: names of diffusers' ``prediction_type``.
PREDICTIONS = ("epsilon", "v_prediction", "sample")
_DETERMINISTIC = (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)


def draws_noise(scheduler: Any) -> bool:
    """Whether each step needs fresh noise.

    Raises:
        ValueError: for a scheduler that this module does not know.
    """
    if isinstance(scheduler, (DDPMScheduler, EulerAncestralDiscreteScheduler)):
        return True
    if isinstance(scheduler, _DETERMINISTIC):
        return str(scheduler.config.get("algorithm_type", "")).startswith("sde-")
    raise ValueError(f"{type(scheduler).__name__} is not known to take its noise from outside")


def adds_noise(scheduler: Any, t: Tensor) -> bool:
    """Whether the noise of the step from a timestep counts: in the last of ancestral sampling as a rule it does not."""
    if not isinstance(scheduler, DDPMScheduler) or int(scheduler.previous_timestep(t)) >= 0:
        return True
    return scheduler.config.variance_type == "fixed_large" and int(t) > 0  # as diffusers has it


def step(scheduler: Any, output: Tensor, t: Tensor, x: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor]:
    """One step towards the clean sample.

    Args:
        scheduler: a diffusers scheduler with its timesteps set.
        output: the network's output at ``x``, in the scheduler's prediction type: (B, C, h, w), or (B, 2 C, h, w) of a
            network that predicts velocities and tells beside them the logarithm of their errors' variance. Ancestral
            sampling draws with that; the others need the velocities alone.
        t: timestep of ``scheduler.timesteps``.
        x: noisy sample (B, C, h, w).
        z: standard normal noise like ``x``; None where the scheduler draws none, or this step adds none.

    Returns:
        (the sample at the next, lower timestep; the estimate of the clean sample), both like ``x``.
    """
    told = None
    if output.shape[1] == 2 * x.shape[1]:
        output, told = output.chunk(2, dim=1)
    if isinstance(scheduler, DDPMScheduler):
        return _ddpm(scheduler, output, t, x, z, told)
    if isinstance(scheduler, DDIMScheduler):
        return _ddim(scheduler, output, t, x)
    if isinstance(scheduler, EulerAncestralDiscreteScheduler):
        return _euler_ancestral(scheduler, output, t, x, z)
    if isinstance(scheduler, PNDMScheduler):
        return scheduler.step(output, t, x).prev_sample, _denoised(scheduler, output, t, x)
    if z is not None and "variance_noise" in inspect.signature(scheduler.step).parameters:
        stepped = scheduler.step(output, t, x, variance_noise=z)
    else:
        stepped = scheduler.step(output, t, x)
    denoised = getattr(stepped, "pred_original_sample", None)
    if denoised is None:
        # The multistep solvers keep their latest estimate of the clean sample instead of returning it.
        denoised = scheduler.model_outputs[-1]
    return stepped.prev_sample, denoised


def _ddpm(
    scheduler: DDPMScheduler, output: Tensor, t: Tensor, x: Tensor, z: Tensor | None, told: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mean of the posterior plus its deviation times z; no noise at t = 0.

    The posterior is that of a known clean sample. Where steps are few, what is not known of it counts: to the variance
    that of the clean sample given ``x`` is added, as if its elements were independent, where the network tells it.

    Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", eq. 7 and Algorithm 2; Bao et al. 2022,
    "Analytic-DPM", theorem 1; told by the network: Bao et al. 2022, "Estimating the Optimal Covariance with Imperfect
    Mean in Diffusion Probabilistic Models", section 3.
    """
    if scheduler.config.clip_sample or scheduler.config.thresholding:
        # Its own step draws noise before it is added; a generator of its own keeps it away from torch's global one,
        # and only the clean estimate, which the noise does not touch, is taken from it.
        unused = torch.Generator(device=x.device).manual_seed(0)
        denoised = scheduler.step(output, t, x, generator=unused).pred_original_sample
    else:
        denoised = _denoised(scheduler, output, t, x)
    before = scheduler.previous_timestep(t)
    alpha_bar = scheduler.alphas_cumprod[t]
    alpha_bar_before = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.one
    alpha = alpha_bar / alpha_bar_before
    mean = (alpha_bar_before**0.5 * (1 - alpha) / (1 - alpha_bar)) * denoised
    mean = mean + (alpha**0.5 * (1 - alpha_bar_before) / (1 - alpha_bar)) * x
    if t == 0 or z is None:
        return mean, denoised
    if told is not None:
        if before < 0:
            return mean, denoised
        known = (1 - alpha_bar_before) / (1 - alpha_bar) * (1 - alpha)
        share = alpha_bar_before * ((1 - alpha) / (1 - alpha_bar)) ** 2
        return mean + (known + share * (1 - alpha_bar) * told.exp()) ** 0.5 * z, denoised
    variance_type = scheduler.config.variance_type
    if variance_type not in ("fixed_small", "fixed_small_log", "fixed_large"):
        raise ValueError(f"variance type {variance_type} is not supported")
    variance = scheduler._get_variance(t)
    # "fixed_small_log" returns the deviation already.
    deviation = variance if variance_type == "fixed_small_log" else variance**0.5
    return mean + deviation * z, denoised


def _ddim(scheduler: DDIMScheduler, output: Tensor, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The deterministic step to the timestep that comes next.

    Its own step goes down by a whole number of levels, the same each time: where the steps do not divide the levels,
    that is another level than the one that the network is told next (600 steps in 1000 levels: 1 instead of 1.67).

    Source: Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12 with sigma = 0.
    """
    if scheduler.config.clip_sample or scheduler.config.thresholding:
        denoised = scheduler.step(output, t, x).pred_original_sample
    else:
        denoised = _denoised(scheduler, output, t, x)
    index = int((scheduler.timesteps == t).nonzero()[0])
    is_last = index + 1 == len(scheduler.timesteps)
    alpha_bar = scheduler.alphas_cumprod[t]
    alpha_bar_next = (
        scheduler.final_alpha_cumprod if is_last else scheduler.alphas_cumprod[scheduler.timesteps[index + 1]]
    )
    if alpha_bar_next == 1:
        return denoised, denoised
    epsilon = (x - alpha_bar**0.5 * denoised) / (1 - alpha_bar) ** 0.5
    return alpha_bar_next**0.5 * denoised + (1 - alpha_bar_next) ** 0.5 * epsilon, denoised


def _denoised(scheduler: DDPMScheduler | DDIMScheduler | PNDMScheduler, output: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """The estimate of the clean sample, for a scheduler that neither returns nor keeps one, or does more for it.

    Source: Salimans and Ho 2022, "Progressive Distillation for Fast Sampling of Diffusion Models", appendix D.
    """
    alpha_bar = scheduler.alphas_cumprod[t]
    if scheduler.config.prediction_type == "v_prediction":
        return alpha_bar**0.5 * x - (1 - alpha_bar) ** 0.5 * output
    if scheduler.config.prediction_type == "sample":
        return output
    if scheduler.config.prediction_type != "epsilon":
        raise ValueError(f"prediction type {scheduler.config.prediction_type} is not supported")
    return (x - (1 - alpha_bar) ** 0.5 * output) / alpha_bar**0.5


def _euler_ancestral(
    scheduler: EulerAncestralDiscreteScheduler, output: Tensor, t: Tensor, x: Tensor, z: Tensor | None
) -> tuple[Tensor, Tensor]:
    """An Euler step down to sigma_down, then noise up to the next sigma.

    Source: Karras et al. 2022, Algorithm 1, with the split of k-diffusion's ``sample_euler_ancestral``.
    """
    unused = torch.Generator(device=x.device).manual_seed(0)
    denoised = scheduler.step(output, t, x, generator=unused).pred_original_sample
    sigma, sigma_next = scheduler.sigmas[scheduler.step_index - 1], scheduler.sigmas[scheduler.step_index]
    sigma_up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5
    sigma_down = (sigma_next**2 - sigma_up**2) ** 0.5
    stepped = x + (x - denoised) / sigma * (sigma_down - sigma)
    return (stepped if z is None else stepped + sigma_up * z), denoised
