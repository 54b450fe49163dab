"""Controls as files, so that a person sees what the model will see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..contract import CONTENT, GeoBox, Window
from .bytefile import write
from .maps import ControlMaps


def write_previews(
    controls: ControlMaps, grid: GeoBox, folder: Path, check: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, Path]]:
    """Write each control as it is shown to the model, and yield its kind and its file.

    Args:
        controls: on that grid.
        grid: that is drawn.
        folder: where the files go: GeoTIFFs of three bands of bytes, named after the kinds; others of these names are
            replaced. That of content lies where its own raster does.
        check: called between parts of the work; may raise to stop.

    Raises:
        OutputDamaged: where the disk gives back something else.
        OSError: of the system (a full disk, for one).
    """
    for kind in controls.kinds:

        def shown(window: Window, kind: str = kind) -> NDArray[np.uint8]:
            return np.rint(controls.of(kind, window) * 255).astype(np.uint8)

        path = folder / f"{kind}.tif"
        own = controls.content_grid if kind == CONTENT else None
        write(path, shown, 3, own or grid, check)
        yield kind, path
