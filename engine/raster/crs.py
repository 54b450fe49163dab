"""Coordinate reference systems, and what a pixel measures on the ground.

A CRS is taken from an authority code or from WKT, told apart by pattern: GDAL's and PROJ's own parsers of free text
would read files and fetch URLs.
"""

from __future__ import annotations

import itertools
import math
import re
from functools import lru_cache

import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.crs import CRS
from rasterio.errors import CRSError

from ..contract import GeoBox
from ..errors import UnknownCrs, UnsupportedGrid
from .options import environment

_CODE = re.compile(r"(EPSG|ESRI|IAU_2015|OGC|IGNF):([A-Za-z0-9_]{1,32})")
_WKT = re.compile(r"\s*(BOUND|COMPOUND|DERIVED|GEOD|GEOG|PROJ|ENG|LOCAL_|GEOC|COMPD_)[A-Z_]{0,24}\s*[\[(]")
#: Longest WKT that is parsed, in characters.
WKT_LIMIT = 64 * 1024


@lru_cache(maxsize=64)
def to_pyproj(crs: str) -> pyproj.CRS:
    """The CRS of a grid.

    Raises:
        UnknownCrs: for anything but a known authority code or WKT.
    """
    code = _CODE.fullmatch(crs)
    try:
        if code:
            return pyproj.CRS.from_authority(*code.groups())
        if len(crs) <= WKT_LIMIT and _WKT.match(crs):
            return pyproj.CRS.from_wkt(crs)
    except ProjError as error:
        raise UnknownCrs("The coordinate reference system is not known.") from error
    raise UnknownCrs("The coordinate reference system is neither a code such as EPSG:32633 nor WKT.")


@lru_cache(maxsize=64)
def to_rasterio(crs: str) -> CRS:
    """The CRS of a grid, as GDAL takes it.

    Raises:
        UnknownCrs: as ``to_pyproj``.
    """
    code = _CODE.fullmatch(crs)
    try:
        if code and code.group(1) == "EPSG":
            return CRS.from_epsg(code.group(2))
        return CRS.from_wkt(to_pyproj(crs).to_wkt())
    except (CRSError, ValueError) as error:
        raise UnknownCrs("The coordinate reference system is not known.") from error


def from_rasterio(crs: CRS | None) -> str:
    """The name that a grid carries: an EPSG code where that is exact, else WKT2.

    Raises:
        UnknownCrs: where there is none, or one that cannot be written down.
    """
    if not crs:
        raise UnknownCrs("The raster has no coordinate reference system.")
    try:
        epsg = crs.to_epsg(confidence_threshold=100)
        if epsg is not None and CRS.from_epsg(epsg) == crs:
            return f"EPSG:{epsg}"
        return str(crs.to_wkt(version="WKT2_2019"))
    except (CRSError, ValueError) as error:
        raise UnknownCrs("The raster's coordinate reference system is not known.") from error


