"""From the tiles of a job to its output files: which, where, whether they fit, and all of them or none."""

from __future__ import annotations

import datetime
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import durable
from .context import JobContext
from .contract import Job, Output, Provenance, Result, Role, dumps, target_paths
from .errors import DiskFull, InvalidRequest, OutputNotWritable
from .finished import Finished, spread_profile
from .journal import JobFolder
from .provenance import now, stac_item, tags
from .raster import Pending, check_grid, gsd, prepare, publish
from .tasks.base import MEAN, Work
from .version import engine_version

#: Free space must be so many times the estimate.
_MARGIN = 1.1
#: Longest file name, in bytes; what most file systems allow, less the ".part" that is added.
_NAME_LIMIT = 230
#: Where a trajectory ends for which no date was asked.
LAST_DAY = "2000-01-01"


class OutputPlan:
    """The files that a job will leave behind.

    Args:
        job: the job.
        folder: its folder, where outputs go that were given no other place.
        keeps_tiles: whether the tiles are wanted after the job.
    """

    def __init__(self, job: Job, folder: JobFolder, keeps_tiles: bool = False) -> None:
        self._job, self._folder, self._keeps_tiles = job, folder, keeps_tiles
        self._first = Path(job.output) if job.output else folder.path / "outputs" / "result.tif"

    def targets(self) -> list[Path]:
        """Files of the samples, then those of mean and spread if asked for, then those of the trajectories."""
        job = self._job
        return [Path(path) for path in target_paths(job.request, str(self._first), job.spread_output, job.mean_output)]

    def check_target(self) -> None:
        """Refuse a place where nothing can be written, before any work.

        Raises:
            InvalidRequest: for a name that is no output file's, or a date with no room for a trajectory before it.
            OutputNotWritable: for a folder that is not there or not writable.
        """
        if not self._job.output:
            self._first.parent.mkdir(exist_ok=True)
        request = self._job.request
        frame_date(getattr(request, "date", None), 1, max(1, getattr(request, "trajectory", 0)))
        targets = self.targets()
        if len(set(targets)) < len(targets):
            raise InvalidRequest("Two outputs have the same name.", "Choose another output file.")
        for parent in {target.parent for target in targets if target.is_absolute()}:
            _check_writable(parent)
        for target in targets:
            if not target.is_absolute() or target.suffix.lower() not in (".tif", ".tiff"):
                raise InvalidRequest(
                    "The output must be a .tif file with its whole path.", "Choose another output file."
                )
            if len(os.fsencode(target.name)) > _NAME_LIMIT:
                raise InvalidRequest("The output's file name is too long.", "Choose a shorter name.")
            if target.is_dir() or (target.exists() and not target.is_file()):
                raise OutputNotWritable("There is a folder in the place of the output file.")

    def check_work(self, work: Work, finished: Finished) -> None:
        """Refuse work that no file or no disk can hold, before it begins.

        Raises:
            UnknownCrs, UnsupportedGrid: for a grid that a GeoTIFF cannot carry, or that cannot be warped.
            DiskFull: with the space that is needed and the space there is.
        """
        for grid in {work.drawn, work.result}:
            check_grid(grid)
            if work.drawn != work.result:
                gsd(grid)  # warping needs it
        bands, itemsize = len(work.profile.bands), work.profile.itemsize
        raw, out = work.drawn.pixels * bands * itemsize, work.result.pixels * bands * itemsize
        share = len(finished.missing()) / finished.total
        pictures = len(finished.pictures)
        # tiles that are still to be drawn, the smaller versions on their way into one file, and the pixels before and
        # after warping; all as if they could not be packed
        warped = 0 if work.drawn == work.result else raw + out
        inside = pictures * max(1, work.frames) * raw * share + warped + out / 3
        outside = (pictures * (1 + work.frames) * out + (work.result.pixels * bands * 4 if work.spread else 0)) * 4 / 3
        if self._moves(finished):
            # blocks take the place of tiles; those that a run that broke off has moved are moved once more
            outside += finished.held_twice() - pictures * out
        needs: dict[int, float] = {}
        places = [(self._folder.path, inside), (self._first.parent, outside)]
        for place, need in places:
            device = place.stat().st_dev
            needs[device] = needs.get(device, 0.0) + need
        for place, _ in places:
            need = needs[place.stat().st_dev] * _MARGIN + 4e6
            free = shutil.disk_usage(place).free
            if free < need:
                raise DiskFull(
                    f"The job needs {need / 1e6:.0f} MB of free disk space, there are {free / 1e6:.0f} MB.",
                    "Free some space or draw a smaller extent, then resume the job.",
                )

    def write(self, finished: Finished, ctx: JobContext, began: float) -> Result:
        """Prepare every file, and when all are verified, put them in place.

        Args:
            finished: the tiles.
            ctx: share of the progress.
            began: ``time.monotonic()`` when the job was taken up.
        """
        work, provenance = finished.work, _provenance(finished)
        pending: list[Pending] = []
        outputs: list[Output] = []
        moves = self._moves(finished)
        try:
            whole = zip(self.targets(), _parts(finished), strict=True)
            for (target, (role, sample, frame)), part in ctx.track(list(whole), "writing"):
                is_spread = role is Role.SPREAD
                profile = spread_profile(work.profile) if is_spread else work.profile
                parts = finished.spread(part) if is_spread else finished.parts(sample, part, frame)
                date = frame_date(work.date, frame, work.frames) if frame else work.date
                output = Output(str(target), role, sample, work.result, profile.bands, profile.dtype, date, frame)
                pending.append(
                    prepare(
                        target,
                        parts,
                        work.drawn,
                        work.result,
                        profile,
                        tags(provenance, output, work.frames),
                        dumps(provenance),
                        self._folder.scratch,
                        _telling(part),
                        finished.hand_over(sample, target) if moves and role in (Role.SAMPLE, Role.MEAN) else None,
                    )
                )
                outputs.append(output)
            for one, output in zip(pending, outputs):
                durable.write(one.target.with_suffix(".stac.json"), stac_item(output, provenance), "stac", one.mark)
                publish(one)
        except BaseException:
            for one in pending:
                one.discard()
            raise
        return Result(tuple(outputs), provenance, work.notices, round(time.monotonic() - began, 3))

    def _moves(self, finished: Finished) -> bool:
        """Whether tiles may go while a result is written: it has the drawn pixels, and nobody reads them again."""
        work = finished.work
        is_read_again = work.frames > 0 or (work.spread and work.told is None)
        if self._keeps_tiles or is_read_again or work.drawn != work.result or finished.gaps():
            return False
        folders = {target.parent for target in self.targets()}
        return all(durable.can_move(self._folder.path, folder) for folder in folders)


