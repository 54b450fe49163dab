"""Numbers for pixels that hold no data, so that a network sees a picture without holes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: How far known pixels grow into a gap, in pixels. Further in, a gap holds the mean of the whole raster.
REACH = 16
#: (rows, columns) to the eight neighbours of a pixel.
_BESIDE = [(row, col) for row in (-1, 0, 1) for col in (-1, 0, 1) if (row, col) != (0, 0)]


def filled(pixels: NDArray[np.float32], valid: NDArray[np.bool_], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels with gaps filled from their rims inwards.

    A filled pixel depends on nothing further away than ``REACH``, so tiles that are read with that margin agree.

    Args:
        pixels: (bands, height, width).
        valid: (height, width), True where there is data.
        mean: of each band.
    """
    if valid.all():
        return pixels.astype(np.float32, copy=False)
    # A border of unknown pixels, so that each has eight neighbours; only the pixels of the rim are looked at.
    bands, height, width = pixels.shape
    known = np.zeros((height + 2, width + 2), np.bool_)
    values = np.zeros((bands, height + 2, width + 2), np.float32)
    inner = slice(1, -1)
    known[inner, inner] = valid
    values[:, inner, inner] = np.where(valid, pixels, np.float32(0))
    flat, steps = values.reshape(bands, -1), [r * (width + 2) + c for r, c in _BESIDE]
    for _ in range(REACH):
        rim = np.flatnonzero(_beside_known(known))
        if not rim.size:
            break
        count, total = np.zeros(rim.size, np.float32), np.zeros((bands, rim.size), np.float32)
        for step in steps:  # in one order everywhere
            count += known.ravel()[rim + step]
            total += flat[:, rim + step]
        flat[:, rim] = total / count
        known.ravel()[rim] = True
    return np.where(known, values, mean[:, None, None])[:, inner, inner].astype(np.float32)


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


def _beside_known(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a pixel is not known and one of its eight neighbours is; nowhere on the border."""
    rows = known.copy()
    rows[1:] |= known[:-1]
    rows[:-1] |= known[1:]
    rim = np.zeros_like(known)
    rim[1:-1, 1:-1] = (rows[1:-1, :-2] | rows[1:-1, 1:-1] | rows[1:-1, 2:]) & ~known[1:-1, 1:-1]
    return rim
