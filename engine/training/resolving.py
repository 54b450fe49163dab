"""How good super-resolution is on images that it never saw, by the loop and the sampler that people use."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..contract import Measure, Window
from ..diffusion.balance import in_turn, over_ways, paired_field
from ..diffusion.constraints import fit_range, match_low_resolution
from ..diffusion.loop import START, sample, set_timesteps
from ..models.enlargement import average
from ..models.eo_residual import ResidualModel
from .datasets import read_eurosat, read_naip, read_ucmerced
from .metrics import gradient_energy, psnr, ssim

log = logging.getLogger(__name__)

#: Samples of each image.
SAMPLES = 8
#: Half the width of the 90 % interval around the mean, in deviations of a normal error.
HALF = 1.645


def measure_super_resolve(model: ResidualModel, data: Path, images: int = 92) -> tuple[Measure, ...]:
    """Agreement, PSNR and SSIM beside bicubic and Lanczos, sharpness, and whether the spread tells the error.

    Mean and spread are what people get who ask for them: what the network expects, and how far off it tells that it is.

    The coarse images are means over blocks of pixels, rounded to 8 bit; an image is one window. Everything is measured
    before the result is rounded, but for the agreement with the coarse image.

    Args:
        model: of the family ``eo_residual``.
        data: folder with the archives.
        images: at most so many of each test split, evenly thinned out.
    """
    found: list[Measure] = []
    for name, pixels in _splits(data):
        hr = torch.from_numpy(_thinned(pixels, images)).permute(0, 3, 1, 2).float() / 255
        for factor in model.card.factors:
            fresh = _measure(model, hr, factor, f"{name} ({len(hr)} images)")
            log.info("%s", "; ".join(f"{m.name}, {m.on}: {m.value} {m.unit} ({m.reference})" for m in fresh))
            found += fresh
    return (*found, *(_seconds(model, factor) for factor in model.card.factors))


def _splits(data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Images (N, H, W, bands) uint8 that nothing was trained on, and how they are called."""
    yield "UC Merced test", read_ucmerced(data, "test").pixels
    naip = read_naip(data, since=2018, before=2021)
    yield "NAIP 2018-2020, red green blue", naip[..., :3]
    yield "NAIP 2018-2020, near infrared", naip[..., 3:]
    yield "EuroSAT test", read_eurosat(data, "test").pixels


def _thinned(pixels: np.ndarray, count: int) -> np.ndarray:
    return pixels[np.linspace(0, len(pixels) - 1, min(count, len(pixels))).round().astype(int)]


def _measure(model: ResidualModel, hr: Tensor, factor: int, on: str) -> list[Measure]:
    lr = (average(hr, factor) * 255).round() / 255
    drawn = torch.stack([sharpen(model, lr, factor, seed) for seed in range(SAMPLES)])
    bicubic, other = model.enlarge(lr, factor).clamp(0, 1), lanczos(lr, factor).clamp(0, 1)
    one, plain, mean = drawn[0], drawn.mean(dim=0), expect(model, lr, factor)
    spread, error = doubt(model, lr, factor), (mean - hr).abs()
    off = 255 * (average((one * 255).round() / 255, factor) - lr)
    covered = (error <= HALF * spread).float().mean()
    ratio = gradient_energy(hr)
    return [
        Measure(f"disagreement with the coarse image, {factor}x, RMSE", on, _short(_rms(off)), "DN"),
        Measure(
            f"PSNR, {factor}x, mean",
            on,
            round(psnr(mean, hr), 2),
            "dB",
            f"bicubic: {psnr(bicubic, hr):.2f} dB; Lanczos: {psnr(other, hr):.2f} dB; "
            f"mean of {SAMPLES} samples: {psnr(plain, hr):.2f} dB; one sample: {psnr(one, hr):.2f} dB",
        ),
        Measure(
            f"SSIM, {factor}x, mean",
            on,
            round(ssim(mean, hr), 4),
            "",
            f"bicubic: {ssim(bicubic, hr):.4f}; Lanczos: {ssim(other, hr):.4f}; "
            f"mean of {SAMPLES} samples: {ssim(plain, hr):.4f}; one sample: {ssim(one, hr):.4f}",
        ),
        Measure(
            f"gradient energy over the truth's, {factor}x, one sample",
            on,
            round(gradient_energy(one) / ratio, 3),
            "",
            f"bicubic: {gradient_energy(bicubic) / ratio:.3f}; mean: {gradient_energy(mean) / ratio:.3f}",
        ),
        Measure(
            f"rank correlation of spread and error, {factor}x",
            on,
            _short(rank_correlation(spread.mean(dim=1).flatten(), error.mean(dim=1).flatten())),
        ),
        Measure(
            f"90 % interval, {factor}x: truth within mean +- {HALF:.2f} spreads",
            on,
            round(100 * float(covered), 1),
            "%",
            f"spread over error, root mean squares: {_rms(spread) / _rms(error):.2f}; "
            f"deviation of {SAMPLES} samples over error: {_rms(drawn.std(dim=0)) / _rms(error):.2f}",
        ),
    ]


def _rms(x: Tensor) -> float:
    return float(x.square().mean()) ** 0.5


def _short(value: Tensor | float) -> float:
    return round(float(value), 3)


def _seconds(model: ResidualModel, factor: int) -> Measure:
    """Processor time of a sample, a megapixel of the result, without the overlap of windows."""
    side = model.window // factor
    lr = torch.rand(model.batch, model.bands, side, side, generator=torch.Generator().manual_seed(0))
    sharpen(model, lr, factor, 0)
    before = time.process_time()
    sharpen(model, lr, factor, 0)
    spent = (time.process_time() - before) * 1e6 / (model.batch * model.window**2)
    return Measure(
        f"processor time, {factor}x, one sample",
        "a megapixel of three bands",
        round(spent, 1),
        "s",
        f"{model.card.steps} steps",
    )


