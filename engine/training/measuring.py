"""The figures on the cards, on the test splits, by the same loop and samplers that people use."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..contract import GeoBox, Measure, Sampling, Window
from ..contract.requests import Generate
from ..diffusion import noise
from ..diffusion.constraints import match_low_resolution
from ..diffusion.guidance import classifier_free
from ..diffusion.loop import sample
from ..models.enlargement import average
from ..models.eo_latent import LatentModel
from ..models.eo_residual import ResidualModel
from ..models.vocabulary import EUROSAT
from .captions import write_caption
from .classifier import judge, to_unit, train_classifier
from .datasets import Chips, read_eurosat, read_ucmerced
from .metrics import blockiness, frechet, gradient_energy, psnr, ssim

log = logging.getLogger(__name__)

#: Side in pixels of the chips that the classifier knows.
CHIP = 64


def draw_chips(model: LatentModel, prompt: str, count: int, seed: int, sampling: Sampling | None = None) -> Tensor:
    """Chips of a prompt, one network window each: (count, 3, window, window) in 0..1.

    Args:
        model: draws them.
        prompt: what to draw.
        count: how many.
        seed: of the first; the others count on.
        sampling: scheduler, steps and guidance; the card's where it is left out.
    """
    card = model.card
    sampling = sampling or Sampling(seed, card.steps, card.schedulers[0], card.guidance_scale)
    side = card.window * card.gsd[0]
    grid = GeoBox.from_bounds("EPSG:32632", (0.0, 0.0, side, side), card.gsd[0])
    request = Generate(card.id, grid, grid, card.gsd[0], prompt, sampling)
    cond, uncond = model.condition(request), model.unconditioned(request)
    predict = classifier_free(
        lambda x, t: model.predict(x, t, cond), lambda x, t: model.predict(x, t, uncond), sampling.guidance_scale
    )
    window = Window(0, 0, model.window, model.window)
    chips = []
    for start in range(0, count, 16):
        seeds = range(seed + start, seed + min(start + 16, count))

        def draw(stream: int, seeds: range = seeds) -> Tensor:
            return torch.stack([noise.field(s, stream, window, model.channels) for s in seeds]).to(model.device)

        z = sample(predict, model.scheduler(sampling.scheduler), sampling.steps, draw)
        with torch.inference_mode():
            chips.append(model.decode(z).cpu())
    return torch.cat(chips)


def measure_generate(model: LatentModel, data: Path, work: Path, per_class: int = 32) -> tuple[Measure, ...]:
    """Whether chips are recognised as what was asked, how far they are from real ones, and whether a grid shows.

    Args:
        model: of the family ``eo_latent``; a window is cut into chips of 64 pixels.
        data: folder with the archives.
        work: keeps the classifier.
        per_class: chips drawn of each class, two windows to a sentence.
    """
    network = train_classifier(data, work / "classifier.safetensors")
    test, train = read_eurosat(data, "test"), read_eurosat(data, "train")
    real = to_unit(test)
    told, real_features = judge(network, real)
    accuracy = 100 * float((told.numpy() == test.labels).mean())
    rng = np.random.default_rng(11)
    drawn, asked = [], []
    each = (model.card.window // CHIP) ** 2
    for label, name in enumerate(model.vocabulary.classes):
        for part in range(0, per_class, 2 * each):
            caption = write_caption(name, EUROSAT, rng)
            windows = draw_chips(model, caption, 2, 1000 * label + part)
            drawn.append(_cut(windows)[: per_class - part])
            asked += [label] * len(drawn[-1])
        log.info("drew %s", name)
    ours, labels = torch.cat(drawn), np.array(asked)
    seen, features = judge(network, ours)
    hits = seen.numpy() == labels
    by_class = ", ".join(
        f"{name} {100 * hits[labels == k].mean():.0f}" for k, name in enumerate(model.vocabulary.classes)
    )
    floor = frechet(judge(network, _some(train, per_class))[1], real_features)
    on = f"{len(ours)} generated chips, {per_class} a class, cut from whole windows"
    rebuilt = _rebuild(model, real)
    return (
        Measure(
            "recognised as asked", on, round(100 * float(hits.mean()), 1), "%", f"real test chips: {accuracy:.1f} %"
        ),
        Measure("recognised, least of the classes", by_class, round(100 * _least(hits, labels), 1), "%"),
        Measure(
            "Frechet distance in the classifier's features",
            on + " against EuroSAT test (1,373 chips)",
            round(frechet(features, real_features), 3),
            "",
            f"as many train chips: {floor:.3f}",
        ),
        Measure(
            "gradient energy on the borders of 8x8 blocks over that elsewhere",
            on,
            round(blockiness(ours), 3),
            "",
            f"real: {blockiness(real):.3f}; reconstruction: {blockiness(rebuilt):.3f}",
        ),
        Measure(
            "gradient energy",
            on,
            round(1e4 * gradient_energy(ours), 2),
            "1e-4",
            f"real: {1e4 * gradient_energy(real):.2f}; reconstruction: {1e4 * gradient_energy(rebuilt):.2f}",
        ),
        Measure("PSNR of the autoencoder", "EuroSAT test (1,373 chips)", round(psnr(rebuilt, real), 2), "dB"),
    )


def _least(hits: np.ndarray, labels: np.ndarray) -> float:
    return min(float(hits[labels == k].mean()) for k in np.unique(labels))


def _cut(windows: Tensor) -> Tensor:
    """Windows (B, 3, H, W) cut into chips (N, 3, 64, 64)."""
    rows = windows.unfold(2, CHIP, CHIP).unfold(3, CHIP, CHIP)  # (B, 3, rows, columns, 64, 64)
    return rows.permute(0, 2, 3, 1, 4, 5).reshape(-1, windows.shape[1], CHIP, CHIP)


def _some(chips: Chips, per_class: int) -> Tensor:
    """As many chips of each class, drawn evenly: (N, 3, H, W) in 0..1."""
    chosen = [
        np.flatnonzero(chips.labels == k)[:: np.count_nonzero(chips.labels == k) // per_class][:per_class]
        for k in range(len(chips.classes))
    ]
    return to_unit(dataclasses.replace(chips, pixels=chips.pixels[np.concatenate(chosen)]))


@torch.inference_mode()
def _rebuild(model: LatentModel, pixels: Tensor) -> Tensor:
    return torch.cat([model.decode(model.encode(part)) for part in pixels.split(64)])


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
