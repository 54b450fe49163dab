"""Dated rasters of one place as a model is shown them: on one grid, in 0..1, without holes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..contract import GeoBox, Input, ModelCard, Source, Window
from ..errors import EngineError
from ..radiometry import measure
from ..raster import AlignedRaster
from . import gaps
from .knowledge import require_bands


class Frame:
    """One of them.

    Args:
        folder: the job folder.
        source: which file of it, and which bands.
        grid: where its pixels shall lie.
        card: of the model that is shown it.
        check: called for each part that is read; may raise to stop.

    Attributes:
        profile: pixel type, names, nodata and so on of its bands.
        radiometry: its own numbers <-> 0..1.
        given: its name and the hash of its pixels.

    Raises:
        UnsupportedRaster: for another number of bands than the model draws.
        SourceEmpty: for a raster without data. What ``AlignedRaster`` raises, besides.
    """

    def __init__(self, folder: Path, source: Source, grid: GeoBox, card: ModelCard, check: Callable[[], None]) -> None:
        self._raster = AlignedRaster(folder, source, grid)
        self.profile = self._raster.profile
        require_bands(self._raster.bands, card)
        sampled = self._raster.sample(check)
        self.radiometry = measure(sampled, self.profile)
        unit = self.radiometry.to_unit(sampled.known)
        self._mean = np.array([band[sampled.valid].mean(dtype=np.float64) for band in unit], np.float32)
        self.given = Input(source.name or source.path, self._raster.sha256(check), self._raster.original)

    def read(self, window: Window, check: Callable[[], None] = lambda: None) -> Tensor:
        """(bands, height, width) float32 in 0..1 of a window of the grid, which may reach beyond it; gaps filled."""
        raster = self._raster.read(window.pad(gaps.REACH), check)
        unit = gaps.filled(self.radiometry.to_unit(raster.known), raster.valid, self._mean)
        inner = slice(gaps.REACH, -gaps.REACH)
        return torch.from_numpy(unit[:, inner, inner].clip(0, 1))

    def valid(self, window: Window, check: Callable[[], None] = lambda: None) -> NDArray[np.bool_]:
        """(height, width): where it holds data."""
        return self._raster.read(window, check).valid


@contextmanager
def naming(number: int, source: Source) -> Iterator[None]:
    """Around what is done with one of several sources: what goes wrong says with which."""
    try:
        yield
    except EngineError as error:
        name = f"Layer {number} ({source.name})" if source.name else f"Layer {number}"
        raise type(error)(f"{name}: {error.message}", error.hint) from error
