"""What a sample must agree with: the low-resolution image that it refines, or the known pixels around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .guidance import Predict
from .stochastic import PREDICTIONS

#: Low-resolution pixels on each side that the correction of one pixel looks at.
REACH = 4
#: Low-resolution pixels around a region that ``match_low_resolution`` needs to be exact inside it.
HALO = REACH + 1

#: Pixels within which a drawn pixel is moved towards its known neighbours.
JOIN_REACH = 12
#: Distance in pixels over which that movement has fallen to 1/e.
JOIN_FADE = 3.0
#: Distance in pixels at which nothing is left of what ``dissolve`` mirrors; it looks at most ``JOIN_REACH`` far for it.
DISSOLVE = 6


def with_known(predict: Predict, scheduler: Any, hold: Callable[[Tensor], Tensor]) -> Predict:
    """The prediction whose estimate of the clean sample agrees with what is known, at each step.

    The solver then takes the known part from noise to what it is along the line through both, so at each level it is
    the source under the very noise that the sample started from, and the network sees what it must join.

    Args:
        predict: the network with its condition and guidance.
        scheduler: the diffusers scheduler that the sample is drawn with; its levels and its prediction type are used.
        hold: estimate of the clean sample (B, C, h, w) -> the same with its known part as it is known.

    Raises:
        ValueError: for a prediction type that has no such estimate.

    Source: Wang et al. 2023, "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model", eq. 13; for
        whole known latents and a deterministic solver that is the replacement of Song et al. 2021, "Score-Based
        Generative Modeling through SDEs", appendix I.2, with the noise of the start.
    """
    kind = scheduler.config.prediction_type
    if kind not in PREDICTIONS:
        raise ValueError(f"prediction type {kind} is not supported")

    def held(x: Tensor, t: Tensor) -> Tensor:
        output = predict(x, t)
        alpha_bar = _alpha_bar(scheduler.alphas_cumprod, float(t)).to(x.device)
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        if kind == "v_prediction":  # v = alpha * noise - sigma * clean: Salimans & Ho 2022, section 4
            return (alpha * x - hold(alpha * x - sigma * output)) / sigma
        if kind == "epsilon":
            return (x - alpha * hold((x - sigma * output) / alpha)) / sigma
        return hold(output)

    return held


def _alpha_bar(levels: Tensor, t: float) -> Tensor:
    """Share of the signal at a timestep; between two of those of training as Euler's method in diffusers has it."""
    below = int(t)
    if t == below:
        return levels[below]
    pair = levels[[below, below + 1]]
    noise = ((1 - pair) / pair).sqrt()
    return 1 / (1 + torch.lerp(noise[0], noise[1], t - below) ** 2)


def join(y: Tensor, source: Tensor, known: Tensor) -> Tensor:
    """The drawn picture whose colours, but not its texture, begin at the border as the known pixels end there.

    A drawn pixel is moved by the difference of two local means, of the known pixels around it and of the drawn ones,
    both weighted by inverse distances (Shepard 1968, "A two-dimensional interpolation function for irregularly-spaced
    data", power 4); the movement fades with the distance to what is known. So coarse differences are spread over some
    pixels while fine ones stay, as in Burt & Adelson 1983, "A Multiresolution Spline With Application to Image
    Mosaics", with two bands. A pixel depends on nothing further away than ``JOIN_REACH``.

    Args:
        y: drawn picture (B, C, h, w).
        source: the picture to join, like ``y``; it counts where known.
        known: (B, 1, h, w) bool.

    Returns:
        Like ``y``; known pixels are those of ``source``.
    """
    channels = y.shape[1]
    place = torch.arange(-JOIN_REACH, JOIN_REACH + 1, dtype=y.dtype, device=y.device)
    distance = torch.hypot(place[:, None], place[None, :])
    mild, sharp = (torch.where(distance <= JOIN_REACH, distance.clamp_min(1.0) ** -power, 0.0) for power in (4, 8))
    share = known.to(y.dtype)
    parts = torch.cat([torch.where(known, source, 0.0), share, torch.where(known, 0.0, y), 1 - share, share], dim=1)
    kernels = torch.cat([mild.expand(2 * channels + 2, 1, -1, -1), sharp.expand(1, 1, -1, -1)])
    sums = functional.conv2d(parts, kernels, padding=JOIN_REACH, groups=parts.shape[1])
    of_known, around, of_drawn, drawn, near = sums.split([channels, 1, channels, 1, 1], dim=1)
    tiny = torch.finfo(y.dtype).tiny
    moved = of_known / around.clamp_min(tiny) - of_drawn / drawn.clamp_min(tiny)
    # The least of many distances, smooth: the sum of a high negative power is that of the nearest.
    nearest = near.clamp_min(tiny) ** (-1 / 8)
    fade = torch.where(nearest <= JOIN_REACH, torch.exp((1.0 - nearest) / JOIN_FADE), 0.0)
    return torch.where(known, source, y + moved * fade)


