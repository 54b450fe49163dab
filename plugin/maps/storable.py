"""Whether a GeoTIFF can carry a coordinate reference system."""

import itertools
from functools import lru_cache
from typing import Optional

from osgeo import gdal, osr
from qgis.core import QgsCoordinateReferenceSystem

from ...engine.contract import ErrorCode
from ..report import Problem, tr
from .crs import Projection, crs_name, geographic
from .gdaloption import gdal_option

#: CRS units by which a place may move.
_TOLERANCE = 1e-3


def require_storable(crs: QgsCoordinateReferenceSystem) -> None:
    """Refuse a CRS that a GeoTIFF cannot carry: nobody would know where the picture is.

    Raises:
        Problem: UNKNOWN_CRS.
    """
    if not _survives(crs.toWkt(QgsCoordinateReferenceSystem.WktVariant.WKT2_2018)):
        raise Problem(
            ErrorCode.UNKNOWN_CRS,
            tr("The coordinate reference system '{}' cannot be stored in a GeoTIFF.").format(crs_name(crs)),
            tr("Choose another one, such as the UTM zone of the place."),
        )


@lru_cache(maxsize=64)
def _survives(text: str) -> bool:
    """Whether a CRS, as WKT, comes back from a GeoTIFF as the one that it was."""
    name = f"/vsimem/afterimage-{abs(hash(text))}.tif"
    with gdal_option("GDAL_PAM_ENABLED", "NO"):  # no file beside it
        try:
            found = _written_and_read(name, text)
        except RuntimeError:  # where another plugin turned GDAL's exceptions on
            found = None
        gdal.Unlink(name)
    if found is None:
        return False
    # quick, where QGIS may take half a second to identify a CRS
    if found.IsSame(osr.SpatialReference(text), ["IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES"]):
        return True
    before, after = QgsCoordinateReferenceSystem(), QgsCoordinateReferenceSystem()
    before.createFromWkt(text)
    after.createFromWkt(found.ExportToWkt(["FORMAT=WKT2_2018"]))
    return before == after or (after.isValid() and _agree(before, after))


def _written_and_read(name: str, text: str) -> Optional[osr.SpatialReference]:
    """What GDAL reads from a GeoTIFF into which it wrote a CRS."""
    dataset = gdal.GetDriverByName("GTiff").Create(name, 1, 1, 1)
    dataset.SetGeoTransform((0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    dataset.SetProjection(text)
    dataset = None  # closes it
    dataset = gdal.OpenEx(name, gdal.OF_RASTER)
    return dataset.GetSpatialRef()


def _agree(before: QgsCoordinateReferenceSystem, after: QgsCoordinateReferenceSystem) -> bool:
    """Whether places all over the earth have the same coordinates in both, as far as the first has any for them."""
    if before.isGeographic() != after.isGeographic():
        return False
    first, second = Projection(geographic(), before), Projection(geographic(), after)
    compared = 0
    for place in itertools.product(range(-175, 180, 25), (-80.0, -45.0, -15.0, 5.0, 35.0, 60.0, 80.0)):
        try:
            expected = first(*place)
        except Problem:  # a map of part of the earth
            continue
        try:
            found = second(*place)
        except Problem:
            return False
        scale = max(1.0, *(abs(value) * 1e-9 for value in expected))
        if max(abs(a - b) for a, b in zip(expected, found)) > _TOLERANCE * scale:
            return False
        compared += 1
    return compared > 0
