"""How many bits a diffusion model needs for a picture: the variational bound of the paper, in bits per dimension.

The bound is L_T + sum over t of L_(t-1) + L_0 (Ho, Jain & Abbeel 2020, eq. 5). A dimension is one value of one band of
one pixel, so that a raw 8-bit picture has 8 bits/dim.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..contract import Measure
from ..models.ddpm import PixelModel, to_signed
from .datasets import read_eurosat
from .velocity import add_noise

#: Variance of each reverse step: the posterior's (best for a single point), or beta (best for x0 ~ N(0, I)); the two
#: extremes of section 3.2, and the names that diffusers gives them.
VARIANCES = ("fixed_small", "fixed_large")
#: Half the distance between two of 256 levels in -1..1.
HALF = 1 / 255
#: Pictures in each network call.
BATCH = 50

#: (x (B, C, H, W), t (B,) from 0) -> the noise in x.
Noise = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Bound:
    """The variational bound, an average over pictures.

    Attributes:
        total: bits/dim.
        error: standard error of ``total``.
        prior: L_T of it.
        steps: the sum of L_1 to L_(T-1) of it.
        decoder: L_0 of it.
        by_step: (T,) float64, the part of each timestep from 0; the first is L_0.
    """

    total: float
    error: float
    prior: float
    steps: float
    decoder: float
    by_step: Tensor


def bounds(
    predict: Noise, pixels: Tensor, betas: Tensor, draws: int = 8, seed: int = 0, batch: int = BATCH
) -> dict[str, Bound]:
    """The variational bounds of 8-bit pictures, one for each of ``VARIANCES``, from the same network calls.

    Every timestep is computed for ``draws`` pictures, picked anew for each timestep and with fresh noise, so that the
    estimate is unbiased for the average over all pictures. The standard error adds up what the draws of each timestep
    vary by. The estimate of x0 is clipped to -1..1, as the sampler clips it.

    Args:
        predict: the network.
        pixels: (N, C, H, W) uint8.
        betas: (T,) of the schedule.
        draws: pictures for each timestep, at least 2.
        seed: of what is drawn.
        batch: pictures in each network call.

    Raises:
        ValueError: for fewer than 2 draws.
    """
    if draws < 2:
        raise ValueError("a standard error needs at least 2 draws")
    generator = torch.Generator().manual_seed(seed)
    levels = len(betas)
    steps = torch.arange(levels).repeat_interleave(draws)
    chosen = torch.randint(len(pixels), steps.shape, generator=generator)
    found = []
    for t, which in zip(steps.split(batch), chosen.split(batch)):
        x0 = to_signed(pixels[which].float() / 255)
        noise = torch.randn(x0.shape, generator=generator)
        found.append(terms(predict, x0, noise, t, betas))
    prior = torch.cat([prior_bits(to_signed(part.float() / 255), betas) for part in pixels.split(batch)]).mean()
    each = torch.cat(found, dim=1).view(len(VARIANCES), levels, draws)
    return {name: _bound(float(prior), some) for name, some in zip(VARIANCES, each)}


def _bound(prior: float, each: Tensor) -> Bound:
    """The bound from L_T and the other terms, (T, draws)."""
    by_step = each.mean(dim=1)
    return Bound(
        total=prior + float(by_step.sum()),
        error=float((each.var(dim=1) / each.shape[1]).sum().sqrt()),
        prior=prior,
        steps=float(by_step[1:].sum()),
        decoder=float(by_step[0]),
        by_step=by_step,
    )


def terms(predict: Noise, x0: Tensor, noise: Tensor, t: Tensor, betas: Tensor) -> Tensor:
    """L_t of pictures at their timesteps, from 0: L_0 there, else the divergence of a reverse step from the posterior.

    Args:
        predict: the network.
        x0: (B, C, H, W) in -1..1, on the 256 levels.
        noise: like ``x0``, standard normal.
        t: (B,) timesteps from 0.
        betas: (T,) of the schedule.

    Returns:
        (2, B) float64, bits/dim, a row for each of ``VARIANCES``.

    Source: Ho et al. 2020, eq. 5 to 8 and 13.
    """
    betas = betas.double()
    alphas = (1 - betas).cumprod(0)
    before = torch.cat([alphas.new_ones(1), alphas[:-1]])
    posterior = betas * (1 - before) / (1 - alphas)  # beta tilde, eq. 7; 0 at the first step
    with torch.inference_mode():
        x = add_noise(x0.double(), noise.double(), t, alphas)
        told = predict(x.float(), t).double()
    abar = _at(alphas, t, x0)
    guess = ((x - (1 - abar).sqrt() * told) / abar.sqrt()).clamp(-1, 1)
    # both of the means are weight * x0 + rest * x, with the same x (eq. 7)
    weight = before.sqrt() * betas / (1 - alphas)
    apart = _at(weight, t, x0) * (x0 - guess)
    first = t == 0
    some = t.clamp_min(1)  # the first step has another form, below
    rows = []
    for variance in VARIANCES:
        ours = posterior if variance == "fixed_small" else betas
        nats = gaussian_divergence(apart, _at(posterior, some, x0), _at(ours, some, x0)).mean(dim=(1, 2, 3))
        # the last reverse step has the variance of the one before, as in the paper's code: its own posterior has none
        likelihood = discretised_log_likelihood(x0[first].double(), guess[first], posterior[1].sqrt())
        nats[first] = -likelihood.mean(dim=(1, 2, 3))
        rows.append(nats / math.log(2))
    return torch.stack(rows)


def prior_bits(x0: Tensor, betas: Tensor) -> Tensor:
    """L_T: the divergence of q(x_T | x0) from N(0, I), (B,) float64 bits/dim."""
    abar = (1 - betas.double()).prod()
    nats = gaussian_divergence(abar.sqrt() * x0.double(), 1 - abar, torch.ones(()))
    return nats.mean(dim=(1, 2, 3)) / math.log(2)


def gaussian_divergence(apart: Tensor, variance: Tensor, other: Tensor) -> Tensor:
    """KL(N(m, variance) || N(m - apart, other)), for each value by itself, in nats."""
    ratio = variance / other
    return 0.5 * (ratio - 1 - ratio.log() + apart.square() / other)


def discretised_log_likelihood(x0: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Log of the probability that a Gaussian, cut into 256 levels with open ends, gives to each value, in nats.

    Args:
        x0: values in -1..1, on the levels.
        mean: of the Gaussian.
        deviation: of the Gaussian.

    Source: Ho et al. 2020, eq. 13.
    """
    above, below = (x0 - mean + HALF) / deviation, (x0 - mean - HALF) / deviation
    lowest, highest = x0 < -1 + HALF, x0 > 1 - HALF
    # far out on the right both of the two are 1 to the last bit: there the mirrored difference has more of them
    mirrored = above + below > 0
    upper = torch.where(mirrored, -below, above)
    lower = torch.where(mirrored, -above, below)
    inside = _log_cdf(upper) + _log_one_minus_exp(_log_cdf(lower) - _log_cdf(upper))
    return torch.where(lowest, _log_cdf(above), torch.where(highest, _log_cdf(-below), inside))


