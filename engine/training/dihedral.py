"""The eight flips and quarter turns of a square: imagery from above has no upright."""

from __future__ import annotations

from torch import Tensor


def turn(x: Tensor, which: int) -> Tensor:
    """One of eight: quarter turns ``which % 4``, mirrored for 4..7. Shapes (..., H, W), square."""
    turned = x.rot90(which % 4, (-2, -1))
    return turned.flip(-1) if which >= 4 else turned
