"""One job, from its folder to its result: checked, drawn tile by tile, assembled, published.

The only place where any exception at all becomes a ``Failure``.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from .context import Emit, JobContext
from .contract import (
    Cancelled,
    Failed,
    Job,
    ModelCard,
    Request,
    Result,
    Started,
    Succeeded,
    clean_prompt,
    dumps,
)
from .device import choose, free_caches, is_available, libraries, threads
from .errors import (
    JobCancelled,
    NotFinite,
    PromptTooLong,
    UnknownModel,
    UnknownScheduler,
    failure_of,
    is_out_of_memory,
)
from .finished import Finished
from .journal import JobFolder
from .output import OutputPlan
from .settings import Settings
from .tasks.base import Work
from .version import engine_version

log = logging.getLogger(__name__)

#: Shares of a job's progress: loading the model, drawing, and the rest is writing.
_LOADED, _DRAWN = 0.03, 0.92

Plan = Callable[[Any, JobFolder, Any, JobContext], Work]


class Catalog(Protocol):
    """Where models come from: ``engine.models.catalog``, or a test's own."""

    def cards(self, settings: Settings) -> tuple[ModelCard, ...]:
        """Every model that is installed; without importing torch."""

    def load(self, model_id: str, settings: Settings) -> Any:
        """The model, its weights checked and on its device."""


@runtime_checkable
class Ladder(Protocol):
    """A model that can be run in several ways, some of which take less memory."""

    memory: str
    memory_notice: str

    def settle(self, pinned: str | None = None) -> str:
        """Run in the best way that fits, none better than the one that is pinned; what to pin."""

    def lighten(self) -> bool:
        """Run in the next way that takes less; whether there is one."""

    def widen(self) -> bool:
        """Run with numbers of a wider range; whether that is something else."""


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
        job = _cleaned(folder.job)
        done = folder.result()
        if done is not None and done.provenance.job == dumps(job):  # else somebody changed the request since
            folder.tidy(settings.keep_tiles)
            return done
        outputs = OutputPlan(job, folder)
        outputs.check_target()
        if catalog is None or tasks is None:
            ctx.tell("starting")
            catalog, tasks = catalog or _catalog(), tasks or _tasks()
        check_card(job.request, catalog.cards(settings))
        pinned = _pin(folder, settings)
        ctx.tell("loading model")
        model = catalog.load(job.request.model, pinned)
        if isinstance(model, Ladder):
            folder.repin("memory", model.settle(folder.pins().get("memory")))
        loaded = ctx.part(0.0, _LOADED)
        loaded.tell("planning")
        work = tasks[type(job.request)](job.request, folder, model, loaded)
        finished = Finished(job, work, folder, lambda error: _make_room(error, model, folder))
        outputs.check_work(work, finished)
        _draw(finished, ctx)
        finished.pins = folder.pins()
        result = outputs.write(finished, ctx.part(_DRAWN, 1.0), began)
        if isinstance(model, Ladder) and model.memory_notice:
            result = dataclasses.replace(result, notices=(*result.notices, model.memory_notice))
        folder.finish(result)
        folder.tidy(settings.keep_tiles)
        return result


def _draw(finished: Finished, ctx: JobContext) -> None:
    """Draw and commit every tile that is not there yet."""
    missing = finished.missing()
    share = len(missing) / finished.total
    first = _DRAWN - (_DRAWN - _LOADED) * share
    for (sample, chunk), part in ctx.part(first, _DRAWN, timed=True).track(missing, "drawing"):
        finished.draw(sample, chunk, part)


def _make_room(error: Exception, model: Any, folder: JobFolder) -> bool:
    """Run the model in a way that this error does not come from, and pin that; whether there is one."""
    if not isinstance(model, Ladder):
        return False
    free_caches()
    if not (model.widen() if isinstance(error, NotFinite) else is_out_of_memory(error) and model.lighten()):
        return False
    free_caches()
    log.warning("%s: goes on with %s", type(error).__name__, model.memory)
    folder.repin("memory", model.memory)
    return True


def _cleaned(job: Job) -> Job:
    """The job with its texts as they are used and recorded. Raises PromptTooLong, before any other work."""
    texts = {}
    for name in ("prompt", "negative_prompt"):
        text = getattr(job.request, name, None)
        if text is not None:
            try:
                texts[name] = clean_prompt(text)
            except ValueError as error:
                raise PromptTooLong(f"{str(error)[0].upper()}{str(error)[1:]}.") from error
    changes: Any = texts
    return dataclasses.replace(job, request=dataclasses.replace(job.request, **changes))


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


def _pin(folder: JobFolder, settings: Settings) -> Settings:
    """The settings that this job was begun with, as far as they decide the last bit of a pixel.

    Where the device is gone, or the engine or a library is another one now, the job begins anew.
    """
    versions = {**libraries(), "engine": engine_version()}
    pins = folder.pins()
    is_updated = any(pins.get(name, version) != version for name, version in versions.items())
    if is_updated or not is_available(pins.get("device", "cpu")):
        folder.forget_pins()
    device = folder.pins().get("device") or folder.pin("device", choose(settings))
    count = int(folder.pin("threads", str(threads(settings))))
    for name, version in versions.items():
        folder.pin(name, version)
    return dataclasses.replace(settings, device=device, threads=count)


def _catalog() -> Catalog:
    from .models import catalog

    return catalog


def _tasks() -> Mapping[type, Plan]:
    from .tasks import TASKS

    return TASKS
