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


def precision_recall(ours: Tensor, truth: Tensor, k: int = 3) -> tuple[float, float]:
    """How many of ours lie among real ones, and how many real ones lie among ours.

    A set's manifold is the union of the balls around its members that reach their k-th nearest neighbour in the set.

    Args:
        ours: features (N, D), N above k.
        truth: features (M, D), M above k.
        k: neighbours.

    Returns:
        Precision, the share of ours in the manifold of truth; and recall, the share of truth in the manifold of ours.

    Source: Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models", eq. 1-3.
    """
    distances = torch.cdist(ours.double(), truth.double())  # (N, M)
    return _covered(distances, _reach(truth, k)), _covered(distances.T, _reach(ours, k))


def _reach(members: Tensor, k: int) -> Tensor:
    """Distance of each member (N, D) to its k-th nearest other one: (N,)."""
    double = members.double()
    return torch.cdist(double, double).kthvalue(k + 1, dim=1).values  # the nearest is itself


def _covered(distances: Tensor, reach: Tensor) -> float:
    """Share of the rows (N, M) that lie within the reach (M,) of any column."""
    return float((distances <= reach * (1 + 1e-9)).any(dim=1).double().mean())


def spectrum_slope(pixels: Tensor) -> float:
    """Exponent b of the power spectrum ~ 1 / f**b that fits images best, from 2 cycles a side to 1 in 2.5 pixels.

    Args:
        pixels: (B, C, H, H); bands are averaged, the mean is taken off, and a Hann window keeps the borders out.

    Source: van der Schaaf & van Hateren 1996, "Modelling the power spectra of natural images".
    """
    side = pixels.shape[-1]
    line = torch.hann_window(side, periodic=True, dtype=torch.float64)
    grey = pixels.double().mean(dim=1)
    grey = (grey - grey.mean(dim=(1, 2), keepdim=True)) * line * line[:, None]
    power = torch.fft.fft2(grey).abs().square().mean(dim=0)
    frequency = torch.fft.fftfreq(side, dtype=torch.float64)
    radius = (frequency.square() + frequency[:, None].square()).sqrt()
    rings = (radius * side).round().long()
    lowest, highest = 2, int(0.4 * side)
    end = highest + 1
    counts = torch.bincount(rings.flatten())[lowest:end]
    sums = torch.bincount(rings.flatten(), power.flatten())[lowest:end]
    x = torch.arange(lowest, highest + 1, dtype=torch.float64).log()
    y = (sums / counts).clamp_min(1e-30).log()
    x = x - x.mean()
    return -float((x * y).sum() / x.square().sum())


def nearest(ours: Tensor, known: Tensor) -> Tensor:
    """Distance of each row of (N, D) to the nearest row of (M, D): (N,)."""
    return torch.cat([torch.cdist(part, known).amin(dim=1) for part in ours.split(256)])


def share_nearer(ours: Tensor, held_out: Tensor, percentile: float = 1.0) -> float:
    """Share of distances (N,) below a percentile of other distances (M,): above percentile / 100 where ours copy.

    Args:
        ours: distances of generated images to the nearest training image.
        held_out: distances of real images that were not trained on.
        percentile: 0 to 100.
    """
    return float((ours < torch.quantile(held_out.double(), percentile / 100)).double().mean())
