"""From an extent on the map to the grids of a request: what is drawn where, at which ground resolution."""

import math
from dataclasses import dataclass
from typing import List, Optional, Tuple

from qgis.core import QgsCoordinateReferenceSystem, QgsRectangle, QgsUnitTypes

from ...engine.contract import PIXELS_LIMIT, ErrorCode, GeoBox
from ..report import Problem, tr
from .crs import crs_of, crs_text, geographic, ground_resolution, require_earth, shear
from .lattice import lattice_crs
from .outline import extent_in, footprint, require_extent
from .storable import require_storable

__all__ = [
    "Place",
    "crs_of",
    "crs_text",
    "extent_in",
    "geographic",
    "ground_resolution",
    "place",
    "require_extent",
    "require_size",
]

#: Metres in a degree along the equator of WGS 84: the usual pixel size of geographic imagery, 8.98e-05 degrees at 10 m.
_DEGREE = 111_319.490_793_273_58
#: How much longer a metre may be along one axis than along the other, on a map that is drawn on directly.
_STRETCH = 0.02
#: How much the scale may vary over the extent, on a map that is drawn on directly.
_VARIATION = 0.05
#: A scale this close to 1 counts as 1.
_TRUE_SCALE = 0.02
#: Steps of the local scale, so that extents near each other get the same pixel size and share pixels.
_SCALE_STEP = math.log(1.005)
#: Pixels that the lattice reaches beyond the grid, for the resampling kernel.
_MARGIN = 8
#: Pixels that an extent must reach along one of its sides: less is a point, or a slip.
_LEAST = 0.1


@dataclass(frozen=True)
class Place:
    """Where something is drawn, and where the result lies.

    Attributes:
        grid: of the result.
        lattice: metric grid that the model draws on; the same as ``grid`` where that is metric.
        gsd: metres on the ground of one lattice pixel.
        longitude: of the extent's centre, degrees east, -180 to 180.
        latitude: of the extent's centre, degrees north.
    """

    grid: GeoBox
    lattice: GeoBox
    gsd: float
    longitude: float
    latitude: float


def place(
    extent: QgsRectangle,
    crs: QgsCoordinateReferenceSystem,
    gsd: float,
    target: Optional[QgsCoordinateReferenceSystem] = None,
) -> Place:
    """The grids for an extent.

    Without a target the result lies on a metric lattice chosen for the place. On a target whose metres are metres in
    all directions, up to one factor, the model draws directly, in pixels of the asked size on the ground. For any other
    target it draws on the lattice of the place, and the engine warps the picture once.

    Args:
        extent: in units of ``crs``; across the antimeridian it reaches beyond 180 degrees.
        crs: of the extent.
        gsd: metres on the ground per pixel.
        target: CRS of the result.

    Raises:
        Problem: EMPTY_EXTENT, UNKNOWN_CRS, UNSUPPORTED_GRID, UNSUPPORTED_RESOLUTION or EXTENT_TOO_LARGE.
    """
    if not (math.isfinite(gsd) and 0 < gsd < 1e6):
        raise Problem(
            ErrorCode.UNSUPPORTED_RESOLUTION,
            tr("The resolution must be a number of metres per pixel above 0."),
            tr("Write for example 10."),
        )
    gsd = float(gsd)
    spot = footprint(extent, crs)
    if target is not None:
        require_earth(target)
        require_storable(target)
        asked = extent_in(extent, crs, target)
        scale = _drawing_scale(asked, target)
        if scale is None:
            grid = _cover(asked, target, gsd, gsd / _widest_scale(asked, target))
            around = QgsRectangle(*grid.bounds)
            metric = lattice_crs(spot)
            lattice = _cover(extent_in(around, target, metric), metric, gsd, gsd).pad(_MARGIN)
            return Place(grid, lattice, gsd, spot.longitude, spot.latitude)
        grid = _cover(asked, target, gsd, gsd / scale)
    else:
        metric = lattice_crs(spot)
        grid = _cover(extent_in(extent, crs, metric), metric, gsd, gsd)
    return Place(grid, grid, gsd, spot.longitude, spot.latitude)


