"""The metric CRS to draw on, chosen for a place."""

from qgis.core import QgsCoordinateReferenceSystem

from .outline import Footprint

#: Widest extent in degrees of longitude that is drawn in one UTM zone.
_UTM_WIDEST = 6.0 + 1e-6
_UTM_SOUTH, _UTM_NORTH = -80.0, 84.0
#: Latitudes beyond which the universal polar stereographic map is true to 3 %.
_POLAR = 70.0
#: Degrees to which the centre of an equal-area map is rounded, so that extents near each other share it.
_CENTRE_STEP = 5.0

_LAEA = (
    'PROJCRS["WGS 84 / Lambert azimuthal equal area {lat:g} {lon:g}",BASEGEOGCRS["WGS 84",'
    'DATUM["World Geodetic System 1984",ELLIPSOID["WGS 84",6378137,298.257223563,LENGTHUNIT["metre",1]]],'
    'PRIMEM["Greenwich",0,ANGLEUNIT["degree",0.0174532925199433]],ID["EPSG",4326]],'
    'CONVERSION["unnamed",METHOD["Lambert Azimuthal Equal Area",ID["EPSG",9820]],'
    'PARAMETER["Latitude of natural origin",{lat:g},ANGLEUNIT["degree",0.0174532925199433],ID["EPSG",8801]],'
    'PARAMETER["Longitude of natural origin",{lon:g},ANGLEUNIT["degree",0.0174532925199433],ID["EPSG",8802]],'
    'PARAMETER["False easting",0,LENGTHUNIT["metre",1],ID["EPSG",8806]],'
    'PARAMETER["False northing",0,LENGTHUNIT["metre",1],ID["EPSG",8807]]],'
    'CS[Cartesian,2],AXIS["easting",east,ORDER[1],LENGTHUNIT["metre",1]],'
    'AXIS["northing",north,ORDER[2],LENGTHUNIT["metre",1]]]'
)


def lattice_crs(spot: Footprint) -> QgsCoordinateReferenceSystem:
    """UTM for extents of at most about 6 degrees, universal polar stereographic near a pole, else equal area."""
    if spot.west + spot.east <= _UTM_WIDEST and spot.south > _UTM_SOUTH and spot.north < _UTM_NORTH:
        zone = int((spot.longitude + 180) // 6) % 60 + 1
        return QgsCoordinateReferenceSystem(f"EPSG:{(32600 if spot.latitude >= 0 else 32700) + zone}")
    if spot.south > _POLAR:
        return QgsCoordinateReferenceSystem("EPSG:5041")
    if spot.north < -_POLAR:
        return QgsCoordinateReferenceSystem("EPSG:5042")
    lat, lon = (round(value / _CENTRE_STEP) * _CENTRE_STEP for value in (spot.latitude, spot.longitude))
    crs = QgsCoordinateReferenceSystem()
    crs.createFromWkt(_LAEA.format(lat=lat, lon=lon))
    return crs
