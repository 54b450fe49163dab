"""Enlarging and averaging, the two directions between a raster and its finer grid; a pixel is an area in both."""

from __future__ import annotations

from torch import Tensor, nn


def enlarge(lr: Tensor, factor: int) -> Tensor:
    """Bicubic enlargement (Keys 1981, a = -0.5, as GDAL and Pillow have it), pixel edges aligned.

    Args:
        lr: (B, C, h, w) float32.
        factor: integer.

    Returns:
        (B, C, h * factor, w * factor).
    """
    shape = (lr.shape[-2] * factor, lr.shape[-1] * factor)
    # antialias changes nothing when enlarging but the kernel: a = -0.5 instead of torch's -0.75
    return nn.functional.interpolate(lr, size=shape, mode="bicubic", align_corners=False, antialias=True)


def average(hr: Tensor, factor: int) -> Tensor:
    """Mean of each ``factor`` x ``factor`` block: (B, C, H, W) -> (B, C, H / factor, W / factor)."""
    return nn.functional.avg_pool2d(hr, factor)


#: Differences between coarse pixels that rounding to 8 bit and noise make by themselves.
FAINT = 0.004


def contrast(enlarged: Tensor, factor: int) -> Tensor:
    """How much neighbouring coarse pixels differ around each fine one: a guess at how much detail was lost there.

    The root of the mean square difference over two coarse pixels each way, band by band. Measured on UC Merced, NAIP
    and EuroSAT, the deviation of what bicubic enlargement leaves out is proportional to it over a hundredfold range.

    Args:
        enlarged: (B, C, H, W) in 0..1.
        factor: of the enlargement.

    Returns:
        Same shape, at least ``FAINT``.
    """
    beside = nn.functional.pad(enlarged, (0, 1, 0, 1), mode="replicate")
    along, down = beside[..., :-1, 1:] - enlarged, beside[..., 1:, :-1] - enlarged
    energy = (along.square() + down.square()) * (factor**2 / 2)
    for _ in range(2):
        energy = _box(nn.functional.pad(energy, (factor,) * 4, mode="replicate"), 2 * factor + 1)
    return (energy + FAINT**2).sqrt()


def _box(pixels: Tensor, side: int) -> Tensor:
    """Mean of each ``side`` x ``side`` square: (B, C, H, W) -> (B, C, H - side + 1, W - side + 1).

    As ``avg_pool2d`` with a stride of 1, but for rounding. On processors that adds up each square by itself; columns
    first, then rows, is a fraction of the work.
    """
    if pixels.device.type != "cpu":
        return nn.functional.avg_pool2d(pixels, side, 1)
    for axis in (-2, -1):
        length = pixels.shape[axis] - side + 1
        total = pixels.narrow(axis, 0, length).clone()
        for first in range(1, side):
            total += pixels.narrow(axis, first, length)
        pixels = total
    return pixels / side**2


def agree(hr: Tensor, lr: Tensor, factor: int) -> Tensor:
    """The fine image corrected so that it averages back to the coarse one, one step of back-projection.

    Args:
        hr: (B, C, h * factor, w * factor).
        lr: (B, C, h, w).
        factor: between them.

    Source: Irani & Peleg 1991, "Improving resolution by image registration", eq. 3.
    """
    return hr + enlarge(lr - average(hr, factor), factor)
