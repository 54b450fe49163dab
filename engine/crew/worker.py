"""What a worker does: opens a job as it is pinned, draws the pieces that it is given, and commits them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..context import JobContext
from ..contract import Event, Progressed
from ..device import libraries
from ..errors import JobCancelled, WorkerMismatch, failure_of
from ..journal import JobFolder
from ..raster import Raster
from ..settings import Settings
from ..version import engine_version
from .base import Piece, Run
from .exchange import Exchange
from .messages import Answer, Begin, Begun, Broken, Draw, Drawn, Order, Reached, Way
from .opening import Opened, cleaned

#: Share of a piece between two messages of how far it is.
_TELL_EVERY = 0.05


class Worker:
    """One job, open in a process that holds no lock on its folder.

    Args:
        path: the job folder.
        key: hash of the work, as it was planned by who runs the job.
        settings: how this process runs; what is pinned counts more.
        cancelled: set from another thread to stop.
        tell: takes how far it is, and the ways that memory makes the model run in.

    Raises:
        WorkerMismatch: where this process would draw other pixels than those that are asked for.
        EngineError: where the job cannot be opened.
        JobCancelled: when it was stopped.
    """

    def __init__(
        self, path: Path, key: str, settings: Settings, cancelled: threading.Event, tell: Callable[[Answer], None]
    ) -> None:
        from ..models import catalog
        from ..tasks.plans import TASKS

        self.tell, self._told = tell, 0.0
        folder = JobFolder(path)
        pins = folder.pins()
        check_versions(pins)
        backend = pins.get("backend", "eager")
        pinned = dataclasses.replace(settings, device=pins["device"], threads=int(pins["threads"]), backend=backend)
        # who runs the job shows what is finished: nothing is shown from here
        self._ctx = JobContext(folder.path.name, self._hear, cancelled, None)
        job = cleaned(folder.job)
        ways: list[str] = []
        self._opened = Opened(job, folder, pinned, catalog, TASKS, self._ctx, ways.append, is_owner=False)
        self._ways, self._known = ways, pins.get("memory", "")
        self._finished = self._opened.finished
        if self._finished.key != key:
            raise WorkerMismatch(
                "A worker plans this job otherwise than the engine that runs it: its models or the job's files differ.",
                "Give all machines the same models, and the job's folder on a disk that they share.",
            )
        self._exchange = Exchange(folder.scratch / "windows", key, self._opened.work.chunks)
        if self._opened.work.share is not None:
            self._opened.work.share(self._exchange)
        self._tell_way()

    def draw(self, piece: Piece, run: Run) -> str:
        """Draw a piece of a run and commit it; the hash of its pixels."""
        self._told = 0.0
        self._exchange.take(run)
        for (sample, chunk), part in self._ctx.anew().track([piece], "drawing"):
            raster = self._finished.draw(sample, chunk, part)
        self._tell_way()
        return fingerprint(raster)

    def _hear(self, event: Event) -> None:
        if not isinstance(event, Progressed) or event.stage not in ("drawing", "denoising"):
            return
        if event.fraction is not None and event.fraction >= self._told + _TELL_EVERY:
            self._told = event.fraction
            self.tell(Reached(event.fraction))

    def _tell_way(self) -> None:
        if self._ways and self._ways[-1] != self._known:
            self._known = self._ways[-1]
            self.tell(Way(self._known, self._opened.memory_notice))


def check_versions(pins: dict[str, str]) -> None:
    """See whether this process has the versions that a job is pinned to.

    Raises:
        WorkerMismatch: where one differs, or nothing is pinned.
    """
    for name, version in {**libraries(), "engine": engine_version()}.items():
        if pins.get(name) != version:
            raise WorkerMismatch(
                f"A worker has {name} {version}, and the engine that runs the job {pins.get(name, 'none')}.",
                "Install the same version of the engine and its libraries on all machines, and start the workers anew.",
            )


def fingerprint(raster: Raster) -> str:
    """Hash of the pixels of a chunk and of which are valid."""
    digest = hashlib.sha256(np.ascontiguousarray(raster.pixels).tobytes())
    digest.update(np.packbits(raster.valid).tobytes())
    return digest.hexdigest()


def work(
    path: Path,
    settings: Settings,
    orders: Iterator[Order],
    send: Callable[[Answer], None],
    cancelled: threading.Event,
) -> bool:
    """Follow the orders of who runs the job; whether all went well.

    Args:
        path: the job folder.
        settings: how this process runs.
        orders: one after the other; their end is the end.
        send: takes the answers.
        cancelled: set from another thread to stop.
    """
    importlib.import_module(f"{__package__.rpartition('.')[0]}.tasks.plans")  # takes seconds, while the job is planned
    worker: Worker | None = None
    try:
        for order in orders:
            if isinstance(order, Begin):
                worker = Worker(path, order.key, settings, cancelled, send)
                send(Begun())
            elif isinstance(order, Draw) and worker is not None:
                piece, first, last = ((each.sample, each.chunk) for each in (order.piece, order.first, order.last))
                send(Drawn(worker.draw(piece, (first, last))))
            else:
                break
    except JobCancelled:
        return True
    except Exception as error:  # whatever it is, who runs the job must hear of it
        send(Broken(failure_of(error)))
        return False
    return True