def dissolve(y: Tensor, source: Tensor, known: Tensor) -> Tensor:
    """The drawn picture into which the known pixels go on, mirrored at the border, and fade within a few pixels.

    ``join`` fits colours; here the texture of both sides meets, too, so that neither the border nor the pixels behind
    it are a line. At the border there is hardly more than the known picture, at ``DISSOLVE`` pixels nothing of it: a
    cross-dissolve, as of overlapping pictures, where mirroring makes the overlap. The mirror image of a pixel lies as
    far beyond the border as the pixel lies before it, in the direction of the nearest known pixel; where nothing is
    known there, that pixel itself counts. Narrow parts, in which no pixel lies that deep, have a narrower rim, so that
    something of them is left. A pixel depends on nothing further away than ``JOIN_REACH``.

    Args:
        y: drawn picture (B, C, h, w).
        source: the picture that goes on, like ``y``; it counts where known.
        known: (B, 1, h, w) bool.

    Returns:
        Like ``y``; known pixels are those of ``source``.
    """
    offsets = [
        (math.hypot(row, col), row, col)
        for row in range(1 - DISSOLVE, DISSOLVE)
        for col in range(1 - DISSOLVE, DISSOLVE)
        if 0 < math.hypot(row, col) < DISSOLVE
    ]
    offsets.sort(reverse=True)  # the nearest comes last and stays
    mirrored = [(round(row * (2 - 1 / far)), round(col * (2 - 1 / far))) for far, row, col in offsets]
    height, width = known.shape[-2:]
    padded = functional.pad(known, (JOIN_REACH,) * 4)  # beyond the picture nothing is known

    def moved(row: int, col: int) -> Tensor:
        """Whether the pixel (row, col) further on is known."""
        rows, cols = slice(JOIN_REACH + row, None), slice(JOIN_REACH + col, None)
        return padded[..., rows, cols][..., :height, :width]

    depth = torch.where(known, 0.0, torch.full_like(known, DISSOLVE, dtype=y.dtype))
    place = torch.arange(height * width, device=y.device).view(height, width).expand(known.shape).clone()
    here = place.clone()
    for (far, *nearest), mirror in zip(offsets, mirrored):
        is_near = moved(*nearest) & ~known
        depth[is_near] = far
        for is_there, (row, col) in ((is_near, nearest), (is_near & moved(*mirror), mirror)):
            place[is_there] = here[is_there] + row * width + col
    deepest = functional.max_pool2d(depth, 2 * DISSOLVE - 1, stride=1, padding=DISSOLVE - 1)
    share = (1 - depth * DISSOLVE / deepest.square().clamp_min(1.0)).clamp_min(0.0)
    seen = source.flatten(2).gather(2, place.flatten(2).expand(-1, source.shape[1], -1)).view(source.shape)
    return torch.where(known, source, y + share * (seen - y))


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
    return _by_block(y, factor).add(rest[..., :, None, :, None]).reshape(y.shape)


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
    blocks = _by_block(y, factor)
    above = blocks.amax(-1).amax(-2) - lr  # one axis after the other: a tenth of the time of both, or of max_pool2d
    below = lr - blocks.amin(-1).amin(-2)
    tiny = torch.finfo(y.dtype).tiny
    share = torch.minimum((high - lr) / above.clamp_min(tiny), (lr - low) / below.clamp_min(tiny)).clamp(0.0, 1.0)
    if not (share < 1.0).any():
        return y
    centre, share = lr[..., :, None, :, None], share[..., :, None, :, None]
    return torch.where(share < 1.0, centre + share * (blocks - centre), blocks).reshape(y.shape)


def _by_block(y: Tensor, factor: int) -> Tensor:
    """(..., h * factor, w * factor) -> (..., h, factor, w, factor), the same pixels."""
    return y.unflatten(-1, (-1, factor)).unflatten(-3, (-1, factor))


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
