"""Coarse images out of fine ones, as sensors make them, and the variety of bands that a raster may hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models.enlargement import average


def vary_bands(hr: Tensor, generator: torch.Generator) -> Tensor:
    """Images as if of other bands and other exposures, so that no band means a colour.

    Bands are permuted, some images become grey, each gets a gain, an offset and a gamma.

    Args:
        hr: (B, 3, H, W) in 0..1.
        generator: of all that is drawn.

    Returns:
        Same shape, in 0..1.
    """
    count = len(hr)

    def draw(low: float, high: float, bands: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, bands, 1, 1, generator=generator)

    order = torch.rand(count, 3, generator=generator).argsort(dim=1)
    hr = hr.gather(1, order[:, :, None, None].expand_as(hr))
    grey = draw(0, 1) < 0.15
    hr = torch.where(grey, hr[:, :1].expand_as(hr), hr)
    varied = hr.clamp(1e-4, 1) ** torch.exp(draw(-0.4, 0.4, 3)) * draw(0.5, 1.3, 3) + draw(-0.1, 0.1, 3)
    return torch.where(draw(0, 1) < 0.7, varied.clamp(0, 1), hr)


def degrade(hr: Tensor, factor: int, generator: torch.Generator) -> Tensor:
    """Coarse images: optics (a Gaussian), detector (the mean over a pixel's area), noise, and 8-bit rounding.

    Half of the images get the detector alone, which is what an average over pixels is.

    Args:
        hr: (B, C, H, W) in 0..1.
        factor: fine pixels along a coarse one.
        generator: of all that is drawn.

    Returns:
        (B, C, H / factor, W / factor) in 0..1.
    """
    count = len(hr)
    plain = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    sigma = float(0.15 + 0.3 * torch.rand((), generator=generator)) * factor  # one blur for the batch: one convolution
    lr = torch.where(plain, average(hr, factor), average(_blur(hr, sigma), factor))
    loudness = 0.012 * torch.rand(count, 1, 1, 1, generator=generator) ** 2
    noise = torch.randn(lr.shape, generator=generator) * loudness
    lr = (lr + torch.where(plain, torch.zeros_like(noise), noise)).clamp(0, 1)
    return (lr * 255).round() / 255


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian of ``sigma`` pixels, edges repeated."""
    reach = max(1, int(2.5 * sigma + 0.5))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=x.dtype) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).repeat(x.shape[1], 1, 1, 1)
    padded = nn.functional.pad(x, (reach,) * 4, mode="replicate")
    along = nn.functional.conv2d(padded, kernel, groups=x.shape[1])
    return nn.functional.conv2d(along, kernel.transpose(2, 3), groups=x.shape[1])
