"""Samples that balance each other, so that the mean of a few is close to the mean of all; and that mean by itself.

The samples of neighbouring seeds start from opposite noise, and each seed shows the network another of the eight
orientations of the picture. Every sample by itself is drawn as before: opposite noise is as normal, and imagery from
above has no upright. What a sample adds to the mean, its neighbour takes away again.

Source: Hammersley & Morton 1956, "A new Monte Carlo technique: antithetic variates"; Timofte et al. 2016, "Seven ways
to improve example-based single image super resolution", section 3.5 (self-ensemble).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..contract import Window
from . import noise

#: Flips and quarter turns of a square.
WAYS = 8


def paired_field(seed: int, stream: int, window: Window, channels: int, first_channel: int = 0) -> Tensor:
    """Noise as of ``noise.field``, of which seeds 2 n and 2 n + 1 have the same with opposite signs."""
    drawn = noise.field(seed // 2, stream, window, channels, first_channel)
    return -drawn if seed % 2 else drawn


def in_turn(
    predict: Callable[[Tensor, Tensor, Tensor], Tensor], seeds: Sequence[int]
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A prediction that sees each picture of a batch turned or mirrored as its seed says, and is turned back.

    Args:
        predict: (x, t, condition) -> output, all but t (B, C, side, side).
        seeds: of the pictures of a batch.
    """
    ways = [seed % WAYS for seed in seeds]
    kept: list[tuple[Tensor, Tensor]] = []  # the last condition and what became of it: a sampler's steps share one

    def turned(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        if not kept or kept[0][0] is not condition:
            kept[:] = [(condition, _each(turn, condition, ways))]
        output = predict(_each(turn, x, ways), t, kept[0][1])
        return _each(turn_back, output, ways)

    return turned


def over_ways(estimate: Callable[[int], Tensor]) -> Tensor:
    """The mean of what is estimated in each of the eight orientations, from noise that balances.

    Where the noisiest level holds no signal, one call of the network there gives the expectation of all samples, and
    nothing that a sample would add at random. It is not quite the same for each orientation and each noise, and what
    differs is error: the mean over them is closer to that expectation than each.

    Args:
        estimate: seed, of ``in_turn`` and ``paired_field``, below ``WAYS`` -> estimate of the clean sample. It is asked
            for each seed once, in their order.

    Returns:
        Like each of them, in the same order of additions for the same last bit.

    Source: Blackwell 1947, "Conditional Expectation and Unbiased Sequential Estimation", for the mean of expectations
        in place of that of samples; Timofte et al. 2016, section 3.5, for the orientations.
    """
    total = estimate(0)
    for seed in range(1, WAYS):
        total = total + estimate(seed)
    return total / WAYS


def turn(x: Tensor, way: int) -> Tensor:
    """One of eight: quarter turns ``way % 4``, then mirrored for 4..7. Shapes (..., H, W), square."""
    turned = x.rot90(way % 4, (-2, -1)) if way % 4 else x
    return turned.flip(-1) if way >= 4 else turned


def turn_back(x: Tensor, way: int) -> Tensor:
    """What was given to ``turn``."""
    plain = x.flip(-1) if way >= 4 else x
    return plain.rot90(-(way % 4), (-2, -1)) if way % 4 else plain


def _each(change: Callable[[Tensor, int], Tensor], x: Tensor, ways: Sequence[int]) -> Tensor:
    if len(set(ways)) == 1:  # as most batches are: of one sample
        return change(x, ways[0]).contiguous()
    return torch.stack([change(picture, way) for picture, way in zip(x, ways)])
