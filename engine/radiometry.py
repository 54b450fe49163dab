"""A raster's own numbers <-> the range that models work in: one straight line for each band, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import SourceEmpty
from .raster import Profile, Raster

#: Percentiles of a raster that become 0 and 1. Numbers beyond them lie beyond 0..1 and are not cut off.
LOW_PERCENT, HIGH_PERCENT = 0.5, 99.5
#: Least share of pixels that must hold data.
VALID_SHARE = 0.01


@dataclass(frozen=True)
class Radiometry:
    """The line that maps a raster's numbers to 0..1: one for the whole raster, so tiles agree.

    Attributes:
        dtype: numpy name of the raster's pixel type.
        low: number of each band that becomes 0.
        high: number of each band that becomes 1; above ``low``.
    """

    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that the lines are lines."""
        if len(self.low) != len(self.high) or not all(a < b for a, b in zip(self.low, self.high)):
            raise ValueError("each band needs low < high")

    def to_unit(self, pixels: NDArray[np.generic]) -> NDArray[np.float32]:
        """Numbers (bands, h, w) -> about 0..1, float32, cut to its range; not finite becomes 0."""
        low, high = self._lines()
        unit = (pixels.astype(np.float64) - low) / (high - low)
        return cast(np.nan_to_num(unit, nan=0.0, posinf=0.0, neginf=0.0), "float32").astype(np.float32, copy=False)

    def from_unit(self, unit: NDArray[np.floating]) -> NDArray[np.generic]:
        """About 0..1 (bands, h, w) -> numbers of the raster's type: rounded and cut to its range before the cast.

        Not finite becomes the number of 0, so that no cast is undefined.
        """
        low, high = self._lines()
        clean = np.nan_to_num(unit.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0)
        return cast(clean * (high - low) + low, self.dtype)

    def _lines(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.low)[:, None, None], np.array(self.high)[:, None, None]


def cast(values: NDArray[np.float64], dtype: str) -> NDArray[np.generic]:
    """Finite numbers as a pixel type: rounded where it is an integer, cut to its range first."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        limit = np.finfo(kind)
        return np.clip(values, float(limit.min), float(limit.max)).astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)


def rgb8(bands: int = 3) -> Radiometry:
    """Eight bits a band: 0 is black, 255 is white. Source: what the shipped models were trained on."""
    return Radiometry("uint8", (0.0,) * bands, (255.0,) * bands)


def require_data(raster: Raster) -> None:
    """See that a decimated read of a whole raster holds data. Raises SourceEmpty for less than 1 % of its pixels."""
    share = float(raster.valid.mean())
    if share < VALID_SHARE:
        raise SourceEmpty(f"Only {share:.1%} of the raster's pixels hold data.")


def measure(raster: Raster, profile: Profile) -> Radiometry:
    """The line for a raster, from a decimated read of all of it.

    Eight-bit rasters use all of 0..255, so that a dark scene stays dark. For other types a person stretches each band
    to its own range, and so is done here. A band that is nearly all of one number takes its least and greatest.

    Args:
        raster: every n-th pixel of the whole raster.
        profile: its pixel type.

    Raises:
        SourceEmpty: where fewer than 1 % of the pixels hold data.
    """
    require_data(raster)
    if profile.dtype == "uint8":
        return rgb8(len(profile.bands))
    lows, highs = [], []
    for band in raster.pixels:
        values = band[raster.valid].astype(np.float64)
        is_float = np.dtype(profile.dtype).kind == "f"
        low, high = np.percentile(values, (LOW_PERCENT, HIGH_PERCENT))
        if _coincide(low, high, is_float):
            low, high = values.min(), values.max()
        if _coincide(low, high, is_float):
            # A constant band has no range of its own: any line through its number does, as long as floats can tell.
            middle, half = (low + high) / 2, max(_least(low, high, is_float), abs(low) * 1e-3, 1e-20) / 2
            low, high = middle - half, middle + half
        lows.append(float(low))
        highs.append(float(high))
    return Radiometry(profile.dtype, tuple(lows), tuple(highs))


def fitted(
    radiometry: Radiometry, mean: NDArray[np.floating], usual: NDArray[np.floating], covariance: NDArray[np.floating]
) -> Radiometry:
    """The line moved as little as needed for a scene to have a colour that a model has seen.

    Sensors and processing differ in haze and white balance, which is the same offset everywhere; but a scene of
    nothing but forest is dark and green with every sensor. So the mean colour of a scene is brought to within one
    deviation of the usual one along each principal axis of the usual colours, and no nearer: brightness may differ a
    lot, the balance of the bands little. A mean colour within these bounds leaves the line as it is.

    Args:
        radiometry: of the scene.
        mean: of the scene's bands by that line, about 0..1.
        usual: mean of the bands that the model was trained on.
        covariance: of those bands, (bands, bands).
    """
    variances, axes = np.linalg.eigh(covariance.astype(np.float64))
    deviations = np.sqrt(np.maximum(variances, 0.0))
    along = axes.T @ (mean.astype(np.float64) - usual)
    offset = axes @ (along - np.clip(along, -deviations, deviations))
    lengths = np.array(radiometry.high) - np.array(radiometry.low)
    low, high = (np.array(ends) + offset * lengths for ends in (radiometry.low, radiometry.high))
    return Radiometry(radiometry.dtype, tuple(low.tolist()), tuple(high.tolist()))


def _least(low: float, high: float, is_float: bool) -> float:
    """Least length of a line that floats can tell from a point."""
    return max(abs(low), abs(high)) * 1e-6 if is_float else 1.0


def _coincide(low: float, high: float, is_float: bool) -> bool:
    return bool(high - low < max(_least(low, high, is_float), math.ulp(0.0) * 2**60))
