"""Polygons on their way into a job folder: of a layer or drawn, in the CRS of the raster whose ground they cover."""

import json
import math
import os
import secrets
from dataclasses import dataclass, replace
from typing import Callable, Iterable, Iterator, List, Optional, Tuple

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsFeatureRequest,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingFeatureSource,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
    QgsWkbTypes,
)

from ...engine.contract import ErrorCode, GeoBox, Mask, Window
from ..report import Problem, tr
from .crs import Projection, crs_of
from .outline import extent_in
from .reach import reaches, turned

#: Where the engine finds the polygons, relative to the job folder.
MASK_PATH = "inputs/mask.geojson"
#: How far, in pixels of the raster, a straight edge may be off the curve that it is in the raster's CRS.
_TOLERANCE = 0.05
#: Halvings of an edge at most: one edge becomes at most 1024.
_HALVINGS = 10
_POLYGON = QgsWkbTypes.GeometryType.PolygonGeometry
Ring = List[QgsPointXY]


@dataclass(frozen=True)
class Polygons:
    """Where to change something, as a person pointed it out.

    Attributes:
        features: request -> features; may be asked on any one thread.
        crs: of their coordinates.
        extent: around all of them, null where there are none.
        context: how QGIS goes from one CRS to another in this project.
        name: of their layer, "" for a drawn polygon.
    """

    features: Callable[[QgsFeatureRequest], Iterable[QgsFeature]]
    crs: QgsCoordinateReferenceSystem
    extent: QgsRectangle
    context: QgsCoordinateTransformContext
    name: str = ""


def layer_polygons(layer: QgsVectorLayer, selected_only: bool = False) -> Polygons:
    """The polygons of a layer as it is now; call it on the main thread.

    Raises:
        Problem: MASK_EMPTY where only selected ones are asked for and none is selected.
    """
    source = QgsVectorLayerFeatureSource(layer)
    chosen = set(layer.selectedFeatureIds())
    if selected_only and not chosen:
        raise Problem(
            ErrorCode.MASK_EMPTY,
            tr("No polygon of the layer '{}' is selected.").format(layer.name()),
            tr("Select some on the map, or use all of them."),
        )

    def features(request: QgsFeatureRequest) -> Iterator[QgsFeature]:
        return (found for found in source.getFeatures(request) if not selected_only or found.id() in chosen)

    extent = layer.boundingBoxOfSelected() if selected_only else layer.extent()
    return Polygons(features, layer.crs(), extent, QgsProject.instance().transformContext(), layer.name())


def source_polygons(
    source: QgsProcessingFeatureSource, context: QgsCoordinateTransformContext, grid: GeoBox
) -> Polygons:
    """The polygons that a parameter of an algorithm names, the selected ones alone if it says so.

    Those on the raster are read at once: the source dies with the run's context, maybe on another thread.

    Args:
        source: what the parameter names.
        context: as in ``Polygons``.
        grid: of the raster.
    """
    skip = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks  # invalid ones are made valid
    named = Polygons(
        lambda request: source.getFeatures(request, skip),
        source.sourceCrs(),
        QgsRectangle(source.sourceExtent()),
        context,
        source.sourceName(),
    )
    around = reaches(grid, named.crs, named.context) if named.crs.isValid() else []
    found = [[QgsFeature(feature) for feature in named.features(_request(reach))] for reach in around]
    near = {feature.id(): feature for features in found for feature in features}
    return replace(named, features=lambda _: near.values())


def drawn_polygon(geometry: QgsGeometry, crs: QgsCoordinateReferenceSystem) -> Polygons:
    """A polygon that was drawn on the map."""
    feature = QgsFeature()
    feature.setGeometry(geometry)
    return Polygons(lambda _: [feature], crs, geometry.boundingBox(), QgsProject.instance().transformContext())


