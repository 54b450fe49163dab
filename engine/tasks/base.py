"""What a task hands to the runner: work that is drawn chunk by chunk, committed, assembled and published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..context import JobContext
from ..contract import GeoBox, Input, ModelCard, Window
from ..raster import Profile, Raster
from .elsewhere import Elsewhere

#: Number of the mean of all samples, which is drawn as one of them.
MEAN = 0


@dataclass(frozen=True)
class Work:
    """One job, planned: everything that the runner must know about a task.

    The runner draws each chunk of each sample that is not in the journal yet, commits it, and, when all are there,
    assembles each sample, and the mean, on ``drawn``, warps it to ``result`` where the two differ, and publishes it.

    Attributes:
        card: of the model that draws.
        drawn: grid that is drawn.
        result: grid of the published rasters.
        chunks: windows of ``drawn``, disjoint, covering it, in the order they are drawn.
        profile: pixel type, band names, nodata, scale, offset and colour of the published rasters.
        draw: (chunk, sample from 1 or ``MEAN``, context) -> the finished pixels of that chunk in ``profile.dtype``.
            Deterministic, and independent of which other chunks are drawn, when and where.
        inputs: the rasters it is made from.
        date: ISO 8601 date of the result.
        mean: whether the mean of all samples that there could be is drawn and published too.
        spread: whether how far the truth may lie from the mean is published too: the standard deviation over samples,
            or what ``told`` says.
        told: (chunk, context) -> the finished pixels of a chunk of the mean in ``profile.dtype``, and their standard
            deviation in float32, for models that tell it. Like ``draw``, whose place it takes for ``MEAN``.
        notices: sentences for the person.
        frames: pictures to keep of each sample on its way from noise, the sample itself among them; 0 for none.
        draw_frames: takes the place of ``draw`` where ``frames`` is above 0: as many rasters of a chunk, the noisiest
            first, and at last the same as ``draw`` makes.
        share: takes those who draw other chunks of the same work; None where nothing is shared with them.
    """

    card: ModelCard
    drawn: GeoBox
    result: GeoBox
    chunks: tuple[Window, ...]
    profile: Profile
    draw: Callable[[Window, int, JobContext], Raster]
    inputs: tuple[Input, ...] = ()
    date: str | None = None
    mean: bool = False
    spread: bool = False
    told: Callable[[Window, JobContext], tuple[Raster, Raster]] | None = None
    notices: tuple[str, ...] = ()
    frames: int = 0
    draw_frames: Callable[[Window, int, JobContext], Iterator[Raster]] | None = None
    share: Callable[[Elsewhere], None] | None = None
