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
    raw = np.random.Philox(key=key, counter=counter).random_raw(BLOCK * BLOCK // 2)
    # Each word gives two uniforms in (0, 1), never 0 or 1, and those give two normals, at most 6.8 deviations out.
    radius = np.sqrt(-2.0 * np.log(((raw >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32))
    angle = (2.0 * math.pi * 2.0**-32) * ((raw & np.uint64(2**32 - 1)).astype(np.float64) + 0.5)
    normals = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    block = normals.astype(np.float32).reshape(BLOCK, BLOCK)
    block.flags.writeable = False  # others get the same
    return block
