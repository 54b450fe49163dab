"""Numbers for pixels that hold no data, so that a network sees a picture without holes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: How far known pixels grow into a gap, in pixels. Further in, a gap holds the mean of the whole raster.
REACH = 16


def filled(pixels: NDArray[np.float32], valid: NDArray[np.bool_], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels with gaps filled from their rims inwards.

    A filled pixel depends on nothing further away than ``REACH``, so tiles that are read with that margin agree.

    Args:
        pixels: (bands, height, width).
        valid: (height, width), True where there is data.
        mean: of each band.
    """
    known = valid.astype(np.float32)
    values: NDArray[np.float32] = np.where(valid, pixels, np.float32(0)).astype(np.float32)
    for _ in range(REACH):
        if known.all() or not known.any():
            break
        count, total = _around(known), _around(values)
        rim = (known == 0) & (count > 0)
        values = np.where(rim, total / np.maximum(count, 1), values)
        known = np.where(rim, np.float32(1), known)
    return np.where(known > 0, values, mean[:, None, None]).astype(np.float32)


def closed(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where data lies, and gaps in it that are no wider than twice ``REACH``; its outline does not grow.

    Args:
        valid: (height, width) with a margin of twice ``REACH`` on each side, which the result does not have.
    """
    grown = _over(valid, np.any)
    return _over(grown, np.all)


def _over(valid: NDArray[np.bool_], either: Callable[..., Any]) -> NDArray[np.bool_]:
    """Whether any, or all, of the pixels up to ``REACH`` away hold data; without the margin."""
    for axis in (0, 1):
        valid = either(np.lib.stride_tricks.sliding_window_view(valid, 2 * REACH + 1, axis), axis=-1)
    return valid


def _around(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of the eight neighbours, in one order everywhere; 0 beyond the border."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)])
    height, width = values.shape[-2:]
    total = np.zeros_like(values)
    for row in range(3):
        for col in range(3):
            if (row, col) != (1, 1):
                bottom, right = row + height, col + width
                total += padded[..., row:bottom, col:right]
    return total
