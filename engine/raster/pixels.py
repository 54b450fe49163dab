"""A raster in memory, and what must survive from the input's file to the output's."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..contract import GeoBox


@dataclass(frozen=True)
class Raster:
    """Pixels with a place.

    Attributes:
        pixels: (bands, height, width), any real type.
        valid: (height, width) bool, True where there is data.
        grid: where they lie.

    Raises:
        ValueError: where the three do not fit together.
    """

    pixels: NDArray[np.generic]
    valid: NDArray[np.bool_]
    grid: GeoBox

    def __post_init__(self) -> None:
        """Check that the shapes agree."""
        if self.pixels.ndim != 3 or self.pixels.shape[1:] != self.grid.shape or self.valid.shape != self.grid.shape:
            raise ValueError(
                f"pixels {self.pixels.shape}, valid {self.valid.shape} and grid {self.grid.shape} do not fit together"
            )
        if self.valid.dtype != np.bool_:
            raise ValueError(f"valid must be bool, not {self.valid.dtype}")

    @property
    def known(self) -> NDArray[np.generic]:
        """The pixels, 0 where there is no data: what stands there may be too large for any arithmetic."""
        return np.where(self.valid, self.pixels, self.pixels.dtype.type(0))


@dataclass(frozen=True)
class Profile:
    """What stays the same from the raster that was given to the one that comes back.

    Attributes:
        dtype: numpy name of the pixel type.
        bands: a name for each band.
        nodata: value of pixels without data; None where a mask in the file says so.
        scales: physical value = pixel * scale + offset, for each band; empty: 1.
        offsets: as above; empty: 0.
        colors: meaning of each band ("red", "gray", "undefined", ...); empty: undefined.
        units: physical unit of each band; empty: none.
    """

    dtype: str
    bands: tuple[str, ...]
    nodata: float | None = None
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    colors: tuple[str, ...] = ()
    units: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check that each list is empty or has an item for each band."""
        for name in ("scales", "offsets", "colors", "units"):
            values = getattr(self, name)
            if values and len(values) != len(self.bands):
                raise ValueError(f"{name} has {len(values)} items for {len(self.bands)} bands")

    @property
    def itemsize(self) -> int:
        """Bytes per pixel and band."""
        return int(np.dtype(self.dtype).itemsize)

    def fill(self, raster: Raster) -> NDArray[np.generic]:
        """The pixels as they stand in a file: nodata where there is no data, and nowhere else.

        A valid pixel that happens to hold nodata's value is moved to its neighbour, towards zero where that is
        possible.
        """
        return self.filled(raster.pixels, raster.valid)

    def filled(self, pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.generic]:
        """The same for pixels (bands, height, width) and where they hold data (height, width)."""
        dtype = np.dtype(self.dtype)
        pixels = np.array(pixels, dtype=dtype, copy=True)
        if self.nodata is not None and not np.isnan(self.nodata):
            nodata = dtype.type(self.nodata)
            is_nodata = pixels == nodata
            if is_nodata.any():
                pixels[is_nodata & valid] = _neighbour(nodata)
        if not valid.all():
            pixels[:, ~valid] = dtype.type(self.nodata or 0)
        return pixels


def _neighbour(value: np.generic) -> np.generic:
    """The next number of the same type, towards zero; 1 for zero."""
    if isinstance(value, np.floating):
        return type(value)(np.nextafter(value, 0) if value else np.finfo(value.dtype).tiny)
    number = int(value)
    return type(value)(number - 1 if number > 0 else number + 1)
