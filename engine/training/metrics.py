"""Distances between images and between sets of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def psnr(ours: Tensor, truth: Tensor) -> float:
    """Mean over images (B, C, H, W) in 0..1 of the peak signal to noise ratio, in dB."""
    errors = (ours - truth).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
    return float((-10 * errors.log10()).mean())


def ssim(ours: Tensor, truth: Tensor) -> float:
    """Mean structural similarity of images (B, C, H, W) in 0..1, over bands and pixels.

    Source: Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", eq. 13, with
    its 11x11 Gaussian of 1.5 pixels.
    """
    bands = ours.shape[1]
    line = torch.exp(-0.5 * (torch.arange(-5.0, 6.0) / 1.5) ** 2)
    line = (line / line.sum()).repeat(bands, 1, 1, 1)

    def smooth(x: Tensor) -> Tensor:
        return nn.functional.conv2d(nn.functional.conv2d(x, line, groups=bands), line.mT, groups=bands)

    mean_a, mean_b = smooth(ours), smooth(truth)
    var_a, var_b = smooth(ours**2) - mean_a**2, smooth(truth**2) - mean_b**2
    both = smooth(ours * truth) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(index.mean())


def frechet(ours: Tensor, truth: Tensor) -> float:
    """Squared Frechet distance between Gaussians fitted to features (N, D) and (M, D).

    Source: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", eq. 6.
    """
    a, b = ours.double(), truth.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def gradient_energy(pixels: Tensor) -> float:
    """Mean square of the differences of neighbouring pixels, over images (B, C, H, W)."""
    return float(pixels.diff(dim=-1).square().mean() + pixels.diff(dim=-2).square().mean()) / 2


def blockiness(pixels: Tensor, period: int = 8) -> float:
    """Gradient energy across the borders of ``period``-pixel blocks over that elsewhere; 1 where there is no grid.

    Args:
        pixels: (B, C, H, W), sides multiples of ``period``.
        period: side of a block.
    """
    across, down = pixels.diff(dim=-1).square().mean(dim=(0, 1, 2)), pixels.diff(dim=-2).square().mean(dim=(0, 1, 3))
    energy = (across + down) / 2  # (W - 1,)
    on_border = torch.arange(1, energy.numel() + 1) % period == 0
    return float(energy[on_border].mean() / energy[~on_border].mean())
