"""A convolutional autoencoder whose decoding can be cut into tiles exactly."""

from __future__ import annotations

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
    """Pixels to latents of an eighth of the side, and back.

    Convolutions and activations only: no normalisation and no attention, so a latent changes the pixels within
    ``decode_halo`` latents of it and no others. Most of the work is done on the latents' own grid, where it is cheap
    on a CPU; after each enlargement a 3x3 convolution joins the blocks, so that no grid is left in the picture.

    Args:
        in_channels: bands.
        latent_channels: channels of a latent.
        width: channels on the latents' grid.
        blocks: residual blocks on the latents' grid, in the encoder and in the decoder.
        latent_shift: mean of each raw latent channel over the training chips; empty: 0.
        latent_scale: standard deviation of each raw latent channel; empty: 1.
    """

    scale = 8

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 12,
        width: int = 160,
        blocks: int = 3,
        latent_shift: Sequence[float] = (),
        latent_scale: Sequence[float] = (),
    ) -> None:
        super().__init__()
        half, quarter = width // 2, width // 5
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            _conv(in_channels * 16, half),
            _Residual(half),
            nn.PixelUnshuffle(2),
            nn.Conv2d(half * 4, width, 1),
            *[_Residual(width) for _ in range(blocks)],
            nn.Conv2d(width, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            _conv(latent_channels, width),
            *[_Residual(width) for _ in range(blocks)],
            nn.Conv2d(width, half * 4, 1),
            nn.PixelShuffle(2),
            _Residual(half),
            _Residual(half),
            nn.Conv2d(half, quarter * 4, 1),
            nn.PixelShuffle(2),
            _Residual(quarter),
            _conv(quarter, in_channels * 4),
            nn.PixelShuffle(2),
            _conv(in_channels, in_channels),
        )
        self.register_buffer("shift", _per_channel(latent_shift, latent_channels, 0.0), persistent=False)
        self.register_buffer("spread", _per_channel(latent_scale, latent_channels, 1.0), persistent=False)

    @property
    def decode_halo(self) -> int:
        """Latents around a block that its pixels depend on."""
        reach = 1.0 + self.config.blocks + 2 / 2 + 2 / 4 + 1 / 8  # 3x3 convolutions, in latents
        return int(-(-reach // 1))

    def encode_raw(self, pixels: Tensor) -> Tensor:
        """Pixels (B, bands, H, W) in 0..1 -> latents (B, channels, H / 8, W / 8) before standardisation."""
        return self.encoder(pixels * 2 - 1)

    def decode_raw(self, z: Tensor) -> Tensor:
        """Raw latents (B, channels, h, w) -> pixels (B, bands, 8 h, 8 w), about 0..1, not clipped."""
        return self.decoder(z) * 0.5 + 0.5

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, bands, H, W) in 0..1, sides multiples of 8 -> latents of zero mean and unit deviation."""
        return (self.encode_raw(pixels) - self.shift) / self.spread

    def decode(self, z: Tensor) -> Tensor:
        """Standardised latents (B, channels, h, w) -> pixels (B, bands, 8 h, 8 w), about 0..1, not clipped."""
        return self.decode_raw(z * self.spread + self.shift)

    def forward(self, pixels: Tensor) -> Tensor:
        """The reconstruction of pixels (B, bands, H, W) in 0..1."""
        return self.decode(self.encode(pixels))


def _conv(inner: int, outer: int) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, 3, padding=1, padding_mode="replicate")


def _per_channel(values: Sequence[float], channels: int, default: float) -> Tensor:
    filled = list(values) or [default] * channels
    if len(filled) != channels:
        raise ValueError(f"{len(filled)} values for {channels} latent channels")
    return torch.tensor(filled, dtype=torch.float32).view(1, channels, 1, 1)
