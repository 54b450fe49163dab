"""A GeoTIFF of one or three bands of bytes without gaps, written window by window."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..contract import GeoBox, Window
from ..durable import replace, reserve, sync
from ..raster import Profile, Raster, tiled


def write(
    path: Path,
    draw: Callable[[Window], NDArray[np.uint8]],
    bands: int,
    grid: GeoBox,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write a file that is there whole or not at all.

    Args:
        path: the file; another of that name is replaced.
        draw: window of the grid -> its pixels (bands, h, w).
        bands: 1 for gray, 3 for red, green and blue.
        grid: where it lies.
        check: called between windows; may raise to stop.

    Raises:
        OutputDamaged: where the disk gives back something else.
        OSError: of the system (a full disk, for one).
    """
    colors = ("gray",) if bands == 1 else ("red", "green", "blue")
    profile = Profile("uint8", colors, colors=colors)
    path.parent.mkdir(parents=True, exist_ok=True)
    reserve(path.parent, bands * grid.pixels)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tif")

    def parts() -> Iterator[tuple[Window, Raster]]:
        for window in tiled.blocks(grid):
            yield window, Raster(draw(window), np.ones((window.height, window.width), np.bool_), grid.crop(window))

    try:
        ledger = tiled.write(temporary, parts(), grid, profile, {}, {}, check)
        tiled.verify(temporary, ledger, grid, profile, check)
        sync(temporary)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
