"""A picture whose content a model is told: which square of which ground it shows."""

import math
from typing import Optional

from qgis.core import QgsCoordinateTransformContext, QgsMapLayer, QgsRectangle

from ...engine.contract import ErrorCode, GeoBox, Window
from ..report import Problem, tr
from .crs import crs_text
from .lattice import lattice_crs
from .outline import extent_in, footprint
from .reach import reaches

#: Longest side of the picture in pixels: the networks that read it look at some hundred.
SIDE = 1024
#: Share of the extent by which a layer may fall short of it and still cover it.
_SHORT = 1e-6


def content_grid(layer: QgsMapLayer, lattice: GeoBox, context: QgsCoordinateTransformContext) -> GeoBox:
    """The grid of the picture: the middle square of the extent where the layer covers it, else that of the layer.

    CLIP's towers look at the middle square of what they are given, so no more is drawn. A layer elsewhere is as good:
    a content has no place.

    Args:
        layer: a raster.
        lattice: that the model draws on.
        context: how QGIS goes from one CRS to another in this project.

    Raises:
        Problem: SOURCE_EMPTY for a layer without an extent; or as ``outline.footprint``, for one in degrees.
    """
    if covers(layer, lattice, context):
        return _square(lattice)
    return _square(_own_grid(layer, context))


def covers(layer: QgsMapLayer, lattice: GeoBox, context: QgsCoordinateTransformContext) -> bool:
    """Whether a layer lies under all of an extent, so that its part there is the content."""
    extent = QgsRectangle(layer.extent())
    for reach in reaches(lattice, layer.crs(), context, 0.0):
        reach.grow(-_SHORT * max(reach.width(), reach.height()))
        if extent.contains(reach):
            return True
    return False


def _own_grid(layer: QgsMapLayer, context: QgsCoordinateTransformContext) -> GeoBox:
    """A grid over the whole layer, that of its own pixels where they are squares; of one in degrees, in metres."""
    extent, crs = QgsRectangle(layer.extent()), layer.crs()
    if extent.isEmpty() or not extent.isFinite():
        raise Problem(
            ErrorCode.SOURCE_EMPTY,
            tr("The layer '{}' does not cover the extent, and has no extent of its own to be shown whole.").format(
                layer.name()
            ),
            tr("Choose another layer, or an extent that it covers."),
        )
    shape = _pixels(layer)
    if crs.isGeographic():
        target = lattice_crs(footprint(extent, crs))
        extent, crs, shape = extent_in(extent, crs, target, context), target, None
    width, height = shape or (SIDE * extent.width() / max(extent.width(), extent.height()), 0)
    step = extent.width() / width
    rows = height if height else max(1, round(extent.height() / step))
    cols = max(1, round(width))
    return GeoBox(crs_text(crs), (step, 0.0, extent.xMinimum(), 0.0, -step, extent.yMaximum()), (rows, cols))


def _pixels(layer: QgsMapLayer) -> Optional[tuple]:
    """(columns, rows) of a raster whose pixels are squares; None for others, and for those that are drawn anew."""
    provider, extent = layer.dataProvider(), layer.extent()
    cols, rows = provider.xSize(), provider.ySize()
    if cols < 1 or rows < 1:
        return None
    is_square = math.isclose(extent.width() / cols, extent.height() / rows, rel_tol=1e-6)
    return (cols, rows) if is_square else None


def _square(grid: GeoBox) -> GeoBox:
    """The middle square of a grid, coarser where it has more than ``SIDE`` pixels along a side."""
    side = min(grid.shape)
    return coarse(grid.crop(Window((grid.height - side) // 2, (grid.width - side) // 2, side, side)), SIDE)


def coarse(square: GeoBox, side: int) -> GeoBox:
    """The same square in at most so many pixels along a side."""
    if square.height <= side:
        return square
    step = square.height / side
    a, b, c, d, e, f = square.transform
    return GeoBox(square.crs, (a * step, b * step, c, d * step, e * step, f), (side, side))
