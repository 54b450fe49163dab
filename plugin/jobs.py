"""Jobs as the plugin sees them: a draft, the record of one, and the folder that both live in."""

import os
import re
import secrets
import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Callable, Iterator, Optional, Sequence, Tuple, Union

from qgis.core import Qgis

from ..engine.contract import (
    Cancelled,
    Edit,
    ErrorCode,
    Event,
    Failed,
    Failure,
    Forecast,
    Generate,
    Job,
    JobState,
    Previewed,
    Progressed,
    Request,
    Result,
    Started,
    Succeeded,
    SuperResolve,
    WireError,
    dumps,
    loads,
)
from .report import Problem, log, tr

REQUEST = "request.json"
#: The event that ended the job, as the plugin heard it.
OUTCOME = "outcome.json"
#: Empty file: every source raster is in the folder.
PREPARED = "prepared"
#: Jobs of earlier sessions that are listed.
HISTORY = 200
#: Where results lie that have no place of their own.
OUTPUTS = "outputs"
_STAMP = "%Y%m%d-%H%M%S"
_Outcome = Union[Succeeded, Failed, Cancelled]


@dataclass(frozen=True)
class Draft:
    """What a person asked for, before it is a job.

    Attributes:
        request: what is asked.
        title: what the job list calls it.
        exports: objects with ``write(folder: str, cancelled: Callable[[], bool]) -> None`` that write source rasters
            and polygons into the job folder, on a worker thread, and ``files: Sequence[str]`` that pixels come from.
        output: absolute path of the first sample; empty for one in the job folder.
        spread_output: absolute path of the spread.
        mean_output: absolute path of the mean.
    """

    request: Request
    title: str
    exports: tuple = ()
    output: str = ""
    spread_output: str = ""
    mean_output: str = ""


