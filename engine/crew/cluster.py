"""Workers of a Dask scheduler, on any number of machines: chunks are tasks, their answers are hashes.

Each worker gets one chunk at a time, so that who is lost is lost with one, and runs of neighbours stay with one worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import queue
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TypeVar

from ..contract import PROTOCOL, loads
from ..device import libraries
from ..errors import SchedulerUnreachable, WorkerMismatch, WorkersLost, failure_of
from ..finished import Finished
from ..settings import Settings
from ..version import engine_version
from . import member
from .base import Piece
from .messages import Answer, Begun, Broken, Lost
from .team import Team

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds to wait for the scheduler to answer.
ANSWER_WITHIN = 20.0
#: Seconds to wait for workers that are told to stop, and for a scheduler that is left.
STOP_WITHIN = 2.0
#: Seconds without any worker after which they count as lost: those that ended start anew in fewer.
PATIENCE = 60.0
#: Seconds between two looks at which workers there are.
_INTERVAL = 0.5
_GONE = "The scheduler was lost while the job ran."
_START = "Start some with the command: engine work --scheduler <address>."


def make_team(path: Path, settings: Settings) -> Team:
    """The crew of a scheduler's workers, each of them checked.

    Args:
        path: the job folder, on a disk that they share.
        settings: how this engine runs; ``scheduler`` is the address.

    Raises:
        SchedulerUnreachable: where nobody answers there, or Dask is not installed.
        WorkerMismatch: where one of the workers has another version of the engine, of a library, or another device.
        WorkersLost: where the scheduler has no workers of ours.
    """
    cluster = Cluster(path, settings)
    try:
        device = cluster.muster()
    except BaseException:
        cluster.close()
        raise
    team = Team(
        cluster,
        dataclasses.replace(settings, device=device, threads=1 if device == "cpu" else settings.threads),
        is_elsewhere=True,
    )
    team.notices.extend(cluster.notices)
    return team


class Cluster:
    """The workers of a scheduler: see ``Hands``. A hand's name is its address."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.count = 0
        self.notices: list[str] = []
        self._path, self._run = str(path), uuid.uuid4().hex
        self._key: str | None = None
        self._device = ""
        self._hands: set[str] = set()
        self._refused: set[str] = set()
        self._tasks: dict[str, Any] = {}
        self._done: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._told: deque[tuple[str, Answer | Lost]] = deque()
        self._looked, self._seen = 0.0, time.monotonic()
        self._client = _connect(settings)

    def muster(self) -> str:
        """Look who is there, and check each; the device that all of them have."""
        limit = time.monotonic() + ANSWER_WITHIN
        while not (there := self._there()) and time.monotonic() < limit:
            time.sleep(_INTERVAL)
        if not there:
            raise WorkersLost("The scheduler has no workers of Afterimage.", _START)
        abouts = self._about(there)
        self._device = next(iter(abouts.values())).get("device", "")
        for hand, told in abouts.items():
            self._check(hand, told)
        if len({told["processor"] for told in abouts.values()}) > 1:
            self.notices.append(
                "The workers have processors that round in different ways: pixels may differ by 1 of 255, "
                "depending on who drew them."
            )
        self._hands = set(abouts)
        self.count = len(abouts)
        return self._device

    def call(self) -> None:
        """They are there already."""

    def begin(self, finished: Finished, pieces: int) -> None:
        """See ``Hands``; each opens the job with its first piece, so those that are too many cost nothing."""
        self._key = finished.key
        self._told.extend((hand, Begun()) for hand in sorted(self._hands))

    def give(self, hand: str, piece: Piece) -> None:
        """See ``Hands``."""
        sample, chunk = piece
        where = [chunk.row, chunk.col, chunk.height, chunk.width]
        task = self._client.submit(
            _remote("draw"),
            *(self._path, self._key, self._run, sample, where),
            key=f"chunk-{sample}-{chunk.row}-{chunk.col}-{uuid.uuid4().hex[:8]}",
            workers=[hand],
            resources={member.RESOURCE: 1},
            retries=0,
            pure=False,
        )
        self._tasks[hand] = task
        task.add_done_callback(lambda done: self._done.put((hand, done)))

    def next(self, seconds: float) -> tuple[str, Answer | Lost] | None:
        """See ``Hands``."""
        if not self._told:
            self._look()
        if not self._told:
            with contextlib.suppress(queue.Empty):
                self._hear(*self._done.get(timeout=seconds))
        return self._told.popleft() if self._told else None

    def dismiss(self, hand: str) -> bool:
        """See ``Hands``."""
        self._hands.discard(hand)
        self._refused.add(hand)
        return bool(self._hands)

    def close(self) -> None:
        """Have all stop after the batch that they are at, and leave the scheduler."""
        if self._tasks and self._hands and self._client.status == "running":
            try:
                hands = sorted(self._hands)
                _within(
                    STOP_WITHIN,
                    lambda: self._client.run(_remote("stop"), self._run, workers=hands, on_error="ignore"),
                )
            except Exception as error:  # a worker or the scheduler that is gone has stopped, too
                log.debug("not all were told to stop: %s", type(error).__name__)
        self._tasks.clear()
        try:
            _within(2 * STOP_WITHIN, lambda: self._client.close(timeout=STOP_WITHIN))
        except Exception as error:  # whatever Dask raises on its way out: it is out
            log.debug("the scheduler was left with %s", type(error).__name__)

    def _look(self) -> None:
        """See who came and who is gone."""
        now = time.monotonic()
        if now < self._looked + _INTERVAL:
            return
        self._looked = now
        there = self._there()
        for hand in sorted(self._hands - there):
            self._hands.discard(hand)
            self._tasks.pop(hand, None)
            self._told.append((hand, Lost("it is not at the scheduler any more")))
        new = there - self._hands - self._refused
        for hand, told in self._asked(new).items():
            try:
                self._check(hand, told)
            except WorkerMismatch as error:
                log.warning("a worker gets no work: %s", error)
                self._refused.add(hand)
                continue
            self._hands.add(hand)
            self._told.append((hand, Begun()))
        if self._hands:
            self._seen = now
        elif now > self._seen + PATIENCE:
            raise WorkersLost("All workers are gone from the scheduler.")

    def _hear(self, hand: str, task: Any) -> None:
        """What came of a task."""
        if hand not in self._tasks or self._tasks[hand] is not task:
            return  # of one that was lost
        if task.status == "finished":
            try:
                lines = task.result(timeout=_INTERVAL)
            except CancelledError:
                self._cancelled(hand)
                return
            except OSError as error:  # its answer was lost with it, which is seen at the next look, or comes late
                if not isinstance(error, TimeoutError):
                    time.sleep(_INTERVAL)
                self._done.put((hand, task))
                return
            self._told.extend((hand, loads(Answer, line)) for line in lines)
        elif task.status == "error":
            error = task.exception(timeout=ANSWER_WITHIN)
            if type(error).__name__ == "KilledWorker":
                self._told.append((hand, Lost("it ended while it drew")))
            else:
                self._told.append((hand, Broken(failure_of(error))))
        elif task.status == "cancelled":
            self._cancelled(hand)
            return
        else:
            return  # lost with its worker, which is seen at the next look
        del self._tasks[hand]

    def _cancelled(self, hand: str) -> None:
        """The connection to the scheduler broke: Dask forgets all tasks, and may be there again at the next look."""
        self._tasks.pop(hand, None)
        self._hands.discard(hand)
        self._told.append((hand, Lost("the connection to the scheduler broke", is_end=False)))

    def _there(self) -> set[str]:
        """Addresses of the workers that are ours."""
        if self._client.status != "running":
            raise WorkersLost(_GONE)
        identity = _within(ANSWER_WITHIN, lambda: self._client.sync(_identity, self._client))
        workers: dict[str, Any] = identity["workers"]
        return {address for address, told in workers.items() if member.RESOURCE in told.get("resources", {})}

    def _about(self, hands: set[str]) -> dict[str, dict[str, str]]:
        """What those workers say of themselves; of what cannot be asked, nothing."""
        told = _within(
            ANSWER_WITHIN, lambda: self._client.run(_remote("about"), workers=sorted(hands), on_error="return")
        )
        return {hand: about if isinstance(about, dict) else {} for hand, about in told.items()}

    def _asked(self, hands: set[str]) -> dict[str, dict[str, str]]:
        """The same of those who came; nothing where they do not answer yet."""
        try:
            return self._about(hands) if hands else {}
        except WorkersLost:
            return {}

    def _check(self, hand: str, told: dict[str, str]) -> None:
        mine = {**libraries(), "engine": engine_version(), "protocol": str(PROTOCOL), "device": self._device}
        for name, value in mine.items():
            if told.get(name) != value:
                raise WorkerMismatch(
                    f"The worker at {hand} has {name} {told.get(name, 'unknown')}, and this job needs {value}.",
                    "Start all workers with this version of the engine, the same libraries and the same kind of "
                    "device, then resume the job.",
                )