def sharpen(model: ResidualModel, lr: Tensor, factor: int, seed: int) -> Tensor:
    """One sample of each image by the card's default scheduler and steps, in agreement with it, in 0..1.

    Args:
        model: draws it.
        lr: (B, C, h, w) in 0..1; an image is one window. Bands are taken in threes, as the task takes them.
        factor: of the refinement.
        seed: of the sample.

    Returns:
        (B, C, h * factor, w * factor).
    """
    card = model.card
    return _agreeing(
        model, lr, factor, lambda part: _residual(model, part, factor, seed, card.schedulers[0], card.steps)
    )


def expect(model: ResidualModel, lr: Tensor, factor: int) -> Tensor:
    """The mean of what the network expects of each image, in agreement with it, in 0..1, as the task draws it.

    Args:
        model: draws it.
        lr: as of ``sharpen``.
        factor: likewise.

    Returns:
        (B, C, h * factor, w * factor).
    """
    return _agreeing(
        model, lr, factor, lambda part: over_ways(lambda seed: _residual(model, part, factor, seed, "DDPM", 1))
    )


def doubt(model: ResidualModel, lr: Tensor, factor: int) -> Tensor:
    """How far the truth lies from ``expect`` by what the network tells: a standard deviation for each pixel and band.

    Args:
        model: as of ``sharpen``.
        lr: likewise.
        factor: likewise.

    Returns:
        (B, C, h * factor, w * factor).
    """

    def variance(part: Tensor) -> Tensor:
        scale = model.scale(model.enlarge(part, factor).clamp(0, 1), factor)
        return over_ways(lambda seed: _variance(model, part, factor, seed)) * scale.square()

    return _in_threes(model, lr, variance).sqrt()


def _agreeing(model: ResidualModel, lr: Tensor, factor: int, residual: Callable[[Tensor], Tensor]) -> Tensor:
    """Enlargement plus residuals, in agreement with ``lr``."""
    drawn = _in_threes(model, lr, lambda part: model.enlarge(part, factor) + residual(part))
    valid = torch.ones(lr.shape[-2:], dtype=torch.bool)
    low, high = torch.zeros(lr.shape[1], 1, 1), torch.ones(lr.shape[1], 1, 1)
    return fit_range(match_low_resolution(drawn, lr, valid, factor), lr, low, high, factor)


def _in_threes(model: ResidualModel, lr: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """What is drawn of images, ``model.batch`` of them and three of their bands at a time, the last repeated."""
    drawn = []
    for part in lr.split(model.batch):
        groups = []
        for three in part.split(model.bands, dim=1):
            missing = model.bands - three.shape[1]
            filled = torch.cat([three, three[:, -1:].expand(-1, missing, -1, -1)], dim=1)
            groups.append(draw(filled).narrow(1, 0, three.shape[1]))
        drawn.append(torch.cat(groups, dim=1))
    return torch.cat(drawn)


def _residual(model: ResidualModel, lr: Tensor, factor: int, seed: int, scheduler: str, steps: int) -> Tensor:
    """What the model adds to the enlargement of images (B, 3, h, w); each has noise of its own."""
    enlarged = model.enlarge(lr, factor).clamp(0, 1)
    seeds = _seeds(lr, seed)
    turned = in_turn(lambda x, t, told: model.predict(x, t, told, factor), seeds)
    drawn = sample(
        lambda x, t: turned(x, t, enlarged),
        model.scheduler(scheduler),
        steps,
        lambda stream: _noise(enlarged, seeds, stream),
    )
    return drawn * model.scale(enlarged, factor)


@torch.inference_mode()
def _variance(model: ResidualModel, lr: Tensor, factor: int, seed: int) -> Tensor:
    """What the network tells at the noisiest level: the variance of the clean residual's error, over its scale."""
    enlarged = model.enlarge(lr, factor).clamp(0, 1)
    scheduler, seeds = model.scheduler("DDPM"), _seeds(lr, seed)
    set_timesteps(scheduler, 1)
    turned = in_turn(lambda x, t, told: model.predict(x, t, told, factor), seeds)
    _, variance = turned(_noise(enlarged, seeds, START), scheduler.timesteps[0], enlarged).split(model.bands, dim=1)
    return variance.exp()


def _seeds(images: Tensor, seed: int) -> list[int]:
    """One for each image, all of one orientation."""
    return [1000 * image + seed for image in range(len(images))]


def _noise(like: Tensor, seeds: list[int], stream: int) -> Tensor:
    window = Window(0, 0, *like.shape[-2:])
    return torch.stack([paired_field(seed, stream, window, like.shape[1]) for seed in seeds])


def lanczos(lr: Tensor, factor: int) -> Tensor:
    """Enlargement with Pillow's Lanczos kernel of three lobes: (B, C, h, w) -> (B, C, h * factor, w * factor)."""
    size = (lr.shape[-1] * factor, lr.shape[-2] * factor)
    bands = [
        np.asarray(Image.fromarray(band).resize(size, Image.Resampling.LANCZOS)) for band in lr.flatten(0, 1).numpy()
    ]
    return torch.from_numpy(np.stack(bands)).unflatten(0, lr.shape[:2])


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, of 200,000 places or a few more, drawn evenly."""
    step = max(1, a.numel() // 200_000)
    ranks = [x[::step].argsort().argsort().double() for x in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])
