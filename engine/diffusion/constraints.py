"""What a sample must agree with: the low-resolution image that it refines."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Low-resolution pixels on each side that the correction of one pixel looks at.
REACH = 4
#: Low-resolution pixels around a region that ``match_low_resolution`` needs to be exact inside it.
HALO = REACH + 1


def down(y: Tensor, factor: int) -> Tensor:
    """Block means: (B, C, h * factor, w * factor) -> (B, C, h, w)."""
    return functional.avg_pool2d(y, factor)


def match_low_resolution(y: Tensor, lr: Tensor, valid: Tensor, factor: int) -> Tensor:
    """The sample with its block means corrected to the low-resolution image: ``y + up(lr - down(y))``.

    ``up`` is the smooth enlargement that has the given block means: bilinear, after a sharpening that undoes what
    bilinear enlargement does to them. So the correction leaves no blocks in the picture, and it is linear and local: a
    pixel depends on nothing further away than ``HALO`` low-resolution pixels.

    Args:
        y: (B, C, h * factor, w * factor).
        lr: (B, C, h, w), in the same units.
        valid: (h, w) bool, True where ``lr`` holds data; elsewhere nothing is asked.
        factor: an even number.

    Returns:
        Like ``y``; its block means are ``lr`` to rounding where valid.

    Raises:
        ValueError: for an odd factor.
    """
    if factor % 2:
        raise ValueError("factor must be even")
    error = torch.where(valid, lr - down(y, factor), 0.0)
    smooth = functional.interpolate(_sharpen(error), scale_factor=float(factor), mode="bilinear", align_corners=False)
    y = y + smooth
    # What the cut-off of the sharpening and the borders leave, under a thousandth of the error, goes block by block.
    rest = torch.where(valid, lr - down(y, factor), 0.0)
    return y + enlarge_nearest(rest, factor)


def fit_range(y: Tensor, lr: Tensor, low: Tensor, high: Tensor, factor: int) -> Tensor:
    """The sample inside a range with its block means untouched: contrast is lowered in blocks that reach out of it.

    A block whose mean lies outside the range becomes its mean.

    Args:
        y: (B, C, h * factor, w * factor) with block means ``lr``.
        lr: (B, C, h, w).
        low: least value of each channel, (C, 1, 1).
        high: greatest value of each channel, (C, 1, 1).
        factor: pixels of a block along each axis.
    """
    above = functional.max_pool2d(y, factor) - lr
    below = lr + functional.max_pool2d(-y, factor)
    tiny = torch.finfo(y.dtype).tiny
    share = torch.minimum((high - lr) / above.clamp_min(tiny), (lr - low) / below.clamp_min(tiny)).clamp(0.0, 1.0)
    centre, share = enlarge_nearest(lr, factor), enlarge_nearest(share, factor)
    return torch.where(share < 1.0, centre + share * (y - centre), y)


def enlarge_nearest(lr: Tensor, factor: int) -> Tensor:
    """(..., h, w) -> (..., h * factor, w * factor), each pixel repeated."""
    return lr.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def _sharpen(error: Tensor) -> Tensor:
    """The image whose bilinear enlargement by an even factor has these block means.

    Enlarging bilinearly and taking block means is a convolution with (1/8, 3/4, 1/8) along each axis, for every even
    factor. Its inverse is sqrt(2) (2 sqrt(2) - 3)^|n|, which has fallen below 0.001 after ``REACH`` pixels.
    """
    channels = error.shape[1]
    distance = torch.arange(-REACH, REACH + 1, dtype=error.dtype, device=error.device).abs()
    kernel = 2.0**0.5 * torch.tensor(2.0 * 2.0**0.5 - 3.0, dtype=error.dtype, device=error.device) ** distance
    padded = functional.pad(error, (REACH, REACH, REACH, REACH), mode="constant")
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
