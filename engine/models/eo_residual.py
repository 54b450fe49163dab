"""Family: the detail between a raster and its bicubic enlargement, by diffusion of the difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from ..backends.network import Network, Networks
from ..contract import ModelCard
from ..diffusion.loop import sample
from ..errors import WeightsDamaged
from .enlargement import contrast, enlarge
from .schedulers import SCHEDULE, make_scheduler
from .weights import load_network, read_json

#: Output pixels along a cell that the network works on.
FOLD = 4
#: How much the detail of a cell is amplified beside its mean, over the contrast around it.
DETAIL = 0.8
#: Cells on each side that the mean of a cell is compared with.
NEAR = 2
#: Steps of the run that a backend is checked with.
CHECKED_STEPS = 3


class ResidualModel:
    """A ``SuperResolveModel``: see ``base`` for what its attributes and methods are.

    Args:
        card: what it can do; window, stride and factors are read from it.
        network: predicts velocities of folded residuals and the logarithms of their errors' variances, given the folded
            enlargement and the factor's position.
        residual_scales: what residuals are divided by, over the contrast around them, for each factor of the card.
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
        residual_scales: Sequence[float],
        schedule: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.card, self.device = card, device
        self.window, self.stride = card.window, card.stride
        self._scales = dict(zip(card.factors, residual_scales))
        self._network, self._schedule = network.to(device), dict(schedule)
        self._last: tuple[Tensor, int, Tensor] | None = None
        self.networks = Networks({"denoiser": Network(_Labelled(self._network))})

    def scheduler(self, name: str) -> Any:
        """See ``SuperResolveModel``."""
        return make_scheduler(name, self.card.schedulers, self._schedule)

    def enlarge(self, lr: Tensor, factor: int) -> Tensor:
        """See ``SuperResolveModel``."""
        return enlarge(lr, factor)

    def scale(self, enlarged: Tensor, factor: int) -> Tensor:
        """See ``SuperResolveModel``."""
        return contrast(enlarged, factor) * self._scales[factor]

    def predict(self, x: Tensor, t: Tensor, enlarged: Tensor, factor: int) -> Tensor:
        """See ``SuperResolveModel``."""
        labels = torch.full((len(x),), self.card.factors.index(factor), device=self.device)
        output = self.networks.denoiser(torch.cat([fold(x), self._told(enlarged, factor)], dim=1), t, labels)
        return torch.cat([unfold(part) for part in output.chunk(2, dim=1)], dim=1)

    def _told(self, enlarged: Tensor, factor: int) -> Tensor:
        """What the network is told of an enlargement; the last is remembered, since all steps of a sampler share it."""
        last = self._last
        if last is None or last[0] is not enlarged or last[1] != factor:
            last = self._last = (enlarged, factor, analyse(enlarged, contrast(enlarged, factor)))
        return last[2]

    def example(self, side: int | None = None) -> tuple[Tensor, ...]:
        """See ``Backed``."""
        enlarged, factor = self._landscape(side)
        labels = torch.zeros(self.batch, dtype=torch.long, device=self.device)
        middle = torch.tensor(int(self._schedule["num_train_timesteps"]) // 2, device=self.device)
        return torch.cat([fold(self._seeded(0, side)), self._told(enlarged, factor)], dim=1), middle, labels

    @torch.inference_mode()
    def picture(self, side: int | None = None) -> Tensor:
        """See ``Backed``."""
        enlarged, factor = self._landscape(side)
        scheduler = self.scheduler(self.card.schedulers[0])
        drawn = sample(
            lambda x, t: self.predict(x, t, enlarged, factor),
            scheduler,
            CHECKED_STEPS,
            lambda stream: self._seeded(stream, side),
        )
        return enlarged + drawn * self.scale(enlarged, factor)

    def prepare(self) -> None:
        """See ``Backed``."""
        for side in sorted({side for side, _ in self.card.windows}):
            self.networks.denoiser.prepare(*self.example(side))

    def _landscape(self, side: int | None) -> tuple[Tensor, int]:
        """A batch of enlarged rasters with as strong contrasts as there are, and the factor."""
        factor, pixels = self.card.factors[0], side or self.window
        shape = (self.batch, self.bands, pixels // factor, pixels // factor)
        lr = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        return enlarge(lr, factor).clamp(0, 1), factor

    def _seeded(self, stream: int, side: int | None) -> Tensor:
        """Noise for a batch of windows of so many pixels a side; None for the card's ``window``."""
        pixels = side or self.window
        shape = (self.batch, self.bands, pixels, pixels)
        return torch.randn(shape, generator=torch.Generator().manual_seed(stream)).to(self.device)


class _Labelled(nn.Module):
    """The network, with labels as its third input."""

    def __init__(self, network: UNet2DModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return self.network(x, t, class_labels=labels, return_dict=False)[0]


def predict_folded(
    network: nn.Module, x: Tensor, t: Tensor, enlarged: Tensor, around: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """The velocity of folded noisy residuals, and the logarithm of the variance of its error.

    Args:
        network: of the family.
        x: (B, 48, h, w).
        t: scalar, or (B,).
        enlarged: (B, 3, 4 h, 4 w) in 0..1.
        around: (B, 3, 4 h, 4 w), the contrast around each pixel, of ``contrast``.
        labels: (B,) positions of the factors among the model's.

    Returns:
        (B, 48, h, w) each.
    """
    told = analyse(enlarged, around)
    output: Tensor = network(torch.cat([x, told], dim=1), t, class_labels=labels, return_dict=False)[0]
    velocity, log_variance = output.chunk(2, dim=1)
    return velocity, log_variance


def analyse(enlarged: Tensor, around: Tensor) -> Tensor:
    """The enlargement as the network is told it: for each folded cell its mean and its detail, over the contrast there.

    Folded pixels differ by a few hundredths, which a network hardly sees beside their mean; the cosine transform of a
    cell sets them apart. Over the contrast, a field and a city look alike, and so do the two factors. The mean is told
    as its difference from the cells about it: neither exposure nor offset matters to what detail is missing.

    Args:
        enlarged: (B, C, H, W) in 0..1.
        around: same shape, of ``contrast``.

    Returns:
        (B, 16 C, H / 4, W / 4): for each band the mean, then 15 coefficients.
    """
    place = torch.arange(FOLD, device=enlarged.device, dtype=enlarged.dtype)
    waves = torch.cos(math.pi / FOLD * (place + 0.5) * place[:, None]) * math.sqrt(2 / FOLD)
    waves[0] /= math.sqrt(2)
    basis = torch.kron(waves, waves)  # (16 coefficients, 16 pixels), Ahmed et al. 1974
    basis[0] = 1 / FOLD**2
    cells = fold(enlarged).unflatten(1, (enlarged.shape[1], FOLD**2))
    told = torch.einsum("kp,bcphw->bckhw", basis, cells)
    beside = nn.functional.pad(told[:, :, 0], (NEAR,) * 4, mode="replicate")
    told[:, :, 0] -= nn.functional.avg_pool2d(beside, 2 * NEAR + 1, 1)
    told *= DETAIL / nn.functional.avg_pool2d(around, FOLD)[:, :, None]
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
        WeightsDamaged: a file is not the one that the card names, or the settings lack the scales.
    """
    settings = read_json(folder / "model_index.json")
    scales = settings.get("residual_scales")
    if not isinstance(scales, list) or len(scales) != len(card.factors) or not all(scale > 0 for scale in scales):
        raise WeightsDamaged("The model's settings lack residual_scales.")
    network = load_network(UNet2DModel, folder, "unet", card.weights)
    if network.config.out_channels != network.config.in_channels:
        raise WeightsDamaged("The model's network does not tell how sure it is.")
    schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    return ResidualModel(card, network, scales, schedule, device)


def make_tiny(card: ModelCard, device: torch.device) -> ResidualModel:
    """The same classes at a tiny size with seeded random weights, for tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=16,
            in_channels=96,
            out_channels=96,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            add_attention=False,
            num_class_embeds=len(card.factors),
        )
    return ResidualModel(card, network.eval().requires_grad_(False), [1.0] * len(card.factors), SCHEDULE, device)
