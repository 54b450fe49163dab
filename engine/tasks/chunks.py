"""The squares that a raster is drawn in: computed, committed, and never computed again."""

from __future__ import annotations

from ..contract import CHUNK, GeoBox, Window
from ..diffusion.windows import squares

#: Chunks side by side in a strip. Strips are drawn one after the other, each from its first row to its last, so that
#: the windows which two chunks share are still remembered when the second is drawn, however wide the raster is.
STRIP = 8


def absolute(window: Window, origin: tuple[int, int]) -> Window:
    """A window of a grid in absolute pixels. ``origin`` is the absolute (row, col) of the grid's first pixel."""
    return Window(window.row + origin[0], window.col + origin[1], window.height, window.width)


def relative(window: Window, origin: tuple[int, int]) -> Window:
    """The inverse of ``absolute``."""
    return Window(window.row - origin[0], window.col - origin[1], window.height, window.width)


def chunks(grid: GeoBox, origin: tuple[int, int]) -> tuple[Window, ...]:
    """The grid cut at absolute multiples of ``CHUNK``: disjoint, covering it, in the order in which they are drawn."""
    cut = squares(absolute(grid.window, origin), CHUNK)
    cut.sort(key=lambda square: (square.col // (CHUNK * STRIP), square.row, square.col))
    return tuple(relative(square, origin) for square in cut)
