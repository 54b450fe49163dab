"""The analysis transform of the autoencoder: principal components of the blocks of real images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..models.autoencoder import TileableAutoencoder

#: Blocks that the components are taken from; more change nothing that counts.
BLOCKS = 150_000


def fit_autoencoder(pixels: Tensor, network: Mapping[str, Any], whitening: float, seed: int) -> TileableAutoencoder:
    """An autoencoder with its transform fitted, and a decoder that adds nothing yet.

    Latents are scaled so that a channel of deviation s gets the deviation s**(1 - whitening), all of them together
    with mean square 1. Whitened wholly, a pixel's colour and its finest texture would come out of the noise at the
    same time; not at all, texture would come last, in fewer steps than a fast sampler has.

    Args:
        pixels: (N, bands, H, W) uint8.
        network: configuration of the autoencoder.
        whitening: 0 leaves the components as they are, 1 gives all the same deviation.
        seed: of the decoder's fresh weights.

    Returns:
        The autoencoder in evaluation mode.
    """
    torch.manual_seed(seed)
    autoencoder = TileableAutoencoder(**network)
    mean, basis, deviations = principal_components(pixels, autoencoder.scale, autoencoder.config.latent_channels)
    wanted = deviations ** (1 - whitening)
    wanted = wanted / wanted.square().mean().sqrt()
    scales = [round(float(v), 6) for v in deviations / wanted]
    fitted = TileableAutoencoder(**dict(network) | {"latent_scale": scales})
    fitted.load_state_dict(autoencoder.state_dict())
    bands, side = pixels.shape[1], fitted.scale
    blocks = basis.reshape(-1, bands, side, side)
    with torch.no_grad():
        fitted.analysis.weight.copy_(blocks)
        fitted.analysis.bias.copy_(-(basis @ mean.flatten().repeat_interleave(side * side)))
        fitted.synthesis.weight.copy_(blocks)
        fitted.synthesis.bias.copy_(mean)
    return fitted.eval()


def principal_components(pixels: Tensor, side: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The strongest components of square blocks, about the mean colour.

    Args:
        pixels: (N, bands, H, W) uint8, seen as -1..1.
        side: of a block in pixels.
        count: components to keep.

    Returns:
        The mean (bands,), the components (count, bands * side * side), orthonormal, each with its largest entry above
        zero, and their deviations (count,).
    """
    per_image = (pixels.shape[2] // side) * (pixels.shape[3] // side)
    some = pixels[:: max(1, len(pixels) * per_image // BLOCKS)].float().div(127.5) - 1
    blocks = some.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
    mean = some.mean(dim=(0, 2, 3))
    centred = (blocks - mean.repeat_interleave(side * side)).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    basis = vectors.flip(1).T[:count]
    largest = basis.abs().argmax(dim=1, keepdim=True)
    basis = basis * basis.gather(1, largest).sign()
    return mean, basis.float(), values.flip(0)[:count].clamp_min(1e-12).sqrt().float()
