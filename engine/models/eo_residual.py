"""Family: the detail between a raster and its bicubic enlargement, by diffusion of the difference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from ..contract import ModelCard
from ..errors import WeightsDamaged
from .enlargement import enlarge
from .schedulers import SCHEDULE, make_scheduler
from .weights import load_network, read_json

#: Output pixels along a cell that the network works on.
FOLD = 4
#: How much detail is amplified beside the mean.
DETAIL = 12.0


class ResidualModel:
    """A ``SuperResolveModel``: see ``base`` for what its attributes and methods are.

    Args:
        card: what it can do; window, stride and factors are read from it.
        network: predicts velocities of folded residuals, given the folded enlargement and the factor's position.
        residual_scale: what residuals are divided by.
        schedule: configuration of the scheduler that training used.
        device: where the network goes.
    """

    dtype = torch.float32
    bands = 3
    multiple = FOLD
    batch = 8

    def __init__(
        self,
        card: ModelCard,
        network: UNet2DModel,
        residual_scale: float,
        schedule: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.card, self.device = card, device
        self.window, self.stride = card.window, card.stride
        self.residual_scale = residual_scale
        self._network, self._schedule = network.to(device), dict(schedule)

    def scheduler(self, name: str) -> Any:
        """See ``SuperResolveModel``."""
        return make_scheduler(name, self.card.schedulers, self._schedule)

    def enlarge(self, lr: Tensor, factor: int) -> Tensor:
        """See ``SuperResolveModel``."""
        return enlarge(lr, factor)

    def predict(self, x: Tensor, t: Tensor, enlarged: Tensor, factor: int) -> Tensor:
        """See ``SuperResolveModel``."""
        labels = torch.full((len(x),), self.card.factors.index(factor), device=self.device)
        return unfold(predict_folded(self._network, fold(x), t, enlarged, labels))


def predict_folded(network: nn.Module, x: Tensor, t: Tensor, enlarged: Tensor, labels: Tensor) -> Tensor:
    """The velocity of folded noisy residuals.

    Args:
        network: of the family.
        x: (B, 48, h, w).
        t: scalar, or (B,).
        enlarged: (B, 3, 4 h, 4 w) in 0..1.
        labels: (B,) positions of the factors among the model's.

    Returns:
        (B, 48, h, w).
    """
    told = analyse(enlarged)
    return network(torch.cat([x, told], dim=1), t, class_labels=labels, return_dict=False)[0]


def analyse(enlarged: Tensor) -> Tensor:
    """The enlargement as the network is told it: for each folded cell its mean and its detail, at like sizes.

    Folded pixels differ by a few hundredths, which a network hardly sees beside their mean; the cosine transform of a
    cell sets them apart, and the detail is amplified. Nothing is lost: the transform is invertible.

    Args:
        enlarged: (B, C, H, W) in 0..1.

    Returns:
        (B, 16 C, H / 4, W / 4): for each band 2 mean - 1, then 15 coefficients.
    """
    place = torch.arange(FOLD, device=enlarged.device, dtype=enlarged.dtype)
    waves = torch.cos(math.pi / FOLD * (place + 0.5) * place[:, None]) * math.sqrt(2 / FOLD)
    waves[0] /= math.sqrt(2)
    basis = torch.kron(waves, waves) * DETAIL  # (16 coefficients, 16 pixels), Ahmed et al. 1974
    basis[0] = 2 / FOLD**2
    cells = fold(enlarged).unflatten(1, (enlarged.shape[1], FOLD**2))
    told = torch.einsum("kp,bcphw->bckhw", basis, cells)
    told[:, :, 0] -= 1
    return told.flatten(1, 2)


def fold(pixels: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 16 C, H / 4, W / 4)."""
    return nn.functional.pixel_unshuffle(pixels, FOLD)


def unfold(folded: Tensor) -> Tensor:
    """(B, 16 C, h, w) -> (B, C, 4 h, 4 w)."""
    return nn.functional.pixel_shuffle(folded, FOLD)


def load_model(card: ModelCard, folder: Path, device: torch.device) -> ResidualModel:
    """The model in a folder, its weights checked.

    Raises:
        WeightsMissing: a file is not there.
        WeightsDamaged: a file is not the one that the card names, or the settings lack the scale.
    """
    scale = read_json(folder / "model_index.json").get("residual_scale")
    if not isinstance(scale, float) or scale <= 0:
        raise WeightsDamaged("The model's settings lack residual_scale.")
    network = load_network(UNet2DModel, folder, "unet", card.weights)
    return ResidualModel(card, network, scale, read_json(folder / "scheduler" / "scheduler_config.json"), device)


def make_tiny(card: ModelCard, device: torch.device) -> ResidualModel:
    """The same classes at a tiny size with seeded random weights, for tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=16,
            in_channels=96,
            out_channels=48,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            add_attention=False,
            num_class_embeds=len(card.factors),
        )
    return ResidualModel(card, network.eval().requires_grad_(False), 0.05, SCHEDULE, device)
