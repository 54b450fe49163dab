"""Polygons that say where to paint, or what, and the pixels inside them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize

from ..contract import GeoBox, Mask, Window
from ..errors import MaskUnreadable
from .jobfile import job_file

#: Largest file that is read, in bytes.
SIZE_LIMIT = 64 * 1024 * 1024
#: Corners are moved to multiples of this part of a pixel: differences and products of such numbers are exact in
#: float64, so a pixel is inside or not whatever window it is looked at in.
SNAP = 256
#: Pixels beyond which a corner is brought nearer, along each axis: further than any raster reaches.
FAR = 2.0**24

#: Corners (n, 2) as (column, row) in pixels.
_Ring = NDArray[np.float64]


@dataclass(frozen=True)
class _Polygon:
    """An outline and its holes, and the rectangle around them: first and last row, first and last column."""

    rings: tuple[_Ring, ...]
    bounds: tuple[float, float, float, float]

    @property
    def window(self) -> Window:
        """The pixels around it, at least one."""
        top, bottom, left, right = self.bounds
        row, col = math.floor(top), math.floor(left)
        return Window(row, col, max(1, math.ceil(bottom) - row), max(1, math.ceil(right) - col))

    def touches(self, window: Window) -> bool:
        top, bottom, left, right = self.bounds
        return top < window.row_end and bottom > window.row and left < window.col_end and right > window.col

    def seen_from(self, window: Window) -> dict[str, Any]:
        """A GeoJSON geometry whose coordinates count from the window's corner."""
        corner = np.array([window.col, window.row], np.float64)
        return {"type": "Polygon", "coordinates": [(ring - corner).tolist() for ring in self.rings]}


class Polygons:
    """The polygons of a request on the grid of its source. A pixel belongs to them if its centre does.

    Args:
        folder: the job folder.
        mask: which file of it: a GeoJSON FeatureCollection in the CRS of the grid.
        grid: of the source.

    Attributes:
        sha256: hash of the file.

    Raises:
        MaskUnreadable: where there is no such file, or it is not what it should be.
    """

    def __init__(self, folder: Path, mask: Mask, grid: GeoBox) -> None:
        self.sha256, features = _features(folder, mask.path, grid, "mask")
        self._polygons = tuple(polygon for _, polygons in features for polygon in polygons)

    def bounds(self, window: Window) -> Window:
        """The pixels of a window of the grid around all polygons; the window itself where there are none in it."""
        near = [each.window.intersection(window) for each in self._polygons if each.window.intersects(window)]
        if not near:
            return window
        row, col = min(part.row for part in near), min(part.col for part in near)
        height, width = max(part.row_end for part in near) - row, max(part.col_end for part in near) - col
        return Window(row, col, height, width)

    def inside(self, window: Window) -> NDArray[np.bool_]:
        """(height, width): whether each pixel of a window of the grid belongs to a polygon."""
        near = [polygon.seen_from(window) for polygon in self._polygons if polygon.touches(window)]
        shape = (window.height, window.width)
        if not near:
            return np.zeros(shape, np.bool_)
        burned = rasterize(((geometry, 1) for geometry in near), out_shape=shape, fill=0, dtype="uint8")
        return np.asarray(burned > 0)