def _cover(extent: QgsRectangle, crs: QgsCoordinateReferenceSystem, gsd: float, resolution: float) -> GeoBox:
    """The anchored grid around an extent, checked for size before it is made."""
    if max(extent.width(), extent.height()) < _LEAST * resolution:
        raise Problem(
            ErrorCode.EMPTY_EXTENT,
            tr("The extent is much smaller than one pixel of {} m.").format(f"{gsd:g}"),
            tr("Draw it on the map, or take it from the canvas or from a layer."),
        )
    shape = math.ceil(extent.height() / resolution), math.ceil(extent.width() / resolution)
    coarser = gsd * math.sqrt(shape[0] * shape[1] / PIXELS_LIMIT)
    require_size(shape, tr("Choose a smaller extent, or a resolution of {} m or coarser.").format(_round_up(coarser)))
    bounds = (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum())
    return GeoBox.from_bounds(crs_text(crs), bounds, resolution)


def require_size(shape: Tuple[int, int], hint: str = "") -> None:
    """Refuse a result that is larger than what is drawn.

    Args:
        shape: (height, width) of the result in pixels.
        hint: what to do; a smaller raster, if it is empty.

    Raises:
        Problem: EXTENT_TOO_LARGE.
    """
    if shape[0] * shape[1] > PIXELS_LIMIT:
        raise Problem(
            ErrorCode.EXTENT_TOO_LARGE,
            tr("The result would have {} x {} pixels, at most {} million pixels are drawn.").format(
                shape[1], shape[0], PIXELS_LIMIT // 1_000_000
            ),
            hint or tr("Cut out the part that you need first, or choose a smaller factor."),
        )


def _drawing_scale(extent: QgsRectangle, crs: QgsCoordinateReferenceSystem) -> Optional[float]:
    """Metres on the ground per CRS unit, None unless that is one number for all directions and the whole extent."""
    if crs.isGeographic():
        return None
    scales: List[float] = []
    for x, y in _sample(extent):
        gx, gy = ground_resolution(crs, x, y, 1.0, 1.0)
        if not (gx > 0 and abs(gy / gx - 1) < _STRETCH and shear(crs, x, y, 1.0, 1.0) < _STRETCH):
            return None
        scales.append(math.sqrt(gx * gy))
    if max(scales) / min(scales) > 1 + _VARIATION:
        return None
    metres = QgsUnitTypes.fromUnitToUnitFactor(crs.mapUnits(), QgsUnitTypes.DistanceUnit.DistanceMeters)
    local = scales[0] / metres
    if abs(local - 1) <= _TRUE_SCALE:
        return metres
    return metres * math.exp(round(math.log(local) / _SCALE_STEP) * _SCALE_STEP)


def _widest_scale(extent: QgsRectangle, crs: QgsCoordinateReferenceSystem) -> float:
    """Metres on the ground per CRS unit, along the axis on which a unit is longer: nothing is drawn too coarse."""
    if crs.isGeographic():
        return _DEGREE
    centre = extent.center()
    return max(ground_resolution(crs, centre.x(), centre.y(), 1.0, 1.0))


def _sample(extent: QgsRectangle):
    """The centre, then points between it and the sides."""
    centre = extent.center()
    yield centre.x(), centre.y()
    for u in (-0.49, 0.0, 0.49):
        for v in (-0.49, 0.0, 0.49):
            if u or v:
                yield centre.x() + u * extent.width(), centre.y() + v * extent.height()


def _round_up(value: float) -> str:
    """A number with two digits that is not below the value."""
    step = 10.0 ** (math.floor(math.log10(max(value, 1e-6))) - 1)
    return f"{math.ceil(value / step) * step:g}"
