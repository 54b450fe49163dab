"""One job, from its folder to its result: checked, drawn tile by tile, assembled, published.

The only place where any exception at all becomes a ``Failure``.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from .backends.names import AUTO, NAMES, BackendRefused, available, check_backend, check_name
from .context import Emit, JobContext
from .contract import Cancelled, Failed, Job, ModelCard, Request, Result, Started, Succeeded, dumps
from .crew.alone import Alone
from .crew.base import Crew
from .crew.choice import muster
from .crew.opening import Catalog, Opened, Plan, cleaned
from .device import choose, is_available, libraries, threads
from .errors import JobCancelled, UnknownModel, UnknownScheduler, failure_of
from .finished import Finished
from .journal import JobFolder
from .output import OutputPlan
from .settings import Settings
from .version import engine_version

log = logging.getLogger(__name__)

#: Shares of a job's progress: loading the model, drawing, and the rest is writing.
_LOADED, _DRAWN = 0.03, 0.92


def run(
    folder: Path,
    job_id: str,
    emit: Emit,
    cancelled: threading.Event,
    settings: Settings,
    catalog: Catalog | None = None,
    tasks: Mapping[type, Plan] | None = None,
) -> Succeeded | Failed | Cancelled:
    """Run or resume the job in a folder.

    Returns:
        How it ended. This last event is the caller's to send, once it is ready for the next job.

    Args:
        folder: the job folder.
        job_id: name that the events carry.
        emit: takes the events on the way.
        cancelled: set from another thread to stop.
        settings: how this engine runs.
        catalog: where models come from; the engine's own by default.
        tasks: request type -> plan; the engine's own by default.
    """
    emit(Started(job_id))
    try:
        return Succeeded(job_id, _run(folder, job_id, emit, cancelled, settings, catalog, tasks))
    except JobCancelled:
        return Cancelled(job_id)
    except Exception as error:
        failure = failure_of(error)
        log.warning("job failed: %s", failure.code.value)
        log.debug("%s", failure.detail)
        return Failed(job_id, failure)


def _run(
    path: Path,
    job_id: str,
    emit: Emit,
    cancelled: threading.Event,
    settings: Settings,
    catalog: Catalog | None,
    tasks: Mapping[type, Plan] | None,
) -> Result:
    began = time.monotonic()
    with JobFolder(path) as folder:
        ctx = JobContext(job_id, emit, cancelled, folder.previews)
        ctx.tell("checking")
        job = cleaned(folder.job)
        done = folder.result()
        # else somebody changed the request since, or wants what was left out tried again
        if done is not None and done.provenance.job == dumps(job) and not folder.try_again():
            folder.tidy(settings.keep_tiles)
            return done
        outputs = OutputPlan(job, folder, settings.keep_tiles)
        outputs.check_target()
        is_own = catalog is None and tasks is None
        ctx.tell("starting")
        catalog = catalog or _catalog()
        card = check_card(job.request, catalog.cards(settings))
        # others know the engine's own models and tasks
        with muster(job, folder, card, settings, ctx.check) if is_own else Alone(settings) as crew:
            # the tasks bring torch along, which takes seconds: workers are at the same by now
            return _draw_and_write(job, folder, crew, outputs, catalog, tasks or _tasks(), ctx, began)


def _draw_and_write(
    job: Job,
    folder: JobFolder,
    crew: Crew,
    outputs: OutputPlan,
    catalog: Catalog,
    tasks: Mapping[type, Plan],
    ctx: JobContext,
    began: float,
) -> Result:
    loading = ctx.part(0.0, _LOADED)

    def open_job() -> Opened:
        pinned = _pin(folder, crew.settings, crew.is_elsewhere)
        is_here = is_available(pinned.device)
        planned = pinned if is_here else dataclasses.replace(pinned, device="cpu", backend="eager")
        return Opened(
            job, folder, planned, catalog, tasks, loading, lambda way: folder.repin("memory", way), is_here=is_here
        )

    try:
        opened = open_job()
    except BackendRefused:
        if folder.pins().get("backend", crew.settings.backend) == crew.settings.backend:
            raise  # the person's own, of now
        folder.forget_pins()  # nobody can undo a pin that an earlier run made: the job begins anew
        opened = open_job()
    finished = opened.finished
    outputs.check_work(opened.work, finished)
    _draw(crew, finished, ctx)
    finished.pins = folder.pins()
    result = outputs.write(finished, ctx.part(_DRAWN, 1.0), began)
    gaps = finished.gaps()
    notices = [*crew.notices, *_told(len(gaps)), *filter(None, [opened.memory_notice])]
    if notices:
        result = dataclasses.replace(result, notices=(*result.notices, *dict.fromkeys(notices)))
    folder.finish(result)
    folder.tidy(crew.settings.keep_tiles or bool(gaps))  # who runs the job once more gets the gaps drawn, and no more
    return result


def _draw(crew: Crew, finished: Finished, ctx: JobContext) -> None:
    """Have every tile drawn and committed that is not there yet."""
    missing = finished.missing()
    first = _DRAWN - (_DRAWN - _LOADED) * len(missing) / finished.total
    for sample, chunk in crew.draw(finished, missing, ctx.part(first, _DRAWN, timed=True)):
        log.debug("drawn: sample %d, row %d, column %d", sample, chunk.row, chunk.col)


def _told(count: int) -> list[str]:
    """What the person should know of so many squares that could not be drawn."""
    if not count:
        return []
    squares = "One square" if count == 1 else f"{count} squares"
    return [
        f"{squares} of the picture could not be drawn, so no data stands there: three processes that drew it ended. "
        "Free some memory and run the job's folder again: what is missing is tried again, and nothing else."
    ]


def check_card(request: Request, cards: tuple[ModelCard, ...]) -> ModelCard:
    """The card of the model that a request names.

    Raises:
        UnknownModel: where there is none, or one that does not do this task.
        UnknownScheduler: where it does not have the scheduler.
    """
    card = next((card for card in cards if card.id == request.model), None)
    if card is None:
        raise UnknownModel(f"The model {request.model[:80]!r} is not installed.")
    task = type(request).__name__
    if task not in card.tasks:
        raise UnknownModel(f"The model {card.name} cannot do {task}, but {', '.join(card.tasks)}.")
    if request.sampling.scheduler not in card.schedulers:
        raise UnknownScheduler(
            f"The model {card.name} has no scheduler {request.sampling.scheduler[:80]!r}.",
            f"Choose one of {', '.join(card.schedulers)}.",
        )
    return card


def _pin(folder: JobFolder, settings: Settings, is_elsewhere: bool) -> Settings:
    """The settings that this job was begun with, as far as they decide the last bit of a pixel.

    Where the device or the backend is gone, or the engine or a library is another one now, the job begins anew. So it
    does where those who draw elsewhere have another device than the one that is pinned.

    Raises:
        InvalidRequest: where a device or a backend was asked for that is not there; nothing of it is pinned.
    """
    versions = {**libraries(), "engine": engine_version()}
    pins = folder.pins()
    is_updated = any(pins.get(name, version) != version for name, version in versions.items())
    device = pins.get("device", settings.device if is_elsewhere else "cpu")
    is_gone = pins.get("backend", "eager") not in (NAMES if is_elsewhere else available(device))
    if is_updated or is_gone or (device != settings.device if is_elsewhere else not is_available(device)):
        folder.forget_pins()
    pins = folder.pins()
    device = pins.get("device") or (settings.device if is_elsewhere else choose(settings))
    backend = pins.get("backend", settings.backend)
    if is_elsewhere:  # what they have they see by themselves, and nothing is measured here for those who draw there
        check_name(backend)
        backend = "eager" if backend == AUTO else backend
    else:
        check_backend(backend, device)
    folder.pin("device", device)
    if is_elsewhere:
        folder.pin("backend", backend)
    count = int(folder.pin("threads", str(threads(settings))))
    for name, version in versions.items():
        folder.pin(name, version)
    return dataclasses.replace(settings, device=device, threads=count, backend=backend)


def _catalog() -> Catalog:
    from .models import catalog

    return catalog


def _tasks() -> Mapping[type, Plan]:
    from .tasks.plans import TASKS  # late: for who looks at a job without drawing it, and see above

    return TASKS
