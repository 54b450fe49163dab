"""A raster of heights around a place: how much of it, and between which values."""

import math
from typing import Optional, Tuple

from qgis.core import QgsCoordinateTransformContext, QgsRasterBandStats, QgsRasterLayer, QgsRectangle

from ...engine.contract import ErrorCode, GeoBox, Window
from ..report import Problem, tr
from .crs import crs_of
from .outline import extent_in
from .reach import reaches
from .sources import SourceInfo, describe

#: Most pixels of a raster of heights that are copied.
HEIGHTS_LIMIT = 400_000_000
#: Pixels beyond the extent, for resampling.
_AROUND = 4


def heights_window(
    layer: QgsRasterLayer, grid: GeoBox, context: QgsCoordinateTransformContext
) -> Tuple[SourceInfo, Window]:
    """What a raster of heights is, and its pixels around a grid; cheap enough for the main thread.

    Raises:
        Problem: as ``describe``, SOURCE_EMPTY, or UNSUPPORTED_RASTER for one that is far too fine.
    """
    info = describe(layer)
    there = (_window(info.grid, reach) for reach in reaches(grid, layer.crs(), context))
    window = next((found for found in there if found is not None), None)
    if window is None:
        raise nothing_shown(layer.name())
    if window.height * window.width > HEIGHTS_LIMIT:
        raise Problem(
            ErrorCode.UNSUPPORTED_RASTER,
            tr("The layer '{}' is too fine for this extent: {} x {} pixels of it would be read.").format(
                layer.name(), window.width, window.height
            ),
            tr("Warp it to a coarser resolution first (Raster, Projections, Warp), or choose a smaller extent."),
        )
    return info, window


def height_range(layer: QgsRasterLayer, lattice: GeoBox, context: QgsCoordinateTransformContext) -> Tuple[float, float]:
    """Lowest and highest value in an extent, about, from a decimated read; on any one thread, for it may take long."""
    there = extent_in(QgsRectangle(*lattice.bounds), crs_of(lattice.crs), layer.crs(), context)
    kinds = QgsRasterBandStats.Stats.Min | QgsRasterBandStats.Stats.Max
    found = layer.dataProvider().bandStatistics(1, kinds, there.intersect(layer.extent()), 10_000)
    low, high = found.minimumValue, found.maximumValue
    return (low, high) if math.isfinite(low) and math.isfinite(high) and high > low else (0.0, 1.0)


def nothing_shown(name: str) -> Problem:
    """A layer has nothing where the picture is."""
    return Problem(
        ErrorCode.SOURCE_EMPTY,
        tr("The layer '{}' shows nothing in the extent.").format(name),
        tr("Choose another layer or another extent, and see whether the layer's filter or symbols hide it."),
    )


def _window(grid: GeoBox, reach: QgsRectangle) -> Optional[Window]:
    """The pixels of a north-up grid in a rectangle and around it, None where there are none."""
    corners = [
        grid.to_pixel(x, y) for x in (reach.xMinimum(), reach.xMaximum()) for y in (reach.yMinimum(), reach.yMaximum())
    ]
    cols, rows = zip(*corners)
    if max(cols) <= 0 or max(rows) <= 0 or min(cols) >= grid.width or min(rows) >= grid.height:
        return None
    col, row = max(0, math.floor(min(cols)) - _AROUND), max(0, math.floor(min(rows)) - _AROUND)
    col_end = min(grid.width, math.ceil(max(cols)) + _AROUND)
    row_end = min(grid.height, math.ceil(max(rows)) + _AROUND)
    return Window(row, col, row_end - row, col_end - col)
