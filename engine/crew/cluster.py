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
from typing import Any, Generic, TypeVar

from ..contract import PROTOCOL, loads
from ..errors import SchedulerUnreachable, WorkerMismatch, WorkersLost, failure_of
from ..finished import Finished
from ..settings import Settings
from ..version import engine_version
from . import member
from .base import Piece, Run
from .messages import Answer, Begun, Broken, Lost
from .team import Team

log = logging.getLogger(__name__)
T = TypeVar("T")
#: What workers say of themselves, by their addresses.
Abouts = dict[str, dict[str, str]]

#: Seconds to wait for the scheduler to answer.
ANSWER_WITHIN = 20.0
#: Seconds to wait for workers that are told to stop, and for a scheduler that is left.
STOP_WITHIN = 1.0
#: Seconds without any worker after which they count as lost: those that ended start anew in fewer.
PATIENCE = 60.0
#: Seconds that the piece of a worker which is gone waits for its successor, which knows how it ended.
SUCCESSOR = 60.0
#: Seconds between two looks at which workers there are.
_INTERVAL = 0.5
#: Seconds between two looks at whether the person stopped the job, while an answer is waited for.
_CHECK = 0.1
_GONE = "The scheduler was lost while the job ran."
_START = "Start some with the command: engine work --scheduler <address>."


