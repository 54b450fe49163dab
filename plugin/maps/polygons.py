"""Polygons of a layer, or drawn, on their way to the grid whose ground they cover."""

import math
from dataclasses import dataclass, replace
from typing import Callable, Iterable, Iterator, List, Optional, Tuple

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeatureSource,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingFeatureSource,
    QgsProject,
    QgsRectangle,
    QgsUnitTypes,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
    QgsWkbTypes,
)

from ...engine.contract import ErrorCode, GeoBox
from ..report import Problem, tr
from .crs import Projection, crs_of
from .reach import reaches

#: How far, in pixels of the grid, a straight edge may be off the curve that it is in the grid's CRS.
_TOLERANCE = 0.05
#: Halvings of an edge at most: one edge becomes at most 1024.
_HALVINGS = 10
#: Metres from one side to the other, and corners, of a polygon that may be kept whole.
_USUAL, _CORNERS = 300_000.0, 20_000
#: Most selected polygons that are asked for by their ids, wherever they lie.
_FEW = 1000
_POLYGON = QgsWkbTypes.GeometryType.PolygonGeometry
Ring = List[QgsPointXY]


@dataclass(frozen=True)
class Polygons:
    """Where something is to happen, as a person pointed it out.

    Attributes:
        features: request -> features; may be asked on any one thread. One without a geometry is none.
        crs: of their coordinates.
        extent: around all of them, null where there are none; None where it would take long to find.
        context: how QGIS goes from one CRS to another in this project.
        name: of their layer, "" for a drawn polygon.
        is_scanned: whether all are read, slowly, to find those in a rectangle: QGIS cannot be stopped on its way to the
            first of them.
    """

    features: Callable[[QgsFeatureRequest], Iterable[QgsFeature]]
    crs: QgsCoordinateReferenceSystem
    extent: Optional[QgsRectangle]
    context: QgsCoordinateTransformContext
    name: str = ""
    is_scanned: bool = False


def layer_polygons(layer: QgsVectorLayer, selected_only: bool = False, tight: bool = True) -> Polygons:
    """The polygons of a layer as it is now; call it on the main thread.

    Args:
        layer: of polygons.
        selected_only: whether only selected ones count.
        tight: whether to find the extent of those that count, which may take seconds; else it stays unknown.

    Raises:
        Problem: MASK_EMPTY where only selected ones are asked for and none is selected.
    """
    source = QgsVectorLayerFeatureSource(layer)
    chosen = set(layer.selectedFeatureIds()) if selected_only else set()
    if selected_only and not chosen:
        raise Problem(
            ErrorCode.MASK_EMPTY,
            tr("No polygon of the layer '{}' is selected.").format(layer.name()),
            tr("Select some on the map, or use all of them."),
        )
    is_scanned = _is_scanned(layer)
    is_few = 0 < len(chosen) <= _FEW and not is_scanned

    def features(request: QgsFeatureRequest) -> Iterator[QgsFeature]:
        asked = QgsFeatureRequest(request).setFilterFids(list(chosen)) if is_few else request
        # one that is not selected comes out without a place, so that who asks can stop on the way to the next
        return (
            found if not selected_only or found.id() in chosen else QgsFeature() for found in source.getFeatures(asked)
        )

    extent = (layer.boundingBoxOfSelected() if selected_only else layer.extent()) if tight else None
    context = QgsProject.instance().transformContext()
    return Polygons(features, layer.crs(), extent, context, layer.name(), is_scanned)


def _is_scanned(layer: QgsVectorLayer) -> bool:
    """Whether a layer has no index of places, and is slow without one."""
    is_quick = layer.providerType() == "memory" or layer.storageType() == "ESRI Shapefile"
    return not is_quick and layer.hasSpatialIndex() == QgsFeatureSource.SpatialIndexPresence.SpatialIndexNotPresent


