"""A job as text that can be pasted into QGIS's Python console or a script."""

import math
import os
from typing import Any, Dict, List, Optional

from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRectangle

from ...engine.contract import Edit, Forecast, Generate, GeoBox, Job, Regions, Request, Sampling, Source, SuperResolve
from ..jobs import read_job
from ..maps.grid import crs_of, place
from ..maps.plan import TEXT
from ..report import Problem, tr
from .guides import guide_values


def command(folder: str) -> str:
    """The ``processing.run`` call that asks for the same as the job in this folder.

    Raises:
        OSError: where its request cannot be read.
        WireError: where it is not a job.
    """
    return command_of(read_job(folder), folder)


def command_of(job: Job, folder: str = "") -> str:
    """The ``processing.run`` call that asks for the same as a job.

    Args:
        job: what was asked.
        folder: of the job, where the source is found if no layer of the project has its name any more.
    """
    request = job.request
    if isinstance(request, Generate):
        values, crs = _generate(request, folder), _target(request)
        if "[" in request.grid.crs:  # WKT has brackets and commas of its own: objects instead of text
            values["EXTENT"] = _Code(
                f"QgsReferencedRectangle(QgsRectangle{_bounds(request.grid)}, {_wkt(request.grid)})"
            )
            values["CRS"] = None if crs is None else _Code(_wkt(request.grid))
        else:
            values["CRS"] = crs
    elif isinstance(request, SuperResolve):
        values = _super_resolve(request, folder)
    elif isinstance(request, Forecast):
        values = _forecast(request, folder)
    else:
        values = _edit(request, folder)
    values["OUTPUT"] = "TEMPORARY_OUTPUT"
    lines = [f"    {name!r}: {value!r}," for name, value in values.items() if value is not None]
    said = _said(request, folder)
    return "\n".join([*said, f"processing.run({_ID[type(request)]!r}, {{", *lines, "})"])


_ID = {
    Generate: "afterimage:generate",
    SuperResolve: "afterimage:superresolve",
    Edit: "afterimage:edit",
    Forecast: "afterimage:forecast",
}


