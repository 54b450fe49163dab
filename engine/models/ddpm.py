"""Family: imagery without being asked for anything, by diffusion of the pixels themselves.

The model of Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models", small: for teaching, and for checking
that the samplers and the bound do what the paper says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from ..contract import ModelCard
from ..diffusion.guidance import Predict
from ..diffusion.rows import Branch
from ..errors import WeightsDamaged
from .base import Given, Scene
from .schedulers import make_scheduler
from .weights import load_network, read_json

BANDS = 3
#: Pixels along a cell that the network works on. 1 is the paper's own; more is faster and coarser.
FOLDS = (1, 2, 4, 8)
#: The paper's schedule (section 4): betas from 1e-4 to 0.02 in 1000 equal steps, and the noise is what is predicted.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "epsilon",
}
#: A pixel has bounds, and so has an estimate of it: what each kind of scheduler calls clipping to -1..1.
BOUNDED: dict[str, dict[str, Any]] = {
    "DDPM": {"clip_sample": True, "clip_sample_range": 1.0},
    "DDIM": {"clip_sample": True, "clip_sample_range": 1.0},
    "DPM++ 2M": {"thresholding": True, "sample_max_value": 1.0},
}


class PixelModel:
    """A ``GenerateModel`` that uses nothing of a request but its place on the grid and its seed: see ``base``.

    Args:
        card: what it can do; window and stride are read from it.
        network: predicts the noise in folded pixels.
        fold: pixels along a cell of the network.
        schedule: configuration of the scheduler that training used.
        device: where the network goes.
    """

    dtype = torch.float32
    scale = 1
    channels = BANDS
    decode_halo: int | None = 0
    batch = 8

    def __init__(
        self, card: ModelCard, network: UNet2DModel, fold: int, schedule: Mapping[str, Any], device: torch.device
    ) -> None:
        self.card, self.device = card, device
        self.window, self.stride = card.window, card.stride
        self.fold = fold
        self._network, self._schedule = network.to(device), dict(schedule)

    def scheduler(self, name: str) -> Any:
        """See ``GenerateModel``."""
        scheduler = make_scheduler(name, self.card.schedulers, self._schedule)
        return type(scheduler).from_config(scheduler.config, **BOUNDED[name])

    def told(self, scene: Scene) -> None:
        """Nothing: it is told nothing."""

    def remarks(self, scene: Scene) -> tuple[str, ...]:
        """Nothing, too."""
        return ()

    def predictor(self, told: None, guidance_scale: float, given: Given) -> Predict:
        """See ``GenerateModel``; there is nothing to be guided by."""
        return self.predict

    def branches(self, told: None, guidance_scale: float, given: Given) -> list[Branch]:
        """See ``GenerateModel``."""
        return [Branch(1.0, {})]

    def guides(self, t: Tensor) -> bool:
        """See ``GenerateModel``: everywhere."""
        return True

    def rows(self, branches: int) -> int:
        """See ``GenerateModel``."""
        return self.batch

    def answer(self, x: Tensor, t: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        """See ``GenerateModel``."""
        return self.predict(x, t)

    def predict(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise in x; ``t`` may be (B,) as well."""
        return predict_noise(self._network, x, t, self.fold)

    def decode(self, z: Tensor) -> Tensor:
        """See ``GenerateModel``: from -1..1 to 0..1."""
        return to_unit(z).clamp(0, 1)


def predict_noise(network: nn.Module, x: Tensor, t: Tensor, fold: int) -> Tensor:
    """The noise in noisy pixels.

    Args:
        network: of the family.
        x: (B, 3, H, W), sides multiples of ``fold`` times the network's own reduction.
        t: scalar, or (B,).
        fold: pixels along a cell of the network.

    Returns:
        Like ``x``.
    """
    folded = nn.functional.pixel_unshuffle(x, fold)
    return nn.functional.pixel_shuffle(network(folded, t, return_dict=False)[0], fold)


def to_signed(pixels: Tensor) -> Tensor:
    """0..1 -> -1..1 (Ho et al. 2020, section 3.3)."""
    return pixels * 2 - 1


def to_unit(x: Tensor) -> Tensor:
    """The inverse of ``to_signed``."""
    return (x + 1) / 2


def make_network(fold: int, size: int, settings: Mapping[str, Any]) -> UNet2DModel:
    """A network with fresh weights.

    Args:
        fold: pixels along a cell.
        size: side of a chip in pixels.
        settings: of ``UNet2DModel``; what fold and size decide is left out.
    """
    channels = BANDS * fold**2
    return UNet2DModel(sample_size=size // fold, in_channels=channels, out_channels=channels, **settings)


def load_model(card: ModelCard, folder: Path, device: torch.device) -> PixelModel:
    """The model in a folder, its weights checked.

    Raises:
        WeightsMissing: a file is not there.
        WeightsDamaged: a file is not the one that the card names, or the settings lack the fold.
    """
    fold = read_json(folder / "model_index.json").get("fold")
    if fold not in FOLDS:
        raise WeightsDamaged("The model's settings lack fold.")
    network = load_network(UNet2DModel, folder, "unet", card.weights)
    if network.config.in_channels != BANDS * fold**2:
        raise WeightsDamaged("The model's network does not fit its fold.")
    return PixelModel(card, network, fold, read_json(folder / "scheduler" / "scheduler_config.json"), device)


def make_tiny(card: ModelCard, device: torch.device) -> PixelModel:
    """The same classes at a tiny size with seeded random weights, for tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = {
            "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D"),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "add_attention": False,
        }
        network = make_network(4, card.window, settings)
    return PixelModel(card, network.eval().requires_grad_(False), 4, SCHEDULE, device)
