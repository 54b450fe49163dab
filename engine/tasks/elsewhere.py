"""What other processes draw of the same work: a window that two need is drawn by one, and left for the other."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..contract import Window


class Elsewhere(Protocol):
    """Those who draw other chunks of the same work."""

    def draws(self, sample: int, chunk: Window) -> bool:
        """Whether one of them draws that chunk, or did."""

    def fetch(self, name: str) -> NDArray[np.float32] | None:
        """What one of them left under a name; None where there is nothing."""

    def leave(self, name: str, values: NDArray[np.float32]) -> None:
        """Leave something for them. Where that goes wrong, they draw it by themselves."""
