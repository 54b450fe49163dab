"""Polygons on their way into a job folder: where to change a raster, in the CRS of that raster."""

import math
from typing import Callable, Optional, Tuple

from qgis.core import QgsRectangle

from ...engine.contract import ErrorCode, GeoBox, Mask, Window
from ..report import Problem, tr
from .collection import write_collection
from .crs import crs_of
from .outline import extent_in
from .polygons import Polygons, middle_longitude, placed, require_polygons, turn
from .reach import reaches, turned

#: Where the engine finds the polygons, relative to the job folder.
MASK_PATH = "inputs/mask.geojson"


def mask_window(polygons: Polygons, grid: GeoBox) -> Window:
    """The pixels of a raster around all polygons; cheap enough for the main thread.

    Raises:
        Problem: MASK_EMPTY where no polygon can reach the raster, MASK_UNREADABLE without a CRS.
    """
    require_polygons(polygons)
    for reach in reaches(grid, polygons.crs, polygons.context):
        common = reach.intersect(polygons.extent)
        if common.width() > 0 and common.height() > 0:
            there = extent_in(common, polygons.crs, crs_of(grid.crs), polygons.context)
            window = _pixels(turned(there, turn(there.center().x(), middle_longitude(grid))), grid)
            if window is not None:
                return window
    raise _apart(polygons)


def prepare_mask(polygons: Polygons, grid: GeoBox) -> "MaskExport":
    """Get polygons ready to be written into a job folder from another thread.

    Args:
        polygons: where to change something.
        grid: of the raster that is changed.

    Raises:
        Problem: as ``mask_window``.
    """
    mask_window(polygons, grid)
    return MaskExport(polygons, grid)


class MaskExport:
    """Polygons on their way into a job folder.

    Attributes:
        mask: as it stands in the request.
        files: none: no result has the name of a file with polygons.
    """

    files: Tuple[str, ...] = ()

    def __init__(self, polygons: Polygons, grid: GeoBox):
        """Take note of what is read later; use ``prepare_mask`` to get one."""
        self.mask = Mask(MASK_PATH, polygons.name)
        self._polygons = polygons
        self._grid = grid

    def write(self, folder: str, cancelled: Callable[[], bool]) -> None:
        """Write the polygons into the job folder, on any one thread; returns early, without a file, once cancelled.

        Raises:
            Problem: MASK_EMPTY where none reaches the raster, MASK_UNREADABLE for one without a place in its CRS.
            OSError: where the file cannot be written.
        """
        shapes = (({}, geometry) for _, geometry in placed(self._polygons, self._grid))
        if not write_collection(folder, MASK_PATH, self._grid.crs, shapes, cancelled) and not cancelled():
            raise _apart(self._polygons)


def _apart(polygons: Polygons) -> Problem:
    name = polygons.name
    return Problem(
        ErrorCode.MASK_EMPTY,
        tr("No polygon of the layer '{}' lies on the raster.").format(name)
        if name
        else tr("The polygon that was drawn does not lie on the raster."),
        tr("Choose polygons that lie on it, and check the coordinate reference systems of both layers.")
        if name
        else tr("Draw it anew, on the raster."),
    )


def _pixels(extent: QgsRectangle, grid: GeoBox) -> Optional[Window]:
    """The pixels that a rectangle in the grid's CRS touches, None where there are none."""
    corners = [
        grid.to_pixel(x, y)
        for x in (extent.xMinimum(), extent.xMaximum())
        for y in (extent.yMinimum(), extent.yMaximum())
    ]
    cols, rows = zip(*corners)
    col, row = max(0, math.floor(min(cols))), max(0, math.floor(min(rows)))
    col_end, row_end = min(grid.width, math.ceil(max(cols))), min(grid.height, math.ceil(max(rows)))
    return Window(row, col, row_end - row, col_end - col) if col_end > col and row_end > row else None
