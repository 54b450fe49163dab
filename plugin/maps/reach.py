"""The ground of a grid in the CRS of a layer that may lie on it."""

from typing import List

from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransformContext, QgsRectangle

from ...engine.contract import GeoBox
from ..report import Problem
from .crs import crs_of
from .outline import extent_in

#: How far a reach goes beyond the grid, as a share of its size.
MARGIN = 0.05


def reaches(
    grid: GeoBox, crs: QgsCoordinateReferenceSystem, context: QgsCoordinateTransformContext, margin: float = MARGIN
) -> List[QgsRectangle]:
    """One rectangle around the grid, in degrees also a turn of the earth away; none where the CRS has no such place.

    Args:
        grid: any.
        crs: of the answer.
        context: how QGIS goes from one CRS to another.
        margin: how far they go beyond it, as a share of its size.
    """
    try:
        ground = extent_in(QgsRectangle(*grid.bounds), crs_of(grid.crs), crs, context)
    except Problem:  # nothing in that CRS can be where the grid is
        return []
    ground.grow(margin * max(ground.width(), ground.height()))
    turns = (0.0, -360.0, 360.0) if crs.isGeographic() else (0.0,)
    return [turned(ground, turn) for turn in turns]


def turned(rectangle: QgsRectangle, turn: float) -> QgsRectangle:
    """A rectangle so many degrees further east."""
    return QgsRectangle(
        rectangle.xMinimum() + turn, rectangle.yMinimum(), rectangle.xMaximum() + turn, rectangle.yMaximum()
    )
