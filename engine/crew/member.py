"""A member of a cluster: a process that takes chunks from a Dask scheduler, of whichever job has work for it.

What Dask carries is names and hashes. Pixels go into the job's folder, which lies on a disk that all machines share.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..contract import PROTOCOL, Window, dumps
from ..device import choose, cores, guess, libraries
from ..errors import JobCancelled, JobFolderDamaged, WorkerMismatch, failure_of
from ..settings import Settings
from ..version import engine_version
from .base import Piece
from .messages import Answer, Broken, Drawn, Reached
from .worker import Worker

log = logging.getLogger(__name__)

#: What members offer to a scheduler, so that its other workers get nothing of ours, and ours nothing of others.
RESOURCE = "AFTERIMAGE"
#: Seconds that a member tries to reach its scheduler, and the longest pause before the next try.
REACH_WITHIN, PAUSE_LIMIT = 20, 30.0
#: Seconds after which a member counts as having run well.
_RAN_WELL = 60.0
LAUNCH = Path(__file__).resolve().parents[1] / "launch.py"


class _Member:
    """What this process is and has open."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.about: dict[str, str] = {
            **speaks(),
            **versions(),
            "name": os.environ.get("AFTERIMAGE_MEMBER", ""),
            "ended": os.environ.get("AFTERIMAGE_ENDED", ""),
            "engine": engine_version(),
            "protocol": str(PROTOCOL),
            "device": choose(settings),
            "processor": processor(),
        }
        self._open: tuple[str, Worker] | None = None
        self._runs: dict[str, threading.Event] = {}

    def stopped(self, run: str) -> threading.Event:
        """Set when a run of a job is to stop. Only the last few are known."""
        while len(self._runs) > 8:
            del self._runs[next(iter(self._runs))]
        return self._runs.setdefault(run, threading.Event())

    def draw(self, path: str, key: str, run: str, pieces: list[Piece]) -> list[str]:
        """Draw a piece and commit it; the answers as lines of JSON, none where the run was stopped.

        Args:
            path: the job folder.
            key: hash of the work.
            run: of the job.
            pieces: which, and the first and the last of those in a row that are drawn here.
        """
        said: list[Answer] = []
        try:
            if self._open is None or self._open[0] != run:
                self._open = None  # first: two models at once may be too much
                self._open = run, self._opened(path, key, run, said.append)
            worker = self._open[1]
            worker.tell = said.append
            piece, first, last = pieces
            said.append(Drawn(worker.draw(piece, (first, last))))
        except JobCancelled:
            self._open = None
            return []
        except Exception as error:  # whatever it is, who runs the job must hear of it
            self._open = None
            said.append(Broken(failure_of(error)))
        return [dumps(answer) for answer in said if not isinstance(answer, Reached)]

    def _opened(self, path: str, key: str, run: str, tell: Callable[[Answer], None]) -> Worker:
        try:
            return Worker(Path(path), key, self.settings, self.stopped(run), tell)
        except JobFolderDamaged as error:
            raise WorkerMismatch(
                "A worker does not see the job's folder.",
                "Put it on a disk that all machines share under the same path, then resume the job.",
            ) from error


_member: _Member | None = None


def about() -> dict[str, str]:
    """What the member in this process is: versions, device, processor."""
    return {} if _member is None else _member.about


def draw(path: str, key: str, run: str, pieces: list[list[int]]) -> list[str]:
    """See ``_Member.draw``; a task of the scheduler. A piece is its sample, row, column, height and width."""
    if _member is None:
        raise RuntimeError("this process is no member")
    return _member.draw(path, key, run, [(sample, Window(*chunk)) for sample, *chunk in pieces])


def stop(run: str) -> None:
    """Have a run of a job stop after the batch of windows that is at work."""
    if _member is not None:
        _member.stopped(run).set()


def speaks() -> dict[str, str]:
    """Versions of what decides whether two processes understand the code that Dask sends."""
    return {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "distributed": _version("distributed")}


def versions() -> dict[str, str]:
    """Versions of what decides the pixels."""
    return {**libraries(), "transformers": _version("transformers")}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def warn_if_open(settings: Settings) -> None:
    """Say so where a scheduler that others may reach is used without TLS."""
    host = urlsplit(settings.scheduler).hostname or ""
    if not settings.tls_ca and host != "localhost" and not host.startswith("127.") and host != "::1":
        log.warning(
            "%s has no TLS: whoever reaches the scheduler or a worker can run code there and on the engine's machine",
            settings.scheduler,
        )


