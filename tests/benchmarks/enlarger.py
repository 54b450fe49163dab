"""A network that makes pixels four times as fine, for measuring what lies around it. Needs torch and nothing else."""

import torch
from torch import Tensor, nn

FACTOR = 4


class Enlarger(nn.Module):
    """(B, bands, h, w) -> (B, bands, 4 h, 4 w): bilinear, and with ``width`` above 0 detail from seeded layers."""

    def __init__(self, bands: int, width: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.detail = nn.Sequential()
        if width:
            self.detail = nn.Sequential(
                nn.Conv2d(bands, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, bands * FACTOR**2, 3, padding=1),
                nn.PixelShuffle(FACTOR),
            )
        self.width = width
        self.eval().requires_grad_(False)

    def forward(self, lr: Tensor) -> Tensor:
        """Values about 0..1."""
        fine = nn.functional.interpolate(lr, scale_factor=float(FACTOR), mode="bilinear", align_corners=False)
        return fine + 0.1 * self.detail(lr) if self.width else fine