def source_polygons(
    source: QgsProcessingFeatureSource,
    context: QgsCoordinateTransformContext,
    grid: GeoBox,
    request: Optional[QgsFeatureRequest] = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Polygons:
    """The polygons that a parameter of an algorithm names, the selected ones alone if it says so.

    Those on the grid are read at once: the source dies with the run's context, maybe on another thread.

    Args:
        source: what the parameter names.
        context: as in ``Polygons``.
        grid: of what is drawn.
        request: as in ``placed``.
        cancelled: whether to stop; what was read until then is of no use.
    """
    skip = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks  # invalid ones are made valid
    named = Polygons(
        lambda request: source.getFeatures(request, skip),
        source.sourceCrs(),
        QgsRectangle(source.sourceExtent()),
        context,
        source.sourceName(),
    )
    asked = QgsFeatureRequest().setNoAttributes() if request is None else request
    near = {}
    for reach in around(named, grid) if named.crs.isValid() else []:
        for feature in named.features(QgsFeatureRequest(asked).setFilterRect(reach)):
            if cancelled():
                break
            near[feature.id()] = QgsFeature(feature)
    return replace(named, features=lambda _: near.values())


def drawn_polygon(geometry: QgsGeometry, crs: QgsCoordinateReferenceSystem) -> Polygons:
    """A polygon that was drawn on the map."""
    feature = QgsFeature()
    feature.setGeometry(geometry)
    return Polygons(lambda _: [feature], crs, geometry.boundingBox(), QgsProject.instance().transformContext())


def require_polygons(polygons: Polygons) -> None:
    """Refuse a layer that cannot say where anything is.

    Raises:
        Problem: MASK_UNREADABLE without a CRS, MASK_EMPTY without polygons.
    """
    if not polygons.crs.isValid():
        raise Problem(
            ErrorCode.MASK_UNREADABLE,
            tr("The layer '{}' has no coordinate reference system.").format(polygons.name),
            tr("Assign one in the layer's properties."),
        )
    if polygons.extent is not None and polygons.extent.isNull():
        raise _none(polygons.name)


def require_any(polygons: Polygons) -> None:
    """Refuse a layer without polygons by asking for the first, which may take seconds, on any one thread.

    Raises:
        Problem: MASK_EMPTY.
    """
    if next(iter(polygons.features(QgsFeatureRequest().setLimit(1))), None) is None:
        raise _none(polygons.name)


def _none(name: str) -> Problem:
    return Problem(
        ErrorCode.MASK_EMPTY,
        tr("The layer '{}' has no polygons.").format(name),
        tr("Draw some in it, or choose another layer."),
    )


def placed(
    polygons: Polygons, grid: GeoBox, request: Optional[QgsFeatureRequest] = None, whole: bool = False
) -> Iterator[Tuple[QgsFeature, dict]]:
    """Each polygon that reaches the grid, and its part there as a GeoJSON geometry in the grid's CRS.

    Args:
        polygons: in any CRS.
        grid: any.
        request: what is read of a polygon besides its geometry; nothing by default.
        whole: keep polygons of usual size whole, so that an outline has the same corners whatever part of it is asked
            for; else all are cut off around the grid.

    Raises:
        Problem: MASK_UNREADABLE for one without a place in the grid's CRS.
    """
    way = _Way(polygons, grid)
    asked = QgsFeatureRequest().setNoAttributes() if request is None else request
    for reach in around(polygons, grid):
        for feature in polygons.features(QgsFeatureRequest(asked).setFilterRect(reach)):
            found: List[List[Ring]] = []
            near = cut(feature.geometry(), reach)
            if whole and not near.isEmpty() and _is_usual(feature.geometry(), polygons.crs):
                near = straight(feature.geometry())
            for part in _parts(near):
                bent = QgsGeometry.fromPolygonXY([way.bend(ring) for ring in part])
                found += _parts(bent if bent.isGeosValid() else bent.makeValid())
            rings = [[[[point.x(), point.y()] for point in ring] for ring in part] for part in found]
            if len(rings) == 1:
                yield feature, {"type": "Polygon", "coordinates": rings[0]}
            elif rings:
                yield feature, {"type": "MultiPolygon", "coordinates": rings}


def around(polygons: Polygons, grid: GeoBox) -> List[QgsRectangle]:
    """The reaches of a grid in which polygons can be: those a turn of the earth away only where the layer may reach."""
    found = reaches(grid, polygons.crs, polygons.context)
    extent = polygons.extent
    return found if extent is None else found[:1] + [reach for reach in found[1:] if reach.intersects(extent)]


def turn(x: float, middle: Optional[float]) -> float:
    """What to add to a longitude so that it is counted as the grid counts; 0 for a grid in metres."""
    return 0.0 if middle is None else 360.0 * round((middle - x) / 360.0)


def middle_longitude(grid: GeoBox) -> Optional[float]:
    """Longitude in the middle of a grid in degrees, None for one in metres."""
    left, _, right, _ = grid.bounds
    return (left + right) / 2 if crs_of(grid.crs).isGeographic() else None


def cut(geometry: QgsGeometry, reach: QgsRectangle) -> QgsGeometry:
    """The part of a geometry that matters: straight, valid, and not much larger than the grid."""
    if geometry.isNull() or not geometry.boundingBoxIntersects(reach):
        return QgsGeometry()
    if not reach.contains(geometry.boundingBox()) and geometry.constGet().nCoordinates() > _CORNERS:
        clipped = geometry.clipped(reach)  # before it is looked at whether all of it is valid, which takes long
        geometry = geometry if clipped.isNull() else clipped
    shape = straight(geometry)
    return shape if reach.contains(shape.boundingBox()) else shape.intersection(QgsGeometry.fromRect(reach))


def straight(geometry: QgsGeometry) -> QgsGeometry:
    """The geometry without curves, and valid."""
    shape = QgsGeometry(geometry)
    shape.convertToStraightSegment()
    return shape if shape.isGeosValid() else shape.makeValid()


def _is_usual(geometry: QgsGeometry, crs: QgsCoordinateReferenceSystem) -> bool:
    """Whether a polygon is small enough to have a place as a whole in a CRS that fits some part of it."""
    box = geometry.boundingBox()
    metres = QgsUnitTypes.fromUnitToUnitFactor(crs.mapUnits(), QgsUnitTypes.DistanceUnit.DistanceMeters)
    corners = geometry.constGet().nCoordinates()
    return max(box.width(), box.height()) * metres <= _USUAL and corners <= _CORNERS


def _parts(geometry: QgsGeometry) -> List[List[Ring]]:
    """The rings of each polygon in a geometry; lines and points, which have no inside, are left out."""
    if geometry.isNull() or geometry.isEmpty():
        return []
    polygons = (part.asPolygon() for part in geometry.asGeometryCollection() if part.type() == _POLYGON)
    return [rings for rings in polygons if rings]


class _Way:
    """From the CRS of the polygons to that of the grid, along edges that are straight in the first."""

    def __init__(self, polygons: Polygons, grid: GeoBox):
        target = crs_of(grid.crs)
        self._is_same = polygons.crs == target
        self._project = Projection(polygons.crs, target, polygons.context)
        self._name = polygons.name
        self._middle = middle_longitude(grid)
        self._tolerance = _TOLERANCE * min(grid.resolution)

    def bend(self, ring: Ring) -> Ring:
        """A ring in the grid's CRS, with as many points as its edges bend there.

        Raises:
            Problem: MASK_UNREADABLE for a point without a place there.
        """
        try:
            there = [self._point(point) for point in ring]
            bent = there[:1]
            for a, b, from_, to in zip(ring, ring[1:], there, there[1:]):
                bent += [] if self._is_same else self._between(a, b, from_, to, _HALVINGS)
                bent.append(to)
        except Problem as problem:
            raise Problem(
                ErrorCode.MASK_UNREADABLE,
                tr(
                    "A polygon of the layer '{}' has no place in the coordinate reference system that is drawn in."
                ).format(self._name),
                tr("Choose polygons that lie there, in a coordinate reference system of that region."),
                problem.failure.message,
            ) from None
        return bent

    def _between(self, a: QgsPointXY, b: QgsPointXY, from_: QgsPointXY, to: QgsPointXY, halvings: int) -> Ring:
        """The points between two, without them."""
        middle = QgsPointXY((a.x() + b.x()) / 2, (a.y() + b.y()) / 2)
        there = self._point(middle)
        off = math.hypot((from_.x() + to.x()) / 2 - there.x(), (from_.y() + to.y()) / 2 - there.y())
        if off <= self._tolerance or not halvings:
            return []
        before = self._between(a, middle, from_, there, halvings - 1)
        return [*before, there, *self._between(middle, b, there, to, halvings - 1)]

    def _point(self, point: QgsPointXY) -> QgsPointXY:
        x, y = self._project(point.x(), point.y())
        return QgsPointXY(x + turn(x, self._middle), y)