class NumberedPolygons:
    """Features with properties, each an area of its own. A pixel belongs to the last one that holds its centre.

    Args:
        folder: the job folder.
        name: which file of it: a GeoJSON FeatureCollection in the CRS of the grid.
        grid: pixels that windows are counted in.
        what: what the file is, for sentences: "mask".

    Attributes:
        sha256: hash of the file.
        properties: of each feature that has polygons, in the order of the file, as they stand in it.

    Raises:
        MaskUnreadable: where there is no such file, or it is not what it should be.
    """

    def __init__(self, folder: Path, name: str, grid: GeoBox, what: str) -> None:
        self.sha256, features = _features(folder, name, grid, what)
        known = [(properties, polygons) for properties, polygons in features if polygons]
        self.properties = tuple(properties for properties, _ in known)
        self._polygons = tuple((number, each) for number, (_, polygons) in enumerate(known) for each in polygons)
        self._bounds = np.array([each.bounds for _, each in self._polygons], np.float64).reshape(-1, 4)

    def burned(self, window: Window, values: Sequence[int]) -> NDArray[np.uint8]:
        """(height, width): the value of the feature that each pixel of a window belongs to, 0 for none.

        Args:
            window: of the grid; may reach beyond it.
            values: 0 to 255 for each feature; one with 0 uncovers nothing and covers nothing.
        """
        shape = (window.height, window.width)
        top, bottom, left, right = self._bounds.T
        touches = (top < window.row_end) & (bottom > window.row) & (left < window.col_end) & (right > window.col)
        near = [
            (polygon.seen_from(window), values[number])
            for number, polygon in (self._polygons[place] for place in np.flatnonzero(touches))
            if values[number]
        ]
        if not near:
            return np.zeros(shape, np.uint8)
        return np.asarray(rasterize(near, out_shape=shape, fill=0, dtype="uint8"))


def _features(
    folder: Path, name: str, grid: GeoBox, what: str
) -> tuple[str, list[tuple[dict[str, Any], tuple[_Polygon, ...]]]]:
    """(hash of a file, its features as (properties, polygons on the grid)). Raises MaskUnreadable."""
    content = _read(folder, name, what)
    try:
        collection = json.loads(content, parse_constant=_refuse)
        found = [
            (properties, tuple(_on_grid(rings, grid) for rings in polygons))
            for properties, polygons in _polygons(collection, what)
        ]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        if isinstance(error, MaskUnreadable):
            raise
        raise MaskUnreadable(f"The {what} is not a GeoJSON collection of polygons.") from error
    return hashlib.sha256(content).hexdigest(), found


def _read(folder: Path, name: str, what: str) -> bytes:
    try:
        path = job_file(folder, name)
        if path.stat().st_size > SIZE_LIMIT:
            raise MaskUnreadable(f"The {what} is too large.", "Choose fewer or simpler polygons.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MaskUnreadable(f"The {what} {error}.") from error
    except OSError as error:
        if isinstance(error, MaskUnreadable):
            raise
        raise MaskUnreadable(f"The {what} cannot be read.") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _polygons(collection: Any, what: str) -> list[tuple[dict[str, Any], list[list[Any]]]]:
    """(properties, the rings of each polygon) of the features as they stand in the file; some have no geometry."""
    if collection["type"] != "FeatureCollection":
        raise MaskUnreadable(f"The {what} is not a collection of features.")
    found = []
    for feature in collection["features"]:
        geometry, properties = feature["geometry"], feature.get("properties")
        if geometry is None:
            continue
        kind = geometry["type"]
        if kind not in ("Polygon", "MultiPolygon"):
            raise MaskUnreadable(f"The {what} holds a {str(kind)[:40]}, which has no inside.", "Choose polygons.")
        cut = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
        found.append((properties if isinstance(properties, dict) else {}, [rings for rings in cut if rings]))
    return found


def _on_grid(rings: list[Any], grid: GeoBox) -> _Polygon:
    """A polygon in pixels of the grid. Raises ValueError for a ring that is none."""
    cut = tuple(_ring(ring, grid) for ring in rings)
    (left, top), (right, bottom) = cut[0].min(axis=0), cut[0].max(axis=0)
    return _Polygon(cut, (top, bottom, left, right))


def _ring(ring: list[Any], grid: GeoBox) -> _Ring:
    pixels = np.array([grid.to_pixel(float(corner[0]), float(corner[1])) for corner in ring], np.float64)
    if not np.isfinite(pixels).all():
        raise ValueError("a corner is nowhere")
    # what rounding in the transform left behind, 1e-7 at most, must not decide where a corner goes: grids that are a
    # whole number of pixels apart agree
    snapped: _Ring = np.rint(np.round(np.clip(pixels, -FAR, FAR) * SNAP, 4)) / SNAP
    closed = snapped if np.array_equal(snapped[0], snapped[-1]) else np.concatenate([snapped, snapped[:1]])
    if len(closed) < 4:
        raise ValueError("a ring has three corners or more")
    return closed
