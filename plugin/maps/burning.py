"""The shapes of a vector layer as flat colours on a grid, block by block: nothing blended, no symbols, no labels."""

from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
from osgeo import gdal, ogr
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsCsException,
    QgsFeatureRequest,
    QgsGeometry,
    QgsRectangle,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
    QgsWkbTypes,
)

from ...engine.contract import GeoBox
from .crs import crs_of
from .palette import match
from .reach import reaches

Colour = Tuple[int, int, int]
#: Shapes that are burnt at once, so that memory does not grow with the layer.
_BATCH = 2000
#: Parts of a block's side into which long edges are cut before they are bent into another CRS.
_PIECES = 32
#: Segments of a quarter of a circle around the end of a road.
_ROUND = 4
_LINE = QgsWkbTypes.GeometryType.LineGeometry
_POLYGON = QgsWkbTypes.GeometryType.PolygonGeometry


@dataclass(frozen=True)
class Legend:
    """Which shapes are burnt in which colour.

    Attributes:
        ground: colour where there is no shape.
        every: colour of all shapes, None where it depends on a field.
        field: whose value says the colour.
        colours: (class, its colour), of at most 127 colours; shapes whose value means none of them are left out.
        width: of lines in metres on the ground; lines are never thinner than a pixel.
        outlined: whether of areas only the outline is burnt.
    """

    ground: Colour = (0, 0, 0)
    every: Optional[Colour] = None
    field: str = ""
    colours: Tuple[Tuple[str, Colour], ...] = ()
    width: float = 0.0
    outlined: bool = False


class Burning:
    """A vector layer as it is now, edits that are not saved included; made on the main thread, painted on any one."""

    def __init__(self, layer: QgsVectorLayer, legend: Legend, context: QgsCoordinateTransformContext) -> None:
        """Take note of the layer.

        Args:
            layer: of lines or polygons.
            legend: what is burnt how.
            context: how QGIS goes from one CRS to another in this project.
        """
        self._source = QgsVectorLayerFeatureSource(layer)
        self._crs: QgsCoordinateReferenceSystem = layer.crs()
        self._legend = legend
        self._context = context
        self._index = layer.fields().lookupField(legend.field) if legend.field else -1
        burnt = [legend.every] if legend.every is not None else [colour for _, colour in legend.colours]
        self._table: List[Colour] = list(dict.fromkeys([legend.ground, *burnt]))
        self._palette = dict(legend.colours)
        self._numbers: Dict[str, Optional[int]] = {}  # of values as text: a table may hold some Python cannot look up

    def paint(self, grid: GeoBox, gsd: float, cancelled: Callable[[], bool]) -> Tuple[np.ndarray, bool]:
        """The block, and whether any shape lies in it.

        Args:
            grid: of the block, north up.
            gsd: metres on the ground of one of its pixels.
            cancelled: whether to stop; what is returned then is not complete.

        Returns:
            8-bit red, green and blue, shape (3, height, width).
        """
        numbers = np.zeros(grid.shape, np.uint8)
        is_anywhere = False
        batch: List[Tuple[QgsGeometry, int]] = []
        for shape in self._shapes(grid, gsd):
            batch.append(shape)
            if len(batch) == _BATCH:
                if cancelled():
                    break
                is_anywhere |= burn(batch, grid, numbers)
                batch = []
        is_anywhere |= burn(batch, grid, numbers)
        table = np.array(self._table, np.uint8)
        return np.ascontiguousarray(np.moveaxis(table[numbers & 0x7F], 2, 0)), is_anywhere

    def _shapes(self, grid: GeoBox, gsd: float) -> Iterator[Tuple[QgsGeometry, int]]:
        """What is burnt with which number, in the CRS of the grid."""
        target = crs_of(grid.crs)
        is_same = self._crs == target
        way = QgsCoordinateTransform(self._crs, target, self._context)
        pixel = grid.resolution[0]
        reach_beyond = 0.5 * self._legend.width / (gsd * min(grid.shape))  # a wide road is seen from beside it
        for reach in reaches(grid, self._crs, self._context, 0.05 + reach_beyond):
            request = QgsFeatureRequest().setFilterRect(reach)
            if self._index < 0:
                request.setNoAttributes()
            else:
                request.setSubsetOfAttributes([self._index])
            for feature in self._source.getFeatures(request):
                number = self._number(feature)
                shape = _cut(feature.geometry(), reach) if number is not None else QgsGeometry()
                if shape.isNull() or shape.isEmpty():
                    continue
                if not is_same:
                    shape = shape.densifyByDistance(max(reach.width(), reach.height()) / _PIECES)
                    try:
                        shape.transform(way)
                    except QgsCsException:  # beyond the edge of the other map: not on the grid
                        continue
                for part in self._drawn(shape, pixel * self._legend.width / gsd, pixel):
                    yield part, number

    def _number(self, feature) -> Optional[int]:
        """Place of a feature's colour in the table, None where it is left out."""
        if self._legend.every is not None:
            return self._table.index(self._legend.every)
        value = str(feature.attribute(self._index))
        if value not in self._numbers:
            name = match(self._palette, [value]).classes.get(value)
            self._numbers[value] = None if name is None else self._table.index(self._palette[name])
        return self._numbers[value]

    def _drawn(self, shape: QgsGeometry, width: float, pixel: float) -> Iterator[QgsGeometry]:
        """The lines and areas to burn of a shape; width and pixel in units of the grid's CRS."""
        for part in shape.asGeometryCollection() or [shape]:
            if part.type() == _POLYGON and self._legend.outlined:
                part = part.convertToType(_LINE, True)
            if part.isNull() or part.type() not in (_LINE, _POLYGON):
                continue
            # a strip of a pixel's width holds a pixel's centre in each row or column that it passes
            yield part.buffer(width / 2, _ROUND) if part.type() == _LINE and width > pixel else part