def _within(seconds: float, question: Callable[[], T]) -> T:
    """What is answered in that time.

    Raises:
        WorkersLost: where nothing is, or the connection breaks.
    """
    answers: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(question())
        except Exception as error:  # raised where it is waited for
            answers.put(error)

    # in a thread that nobody waits for: Dask waits for a machine that is gone as long as for one that is busy
    threading.Thread(target=ask, name="question", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise WorkersLost(_GONE) from None
    if isinstance(answer, (OSError, TimeoutError)):
        raise WorkersLost(_GONE) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


async def _identity(client: Any) -> Any:
    return await client.scheduler.identity(n_workers=-1)


def _connect(settings: Settings) -> Any:
    """A client of the scheduler."""
    if importlib.util.find_spec("distributed") is None:
        raise SchedulerUnreachable(
            "Dask is not installed in the engine's Python, so no scheduler can be asked.",
            "Install engine/requirements-dask.txt there with pip, or run the job without a scheduler.",
        )
    from distributed import Client

    logging.getLogger("distributed").setLevel("CRITICAL")  # what matters of it comes back as an error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions are compared here
            return Client(
                settings.scheduler,
                timeout=ANSWER_WITHIN,
                security=member.security(settings),
                set_as_default=False,
                heartbeat_interval=5000,
            )
    except (OSError, ValueError, TypeError, RuntimeError, TimeoutError) as error:
        raise SchedulerUnreachable(f"No Dask scheduler answers at {settings.scheduler[:80]!r}.") from error


def _remote(name: str) -> Callable[..., Any]:
    """A function of ``member`` in the process where it is called.

    It travels as its code, since the scheduler and workers of others do not know this package.
    """

    def call(*arguments: Any) -> Any:
        import importlib

        return getattr(importlib.import_module("afterimage.engine.crew.member"), name)(*arguments)

    return call
