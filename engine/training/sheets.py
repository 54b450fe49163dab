"""Contact sheets: what a model draws beside real imagery, without picking."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..models.enlargement import average
from ..models.eo_latent import LatentModel
from ..models.eo_residual import ResidualModel
from ..models.vocabulary import spelled
from .classifier import to_unit
from .datasets import read_eurosat, read_ucmerced
from .measuring import CHIP, draw_chips, sharpen


def draw_generate_sheet(model: LatentModel, data: Path, path: Path, count: int = 6) -> None:
    """One row a class: windows of seeds 0 and up, then real chips of the test split in the same space.

    Args:
        model: draws them.
        data: folder with the archives.
        path: of the picture.
        count: windows of each class.
    """
    test = read_eurosat(data, "test")
    real, across = to_unit(test), model.card.window // CHIP
    rows = []
    for label, name in enumerate(model.vocabulary.classes):
        drawn = draw_chips(model, spelled(name), count, seed=0)
        chips = real[torch.from_numpy(test.labels == label)][: 2 * across * across]
        blocks = [_mosaic(part, across) for part in chips.split(across * across)]
        rows.append(torch.cat([*drawn, *blocks], dim=-1))
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
    drawn = torch.stack([sharpen(model, lr, factor, seed) for seed in range(8)])
    nearest = lr.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    columns = (nearest, model.enlarge(lr, factor), drawn[0], drawn.mean(dim=0), hr)
    _save(torch.cat([torch.cat(list(column), dim=-2) for column in columns], dim=-1), path)


def _mosaic(chips: Tensor, across: int) -> Tensor:
    """(across * across, C, h, w) -> (C, across * h, across * w)."""
    return torch.cat([torch.cat(list(row), dim=-1) for row in chips.split(across)], dim=-2)


def _save(pixels: Tensor, path: Path) -> None:
    """Write (3, H, W) in about 0..1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(path, quality=88)
