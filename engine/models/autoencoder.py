"""A transform code of image blocks and a convolutional decoder, whose decoding can be cut into tiles exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class _Residual(nn.Module):
    """``x + 1x1(SiLU(3x3(SiLU(x))))``: reaches one cell in each direction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(nn.functional.silu(self.spread(nn.functional.silu(x))))


class TileableAutoencoder(ModelMixin, ConfigMixin):
    """Blocks of pixels to latents by a linear transform, and back by its inverse and a network that adds what is lost.

    The analysis transform is the leading principal components of the blocks of real images (transform coding: Goyal
    2001, "Theoretical Foundations of Transform Coding"), so a latent depends on its own block alone. The decoder adds
    convolutions and activations only, no normalisation and no attention: a latent changes the pixels within
    ``decode_halo`` latents of it and no others. Most of its work is done on the latents' own grid, where it is cheap
    on a CPU; after each enlargement a 3x3 convolution joins the blocks, so that no grid is left in the picture.

    Args:
        in_channels: bands.
        latent_channels: channels of a latent.
        scale: side of a block in pixels, a power of two from 4.
        width: channels of the decoder on the latents' grid, halved with each enlargement.
        blocks: residual blocks on the latents' grid.
        latent_scale: number that each raw latent channel is divided by; empty: 1.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 32,
        scale: int = 8,
        width: int = 144,
        blocks: int = 3,
        latent_scale: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if scale < 4 or scale & (scale - 1):
            raise ValueError("scale must be a power of two from 4")
        self.scale = scale
        self.analysis = nn.Conv2d(in_channels, latent_channels, scale, stride=scale)
        self.synthesis = nn.ConvTranspose2d(latent_channels, in_channels, scale, stride=scale)
        layers: list[nn.Module] = [_conv(latent_channels, width), *[_Residual(width) for _ in range(blocks)]]
        for stage in range(1, self._enlargements):
            before, after = width >> (stage - 1), width >> stage
            layers += [nn.Conv2d(before, after * 4, 1), nn.PixelShuffle(2), _Residual(after)]
            layers += [_Residual(after)] * (stage == 1)
        last = _conv(in_channels, in_channels)
        self.detail = nn.Sequential(*layers, _conv(after, in_channels * 4), nn.PixelShuffle(2), last)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)  # training starts from the transform alone
        self.register_buffer("spread", _per_channel(latent_scale, latent_channels), persistent=False)

    @property
    def _enlargements(self) -> int:
        return int(math.log2(self.scale))

    @property
    def decode_halo(self) -> int:
        """Latents around a block that its pixels depend on."""
        stages = range(1, self._enlargements)
        reach = 1.0 + self.config.blocks + 1 / 2 + sum(0.5**stage for stage in stages)  # 3x3 convolutions, in latents
        return math.ceil(reach + 2 / self.scale + 1 / self.scale)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, bands, H, W) in 0..1, sides multiples of ``scale`` -> latents (B, channels, h, w)."""
        return self.analysis(pixels * 2 - 1) / self.spread

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, channels, h, w) -> pixels (B, bands, scale * h, scale * w), about 0..1, not clipped."""
        raw = z * self.spread
        return (self.synthesis(raw) + self.detail(z)) * 0.5 + 0.5

    def forward(self, pixels: Tensor) -> Tensor:
        """The reconstruction of pixels (B, bands, H, W) in 0..1."""
        return self.decode(self.encode(pixels))


def _conv(inner: int, outer: int) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, 3, padding=1, padding_mode="replicate")


def _per_channel(values: Sequence[float], channels: int) -> Tensor:
    filled = list(values) or [1.0] * channels
    if len(filled) != channels:
        raise ValueError(f"{len(filled)} values for {channels} latent channels")
    return torch.tensor(filled, dtype=torch.float32).view(1, channels, 1, 1)