def make_team(path: Path, settings: Settings, check: Callable[[], None] = lambda: None) -> Team:
    """The crew of a scheduler's workers, each of them checked.

    Args:
        path: the job folder, on a disk that they share.
        settings: how this engine runs; ``scheduler`` is the address.
        check: called while answers are waited for; may raise to stop.

    Raises:
        SchedulerUnreachable: where nobody answers there, or Dask is not installed.
        WorkerMismatch: where one of the workers has another version of the engine, of a library, or another device.
        WorkersLost: where the scheduler has no workers of ours.
    """
    cluster = Cluster(path, settings, check)
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

    def __init__(self, path: Path, settings: Settings, check: Callable[[], None] = lambda: None) -> None:
        self.count, self._check, self._is_left = 0, check, False
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
        self._survey: _Question[tuple[set[str], Abouts]] | None = None
        self._names: dict[str, str] = {}
        self._gone: dict[str, float] = {}
        self._client = _connect(settings, check)

    def muster(self) -> str:
        """Look who is there, and check each; the device that all of them have."""
        limit = time.monotonic() + ANSWER_WITHIN
        while not (there := self._there()) and time.monotonic() < limit:
            self._check()
            time.sleep(_INTERVAL)
        if not there:
            raise WorkersLost("The scheduler has no workers of Afterimage.", _START)
        abouts = self._about(there)
        self._device = next(iter(abouts.values())).get("device", "")
        for hand, told in abouts.items():
            self._examine(hand, told)
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

    def give(self, hand: str, piece: Piece, run: Run) -> None:
        """See ``Hands``."""
        sample, chunk = piece
        pieces = [[number, each.row, each.col, each.height, each.width] for number, each in (piece, *run)]
        task = self._client.submit(
            _remote("draw"),
            *(self._path, self._key, self._run, pieces),
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
        """Have all stop after the batch that they are at, and leave the scheduler. Takes 3 s at most."""
        if self._is_left:
            return
        self._is_left = True
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
            _within(1.5 * STOP_WITHIN, lambda: self._client.close(timeout=STOP_WITHIN))
        except Exception as error:  # whatever Dask raises on its way out: it is out
            log.debug("the scheduler was left with %s", type(error).__name__)

    def _look(self) -> None:
        """See who came and who is gone; the question is asked behind what else goes on."""
        now = time.monotonic()
        if self._client.status != "running":
            raise WorkersLost(_GONE)
        for hand, task in list(self._tasks.items()):
            if task.status in ("cancelled", "lost"):  # of this, nothing is told by itself
                self._hear(hand, task)
        if self._survey is None:
            if now < self._looked + _INTERVAL:
                return
            known = self._hands | self._refused
            self._survey = _Question(lambda: self._looked_around(known))
        found = self._survey.answer()
        if found is None:
            if now > self._survey.asked + 2 * ANSWER_WITHIN:
                raise WorkersLost(_GONE)
            return
        self._survey, self._looked = None, now
        there, abouts = found
        for hand in sorted(self._hands - there):
            self._hands.discard(hand)
            self._gone[hand] = now if self._tasks.pop(hand, None) is not None else now - SUCCESSOR
        for hand, told in abouts.items():
            if hand not in self._hands | self._refused:
                self._welcome(hand, told)
        for hand in [hand for hand, since in self._gone.items() if now >= since + SUCCESSOR]:
            self._bury(hand, Lost("it is not at the scheduler any more", is_end=False))
        if self._hands:
            self._seen = now
        elif now > self._seen + PATIENCE:
            raise WorkersLost("All workers are gone from the scheduler.")

    def _looked_around(self, known: set[str]) -> tuple[set[str], Abouts]:
        """Who is there, and what those say of themselves who are not known yet."""
        there = self._there()
        return there, self._asked(there - known)

    def _welcome(self, hand: str, told: dict[str, str]) -> None:
        """One who came, and may know how the one before it in its place ended."""
        for gone in [gone for gone in self._gone if self._names.get(gone, "?") == told.get("ended")]:
            self._bury(gone, Lost("its process ended while it drew"))
        try:
            self._examine(hand, told)
        except WorkerMismatch as error:
            log.warning("a worker gets no work: %s", error)
            self._refused.add(hand)
            return
        self._hands.add(hand)
        self._told.append((hand, Begun()))

    def _bury(self, hand: str, lost: Lost) -> None:
        del self._gone[hand]
        self._told.append((hand, lost))

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
            except OSError as problem:  # its answer was lost with it, which is seen at the next look, or comes late
                if not isinstance(problem, TimeoutError):
                    time.sleep(_INTERVAL)
                self._done.put((hand, task))
                return
            self._told.extend((hand, loads(Answer, line)) for line in lines)
        elif task.status == "error":
            raised = task.exception(timeout=ANSWER_WITHIN)
            if type(raised).__name__ == "KilledWorker":
                self._told.append((hand, Lost("it was lost while it drew", is_end=False)))
            else:
                self._told.append((hand, Broken(failure_of(raised))))
        elif task.status == "cancelled":
            self._cancelled(hand)
            return
        elif task.status == "lost" and hand in self._hands:
            self._cancelled(hand)
            return
        else:
            return
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
        identity = _within(ANSWER_WITHIN, lambda: self._client.sync(_identity, self._client), self._check)
        workers: dict[str, Any] = identity["workers"]
        return {address for address, told in workers.items() if member.RESOURCE in told.get("resources", {})}

    def _about(self, hands: set[str]) -> Abouts:
        """What those workers say of themselves; of what cannot be asked, nothing.

        The question travels as code, which another Python or Dask may misread: their versions are asked before, by
        what Dask itself knows.
        """
        mine = member.speaks()
        versions = _within(ANSWER_WITHIN, self._client.get_versions, self._check)["workers"]
        found = {hand: _spoken(versions.get(hand)) for hand in hands}
        same = sorted(hand for hand in hands if found[hand] == mine)
        told = (
            _within(
                ANSWER_WITHIN,
                lambda: self._client.run(_remote("about"), workers=same, on_error="return"),
                self._check,
            )
            if same
            else {}
        )
        abouts = {hand: told[hand] if isinstance(told.get(hand), dict) else {} for hand in hands}
        self._names.update({hand: about.get("name", "") for hand, about in abouts.items()})
        return {hand: {**abouts[hand], **found[hand]} for hand in sorted(hands)}

    def _asked(self, hands: set[str]) -> Abouts:
        """The same of those who came; nothing where they do not answer yet."""
        try:
            return self._about(hands) if hands else {}
        except WorkersLost:
            return {}

    def _examine(self, hand: str, told: dict[str, str]) -> None:
        mine = {
            **member.speaks(),
            **member.versions(),
            "engine": engine_version(),
            "protocol": str(PROTOCOL),
            "device": self._device,
        }
        for name, value in mine.items():
            if told.get(name) != value:
                raise WorkerMismatch(
                    f"The worker at {hand} has {name} {told.get(name, 'unknown')}, and this job needs {value}.",
                    "Start all workers with this version of the engine, the same libraries and the same kind of "
                    "device, then resume the job.",
                )


def _spoken(told: Any) -> dict[str, str]:
    """The same as ``member.speaks`` of a worker, from what Dask knows of it."""
    if not isinstance(told, dict):
        return {}
    python = str(told.get("host", {}).get("python", "unknown"))
    return {
        "python": ".".join(python.split(".")[:2]),
        "distributed": str(told.get("packages", {}).get("distributed", "unknown")),
    }


class _Question(Generic[T]):
    """What is asked in a thread that nobody waits for: Dask waits for a machine that is gone as for one that is busy.

    Args:
        question: what answers it.

    Attributes:
        asked: when, ``time.monotonic()``.
    """

    def __init__(self, question: Callable[[], T]) -> None:
        self.asked = time.monotonic()
        self._answers: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()
        self._question = question
        threading.Thread(target=self._ask, name="question", daemon=True).start()

    def answer(self, seconds: float = 0.0) -> T | None:
        """What came of it; None where nothing has, in that time. Raises what it raised."""
        try:
            answer = self._answers.get(timeout=seconds) if seconds else self._answers.get_nowait()
        except queue.Empty:
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self) -> None:
        try:
            self._answers.put(self._question())
        except Exception as error:  # raised where it is waited for
            self._answers.put(error)


