"""Contact sheets: what a model draws beside real imagery, without picking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..models.ddpm import PixelModel
from ..models.enlargement import average
from ..models.eo_latent import LatentModel
from ..models.eo_residual import ResidualModel
from ..models.vocabulary import spelled
from .classifier import to_unit
from .datasets import read_chips, read_ucmerced
from .drawing import draw_windows
from .resolving import SAMPLES, sharpen

#: Largest side in pixels of an image on a sheet; larger ones are averaged down.
SHOWN = 80


def draw_generate_sheet(model: LatentModel, data: Path, path: Path, count: int = 16, beside: int = 8) -> None:
    """One row a class: images of seeds 0 and up, a gap, then the first real ones of the test split.

    Args:
        model: draws them, each by itself and as large as those that it learned from.
        data: folder with the archives.
        path: of the picture.
        count: generated images of each class.
        beside: real ones.
    """
    name = model.vocabulary.data_set
    test = read_chips(name, data, "test")
    size = test.pixels.shape[1]
    shown = min(size, SHOWN)
    gap, rows = torch.ones(3, shown, 8), []
    for label, kind in enumerate(test.classes):
        drawn = draw_windows(model, spelled(kind), count, seed=0, window=size // model.scale)
        real = to_unit(test.take(np.flatnonzero(test.labels == label)[:beside]))
        blank = torch.ones(beside - len(real), *real.shape[1:])
        left, right = (nn.functional.adaptive_avg_pool2d(part, shown) for part in (drawn, torch.cat([real, blank])))
        rows.append(torch.cat([*left, gap, *right], dim=-1))
    _save(torch.cat(rows, dim=-2), path)


def draw_super_resolve_sheet(model: ResidualModel, data: Path, path: Path, factor: int = 4) -> None:
    """Rows of nearest, bicubic, one sample, the mean of eight, and the truth, for images of the UC Merced test split.

    Args:
        model: draws them.
        data: folder with the archives.
        path: of the picture.
        factor: of the refinement.
    """
    hr = to_unit(read_ucmerced(data, "test").every(23))[..., 64:192, 64:192]
    lr = (average(hr, factor) * 255).round() / 255
    drawn = torch.stack([sharpen(model, lr, factor, seed) for seed in range(SAMPLES)])
    nearest = lr.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    columns = (nearest, model.enlarge(lr, factor), drawn[0], drawn.mean(dim=0), hr)
    _save(torch.cat([torch.cat(list(column), dim=-2) for column in columns], dim=-1), path)


def draw_ddpm_sheet(model: PixelModel, data: Path, path: Path, across: int = 4) -> None:
    """A square of chips of seeds 0 and up by the card's own sampler, a gap, then as many real ones of the test split.

    Args:
        model: draws them, each a window by itself.
        data: folder with the archives.
        path: of the picture.
        across: chips along a side.
    """
    count = across**2
    test = read_chips("eurosat", data, "test")
    real = to_unit(test.every(len(test.labels) // count))[:count]
    drawn = draw_windows(model, "", count, seed=0)
    mosaics = [torch.cat([torch.cat([*row], dim=-1) for row in chips.split(across)], dim=-2) for chips in (drawn, real)]
    _save(torch.cat([mosaics[0], torch.ones(3, mosaics[0].shape[-2], 8), mosaics[1]], dim=-1), path)


def _save(pixels: Tensor, path: Path) -> None:
    """Write (3, H, W) in about 0..1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(path, quality=85)
