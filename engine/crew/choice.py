"""Which crew draws a job: chosen by the person, or by what the job is worth on this machine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from ..contract import CHUNK, Edit, Forecast, Generate, Job, ModelCard, SuperResolve
from ..device import cores, free_main_memory, guess
from ..journal import JobFolder
from ..raster import SourceRaster
from ..settings import Settings
from .alone import Alone
from .base import Crew
from .processes import Processes
from .team import Team

#: Chunks that a worker must have to do for it to be worth its start.
WORTH = 2


def muster(
    job: Job, folder: JobFolder, card: ModelCard, settings: Settings, check: Callable[[], None] = lambda: None
) -> Crew:
    """The crew of a job; it is called in by its ``with`` block.

    More than one process draws with one thread each, and so does one that a person asked for, so that their pixels are
    the same, bit for bit.

    Args:
        job: what is asked.
        folder: where it lies.
        card: of the model that draws.
        settings: how this engine runs.
        check: called while others are waited for; may raise to stop.

    Raises:
        SchedulerUnreachable, WorkerMismatch, WorkersLost: where a cluster was asked for and cannot be had.
        SourceUnreadable: and what else ``SourceRaster`` raises, where the size of the job is to be known.
    """
    if settings.scheduler:
        from .cluster import make_team

        return make_team(folder.path, settings, check)
    single = dataclasses.replace(settings, threads=1)
    pinned = folder.pins()
    if pinned.get("device", guess(settings)) != "cpu":
        return Alone(settings)
    begun = int(pinned.get("threads", "1"))
    if settings.workers == 1:
        return Alone(single)
    if settings.workers > 1:
        # a job that was begun by one process with several threads has as many in each, for the same bits
        fitting = settings.workers if begun == 1 else max(1, cores() // begun)
        count = min(settings.workers, fitting, chunk_count(job, folder))
        return Team(Processes(folder.path, count, single), single, is_elsewhere=False)
    if begun != 1 or settings.threads > 1:
        return Alone(settings)  # begun by one process with several threads: what is missing has the same bits
    count = worthwhile(chunk_count(job, folder), card)
    if count < 2:
        return Alone(settings)
    return Team(Processes(folder.path, count, single), single, is_elsewhere=False)


def worthwhile(chunks: int, card: ModelCard) -> int:
    """Processes that draw so many chunks the fastest: one for each core, if there is work and memory for them.

    Args:
        chunks: over all samples.
        card: of the model; one that does not say what it takes is run once.
    """
    free = free_main_memory()
    if free is None or not card.memory_mb:
        return 1
    # this process plans the job, with the same model
    fitting = int(free / 1e6 // card.memory_mb) - 1
    return max(1, min(cores(), fitting, chunks // WORTH))


def chunk_count(job: Job, folder: JobFolder) -> int:
    """Chunks that a job has over all samples and the mean, before it is planned.

    Of a raster of which an edit changes a part they are all.
    """
    request = job.request
    if isinstance(request, Generate):
        shape = request.lattice.shape
    else:
        first: SuperResolve | Edit | Forecast = request
        source = first.sources[0] if isinstance(first, Forecast) else first.source
        with SourceRaster(folder.path, source) as raster:
            shape = (raster.grid.zoom(first.factor) if isinstance(first, SuperResolve) else raster.grid).shape
    pictures = request.sampling.samples + getattr(request, "mean", False)
    return pictures * math.ceil(shape[0] / CHUNK) * math.ceil(shape[1] / CHUNK)
