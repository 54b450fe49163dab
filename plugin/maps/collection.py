"""Shapes as a file of a job folder that the engine reads, and QGIS, too."""

import json
import os
import secrets
from typing import Callable, Iterable, Tuple


def write_collection(
    folder: str, path: str, crs: str, shapes: Iterable[Tuple[dict, dict]], cancelled: Callable[[], bool]
) -> int:
    """Write a GeoJSON FeatureCollection, on any one thread.

    Args:
        folder: of the job.
        path: relative to it.
        crs: of the coordinates, as a ``GeoBox`` names it.
        shapes: (properties, geometry) of each.
        cancelled: whether to stop.

    Returns:
        How many there are; 0 where there is no file, because there are none, or once cancelled.

    Raises:
        OSError: where the file cannot be written.
    """
    target = os.path.join(folder, *path.split("/"))
    part = f"{target}.{secrets.token_hex(4)}.part"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    count = 0
    try:
        with open(part, "w", encoding="utf-8", newline="\n") as file:
            file.write(f'{{"type": "FeatureCollection", "crs": {json.dumps(_crs_member(crs))}, "features": [')
            for properties, geometry in shapes:
                if cancelled():
                    return 0
                feature = {"type": "Feature", "properties": properties, "geometry": geometry}
                file.write((",\n" if count else "\n") + json.dumps(feature, allow_nan=False))
                count += 1
            file.write("\n]}\n")
        if count:
            os.replace(part, target)
        return count
    finally:
        if os.path.exists(part):
            os.remove(part)


def _crs_member(crs: str) -> dict:
    """The CRS as GDAL reads it in a GeoJSON file, x before y.

    It is not in RFC 7946, but tells GDAL, and so QGIS, where a copy of the file lies.
    """
    authority, _, code = crs.partition(":")
    name = f"urn:ogc:def:crs:{authority}::{code}" if authority in ("EPSG", "ESRI") else crs
    return {"type": "name", "properties": {"name": name}}
