"""The figures on the cards, on the test splits, by the same loop and samplers that people use."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from ..contract import Measure, Window
from ..diffusion import noise
from ..diffusion.constraints import match_low_resolution
from ..diffusion.loop import sample
from ..models.enlargement import average
from ..models.eo_residual import ResidualModel
from .classifier import to_unit
from .datasets import read_eurosat, read_ucmerced
from .metrics import gradient_energy, psnr, ssim

log = logging.getLogger(__name__)


def measure_super_resolve(model: ResidualModel, data: Path, samples: int = 8, images: int = 92) -> tuple[Measure, ...]:
    """PSNR and SSIM of one sample and of the mean of several, beside bicubic enlargement.

    The coarse images are means over blocks of pixels, rounded to 8 bit; an image is one window.

    Args:
        model: of the family ``eo_residual``.
        data: folder with the archives.
        samples: in a mean.
        images: at most so many of each test split.
    """
    found = []
    for name, chips in (("UC Merced", read_ucmerced(data, "test")), ("EuroSAT", read_eurosat(data, "test"))):
        hr = to_unit(chips)
        hr = hr[:: max(1, len(hr) // images)][:images]
        on = f"{name} test ({len(hr)} images)"
        for factor in model.card.factors:
            lr = (average(hr, factor) * 255).round() / 255
            drawn = torch.stack([sharpen(model, lr, factor, seed) for seed in range(samples)])
            bicubic = model.enlarge(lr, factor).clamp(0, 1)
            one, mean = drawn[0].clamp(0, 1), drawn.mean(dim=0).clamp(0, 1)
            spread = drawn.std(dim=0).mean(dim=1).flatten()
            error = (drawn.mean(dim=0) - hr).abs().mean(dim=1).flatten()
            reference = f"bicubic: {psnr(bicubic, hr):.2f} dB; one sample: {psnr(one, hr):.2f} dB"
            found += [
                Measure(f"PSNR, {factor}x, mean of {samples} samples", on, round(psnr(mean, hr), 2), "dB", reference),
                Measure(
                    f"SSIM, {factor}x, mean of {samples} samples",
                    on,
                    round(ssim(mean, hr), 4),
                    "",
                    f"bicubic: {ssim(bicubic, hr):.4f}; one sample: {ssim(one, hr):.4f}",
                ),
                Measure(
                    f"gradient energy over the truth's, {factor}x, one sample",
                    on,
                    round(gradient_energy(one) / gradient_energy(hr), 3),
                    "",
                    f"bicubic: {gradient_energy(bicubic) / gradient_energy(hr):.3f}",
                ),
                Measure(
                    f"rank correlation of spread and error, {factor}x", on, round(_spearman(spread, error), 3), "", ""
                ),
            ]
            log.info("%s", found[-4:])
    return tuple(found)


def sharpen(model: ResidualModel, lr: Tensor, factor: int, seed: int) -> Tensor:
    """One sample of each image by the card's default scheduler and steps, in agreement with it, not clipped.

    Args:
        model: draws it.
        lr: (B, 3, h, w) in 0..1; an image is one window.
        factor: of the refinement.
        seed: of the sample.

    Returns:
        (B, 3, h * factor, w * factor).
    """
    card = model.card
    finished = []
    for start in range(0, len(lr), model.batch):
        end = start + model.batch
        part = lr[start:end]
        enlarged = model.enlarge(part, factor)
        window = Window(0, 0, *enlarged.shape[-2:])
        places = range(start, start + len(part))

        def draw(stream: int, window: Window = window, places: range = places) -> Tensor:
            return torch.stack([noise.field(1000 * seed + k, stream, window, model.bands) for k in places])

        def predict(x: Tensor, t: Tensor, enlarged: Tensor = enlarged) -> Tensor:
            return model.predict(x, t, enlarged, factor)

        residual = sample(predict, model.scheduler(card.schedulers[0]), card.steps, draw)
        drawn = enlarged + residual * model.residual_scale
        valid = torch.ones(part.shape[-2:], dtype=torch.bool)
        finished.append(match_low_resolution(drawn, part, valid, factor))
    return torch.cat(finished)


def _spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of a thousandth of the pixels and more, drawn evenly."""
    step = max(1, a.numel() // 200_000)
    ranks = [x[::step].argsort().argsort().double() for x in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])
