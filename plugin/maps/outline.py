"""The ground under an extent: its points in another CRS, without a jump at the antimeridian."""

import math
import statistics
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransformContext, QgsRectangle

from ...engine.contract import ErrorCode
from ..report import Problem, tr
from .crs import Projection, geographic, longitude_latitude, require_earth, wrap

Point = Tuple[float, float]

#: Points along each side, and inside along each axis.
_SIDE, _INSIDE = 64, 7
#: Mean radius of the earth in metres, for distances that need no precision.
_RADIUS = 6_371_000.0
#: Farthest that an extent may reach from its centre, in metres: a fifth of the way around the earth.
FARTHEST = 8_000_000.0
#: A step along the outline so many times longer than the usual one is a jump.
_JUMP = 20.0


@dataclass(frozen=True)
class Footprint:
    """Where an extent lies on the earth.

    Attributes:
        longitude: of its centre, degrees, -180 to 180.
        latitude: of its centre, degrees.
        west: how far it reaches west of the centre, in degrees of longitude.
        east: how far it reaches east of the centre, in degrees of longitude.
        south: its lowest latitude.
        north: its highest latitude.
    """

    longitude: float
    latitude: float
    west: float
    east: float
    south: float
    north: float


def require_extent(extent: QgsRectangle) -> None:
    """Refuse an extent without an inside.

    Raises:
        Problem: EMPTY_EXTENT.
    """
    sides = (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum())
    if not all(math.isfinite(side) for side in sides):
        raise Problem(
            ErrorCode.EMPTY_EXTENT,
            tr("The extent is not made of finite numbers."),
            tr("Draw it on the map, or take it from the canvas or from a layer."),
        )
    if not (sides[2] > sides[0] and sides[3] > sides[1]):
        raise Problem(
            ErrorCode.EMPTY_EXTENT,
            tr("The extent is empty: its east must be greater than its west, its north greater than its south."),
            tr("Draw a rectangle. Across the antimeridian, count on beyond 180: from 179 to 181."),
        )


def footprint(extent: QgsRectangle, crs: QgsCoordinateReferenceSystem) -> Footprint:
    """Where an extent lies on the earth.

    Raises:
        Problem: EMPTY_EXTENT, UNKNOWN_CRS, UNSUPPORTED_GRID, or EXTENT_TOO_LARGE for one that goes around the earth.
    """
    require_extent(extent)
    require_earth(crs)
    if crs.isGeographic() and extent.width() > 180:
        raise _too_wide()
    longitude, latitude = longitude_latitude(crs, extent.center().x(), extent.center().y())
    points = [longitude_latitude(crs, x, y) for x, y in (*outline(extent), *inside(extent))]
    if max(_distance((longitude, latitude), point) for point in points) > FARTHEST:
        raise _too_wide()
    offsets = [wrap(x - longitude) for x, _ in points]
    latitudes = [y for _, y in points]
    return Footprint(
        longitude, latitude, max(0.0, -min(offsets)), max(0.0, max(offsets)), min(latitudes), max(latitudes)
    )


def extent_in(
    extent: QgsRectangle,
    crs: QgsCoordinateReferenceSystem,
    target: QgsCoordinateReferenceSystem,
    context: Optional[QgsCoordinateTransformContext] = None,
) -> QgsRectangle:
    """The smallest upright rectangle of another CRS around the same ground.

    It is continuous: across the antimeridian it reaches beyond 180 degrees, and beyond the edge of a cylindrical map.

    Args:
        extent: in units of ``crs``.
        crs: of the extent.
        target: of the answer.
        context: as for ``Projection``.

    Raises:
        Problem: EMPTY_EXTENT, UNKNOWN_CRS, or UNSUPPORTED_GRID where the ground has no connected place there.
    """
    require_extent(extent)
    require_earth(crs)
    require_earth(target)
    if crs == target:
        return QgsRectangle(extent)
    project = Projection(crs, target, context)
    around = project(extent.center().x(), extent.center().y())[0]
    period = _period(target)
    edge = [_near(project(x, y), around, period) for x, y in outline(extent)]
    steps = [math.dist(a, b) for a, b in zip(edge, edge[1:] + edge[:1])]
    if period is None and max(steps) > _JUMP * statistics.median(steps):
        raise Problem(
            ErrorCode.UNSUPPORTED_GRID,
            tr("The extent is cut in two by the edge of the chosen coordinate reference system."),
            tr("Choose another one for the result, or none: then one that fits the place is used."),
        )
    points = edge + [_near(project(x, y), around, period) for x, y in inside(extent)]
    xs, ys = zip(*points)
    return QgsRectangle(min(xs), min(ys), max(xs), max(ys))


def outline(extent: QgsRectangle) -> List[Point]:
    """Points along the four sides, in order."""
    left, bottom, right, top = extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()
    corners: Sequence[Point] = ((left, bottom), (right, bottom), (right, top), (left, top))
    points = []
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0])):
        points += [(x0 + (x1 - x0) * i / _SIDE, y0 + (y1 - y0) * i / _SIDE) for i in range(_SIDE)]
    return points


def inside(extent: QgsRectangle) -> List[Point]:
    """Points on a regular lattice inside, the centre among them."""
    shares = [(i + 1) / (_INSIDE + 1) for i in range(_INSIDE)]
    return [
        (extent.xMinimum() + extent.width() * u, extent.yMinimum() + extent.height() * v)
        for u in shares
        for v in shares
    ]


def _near(point: Point, around: float, period: Optional[float]) -> Point:
    """The point moved by whole turns around the earth until it is nearest to ``around``."""
    x, y = point
    return (x, y) if period is None else (x + period * round((around - x) / period), y)


def _period(crs: QgsCoordinateReferenceSystem) -> Optional[float]:
    """How far one turn around the earth is along x, for maps where that is the same everywhere; else None."""
    if crs.isGeographic():
        return 360.0
    project = Projection(geographic(), crs)
    try:
        xs = [project(longitude, latitude)[0] for latitude in (0.0, 50.0) for longitude in (-20.0, 0.0, 20.0, 40.0)]
    except Problem:  # a map that does not show all of these places does not go around the earth
        return None
    steps = [b - a for row in (xs[:4], xs[4:]) for a, b in zip(row, row[1:])]
    step = statistics.median(steps)
    # one of the steps may cross the edge of the map
    alike = [value for value in steps if abs(value - step) <= 1e-6 * abs(step)]
    is_upright = abs(xs[2] - xs[6]) <= 1e-6 * abs(step)
    return 18 * abs(step) if is_upright and len(alike) >= 4 else None


def _distance(a: Point, b: Point) -> float:
    """Metres between two points in degrees, on a sphere."""
    (lon1, lat1), (lon2, lat2) = (tuple(math.radians(value) for value in point) for point in (a, b))
    half = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * _RADIUS * math.asin(min(1.0, math.sqrt(half)))


def _too_wide() -> Problem:
    return Problem(
        ErrorCode.EXTENT_TOO_LARGE,
        tr("The extent spans a large part of the earth."),
        tr("Choose an extent of at most some thousand kilometres."),
    )
