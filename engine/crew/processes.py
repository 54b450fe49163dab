"""Workers on this machine: processes with one thread each, which take orders on standard input and answer in lines.

A process that ends takes its piece with it and nothing else: tiles are committed whole or not at all. Its place is
taken by a new one. The end of this process is the end of their input, and so theirs.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ..contract import LINE_LIMIT, WireError, dumps, loads
from ..errors import WorkersLost
from ..finished import Finished
from ..settings import Settings
from .base import Piece, Run
from .messages import Answer, Begin, Draw, Lost, Order, Place, Stop

log = logging.getLogger(__name__)

#: What a worker is started from.
LAUNCH = Path(__file__).resolve().parents[1] / "launch.py"
#: Seconds that workers have to end by themselves: as a rule a batch of windows takes less.
GRACE = 2.0
#: How a system ends a process for want of memory, among others.
KILLED = "it was ended by SIGKILL"
#: Workers that may be lost before they drew anything.
_FALSE_STARTS = 3


class Processes:
    """Processes of this machine: see ``Hands``.

    Args:
        folder: the job folder.
        count: of processes.
        settings: how each of them runs.
    """

    def __init__(self, folder: Path, count: int, settings: Settings) -> None:
        self.count = count
        self._folder, self._settings = folder, settings
        self._told: queue.Queue[tuple[str, Answer | Lost]] = queue.Queue()
        self._running: dict[str, _Process] = {}
        self._key: str | None = None
        self._number = self._false_starts = 0

    def call(self) -> None:
        """Start them: they import what takes seconds while the job is planned."""
        for _ in range(self.count):
            self._start()

    def begin(self, finished: Finished, pieces: int) -> None:
        """See ``Hands``."""
        self._key = finished.key
        for hand in list(self._running)[slice(max(1, pieces), None)]:
            self._running.pop(hand).end(0)
        self.count = len(self._running)
        for process in list(self._running.values()):
            process.send(Begin(self._key))

    def give(self, hand: str, piece: Piece, run: Run) -> None:
        """See ``Hands``."""
        self._false_starts = 0
        self._running[hand].send(Draw(*(Place(*each) for each in (piece, *run))))

    def next(self, seconds: float) -> tuple[str, Answer | Lost] | None:
        """See ``Hands``; a process that was lost has a successor by then, unless its memory may be what others lack."""
        try:
            hand, answer = self._told.get(timeout=seconds)
        except queue.Empty:
            return None
        if hand not in self._running:
            return None  # the last words of one that was dismissed
        if isinstance(answer, Lost):
            self._running.pop(hand).end(0)
            self._false_starts += 1
            if self._false_starts > _FALSE_STARTS * self.count:
                raise WorkersLost(f"The processes that draw end as soon as they start: {answer.reason}.")
            if answer.reason != KILLED or not self._running:
                self._start()
        return hand, answer

    def dismiss(self, hand: str) -> bool:
        """See ``Hands``."""
        self._running.pop(hand).end(GRACE)
        self.count = max(1, len(self._running))
        return bool(self._running)

    def close(self) -> None:
        """Ask all to end, and end those that do not."""
        running, self._running = list(self._running.values()), {}
        for process in running:
            process.close()
        limit = time.monotonic() + GRACE
        for process in running:
            process.end(max(0.0, limit - time.monotonic()))

    def _start(self) -> None:
        self._number += 1
        hand = f"worker-{self._number}"
        self._running[hand] = _Process(hand, self._folder, self._settings, self._told)
        if self._key is not None:
            self._running[hand].send(Begin(self._key))


class _Process:
    """One worker."""

    def __init__(
        self, hand: str, folder: Path, settings: Settings, told: queue.Queue[tuple[str, Answer | Lost]]
    ) -> None:
        self._hand, self._told = hand, told
        command = [sys.executable, "-I", "-u", str(LAUNCH), "--models", str(settings.models), "work", str(folder)]
        # this interpreter and a file of ours, without a shell; its log is ours
        self._process = subprocess.Popen(  # nosec B603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **settings.to_environment(), "OMP_NUM_THREADS": str(settings.threads)},
        )
        self._reader = threading.Thread(target=self._read, name=hand, daemon=True)
        self._reader.start()

    def send(self, order: Order) -> None:
        """Say something to it; where it is gone, that is told by its reader."""
        pipe = self._process.stdin
        try:
            if pipe is not None:
                pipe.write(dumps(order).encode() + b"\n")
                pipe.flush()
        except (OSError, ValueError):
            log.debug("%s does not listen", self._hand)

    def close(self) -> None:
        """Have it stop after the batch that it is at."""
        self.send(Stop())
        pipe = self._process.stdin
        try:
            if pipe is not None:
                pipe.close()
        except OSError:
            log.debug("%s does not listen", self._hand)

    def end(self, seconds: float) -> None:
        """Wait for its end so long, then make one."""
        self.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        pipe = self._process.stdout
        if pipe is None:
            return
        with pipe:
            while line := pipe.readline(LINE_LIMIT):
                try:
                    self._told.put((self._hand, loads(Answer, line)))
                except WireError as error:
                    self._told.put((self._hand, Lost(f"it said what is no answer ({error})")))
        self._told.put((self._hand, Lost(_ending(self._process.wait()))))


def _ending(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"it ended with status {status}"
    try:
        return f"it was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was ended by signal {-status}"
