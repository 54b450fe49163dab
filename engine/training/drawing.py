"""Images drawn by a model to be measured: as many of each class as a real set has."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..context import JobContext
from ..contract import GeoBox, Sampling, Window
from ..diffusion import noise
from ..diffusion.loop import sample
from ..models.base import GenerateModel, Given, Scene
from ..models.eo_latent import LatentModel
from ..tasks.picture import Picture
from .captions import write_caption
from .datasets import Chips

#: Windows that are denoised at once.
BATCH = 32


def draw_windows(
    model: GenerateModel,
    prompt: str,
    count: int,
    seed: int,
    sampling: Sampling | None = None,
    window: int | None = None,
) -> Tensor:
    """Windows of a prompt, each by itself: (count, bands, side, side) in 0..1.

    Args:
        model: draws them.
        prompt: what to draw.
        count: how many.
        seed: of the first; the others count on.
        sampling: scheduler, steps and guidance; the card's where it is left out.
        window: side in latents; the model's own where it is left out.
    """
    card, side = model.card, window or model.window
    sampling = sampling or card_sampling(model)
    told = model.told(Scene(prompt, gsd=card.gsd[0]))
    predict = model.predictor(told, sampling.guidance_scale, Given())
    place = Window(0, 0, side, side)
    drawn = []
    for start in range(0, count, BATCH):
        seeds = range(seed + start, seed + min(start + BATCH, count))

        def draw(stream: int, seeds: range = seeds) -> Tensor:
            return torch.stack([noise.field(s, stream, place, model.channels) for s in seeds]).to(model.device)

        z = sample(predict, model.scheduler(sampling.scheduler), sampling.steps, draw)
        with torch.inference_mode():
            drawn.append(model.decode(z).cpu())
    return torch.cat(drawn)


def card_sampling(model: GenerateModel, steps: int | None = None, guidance_scale: float | None = None) -> Sampling:
    """Sampling as a person gets it who changes nothing, or all but steps and guidance."""
    card = model.card
    guidance = card.guidance_scale if guidance_scale is None else guidance_scale
    return Sampling(0, steps or card.steps, card.schedulers[0], guidance)


def draw_like(
    model: LatentModel, real: Chips, draw: int, sampling: Sampling | None = None, window: int | None = None
) -> Chips:
    """As many generated images of each class as a real set has, of its size, in its order, rounded to 8 bit.

    Args:
        model: knows the classes of the set.
        real: the set.
        draw: number of the draw, from 0; each has seeds and sentences of its own.
        sampling: see ``draw_windows``.
        window: side in latents of the windows, which are cut into images; as large as an image where it is left out.
    """
    size = real.pixels.shape[1]
    window = window or size // model.scale
    rng = np.random.default_rng([11, draw])
    pixels = np.empty_like(real.pixels)
    each = (window * model.scale // size) ** 2
    for label in np.unique(real.labels):
        places = np.flatnonzero(real.labels == label)
        caption = write_caption(real.classes[label], model.vocabulary.synonyms, real.gsd, rng)
        seed = 1_000_000 * (draw + 1) + 10_000 * int(label)
        windows = draw_windows(model, caption, -(-len(places) // each), seed, sampling, window)
        pixels[places] = to_bytes(cut(windows, size)[: len(places)])
    return dataclasses.replace(real, pixels=pixels)


def draw_mosaics_like(model: LatentModel, real: Chips, draw: int) -> Chips:
    """As many generated images of each class as a real set has, cut from one blended mosaic of the class.

    The mosaics are drawn by the very task that people use: windows on a lattice that overlap and are blended, so that
    an image lies across several of them.

    Args:
        model: knows the classes of the set.
        real: the set.
        draw: number of the draw, from 0; each has seeds and sentences of its own.
    """
    size = real.pixels.shape[1]
    rng = np.random.default_rng([13, draw])
    pixels = np.empty_like(real.pixels)
    for label in np.unique(real.labels):
        places = np.flatnonzero(real.labels == label)
        across = math.ceil(math.sqrt(len(places)))
        caption = write_caption(real.classes[label], model.vocabulary.synonyms, real.gsd, rng)
        metres = across * size * real.gsd
        grid = GeoBox.from_bounds("EPSG:32632", (0.0, 0.0, metres, metres), real.gsd)
        sampling = dataclasses.replace(card_sampling(model), seed=2_000_000 * (draw + 1) + int(label))
        with tempfile.TemporaryDirectory() as place:
            ctx = JobContext("mosaic", lambda event: None, threading.Event(), Path(place))
            drawn = Picture(grid, model, sampling, Scene(caption, gsd=real.gsd)).draw(grid.window, 1, ctx)
        images = cut(torch.from_numpy(drawn.pixels)[None], size)[: len(places)]
        pixels[places] = images.permute(0, 2, 3, 1).numpy()
    return dataclasses.replace(real, pixels=pixels)


def cut(windows: Tensor, size: int) -> Tensor:
    """Windows (B, C, H, W) cut into squares (N, C, size, size), window after window."""
    rows = windows.unfold(2, size, size).unfold(3, size, size)  # (B, C, rows, columns, size, size)
    return rows.permute(0, 2, 3, 1, 4, 5).reshape(-1, windows.shape[1], size, size)


def to_bytes(pixels: Tensor) -> np.ndarray:
    """(N, C, H, W) in 0..1 -> (N, H, W, C) uint8."""
    return (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
