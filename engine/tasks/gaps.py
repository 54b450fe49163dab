"""Numbers for pixels that hold no data, so that a network sees a picture without holes."""

from __future__ import annotations

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
