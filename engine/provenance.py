"""What a result says about itself: one record, as TIFF tags and as a STAC item."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .contract import GeoBox, Output, Provenance, Role, dumps
from .raster import footprint, to_pyproj

_WHAT = "AI-generated imagery, not a measurement."
_MEAN = (
    "The mean of all samples that the model would draw, by one network call in each of eight orientations: nearer to "
    "the truth, pixel by pixel, than a sample, and smoother than the ground."
)
_WAY = "A picture on the way from noise to a sample: its date orders the pictures and says nothing else."
#: What else is said of outputs that are no samples.
_SAID = {Role.MEAN: (_MEAN,), Role.TRAJECTORY: (_WAY,)}


def now() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def tags(provenance: Provenance, output: Output, frames: int = 0) -> dict[str, str]:
    """TIFF tags for one output; ``frames`` is how many pictures of its way from noise are kept."""
    whole = {Role.MEAN: "mean of all samples", Role.SPREAD: "spread around the mean"}
    what = whole.get(output.role, f"sample {output.sample}")
    if output.role is Role.TRAJECTORY:
        what += f" on its way from noise, picture {output.frame} of {frames}"
    words = f"AI-generated, not a measurement: {provenance.task} by {provenance.model}, {what}"
    if provenance.date:
        words += f", for {provenance.date}"
    return {
        "TIFFTAG_SOFTWARE": f"Afterimage {provenance.engine_version}",
        "TIFFTAG_IMAGEDESCRIPTION": words,
        "TIFFTAG_DATETIME": provenance.created[:19].replace("-", ":").replace("T", " "),
        "TIFFTAG_COPYRIGHT": provenance.licence,
        "AI_GENERATED": "YES",
    }


def stac_item(output: Output, provenance: Provenance) -> bytes:
    """A STAC item (1.0.0) for one output, with the processing and projection extensions."""
    rings = footprint(output.grid)
    xs = [[x for x, _ in ring] for ring in rings]
    ys = [y for ring in rings for _, y in ring]
    # a footprint in two parts lies on the antimeridian: RFC 7946 then has west > east
    west, east = (max(min(x) for x in xs), min(max(x) for x in xs)) if len(rings) > 1 else (min(xs[0]), max(xs[0]))
    path = Path(output.path)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
        ],
        "id": path.stem,
        "geometry": {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}
        if len(rings) > 1
        else {"type": "Polygon", "coordinates": [rings[0]]},
        "bbox": [west, min(ys), east, max(ys)],
        "properties": {
            "title": f"AI-generated: {path.stem}",
            "description": " ".join([_WHAT, *_SAID.get(output.role, ())]),
            "datetime": f"{output.date}T00:00:00Z" if output.date else provenance.created,
            "created": provenance.created,
            "license": provenance.licence or "other",
            "processing:lineage": f"{provenance.task} with {provenance.model}",
            "processing:software": {"Afterimage": provenance.engine_version},
            "processing:datetime": provenance.created,
            "afterimage:role": output.role.value,
            **({"afterimage:sample": output.sample, "afterimage:frame": output.frame} if output.frame else {}),
            "afterimage:provenance": json.loads(dumps(provenance)),
            **_projection(output.grid),
        },
        "links": [],
        "assets": {
            "data": {
                "href": f"./{path.name}",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
            }
        },
    }
    return json.dumps(item, ensure_ascii=False, allow_nan=False, indent=1).encode()


def _projection(grid: GeoBox) -> dict[str, Any]:
    crs = {"proj:code": grid.crs} if ":" in grid.crs[:12] else {"proj:wkt2": to_pyproj(grid.crs).to_wkt()}
    return {**crs, "proj:shape": list(grid.shape), "proj:transform": list(grid.transform)}