def mask_window(polygons: Polygons, grid: GeoBox) -> Window:
    """The pixels of a raster around all polygons; cheap enough for the main thread.

    Raises:
        Problem: MASK_EMPTY where no polygon can reach the raster, MASK_UNREADABLE without a CRS.
    """
    if not polygons.crs.isValid():
        raise Problem(
            ErrorCode.MASK_UNREADABLE,
            tr("The layer '{}' has no coordinate reference system.").format(polygons.name),
            tr("Assign one in the layer's properties."),
        )
    if polygons.extent.isNull():
        raise Problem(
            ErrorCode.MASK_EMPTY,
            tr("The layer '{}' has no polygons.").format(polygons.name),
            tr("Draw some in it, or choose another layer."),
        )
    for reach in reaches(grid, polygons.crs, polygons.context):
        common = reach.intersect(polygons.extent)
        if common.width() > 0 and common.height() > 0:
            there = extent_in(common, polygons.crs, crs_of(grid.crs), polygons.context)
            window = _pixels(turned(there, _turn(there.center().x(), _middle(grid))), grid)
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
        target = os.path.join(folder, *MASK_PATH.split("/"))
        part = f"{target}.{secrets.token_hex(4)}.part"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            with open(part, "w", encoding="utf-8", newline="\n") as file:
                # The member "crs" is not in RFC 7946, but tells GDAL, and so QGIS, where a copy of the file lies.
                crs = {"type": "name", "properties": {"name": _crs_name(self._grid.crs)}}
                file.write(f'{{"type": "FeatureCollection", "crs": {json.dumps(crs)}, "features": [')
                count = 0
                for geometry in _placed(self._polygons, self._grid):
                    if cancelled():
                        return
                    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
                    file.write((",\n" if count else "\n") + json.dumps(feature, allow_nan=False))
                    count += 1
                file.write("\n]}\n")
            if not count:
                raise _apart(self._polygons)
            os.replace(part, target)
        finally:
            if os.path.exists(part):
                os.remove(part)


def _crs_name(crs: str) -> str:
    """A grid's CRS as GDAL reads it in a GeoJSON file, x before y."""
    authority, _, code = crs.partition(":")
    return f"urn:ogc:def:crs:{authority}::{code}" if authority in ("EPSG", "ESRI") else crs


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


def _middle(grid: GeoBox) -> Optional[float]:
    """Longitude in the middle of a grid in degrees, None for one in metres."""
    left, _, right, _ = grid.bounds
    return (left + right) / 2 if crs_of(grid.crs).isGeographic() else None


def _turn(x: float, middle: Optional[float]) -> float:
    """What to add to a longitude so that it is counted as the grid counts; 0 for a grid in metres."""
    return 0.0 if middle is None else 360.0 * round((middle - x) / 360.0)


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


def _placed(polygons: Polygons, grid: GeoBox) -> Iterator[dict]:
    """Each polygon that reaches the raster as a GeoJSON geometry in the raster's CRS."""
    way = _Way(polygons, grid)
    for reach in reaches(grid, polygons.crs, polygons.context):
        for feature in polygons.features(_request(reach)):
            found: List[List[Ring]] = []
            for part in _parts(_cut(feature.geometry(), reach)):
                bent = QgsGeometry.fromPolygonXY([way.bend(ring) for ring in part])
                found += _parts(bent if bent.isGeosValid() else bent.makeValid())
            rings = [[[[point.x(), point.y()] for point in ring] for ring in part] for part in found]
            if len(rings) == 1:
                yield {"type": "Polygon", "coordinates": rings[0]}
            elif rings:
                yield {"type": "MultiPolygon", "coordinates": rings}


def _request(reach: QgsRectangle) -> QgsFeatureRequest:
    return QgsFeatureRequest().setFilterRect(reach).setNoAttributes()


def _cut(geometry: QgsGeometry, reach: QgsRectangle) -> QgsGeometry:
    """The part of a geometry that matters: straight, valid, and not much larger than the raster."""
    if geometry.isNull() or not geometry.boundingBoxIntersects(reach):
        return QgsGeometry()
    shape = QgsGeometry(geometry)
    shape.convertToStraightSegment()
    if not shape.isGeosValid():
        shape = shape.makeValid()
    return shape if reach.contains(shape.boundingBox()) else shape.intersection(QgsGeometry.fromRect(reach))


def _parts(geometry: QgsGeometry) -> List[List[Ring]]:
    """The rings of each polygon in a geometry; lines and points, which have no inside, are left out."""
    if geometry.isNull() or geometry.isEmpty():
        return []
    polygons = (part.asPolygon() for part in geometry.asGeometryCollection() if part.type() == _POLYGON)
    return [rings for rings in polygons if rings]


class _Way:
    """From the CRS of the polygons to that of the raster, along edges that are straight in the first."""

    def __init__(self, polygons: Polygons, grid: GeoBox):
        target = crs_of(grid.crs)
        self._is_same = polygons.crs == target
        self._project = Projection(polygons.crs, target, polygons.context)
        self._name = polygons.name
        self._middle = _middle(grid)
        self._tolerance = _TOLERANCE * min(grid.resolution)

    def bend(self, ring: Ring) -> Ring:
        """A ring in the raster's CRS, with as many points as its edges bend there.

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
                tr("A polygon of the layer '{}' has no place in the coordinate reference system of the raster.").format(
                    self._name
                ),
                tr("Choose polygons that lie on the raster, in a coordinate reference system of its region."),
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
        return QgsPointXY(x + _turn(x, self._middle), y)