def _cut(geometry: QgsGeometry, reach: QgsRectangle) -> QgsGeometry:
    """The part of a geometry that matters: straight, valid, and not much larger than the reach."""
    if geometry.isNull() or not geometry.boundingBoxIntersects(reach):
        return QgsGeometry()
    shape = QgsGeometry(geometry)
    shape.convertToStraightSegment()
    if shape.type() == _POLYGON and not shape.isGeosValid():
        shape = shape.makeValid()
    return shape if reach.contains(shape.boundingBox()) else shape.intersection(QgsGeometry.fromRect(reach))


def burn(shapes: List[Tuple[QgsGeometry, int]], grid: GeoBox, numbers: np.ndarray, touched: bool = False) -> bool:
    """Write the number of each shape where it lies, later ones over earlier ones; whether there was any pixel.

    The highest bit marks what was burnt, so that the number 0 can be, too.

    Args:
        shapes: (geometry in the CRS of the grid, number up to 127).
        grid: north up.
        numbers: of the grid's pixels, 8 bits each; written to.
        touched: whether a pixel is in an area that it shares a point with; else where its centre is.
    """
    if not shapes:
        return False
    height, width = grid.shape
    raster = gdal.GetDriverByName("MEM").Create("", width, height, 1, gdal.GDT_Byte)
    a, b, c, d, e, f = grid.transform
    raster.SetGeoTransform((c, a, b, f, d, e))  # GDAL's order
    # "Memory" until GDAL 3.10, part of "MEM" since
    vector = (ogr.GetDriverByName("Memory") or ogr.GetDriverByName("MEM")).CreateDataSource("")
    layer = vector.CreateLayer("shapes", None, ogr.wkbUnknown)
    layer.CreateField(ogr.FieldDefn("number", ogr.OFTInteger))
    for shape, number in shapes:
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(ogr.CreateGeometryFromWkb(bytes(shape.asWkb())))
        feature.SetField("number", number | 0x80)
        layer.CreateFeature(feature)
    gdal.PushErrorHandler("CPLQuietErrorHandler")  # it warns that neither has a CRS: both have the grid's
    try:
        options = ["ATTRIBUTE=number", f"ALL_TOUCHED={touched}".upper()]
        if gdal.RasterizeLayer(raster, [1], layer, options=options) != gdal.CE_None:
            raise OSError(gdal.GetLastErrorMsg())
    finally:
        gdal.PopErrorHandler()
    burnt = np.frombuffer(raster.GetRasterBand(1).ReadRaster(), np.uint8).reshape(height, width)
    np.copyto(numbers, burnt, where=burnt > 0)
    return bool(burnt.any())