def _telling(ctx: JobContext) -> Callable[[float], None]:
    """What takes how far a file is, and stops it where the job was cancelled."""
    return lambda fraction: ctx.part(fraction, 1.0).tell("writing")


def _parts(finished: Finished) -> list[tuple[Role, int, int]]:
    """What is written, in the order of ``target_paths``: (role, sample, frame)."""
    found = [(Role.SAMPLE, sample, 0) for sample in finished.samples]
    if finished.work.mean:
        found.append((Role.MEAN, MEAN, 0))
    if finished.work.spread:
        found.append((Role.SPREAD, 0, 0))
    frames = range(1, finished.work.frames + 1)
    return found + [(Role.TRAJECTORY, sample, frame) for sample in finished.samples for frame in frames]


def frame_date(date: str | None, frame: int, frames: int) -> str:
    """The date of a picture of a trajectory: one day apart, so that they can be played; the last on the date asked for.

    Args:
        date: ISO 8601 date asked for; None for ``LAST_DAY``.
        frame: number of the picture, from 1.
        frames: how many there are.

    Raises:
        InvalidRequest: where the calendar does not go back so far.
    """
    try:
        day = datetime.date.fromisoformat(date or LAST_DAY) - datetime.timedelta(days=frames - frame)
    except OverflowError as error:
        raise InvalidRequest(
            "The calendar has no days before that date for the steps to be kept.", "Choose a later date."
        ) from error
    return day.isoformat()


def _provenance(finished: Finished) -> Provenance:
    request, work = finished.job.request, finished.work
    return Provenance(
        task=type(request).__name__,
        model=work.card.id,
        weights=work.card.weights,
        licence=work.card.licence,
        attribution=work.card.attribution,
        job=dumps(finished.job),
        prompt=getattr(request, "prompt", ""),
        negative_prompt=getattr(request, "negative_prompt", ""),
        date=work.date,
        seed=request.sampling.seed,
        scheduler=request.sampling.scheduler,
        steps=request.sampling.steps,
        guidance_scale=request.sampling.guidance_scale,
        inputs=work.inputs,
        grid=work.result,
        engine_version=engine_version(),
        created=now(),
        pins=finished.pins,
    )


def _check_writable(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputNotWritable("The folder of the output file is not there or cannot be written to.") from error