class _Code(str):
    """Text that is Python already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _generate(request: Generate, folder: str) -> Dict[str, Any]:
    left, bottom, right, top = request.grid.bounds
    return {
        "EXTENT": f"{left!r},{right!r},{bottom!r},{top!r} [{request.grid.crs}]",
        "CRS": None,
        "RESOLUTION": request.gsd,
        "DATE": request.date,
        "PROMPT": request.prompt,
        "NEGATIVE_PROMPT": request.negative_prompt or None,
        "MODEL": request.model,
        **_sampling(request.sampling),
        "GUIDANCE": request.sampling.guidance_scale,
        "TRAJECTORY": request.trajectory or None,
        "CLOUD_COVER": request.cloud_cover,
        "TOLD_GSD": request.told_gsd,
        "COARSE": request.coarse if request.coarse > 1 else None,
        "COARSE_STRENGTH": request.coarse_strength if request.coarse > 1 else None,
        **_regions(request.regions, folder),
        # what the model saw, whatever has become of the layer
        **guide_values(request.controls, lambda source: os.path.join(folder, *source.path.split("/"))),
    }


def _regions(regions: Optional[Regions], folder: str) -> Dict[str, Any]:
    if regions is None:
        return {}
    # the job's own copy, as for the mask of an edit
    copy = os.path.join(folder, *regions.path.split("/"))
    is_there = os.path.exists(copy)
    return {
        "REGIONS": copy if is_there else regions.name,
        "REGIONS_FIELD": TEXT if is_there else None,
        "REGIONS_ONLY": regions.only or None,
    }


def _said(request: Request, folder: str) -> List[str]:
    """What the command cannot say of a job, as comments."""
    regions = request.regions if isinstance(request, Generate) else None
    if regions is None or os.path.exists(os.path.join(folder, *regions.path.split("/"))):
        return []
    said = tr(
        "The regions were not written yet: all polygons of the layer count, with their field 'prompt'. Name another "
        "with REGIONS_FIELD, or copy the command again once the job has begun."
    )
    return [f"# {said}"]


def _super_resolve(request: SuperResolve, folder: str) -> Dict[str, Any]:
    return {
        "INPUT": _input(request.source, folder),
        "BANDS": list(request.source.bands) or None,
        "FACTOR": request.factor,
        "DATE": request.source.date,
        "CLOUD_COVER": request.source.cloud_cover,
        "PROMPT": request.prompt or None,
        "NEGATIVE_PROMPT": request.negative_prompt or None,
        "MODEL": request.model,
        **_sampling(request.sampling),
        "GUIDANCE": request.sampling.guidance_scale,
        "MEAN": "TEMPORARY_OUTPUT" if request.mean else None,
        "SPREAD": "TEMPORARY_OUTPUT" if request.spread else None,
    }


def _edit(request: Edit, folder: str) -> Dict[str, Any]:
    mask = request.mask
    # the job's own copy: a layer may have changed since, or other polygons of it may be selected
    copy = "" if mask is None else os.path.join(folder, *mask.path.split("/"))
    return {
        "INPUT": _input(request.source, folder),
        "MASK": None if mask is None else copy if os.path.exists(copy) else mask.name,
        "PROMPT": request.prompt,
        "NEGATIVE_PROMPT": request.negative_prompt or None,
        "STRENGTH": request.strength,
        "IMAGE_GUIDANCE": request.image_guidance_scale,
        "MARGIN": request.margin or None,
        "CLOUD_COVER": request.cloud_cover,
        "TOLD_GSD": request.told_gsd,
        "DATE": request.date,
        "BANDS": list(request.source.bands) or None,
        "MODEL": request.model,
        **_sampling(request.sampling),
        "GUIDANCE": request.sampling.guidance_scale,
    }


def _forecast(request: Forecast, folder: str) -> Dict[str, Any]:
    covers = ["" if source.cloud_cover is None else f"{source.cloud_cover:g}" for source in request.sources]
    return {
        "INPUTS": [_input(source, folder) for source in request.sources],
        "DATES": ";".join(source.date or "" for source in request.sources),
        "DATE": request.date,
        "PROMPT": request.prompt,
        "NEGATIVE_PROMPT": request.negative_prompt or None,
        "CLOUD_COVER": request.cloud_cover,
        "CLOUD_COVERS": ";".join(covers) if any(covers) else None,
        "KEEP_ORDER": True,
        "BANDS": ";".join(",".join(map(str, source.bands or (1, 2, 3))) for source in request.sources),
        "MODEL": request.model,
        **_sampling(request.sampling),
        "GUIDANCE": request.sampling.guidance_scale,
    }


def _input(source: Source, folder: str) -> str:
    """The raster: by its name, where one layer of the project has it, else the job's own copy."""
    named = QgsProject.instance().mapLayersByName(source.name)
    copy = os.path.join(folder, *source.path.split("/"))
    return source.name if len(named) == 1 or not os.path.exists(copy) else copy


def _sampling(sampling: Sampling) -> Dict[str, Any]:
    return {
        "SEED": sampling.seed,
        "STEPS": sampling.steps,
        "SCHEDULER": sampling.scheduler,
        "SAMPLES": sampling.samples,
    }


def _target(request: Generate) -> Optional[str]:
    """The CRS to ask for so that the same grid comes out, None where the one that fits the place is the same."""
    crs: QgsCoordinateReferenceSystem = crs_of(request.grid.crs)
    try:
        chosen = place(QgsRectangle(*request.grid.bounds), crs, request.gsd)
    except Problem:  # then it needs its CRS all the more
        return request.grid.crs
    return None if _is_same(chosen.grid, request.grid) else request.grid.crs


def _is_same(a: GeoBox, b: GeoBox) -> bool:
    close = all(math.isclose(x, y, rel_tol=1e-12, abs_tol=1e-9) for x, y in zip(a.transform, b.transform))
    return a.crs == b.crs and a.shape == b.shape and close


def _bounds(box: GeoBox) -> str:
    return "({!r}, {!r}, {!r}, {!r})".format(*box.bounds)


def _wkt(box: GeoBox) -> str:
    return f"QgsCoordinateReferenceSystem.fromWkt({box.crs!r})"