@dataclass(frozen=True)
class JobRecord:
    """Where one job stands.

    Attributes:
        id: its name.
        title: what the list calls it.
        task: name of the request's type ("Generate", "SuperResolve", "Edit", "Forecast").
        folder: absolute path of the job folder.
        state: queued, running, succeeded, failed or cancelled.
        stage: a word for what is being done.
        fraction: of the whole job, only rising; None while it cannot be told.
        seconds_left: None while it cannot be told.
        preview: path of the newest preview, "" before the first.
        result: of a job that succeeded.
        failure: of a job that failed.
        created: ISO 8601 time in UTC.
    """

    id: str
    title: str
    task: str
    folder: str
    state: JobState = JobState.QUEUED
    stage: str = ""
    fraction: Optional[float] = None
    seconds_left: Optional[float] = None
    preview: str = ""
    result: Optional[Result] = None
    failure: Optional[Failure] = None
    created: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, in whichever way."""
        return self.state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


def apply(record: JobRecord, event: Event) -> JobRecord:
    """The record after an event. Events of other jobs, and any after the end, change nothing."""
    if getattr(event, "job", None) != record.id or record.is_over:
        return record
    if isinstance(event, Started):
        return replace(record, state=JobState.RUNNING)
    if isinstance(event, Progressed):
        known = [fraction for fraction in (record.fraction, event.fraction) if fraction is not None]
        return replace(
            record,
            state=JobState.RUNNING,
            stage=event.stage,
            fraction=min(1.0, max(known)) if known else None,
            seconds_left=event.seconds_left,
        )
    if isinstance(event, Previewed):
        return replace(record, preview=event.path)
    if isinstance(event, Succeeded):
        return replace(
            record, state=JobState.SUCCEEDED, result=event.result, fraction=1.0, seconds_left=None, preview=""
        )
    if isinstance(event, Failed):
        return replace(record, state=JobState.FAILED, failure=event.failure, seconds_left=None)
    if isinstance(event, Cancelled):
        return replace(record, state=JobState.CANCELLED, seconds_left=None)
    return record


def queued(record: JobRecord) -> JobRecord:
    """The record of the same job, waiting to be run once more."""
    return JobRecord(record.id, record.title, record.task, record.folder, created=record.created)


def create_folder(root: str, draft: Draft) -> Tuple[str, str]:
    """Make the folder of a new job and write its ``request.json``.

    Returns:
        The job's id and the absolute path of its folder.
    """
    now = datetime.now(timezone.utc)
    job = f"{now.strftime(_STAMP)}-{type(draft.request).__name__.lower()}-{secrets.token_hex(3)}"
    folder = os.path.join(os.path.abspath(root), job)
    os.makedirs(folder)
    content = Job(job, draft.request, draft.output, draft.spread_output, draft.mean_output, draft.title)
    _write(os.path.join(folder, REQUEST), dumps(content))
    return job, folder


def read_job(folder: str) -> Job:
    """The content of a folder's ``request.json``.

    Raises:
        OSError: if it cannot be read.
        WireError: if it is not a job.
    """
    with open(os.path.join(folder, REQUEST), encoding="utf-8") as file:
        return loads(Job, file.read())


def input_paths(request: Request) -> Tuple[str, ...]:
    """What a request reads out of its job folder, relative to that, each once: rasters, polygons, controls."""
    inputs = [getattr(request, name, None) for name in ("source", "mask", "regions")]
    inputs += getattr(request, "sources", ())
    inputs += [control.source for control in getattr(request, "controls", ())]
    return tuple(dict.fromkeys(found.path for found in inputs if found is not None))


def generate_title(request: Generate, usual: str) -> str:
    """What the job list calls it: what is drawn, else the layer that says it, else the usual.

    Args:
        request: what is asked.
        usual: where it has no words of its own.
    """
    if request.regions is None:
        return request.prompt[:60] or usual
    if not request.prompt or request.regions.only:
        return request.regions.name or usual
    return tr("{where}, elsewhere {what}").format(where=request.regions.name, what=request.prompt[:60])


def edit_title(request: Edit) -> str:
    """What the job list calls it: what is there afterwards, and where."""
    what, layer = request.prompt[:60] or tr("changed"), request.source.name
    if request.mask is None and request.margin:
        return tr("{what} around {layer}").format(what=what, layer=layer)
    if request.mask is None:
        return tr("{what}, {layer}").format(what=what, layer=layer)
    where = request.mask.name or tr("a drawn polygon")
    return tr("{what} in {where}, {layer}").format(what=what, where=where, layer=layer)


def super_resolve_title(request: SuperResolve) -> str:
    """What the job list calls it: the layer, and how many times finer."""
    return tr("{layer}, {factor}\u00d7 finer").format(layer=request.source.name, factor=request.factor)


def forecast_title(request: Forecast) -> str:
    """What the job list calls it: the place, by the layer that gives the grid, and the date."""
    return tr("{layer} on {date}").format(layer=request.sources[0].name, date=request.date)


def write_outcome(folder: str, event: _Outcome) -> None:
    """Remember how the job in this folder ended."""
    _write(os.path.join(folder, OUTCOME), dumps(event))


def record_outcome(folder: str, event: _Outcome) -> None:
    """``write_outcome``, of a job that is over whether that can be written or not: what goes wrong is logged."""
    try:
        write_outcome(folder, event)
    except OSError as error:
        log(tr("The end of a job could not be recorded: {}").format(error), Qgis.MessageLevel.Warning)


def forget_outcome(folder: str) -> None:
    """Make the job in this folder an unfinished one again."""
    path = os.path.join(folder, OUTCOME)
    if os.path.exists(path):
        os.remove(path)


def mark_prepared(folder: str) -> None:
    """Remember that every source raster is in the folder."""
    _write(os.path.join(folder, PREPARED), "")


def prepare_sources(folder: str, exports: Sequence, cancelled: Callable[[], bool]) -> bool:
    """Write every source raster into the folder, and remember that they are there.

    Args:
        folder: of the job.
        exports: as in ``Draft``.
        cancelled: whether to stop.

    Returns:
        False once cancelled.

    Raises:
        Problem: where one cannot be written.
    """
    try:
        for export in exports:
            export.write(folder, cancelled)
            if cancelled():
                return False
        mark_prepared(folder)
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        raise Problem(
            ErrorCode.SOURCE_UNREADABLE,
            tr("The source could not be written into the job folder."),
            tr("Check that the layer can be read and that the disk has space."),
            f"{type(error).__name__}: {error}",
        ) from error
    return True


def is_prepared(folder: str) -> bool:
    """Whether every source raster is in the folder."""
    return os.path.exists(os.path.join(folder, PREPARED))


def read_folder(folder: str) -> JobRecord:
    """The record of a job from an earlier session of QGIS.

    A job without an outcome was interrupted: it is shown as failed, resumable if its sources are complete.

    Raises:
        OSError: if there is no request.
        WireError: if the request is not a job of this version.
    """
    job = read_job(folder)
    record = JobRecord(
        id=job.id,
        title=job.title or job.id,
        task=type(job.request).__name__,
        folder=os.path.abspath(folder),
        created=created(job.id, folder),
    )
    return apply(record, _read_outcome(job.id, folder))


def read_history(root: str, most: int = HISTORY) -> Iterator[JobRecord]:
    """The records of the newest jobs in a folder of job folders, oldest first; one that cannot be read is logged.

    Args:
        root: where job folders are.
        most: how many are read.
    """
    if not os.path.isdir(root):
        return
    places = (os.path.join(root, name) for name in sorted(os.listdir(root)))
    found = [folder for folder in places if os.path.exists(os.path.join(folder, REQUEST))]
    for folder in found[-most:]:
        try:
            yield read_folder(folder)
        except (OSError, WireError) as error:
            log(tr("The job folder {} cannot be read: {}").format(folder, error), Qgis.MessageLevel.Warning)


def _read_outcome(job: str, folder: str) -> _Outcome:
    try:
        with open(os.path.join(folder, OUTCOME), encoding="utf-8") as file:
            return replace(loads(_Outcome, file.read()), job=job)
    except FileNotFoundError:
        resumable = is_prepared(folder)
        message = tr("QGIS was closed before this job ended.")
        hint = tr("Retry continues where it stopped.") if resumable else tr("Its source was not complete: run it anew.")
        return Failed(job, Failure(ErrorCode.ENGINE_LOST, message, hint, resumable=resumable))
    except (OSError, WireError) as error:
        message = tr("How this job ended cannot be read.")
        hint = tr("Retry runs it again.")
        return Failed(job, Failure(ErrorCode.JOB_FOLDER_DAMAGED, message, hint, str(error), is_prepared(folder)))


def created(job: str, folder: str) -> str:
    """ISO 8601 time in UTC at which a job was made."""
    stamp = re.match(r"\d{8}-\d{6}", job)
    if stamp:
        try:
            return datetime.strptime(stamp.group(), _STAMP).replace(tzinfo=timezone.utc).isoformat()
        except ValueError:  # digits that are no time; the file's own time is next best
            stamp = None
    return datetime.fromtimestamp(os.path.getmtime(os.path.join(folder, REQUEST)), timezone.utc).isoformat()


def remove_folder(folder: str) -> None:
    """Take a job's working files off the disk. The request goes first; results in the folder stay."""
    request = os.path.join(folder, REQUEST)
    if not os.path.exists(request):
        return
    os.remove(request)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name == OUTPUTS:
            continue
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.remove(path)
    if not os.path.isdir(os.path.join(folder, OUTPUTS)) or not os.listdir(os.path.join(folder, OUTPUTS)):
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: str, text: str) -> None:
    """Replace a file in one step. No fsync: this runs on QGIS's main thread, and a lost request is asked again."""
    beside = f"{path}.{os.getpid()}.part"
    with open(beside, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    os.replace(beside, path)
