"""The layers that guide a picture, as tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import Window
from ..controls import ControlMaps


class Controls(ControlMaps):
    """See ``ControlMaps``."""

    def read(self, window: Window) -> dict[str, Tensor]:
        """Kind of control -> its pixels (3, h, w) float32 in 0..1, black where there is no data.

        Args:
            window: counted from the first pixel of the grid; may reach beyond it. A pixel is the same in any window.
        """
        return {kind: torch.from_numpy(pixels) for kind, pixels in self.pixels(window).items()}

    def picture(self) -> Tensor | None:
        """The picture whose content is told (3, H, W) uint8, as a ``Scene`` has it; None without any."""
        pixels = self.content()
        return None if pixels is None else torch.from_numpy(pixels)
