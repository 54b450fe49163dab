"""Commands in, events out, one line of JSON each: the only file that knows that there is a pipe.

The main thread reads; one worker thread runs jobs in order. When the input ends or the parent is gone, the running job
is stopped, and the process ends within ``GRACE`` seconds, by force if it must: the journal is intact at every instant.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from .contract import (
    LINE_LIMIT,
    PROTOCOL,
    Cancel,
    Cancelled,
    Command,
    ErrorCode,
    Event,
    Failed,
    Failure,
    Ready,
    Shutdown,
    Submit,
    Succeeded,
    WireError,
    dumps,
    loads,
)
from .crew.messages import Answer, Order, Stop
from .device import guess, guess_free_memory
from .errors import EngineError
from .settings import Settings
from .version import engine_version

log = logging.getLogger(__name__)

#: Seconds from the end of the input to the end of the process, at most.
GRACE = 3.0
#: Seconds between two looks at whether the parent is still there.
PARENT_INTERVAL = 1.0


class Channel:
    """Where events go: the descriptor that was standard output, kept for them alone.

    Descriptor 1 is pointed at standard error, so that a library that prints, C code included, cannot corrupt the
    stream.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self._descriptor = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        if os.name == "nt":  # pragma: no cover
            import msvcrt

            msvcrt.setmode(self._descriptor, os.O_BINARY)  # type: ignore[attr-defined]
        self._lock = threading.Lock()
        self.broken = threading.Event()

    def send(self, event: Event | Answer) -> None:
        """Send an event, or what a worker answers; where nobody listens any more, note that and go on."""
        rest = memoryview(dumps(event).encode("utf-8") + b"\n")
        with self._lock:
            try:
                while rest and not self.broken.is_set():
                    written = os.write(self._descriptor, rest)
                    rest = rest[written:]
            except OSError:
                self.broken.set()


