"""Pictures to the latents that published networks denoise, and back: a stock ``AutoencoderKL``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ..errors import WeightsDamaged
from .statedict import build, component_tensors, described, fill, new_attention_names
from .weights import read_json


class PictureCodec:
    """An autoencoder with the range of its pictures and the scale of its latents.

    Args:
        network: with ``scaling_factor`` in its configuration.
    """

    def __init__(self, network: AutoencoderKL) -> None:
        self.network = network
        self.scale: int = 2 ** (len(network.config.block_out_channels) - 1)
        self.channels = int(network.config.latent_channels)
        self._factor = float(network.config.scaling_factor)
        self._shift = float(network.config.shift_factor or 0.0)
        means, deviations = network.config.latents_mean, network.config.latents_std
        #: Of each channel (1, channels, 1, 1), where the configuration tells both, as for Playground 2.5.
        self._spread = None if means is None or deviations is None else (self._column(means), self._column(deviations))
        #: Around each call of the network: whoever places it brings it there.
        self.around: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

        self._is_tiled = False

    def _column(self, values: Sequence[float]) -> Tensor:
        """A number for each channel. Raises WeightsDamaged where there are more or fewer."""
        if len(values) != self.channels:
            raise WeightsDamaged(
                f"The autoencoder's configuration has {len(values)} means or deviations of latents for "
                f"{self.channels} channels."
            )
        return torch.tensor([float(value) for value in values]).view(1, -1, 1, 1)

    def use_tiles(self, side: int | None) -> None:
        """Decode in overlapping tiles of so many latents a side from here on, or, with None, the whole picture.

        A tile is normalised by itself, so its colours may differ from those of the whole; overlaps are blended.
        Encoding is never tiled: what a network is shown would change, and everything that it draws.
        """
        self._is_tiled = side is not None
        if side is not None:
            network: Any = self.network
            network.tile_latent_min_size, network.tile_sample_min_size = side, side * self.scale

    @torch.inference_mode()
    def moments(self, pixels: Tensor) -> Tensor:
        """Means and log-variances (B, 2 channels, h, w), unscaled, of pixels (B, 3, H, W) in 0..1."""
        with self.around():
            posterior = self.network.encode(pixels.to(self.network.dtype) * 2 - 1).latent_dist
        return posterior.parameters.float()

    def encode(self, pixels: Tensor, scaled: bool = True) -> Tensor:
        """The mode of the latents (B, channels, h, w) of pixels (B, 3, H, W) in 0..1.

        Args:
            pixels: sides are multiples of ``scale``.
            scaled: whether in the scale that is denoised; InstructPix2Pix takes them as they come.
        """
        mean = self.moments(pixels).chunk(2, dim=1)[0]
        if not scaled:
            return mean
        if self._spread is None:
            return (mean - self._shift) * self._factor
        means, deviations = (each.to(mean.device) for each in self._spread)
        return (mean - means) * self._factor / deviations

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) float32 in 0..1, clipped, of latents (B, channels, h, w) as they are denoised."""
        latents = latents.to(self.network.dtype)
        if self._spread is None:
            unscaled = latents / self._factor + self._shift
        else:
            means, deviations = (each.to(latents) for each in self._spread)
            unscaled = latents * deviations / self._factor + means
        with self.around():
            self.network.use_tiling = self._is_tiled
            try:
                decoded = self.network.decode(unscaled).sample
            finally:
                self.network.use_tiling = False
        return (decoded.float() / 2 + 0.5).clamp(0, 1)


def load_codec(folder: Path) -> PictureCodec:
    """The autoencoder in ``vae/`` of a pipeline folder, in the names of any version of diffusers.

    Raises:
        WeightsMissing: a file is not there.
        WeightsDamaged: the weights are not those of the network that the configuration describes.
    """
    return make_codec(read_json(folder / "vae" / "config.json"), component_tensors(folder / "vae"))


def make_codec(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> PictureCodec:
    """An autoencoder, strictly.

    Raises:
        WeightsDamaged: keys are missing or too many, or shapes differ.
    """
    network = build(AutoencoderKL, config, "autoencoder")
    filled = fill(network, new_attention_names(tensors), "autoencoder")
    with described("autoencoder", "scale of latents"):
        return PictureCodec(filled)