def facing(scheduler: str) -> str:
    """The address of this machine on the side of a scheduler, so that workers listen nowhere else.

    Raises:
        OSError: where the scheduler's name is not known, or there is no way to it.
    """
    place = urlsplit(scheduler)
    family, _, _, _, address = socket.getaddrinfo(place.hostname, place.port or 8786, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)  # sends nothing
        found = str(probe.getsockname()[0])
    return f"[{found}]" if ":" in found else found


def processor() -> str:
    """What decides how a CPU rounds: the instructions that torch uses on it."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def security(settings: Settings) -> Any:
    """Dask's own for these settings; None without TLS."""
    if not settings.tls_ca:
        return None
    from distributed import Security

    mine = {"cert": settings.tls_cert, "key": settings.tls_key}
    names = {f"tls_{role}_{part}": path for role in ("client", "worker", "scheduler") for part, path in mine.items()}
    return Security(tls_ca_file=settings.tls_ca, require_encryption=True, **names)


def offer(settings: Settings, is_alone: bool, host: str = "") -> int:
    """Offer processes to a scheduler until this one is ended; those that are lost are started anew.

    Args:
        settings: scheduler, device, number of processes and so on.
        is_alone: to be such a process.
        host: address of this machine to listen at; "" for the one that faces the scheduler.
    """
    if is_alone:
        return _be(settings, host)
    warn_if_open(settings)
    count = settings.workers or (cores() if guess(settings) == "cpu" else 1)
    ended = threading.Event()
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: ended.set())
    keepers = [threading.Thread(target=_keep, args=(settings, ended, host), name=f"keeper-{i}") for i in range(count)]
    for keeper in keepers:
        keeper.start()
    while not ended.wait(1.0):
        continue
    for keeper in keepers:
        keeper.join()
    return 0


def _keep(settings: Settings, ended: threading.Event, host: str) -> None:
    """Start a member, and another when it ends, with longer pauses while none lives long."""
    pause = 1.0
    command = [sys.executable, "-I", "-u", str(LAUNCH), "--models", str(settings.models), "work", "--alone"]
    command += ["--host", host] if host else []
    last = ""
    threads = 1 if guess(settings) == "cpu" else settings.threads
    environment = {
        **os.environ,
        **settings.to_environment(),
        "AFTERIMAGE_SCHEDULER": settings.scheduler,
        "AFTERIMAGE_TLS_CA": settings.tls_ca,
        "AFTERIMAGE_TLS_CERT": settings.tls_cert,
        "AFTERIMAGE_TLS_KEY": settings.tls_key,
        "AFTERIMAGE_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads or 1),
    }
    while not ended.is_set():
        began, name = time.monotonic(), uuid.uuid4().hex
        # who comes next tells the engine that this one ended, and did not only leave
        environment.update(AFTERIMAGE_MEMBER=name, AFTERIMAGE_ENDED=last)
        # this interpreter and a file of ours, without a shell; its log is ours
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)  # nosec B603
        while process.poll() is None and not ended.wait(0.2):
            continue
        if process.poll() is None:
            process.terminate()
        status = process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if ended.is_set():
            return
        last = name if status else ""
        pause = 1.0 if time.monotonic() - began > _RAN_WELL else min(PAUSE_LIMIT, 2 * pause)
        log.warning("a worker ended with status %d; the next one starts in %.0f s", status, pause)
        ended.wait(pause)


def _be(settings: Settings, host: str) -> int:
    """Be a member until the scheduler, or the process that watches over this one, is gone; the exit status."""
    global _member
    logging.getLogger("distributed").setLevel("WARNING")
    threading.Thread(target=_end_with_input, name="stdin", daemon=True).start()
    _member = _Member(settings)
    try:
        asyncio.run(_serve(settings, host or facing(settings.scheduler)))
    except (OSError, asyncio.TimeoutError) as error:
        log.error("the scheduler %s cannot be reached: %s", settings.scheduler, type(error).__name__)
        return 1
    return 0


async def _serve(settings: Settings, host: str) -> None:
    from distributed import Worker as DaskWorker

    with tempfile.TemporaryDirectory(prefix="afterimage-") as scratch:
        async with DaskWorker(
            settings.scheduler,
            nthreads=1,
            host=host,
            dashboard_address="127.0.0.1:0",
            resources={RESOURCE: 1},
            local_directory=scratch,
            security=security(settings),
            memory_limit=0,  # a model takes what it takes: what is short is seen by its own ladder
            death_timeout=REACH_WITHIN,
        ) as worker:
            log.info("at work for %s", settings.scheduler)
            await worker.finished()


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        continue
    os._exit(0)
