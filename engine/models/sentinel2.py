"""Thirteen Sentinel-2 bands to the ten that DiffusionSat's super-resolution is told.

Facts: as in ``diffusionsat``; the statistics are those of fMoW-Sentinel (Cong et al. 2022, "SatMAE") in its code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InvalidRequest

#: Band -> mean and deviation of its digital numbers, top of atmosphere (L1C), before the offset of baseline 04.00.
BANDS: dict[str, tuple[float, float]] = {
    "B1": (1370.19151926, 633.15169573),
    "B2": (1184.3824625, 650.2842772),
    "B3": (1120.77120066, 712.12507725),
    "B4": (1136.26026392, 965.23119807),
    "B5": (1263.73947144, 948.9819932),
    "B6": (1645.40315151, 1108.06650639),
    "B7": (1846.87040806, 1258.36394548),
    "B8": (1762.59530783, 1233.1492281),
    "B8A": (1972.62420416, 1364.38688993),
    "B9": (582.72633433, 472.37967789),
    "B10": (14.77112979, 14.3114637),
    "B11": (1732.16362238, 1310.36996126),
    "B12": (1247.91870117, 1087.6020813),
}
#: Bands of the hint, in its order.
HINT = ("B4", "B3", "B2", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
#: Deviations on either side of the mean that are mapped to 0..1.
REACH = 2.0


def hint_bands(numbers: Tensor, names: Sequence[str] = tuple(BANDS)) -> Tensor:
    """(10, height, width) float32 in 0..1, in steps of 1/255, of digital numbers (bands, height, width).

    Args:
        numbers: L1C digital numbers without the offset of -1000 that processing baselines from 04.00 have.
        names: of the bands, in their order.

    Raises:
        InvalidRequest: with the bands that are missing.
    """
    missing = [name for name in HINT if name not in names]
    if missing:
        raise InvalidRequest(
            f"The layer lacks the Sentinel-2 bands {', '.join(missing)}.", "Choose a layer with all of its bands."
        )
    told = []
    for name in HINT:
        mean, deviation = BANDS[name]
        share = (numbers[list(names).index(name)].double() - (mean - REACH * deviation)) / (2 * REACH * deviation)
        told.append((share * 255).clamp(0, 255).to(torch.uint8))  # truncated, as in training
    return torch.stack(told).float() / 255


def fit_hint(bands: Tensor, size: int) -> Tensor:
    """The middle square of (bands, height, width), its side resampled to ``size`` pixels with antialiasing."""
    height, width = bands.shape[-2:]
    shorter = min(height, width)
    resized = torch.nn.functional.interpolate(
        bands[None],
        size=(size * height // shorter, size * width // shorter),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0]
    top, left = round((resized.shape[-2] - size) / 2), round((resized.shape[-1] - size) / 2)
    bottom, right = top + size, left + size
    return resized[..., top:bottom, left:right]