def measure_ddpm(model: PixelModel, data: Path, draws: int = 8) -> tuple[Measure, ...]:
    """The bound of the EuroSAT test chips, and what simpler ways to write them down take.

    Args:
        model: of the family ``ddpm``.
        data: folder with the archives.
        draws: chips for each of the timesteps.
    """
    test, train = read_eurosat(data, "test"), read_eurosat(data, "train").every(8)
    pixels = torch.from_numpy(test.pixels).permute(0, 3, 1, 2)
    betas = model.scheduler("DDPM").betas
    on = f"EuroSAT test ({len(pixels):,} chips; {draws} of them at each of {len(betas)} timesteps)"
    simple = gaussian_bits(torch.from_numpy(train.pixels).permute(0, 3, 1, 2), pixels)
    reference = f"PNG: {png_bits(test.pixels):.2f}; one Gaussian for each band: {simple:.2f}; no model: 8"
    measures = []
    for variance, found in bounds(lambda x, t: model.predict(x, t), pixels, betas, draws).items():
        parts = f"L_T {found.prior:.4f}, L_1 to L_T-1 {found.steps:.3f}, L_0 {found.decoder:.3f}"
        measures.append(
            Measure(
                f"variational bound, {variance}, standard error {found.error:.3f}",
                on,
                round(found.total, 3),
                "bits/dim",
                f"{reference}; parts: {parts}",
            )
        )
    return tuple(measures)


def gaussian_bits(train: Tensor, test: Tensor) -> float:
    """Bits/dim of pictures under one Gaussian for each band, fitted to others and cut into the 256 levels.

    Args:
        train: (N, C, H, W) uint8 that it is fitted to.
        test: (M, C, H, W) uint8.
    """
    bits, parts = 0.0, 0
    for band in range(train.shape[1]):  # one at a time: as float64 they take eight times their size
        fitted = to_signed(train[:, band].double() / 255)
        mean, deviation = fitted.mean(), fitted.std()
        for part in test[:, band].split(BATCH):
            bits -= float(discretised_log_likelihood(to_signed(part.double() / 255), mean, deviation).sum())
            parts += part.numel()
    return bits / parts / math.log(2)


def png_bits(pixels: np.ndarray) -> float:
    """Bits/dim of pictures (N, H, W, 3) uint8 as PNG, each a file of its own, its header included."""
    size = 0
    for chip in pixels:
        file = io.BytesIO()
        Image.fromarray(chip).save(file, "PNG", optimize=True)
        size += len(file.getvalue())
    return 8 * size / pixels.size


def _at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """The values of timesteps (B,), to be spread over pictures (B, C, H, W)."""
    return values[t].view(-1, *[1] * (like.ndim - 1))


def _log_cdf(x: Tensor) -> Tensor:
    return torch.special.log_ndtr(x)


def _log_one_minus_exp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, without cancelling (Maechler 2012)."""
    x = x.clamp_max(-1e-12)
    return torch.where(x > -math.log(2), (-torch.expm1(x)).log(), torch.log1p(-x.exp()))
