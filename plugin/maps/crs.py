"""Coordinate reference systems: as text for the contract, and what a step on the map is on the ground."""

import math
from typing import Optional, Tuple

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsCsException,
    QgsDistanceArea,
    QgsPointXY,
)

from ...engine.contract import ErrorCode
from ..report import Problem, tr

#: Ellipsoid on which ground distances are measured: WGS 84.
_ELLIPSOID = "EPSG:7030"
#: Shortest line in metres that is measured, so that rounding in degrees does not show in the length of a pixel.
_SHORTEST = 500.0


def geographic() -> QgsCoordinateReferenceSystem:
    """WGS 84, longitude and latitude in degrees."""
    return QgsCoordinateReferenceSystem("EPSG:4326")


def crs_text(crs: QgsCoordinateReferenceSystem) -> str:
    """The CRS as a ``GeoBox`` carries it: an authority code where that says exactly this CRS, else WKT2."""
    kind = QgsCoordinateReferenceSystem.WktVariant.WKT2_2018
    text = crs.toWkt(kind)
    code = crs.authid()
    if code.startswith(("EPSG:", "ESRI:")) and QgsCoordinateReferenceSystem(code).toWkt(kind) == text:
        return code
    return text


def crs_of(text: str) -> QgsCoordinateReferenceSystem:
    """The CRS that a ``GeoBox`` names, invalid where QGIS does not know it."""
    crs = QgsCoordinateReferenceSystem()
    if "[" in text:
        crs.createFromWkt(text)
    else:
        crs.createFromString(text)
    return crs


def require_earth(crs: QgsCoordinateReferenceSystem) -> None:
    """Refuse a CRS that does not say where on the earth a point (x, y) is.

    Raises:
        Problem: UNKNOWN_CRS.
    """
    if not crs.isValid():
        raise Problem(
            ErrorCode.UNKNOWN_CRS,
            tr("The coordinate reference system is missing or not known to QGIS."),
            tr("Assign one, for example EPSG:4326 for longitude and latitude."),
        )
    text = crs.toWkt(QgsCoordinateReferenceSystem.WktVariant.WKT2_2018).lstrip()
    heads = ("ENGCRS", "ENGINEERINGCRS", "VERTCRS", "VERTICALCRS", "TIMECRS", "PARAMETRICCRS")
    is_planar = not text.startswith(heads) and "CS[Cartesian,3]" not in text
    if not is_planar or not QgsCoordinateTransform(crs, geographic(), QgsCoordinateTransformContext()).isValid():
        raise Problem(
            ErrorCode.UNKNOWN_CRS,
            tr("The coordinate reference system '{}' has no known place on the earth.").format(crs_name(crs)),
            tr("Choose a geographic or projected one; local, vertical and geocentric systems cannot be used."),
        )


def crs_name(crs: QgsCoordinateReferenceSystem) -> str:
    """What a person calls it."""
    return crs.description() or crs.authid() or tr("unnamed")


class Projection:
    """Points of one CRS in another.

    Raises:
        Problem: UNSUPPORTED_GRID for a point that has no place there.
    """

    def __init__(
        self,
        source: QgsCoordinateReferenceSystem,
        target: QgsCoordinateReferenceSystem,
        context: Optional[QgsCoordinateTransformContext] = None,
    ):
        """Prepare the way from one CRS to the other; longitudes come first in geographic ones.

        Args:
            source: of the points.
            target: of the answers.
            context: what a project prefers where there are several ways; None for PROJ's own choice.
        """
        self._is_same = source == target
        self._target = target
        self._transform = QgsCoordinateTransform(source, target, context or QgsCoordinateTransformContext())

    def __call__(self, x: float, y: float) -> Tuple[float, float]:
        """Where the point (x, y) is."""
        if self._is_same:
            return x, y
        try:
            point = self._transform.transform(QgsPointXY(x, y))
        except QgsCsException:
            point = QgsPointXY(math.inf, math.inf)
        if not (math.isfinite(point.x()) and math.isfinite(point.y())):
            raise Problem(
                ErrorCode.UNSUPPORTED_GRID,
                tr("Part of the extent has no place in '{}'.").format(crs_name(self._target)),
                tr("Choose an extent inside the area of that system, or another coordinate reference system."),
            )
        return point.x(), point.y()


def longitude_latitude(crs: QgsCoordinateReferenceSystem, x: float, y: float) -> Tuple[float, float]:
    """A point in degrees: longitude from -180 up to 180, latitude.

    Raises:
        Problem: UNSUPPORTED_GRID for a point that is nowhere on the earth.
    """
    longitude, latitude = Projection(crs, geographic())(x, y)
    if abs(latitude) > 90 + 1e-9:
        raise Problem(
            ErrorCode.UNSUPPORTED_GRID,
            tr("The extent reaches beyond a pole."),
            tr("Choose an extent between 90 degrees south and 90 degrees north."),
        )
    return wrap(longitude), latitude


def wrap(longitude: float) -> float:
    """The same longitude from -180 up to 180 degrees."""
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180


def ground_resolution(
    crs: QgsCoordinateReferenceSystem, x: float, y: float, dx: float, dy: float
) -> Tuple[float, float]:
    """How far a step of ``dx`` along x and one of ``dy`` along y lead on the ground, around (x, y), in metres.

    Args:
        crs: of all four numbers.
        x: middle of both steps, in CRS units.
        y: middle of both steps, in CRS units.
        dx: in CRS units.
        dy: in CRS units.

    Raises:
        Problem: UNSUPPORTED_GRID where the point has no place on the earth.
    """
    to_degrees = Projection(crs, geographic())
    return _ground_length(to_degrees, x, y, dx, 0.0), _ground_length(to_degrees, x, y, 0.0, dy)


def _ground_length(to_degrees: Projection, x: float, y: float, dx: float, dy: float) -> float:
    """Metres on the ground of the step (dx, dy) with (x, y) in its middle."""

    def between(step: float) -> float:
        ends = [QgsPointXY(*to_degrees(x + sign * step * dx / 2, y + sign * step * dy / 2)) for sign in (-1.0, 1.0)]
        return area.measureLine(ends[0], ends[1])

    area = QgsDistanceArea()
    area.setSourceCrs(geographic(), QgsCoordinateTransformContext())
    area.setEllipsoid(_ELLIPSOID)
    length = between(1.0)
    if 0 < length < _SHORTEST:
        longer = _SHORTEST / length
        length = between(longer) / longer
    return length


def shear(crs: QgsCoordinateReferenceSystem, x: float, y: float, dx: float, dy: float) -> float:
    """How far the axes are from a right angle on the ground, 0 where they make one, relative to the diagonal."""
    to_degrees = Projection(crs, geographic())
    sides = math.hypot(_ground_length(to_degrees, x, y, dx, 0.0), _ground_length(to_degrees, x, y, 0.0, dy))
    return abs(_ground_length(to_degrees, x, y, dx, dy) / sides - 1) if sides else math.inf
