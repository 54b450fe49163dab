"""A job as the Processing command that makes its result again."""

import os
from typing import Any, Dict, List

from ..engine.contract import Generate, GeoBox, Job, SuperResolve


class _Code(str):
    """Python that stands in the command as it is."""

    def __repr__(self) -> str:
        return str(self)


def command(job: Job, folder: str) -> str:
    """The call of ``processing.run`` for QGIS's Python console; same seed, same pixels.

    Args:
        job: content of a job folder.
        folder: that folder; its source raster is the command's input.
    """
    name = type(job.request).__name__.lower()
    lines = [f"    {key!r}: {value!r}," for key, value in parameters(job, folder).items()]
    return "\n".join([f'processing.run("afterimage:{name}", {{', *lines, "})"])


def parameters(job: Job, folder: str) -> Dict[str, Any]:
    """Parameters of the algorithm, by name, as they stand in the command."""
    request, sampling = job.request, job.request.sampling
    found: Dict[str, Any] = {"MODEL": request.model}
    if isinstance(request, Generate):
        found["EXTENT"] = _extent(request.grid)
        found["CRS"] = _crs(request.grid.crs)
        found["RESOLUTION"] = request.gsd
        found["PROMPT"] = request.prompt
        found["NEGATIVE_PROMPT"] = request.negative_prompt
        found["DATE"] = request.date
        found["GUIDANCE"] = sampling.guidance_scale
    elif isinstance(request, SuperResolve):
        found["INPUT"] = os.path.abspath(os.path.join(folder, request.source.path))
        found["BANDS"] = _bands(request)
        found["FACTOR"] = request.factor
        found["DATE"] = request.source.date
        found["SPREAD"] = "TEMPORARY_OUTPUT" if request.spread else None
    found["SEED"] = sampling.seed
    found["STEPS"] = sampling.steps
    found["SCHEDULER"] = sampling.scheduler
    found["SAMPLES"] = sampling.samples
    found["OUTPUT"] = "TEMPORARY_OUTPUT"
    return {key: value for key, value in found.items() if value not in (None, "", [])}


def _bands(request: SuperResolve) -> List[int]:
    return list(request.source.bands)


def _extent(grid: GeoBox) -> Any:
    left, bottom, right, top = grid.bounds
    if "[" not in grid.crs:
        return f"{left!r},{right!r},{bottom!r},{top!r} [{grid.crs}]"
    # a CRS without a code cannot stand in the text form
    return _Code(f"QgsReferencedRectangle(QgsRectangle({left!r}, {bottom!r}, {right!r}, {top!r}), {_crs(grid.crs)!r})")


def _crs(text: str) -> Any:
    return text if "[" not in text else _Code(f"QgsCoordinateReferenceSystem.fromWkt({text!r})")