def _to_lonlat(grid: GeoBox, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map points (n, 2) -> longitudes and latitudes, degrees; infinite where there are none."""
    crs = to_pyproj(grid.crs)
    base = crs.geodetic_crs
    if base is None or crs.is_engineering:
        raise UnsupportedGrid("The coordinate reference system is not tied to the ground.")
    horizontal = pyproj.CRS.from_user_input(base.to_2d())
    try:
        transformer = pyproj.Transformer.from_crs(crs, horizontal, always_xy=True)
        lon, lat = transformer.transform(points[:, 0], points[:, 1])
    except ProjError as error:
        raise UnsupportedGrid("The coordinate reference system cannot be related to the ground.") from error
    # degrees, whatever the unit of the geodetic CRS (grads exist)
    unit = math.degrees(horizontal.axis_info[0].unit_conversion_factor) if horizontal.axis_info else 1.0
    return np.asarray(lon) * unit, np.asarray(lat) * unit


def lonlat(grid: GeoBox) -> tuple[float, float]:
    """Longitude (-180 to 180) and latitude of the grid's centre, degrees.

    Raises:
        UnsupportedGrid: where the centre is not on the ground.
    """
    centre = np.array([grid.to_map(grid.width / 2, grid.height / 2)])
    lon, lat = _to_lonlat(grid, centre)
    if not (np.isfinite(lon[0]) and np.isfinite(lat[0])):
        raise UnsupportedGrid("The extent does not lie on the ground in this coordinate reference system.")
    return (float(lon[0]) + 180.0) % 360.0 - 180.0, float(lat[0])


def gsd(grid: GeoBox) -> tuple[float, float]:
    """Metres on the ground of a pixel's width and height, at the grid's centre, along the ellipsoid.

    Raises:
        UnsupportedGrid: where the centre is not on the ground.
    """
    col, row = grid.width / 2, grid.height / 2
    points = [grid.to_map(col - 0.5, row), grid.to_map(col + 0.5, row), grid.to_map(col, row - 0.5)]
    points.append(grid.to_map(col, row + 0.5))
    lon, lat = _to_lonlat(grid, np.array(points))
    geod = to_pyproj(grid.crs).get_geod()
    if geod is None or not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise UnsupportedGrid("The extent does not lie on the ground in this coordinate reference system.")
    _, _, metres = geod.inv(lon[0::2], lat[0::2], lon[1::2], lat[1::2])
    if not (np.isfinite(metres).all() and min(metres) > 0):
        raise UnsupportedGrid("The ground resolution cannot be told in this coordinate reference system.")
    return float(metres[0]), float(metres[1])


def footprint(grid: GeoBox, points_per_side: int = 16) -> list[list[tuple[float, float]]]:
    """Outline in longitude and latitude: one ring, or one on each side of the antimeridian, as RFC 7946 asks.

    Around a pole, and where the outline is not on the ground, the ring is the rectangle of all longitudes.
    """
    ring = []
    corners = [(0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height), (0, 0)]
    for (c0, r0), (c1, r1) in itertools.pairwise(corners):
        for i in range(points_per_side):
            share = i / points_per_side
            ring.append(grid.to_map(c0 + (c1 - c0) * share, r0 + (r1 - r0) * share))
    lon, lat = _to_lonlat(grid, np.array(ring))
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return [_rectangle(-180.0, -90.0, 180.0, 90.0)]
    lon = np.degrees(np.unwrap(np.radians(np.append(lon, lon[0]))))
    if abs(lon[-1] - lon[0]) > 1.0:  # once around: a pole is inside
        south = lat.mean() < 0
        bottom, top = (-90.0, float(lat.max())) if south else (float(lat.min()), 90.0)
        return [_rectangle(-180.0, bottom, 180.0, top)]
    lon = lon[:-1] - 360.0 * math.floor((lon[:-1].mean() + 180.0) / 360.0)
    outline = list(zip(lon.tolist(), lat.tolist()))
    rings = []
    for shift in (-360.0, 0.0, 360.0):
        shifted = [(x + shift, y) for x, y in outline]
        part = _clip(_clip(shifted, -180.0, 1.0), 180.0, -1.0)
        if len(part) > 2 and max(x for x, _ in part) - min(x for x, _ in part) > 0:
            rings.append([*part, part[0]])
    return rings


def _rectangle(left: float, bottom: float, right: float, top: float) -> list[tuple[float, float]]:
    return [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]


def _clip(ring: list[tuple[float, float]], at: float, sign: float) -> list[tuple[float, float]]:
    """The part of a polygon on one side of a meridian (Sutherland and Hodgman)."""
    kept = []
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1]):
        inside0, inside1 = sign * (x0 - at) >= 0, sign * (x1 - at) >= 0
        if inside0:
            kept.append((x0, y0))
        if inside0 != inside1:
            kept.append((at, y0 + (at - x0) * (y1 - y0) / (x1 - x0)))
    return kept


def check_grid(grid: GeoBox) -> None:
    """Refuse a grid that a GeoTIFF cannot carry, before any work on it.

    Raises:
        UnknownCrs: for a CRS that is not known.
        UnsupportedGrid: for one that comes back different from a file, or a grid that is not on the ground.
    """
    crs = to_rasterio(grid.crs)
    footprint(grid)  # goes with every result
    transform = rasterio.Affine(*grid.transform)
    with environment(), rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=1, height=1, width=1, dtype="uint8", crs=crs, transform=transform
        ) as target:
            target.write(np.zeros((1, 1, 1), np.uint8))
        with memory.open(driver="GTiff") as back:
            same = back.transform.almost_equals(transform) and same_place(back.crs, grid)
    if not same:
        raise UnsupportedGrid("A GeoTIFF cannot carry this coordinate reference system.")


def same_place(found: CRS | None, grid: GeoBox) -> bool:
    """Whether a CRS puts the grid's corners where the grid's own does, to less than 0.01 pixel."""
    if not found:
        return False
    wanted = to_rasterio(grid.crs)
    if found == wanted:
        return True
    xs, ys = zip(*grid.corners)
    try:
        with environment():
            transformer = pyproj.Transformer.from_crs(
                pyproj.CRS.from_wkt(found.to_wkt()), to_pyproj(grid.crs), always_xy=True
            )
            there_x, there_y = transformer.transform(xs, ys)
    except (ProjError, CRSError):
        return False
    limit = 0.01 * min(grid.resolution)
    return bool(np.allclose(there_x, xs, rtol=0, atol=limit) and np.allclose(there_y, ys, rtol=0, atol=limit))