def _within(seconds: float, question: Callable[[], T], check: Callable[[], None] = lambda: None) -> T:
    """What is answered in that time.

    Raises:
        WorkersLost: where nothing is, or the connection breaks.
    """
    return _awaited(_Question(lambda: (question(),)), seconds, check)[0]


def _awaited(asked: _Question[T], seconds: float, check: Callable[[], None]) -> T:
    limit = time.monotonic() + seconds
    try:
        while (answer := asked.answer(max(0.001, min(_CHECK, limit - time.monotonic())))) is None:
            check()
            if time.monotonic() >= limit:
                raise WorkersLost(_GONE)
    except OSError as error:  # a TimeoutError is one
        raise WorkersLost(_GONE) from error
    return answer


async def _identity(client: Any) -> Any:
    return await client.scheduler.identity(n_workers=-1)


def _connect(settings: Settings, check: Callable[[], None]) -> Any:
    """A client of the scheduler."""
    if importlib.util.find_spec("distributed") is None:
        raise SchedulerUnreachable(
            "Dask is not installed in the engine's Python, so no scheduler can be asked.",
            "Install engine/requirements-dask.txt there with pip, or run the job without a scheduler.",
        )
    from distributed import Client

    logging.getLogger("distributed").setLevel("CRITICAL")  # what matters of it comes back as an error
    member.warn_if_open(settings)
    unreachable = f"No Dask scheduler answers at {settings.scheduler[:80]!r}."
    left = threading.Event()

    def connect() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions are compared here
            try:
                client = Client(
                    settings.scheduler,
                    timeout=ANSWER_WITHIN,
                    security=member.security(settings),
                    set_as_default=False,
                    heartbeat_interval=5000,
                )
            except (OSError, ValueError, TypeError, RuntimeError, TimeoutError) as error:
                raise SchedulerUnreachable(unreachable) from error
        if left.is_set():
            client.close()
        return client

    try:
        return _within(2 * ANSWER_WITHIN, connect, check)
    except BaseException as error:
        left.set()
        if isinstance(error, WorkersLost):
            raise SchedulerUnreachable(unreachable) from error
        raise


def _remote(name: str) -> Callable[..., Any]:
    """A function of ``member`` in the process where it is called.

    It travels as its code, since the scheduler and workers of others do not know this package.
    """

    def call(*arguments: Any) -> Any:
        import importlib

        return getattr(importlib.import_module("afterimage.engine.crew.member"), name)(*arguments)

    return call
