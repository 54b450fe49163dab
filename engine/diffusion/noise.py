"""Gaussian noise as a function of seed, stream, channel and absolute pixel.

Whoever asks for a pixel gets the same number: chunks, crops, reruns and overlapping extents agree without talking to
each other. NumPy guarantees the raw bits of a bit generator across versions, but not the distributions that are made
from them, so the transform to normal numbers is our own.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..contract import Window

#: Side of the square of pixels that is drawn from one position of the counter.
BLOCK = 64
#: Blocks that are remembered, of 16 KB each: windows that overlap draw them together.
REMEMBERED = 2048
_WORD = 2**64


def field(seed: int, stream: int, window: Window, channels: int, first_channel: int = 0) -> Tensor:
    """Standard normal noise of a window.

    Args:
        seed: 0 to 2**64 - 1.
        stream: an independent field for each number, 0 to 2**64 - 1; see ``engine.diffusion.loop``.
        window: absolute pixels; rows and columns may be negative.
        channels: how many.
        first_channel: number of the first of them.

    Returns:
        (channels, height, width) float32. The field of a crop is the crop of the field, bit for bit.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox); Box and Muller 1958.
    """
    out = np.empty((channels, window.height, window.width), dtype=np.float32)
    down, across = _cut(window.row, window.row_end), _cut(window.col, window.col_end)
    for block_row, rows, from_rows in down:
        for block_col, cols, from_cols in across:
            for channel in range(channels):
                normals = _block(seed, stream, first_channel + channel, block_row, block_col)
                out[channel, rows, cols] = normals[from_rows, from_cols]
    return torch.from_numpy(out)


def _cut(first: int, end: int) -> list[tuple[int, slice, slice]]:
    """An axis of a window by blocks: (number of the block, where it lies in the window, which part of the block)."""
    cut = []
    for block in range(first // BLOCK, (end - 1) // BLOCK + 1):
        start, stop = max(first, block * BLOCK), min(end, (block + 1) * BLOCK)
        cut.append((block, slice(start - first, stop - first), slice(start - block * BLOCK, stop - block * BLOCK)))
    return cut


@lru_cache(REMEMBERED)
def _block(seed: int, stream: int, channel: int, block_row: int, block_col: int) -> np.ndarray:
    """(BLOCK, BLOCK) normal numbers. The key is (seed, stream); the counter starts at (0, channel, row, column)."""
    key = np.array([seed % _WORD, stream % _WORD], dtype=np.uint64)
    counter = np.array([0, channel % _WORD, block_row % _WORD, block_col % _WORD], dtype=np.uint64)
    raw = np.random.Philox(key=key, counter=counter).random_raw(BLOCK * BLOCK // 2).astype("<u8", copy=False)
    # Each word gives two uniforms in (0, 1), never 0 or 1, and those give two normals, at most 6.8 deviations out.
    radius = raw.view("<u4")[1::2].astype(np.float64)
    radius += 0.5
    radius *= 2.0**-32
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    halves = raw.view("<u2").reshape(-1, 4)
    coarse, fine = _turns()
    normals = coarse[halves[:, 1]]
    normals *= fine[halves[:, 0]]
    normals *= radius
    block = np.empty((2, BLOCK * BLOCK // 2), dtype=np.float32)
    block[0], block[1] = normals.real, normals.imag
    block = block.reshape(BLOCK, BLOCK)
    block.flags.writeable = False  # others get the same
    return block


@lru_cache(1)
def _turns() -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Points of the unit circle by the higher and by the lower half of an angle's 32 bits; its own is their product.

    Two looks into tables and a multiplication take a fifth of the time of a sine and a cosine. After rounding to single
    precision they have their bits, but for one number of about twenty million, whose last bit differs.
    """
    places = np.arange(2**16)
    return np.exp(2j * math.pi * 2.0**-16 * places), np.exp(2j * math.pi * 2.0**-32 * (places + 0.5))