class Queue:
    """Jobs in the order in which they came; one runs at a time, in a thread of its own."""

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel, self._settings = channel, settings
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, str] = OrderedDict()
        self._running: tuple[str, threading.Event] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def submit(self, job: str, folder: str) -> None:
        """Add a job, unless it is already here."""
        with self._changed:
            if job not in self._waiting and (self._running is None or self._running[0] != job):
                self._waiting[job] = folder
                self._changed.notify()

    def cancel(self, job: str) -> None:
        """Stop a job: one that waits is gone at once, the running one at its next check."""
        with self._changed:
            is_waiting = self._waiting.pop(job, None) is not None
            if self._running is not None and self._running[0] == job:
                self._running[1].set()
        if is_waiting:
            self._channel.send(Cancelled(job))

    def close(self, seconds: float) -> bool:
        """Stop everything; whether the worker ended in time."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            if self._running is not None:
                self._running[1].set()
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                job, folder = self._waiting.popitem(last=False)
                self._running = (job, threading.Event())
                cancelled = self._running[1]
            ending = self._run(job, folder, cancelled)
            # first free, then told: who hears that a job ended may submit it again at once
            with self._changed:
                self._running = None
            self._channel.send(ending)

    def _run(self, job: str, folder: str, cancelled: threading.Event) -> Event:
        """Run a job; however that goes, there is an ending, and the worker lives on."""
        try:
            from .runner import run  # late: it imports what takes seconds, and Ready must not wait for that
        except ImportError as error:
            return Failed(job, _missing(error))
        try:
            return run(Path(folder), job, self._channel.send, cancelled, self._settings)
        except Exception as error:  # the runner tells its own failures: this is one of telling
            log.warning("job ended without an ending: %s", type(error).__name__)
            message, hint = "The engine met an error of its own.", EngineError.hint
            return Failed(job, Failure(ErrorCode.INTERNAL, message, hint, type(error).__name__, resumable=True))


def serve(settings: Settings) -> int:
    """Listen until the input ends or a Shutdown comes; does not return, but ends the process."""
    from .models import catalog

    channel = Channel()
    device = guess(settings)
    free = guess_free_memory(device)
    free_mb = None if free is None else free // 10**6
    channel.send(Ready(PROTOCOL, engine_version(), device, catalog.cards(settings), free_mb))
    queue = Queue(channel, settings)
    _watch_parent(channel, lambda: _leave(queue))
    for line in _lines(sys.stdin.buffer, channel):
        try:
            command = loads(Command, line)
        except WireError as error:
            channel.send(Failed("", _malformed(str(error))))
            continue
        log.debug("command %s", type(command).__name__)
        if isinstance(command, Submit):
            queue.submit(command.job, command.folder)
        elif isinstance(command, Cancel):
            queue.cancel(command.job)
        elif isinstance(command, Shutdown):
            break
    _leave(queue)
    return 0


def run_once(folder: Path, settings: Settings, watch_stdin: bool) -> NoReturn:
    """Run one job folder, telling the same events; does not return, but ends the process.

    Its status is 0 when the job succeeded, 1 when it failed, 2 when it was cancelled.

    Args:
        folder: the job folder.
        settings: how this engine runs.
        watch_stdin: whether the end of standard input cancels.
    """
    channel, cancelled, job = Channel(), threading.Event(), folder.resolve().name

    def stop(*_: object) -> None:
        if not cancelled.is_set():
            cancelled.set()
            end_within(GRACE, status=2)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    if watch_stdin:
        threading.Thread(target=_drain, args=(sys.stdin.fileno(), stop), name="stdin", daemon=True).start()
        _watch_parent(channel, stop)
    ending: Event
    try:
        from .runner import run
    except ImportError as error:
        ending = Failed(job, _missing(error))
    else:
        ending = run(folder, job, channel.send, cancelled, settings)
    channel.send(ending)
    logging.shutdown()
    # not through the interpreter's own end, which takes torch apart for a second
    os._exit(0 if isinstance(ending, Succeeded) else 2 if isinstance(ending, Cancelled) else 1)


def work(folder: Path, settings: Settings) -> int:
    """Draw for the process that runs a job: orders in, answers out. Its end, or that of the input, ends this one.

    Args:
        folder: the job folder.
        settings: how this process runs.
    """
    channel, cancelled = Channel(), threading.Event()
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()

    def stop() -> None:
        if not cancelled.is_set():
            cancelled.set()
            orders.put(None)
            end_within(GRACE)

    def listen() -> None:
        try:
            for line in _lines(sys.stdin.buffer, channel):
                order = loads(Order, line)
                if isinstance(order, Stop):
                    break
                orders.put(order)
        finally:  # whatever ends the orders ends the work
            stop()

    threading.Thread(target=listen, name="stdin", daemon=True).start()
    _watch_parent(channel, stop)
    from .crew.worker import work as draw  # late: it imports what takes seconds

    went_well = draw(folder, settings, iter(orders.get, None), channel.send, cancelled)
    logging.shutdown()
    # not through the interpreter's own end, which would wait for the thread that reads
    os._exit(0 if went_well else 1)


def _lines(stream: BinaryIO, channel: Channel) -> Iterator[bytes]:
    """Lines of the input; one that is too long is answered and passed over, never held in memory."""
    while line := stream.readline(LINE_LIMIT + 1):
        if len(line) > LINE_LIMIT:
            while line and not line.endswith(b"\n"):
                line = stream.readline(LINE_LIMIT)
            channel.send(Failed("", _malformed(f"a line has more than {LINE_LIMIT} bytes")))
        elif line.strip():
            yield line


def _malformed(detail: str) -> Failure:
    return Failure(
        ErrorCode.INVALID_REQUEST,
        "The engine was sent something that it does not understand.",
        "Check that plugin and engine have the same version.",
        detail[:2000],
    )


def _missing(error: ImportError) -> Failure:
    return Failure(
        ErrorCode.ENGINE_MISSING, "A part of the engine is missing.", "Install the engine again.", str(error)
    )


def _drain(descriptor: int, then: Callable[[], None]) -> None:
    """Read until the end; not through ``sys.stdin``, whose lock the interpreter would wait for when it ends."""
    while os.read(descriptor, 4096):
        log.debug("input passed over")
    then()


def _watch_parent(channel: Channel, then: Callable[[], None]) -> None:
    """A second net beside the end of the input, which a process that shares the pipe could keep open."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and not channel.broken.wait(PARENT_INTERVAL):
            continue
        then()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _leave(queue: Queue) -> None:
    """Stop the running job and end the process; in the middle of it, if the job does not stop in time."""
    end_within(GRACE + 0.5)
    queue.close(GRACE)
    logging.shutdown()
    os._exit(0)


def end_within(seconds: float, status: int = 0) -> None:
    """End the process after so many seconds at the latest, whatever its threads do."""
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()
