"""A job, opened for drawing: its model loaded in the way that is pinned, its work planned. The same wherever it is."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from ..context import JobContext
from ..contract import CHUNK, MEAN_CALLS, Job, ModelCard, clean_prompt
from ..device import free_caches
from ..errors import NotFinite, PromptTooLong, is_out_of_memory
from ..finished import Finished
from ..journal import JobFolder
from ..settings import Settings
from ..tasks.base import Work

log = logging.getLogger(__name__)

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


class Opened:
    """A job whose chunks can be drawn here.

    Args:
        job: what is asked, its texts as ``cleaned`` makes them.
        folder: where it lies.
        settings: how the model runs, with what is pinned.
        catalog: where the model comes from.
        tasks: request type -> plan.
        ctx: the share of the progress that loading and planning are.
        pin: takes the way in which memory made the model run, now and whenever that changes.
        is_owner: whether this process holds the folder's lock, and so may clear up in it.
        is_here: whether this process draws; one that only plans leaves the choice of a way to those who draw.
    """

    def __init__(
        self,
        job: Job,
        folder: JobFolder,
        settings: Settings,
        catalog: Catalog,
        tasks: Mapping[type, Plan],
        ctx: JobContext,
        pin: Callable[[str], None],
        is_owner: bool = True,
        is_here: bool = True,
    ) -> None:
        self._pin = pin
        ctx.tell("loading model")
        self._model = model = catalog.load(job.request.model, settings)
        if isinstance(model, Ladder):
            way = model.settle(folder.pins().get("memory") if is_here else None)
            if is_here:
                pin(way)
        ctx.tell("planning")
        self.work = tasks[type(job.request)](job.request, folder, model, ctx)
        if is_owner and is_here:
            folder.pin("backend", _backend(model, settings, job, self.work, ctx))
        self.finished = Finished(job, self.work, folder, self._make_room, is_owner, is_here)

    @property
    def memory_notice(self) -> str:
        """What the person should know of the memory that the model was run in; "" for nothing."""
        return self._model.memory_notice if isinstance(self._model, Ladder) else ""

    def _make_room(self, error: Exception) -> bool:
        """Run the model in a way that this error does not come from, and pin that; whether there is one."""
        model = self._model
        if not isinstance(model, Ladder):
            return False
        free_caches()
        if not (model.widen() if isinstance(error, NotFinite) else is_out_of_memory(error) and model.lighten()):
            return False
        free_caches()
        log.warning("%s: goes on with %s", type(error).__name__, model.memory)
        self._pin(model.memory)
        return True


def _backend(model: Any, settings: Settings, job: Job, work: Work, ctx: JobContext) -> str:
    """Have the networks of a model run by what is the fastest for this work; its name."""
    if not hasattr(model, "networks"):
        return "eager"
    from ..backends.choice import choose  # brings torch along

    sampling = job.request.sampling
    windows = len(work.chunks) * CHUNK**2 / work.card.stride**2
    calls = sampling.samples * sampling.steps + (MEAN_CALLS if work.mean else 0)
    gflop = windows * calls * work.card.gflop_per_window_step
    return choose(model, settings, gflop, lambda: ctx.tell("measuring"))


def cleaned(job: Job) -> Job:
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
