"""Run one job folder to its end, blocking: for Processing, on any thread, with or without an event loop."""

import os
import time
from collections import deque
from typing import Optional

from qgis.core import QgsProcessingFeedback
from qgis.PyQt.QtCore import QProcess

from ...engine.contract import (
    Cancelled,
    ErrorCode,
    Event,
    Failed,
    Previewed,
    Progressed,
    Result,
    Succeeded,
    WireError,
    loads,
)
from .. import settings
from ..report import Problem, log, tr
from .channel import NOTES, LineBuffer, engine_environment, launch_arguments
from .environment import engine_failure

#: Seconds between a cancel and the kill.
GRACE = 5.0
_POLL = 100  # ms


class RunCancelled(Exception):
    """The person cancelled; finished tiles are kept in the job folder."""


def run_job(folder: str, feedback: QgsProcessingFeedback, python: Optional[str] = None) -> Result:
    """Run the job in this folder, or resume it, and wait.

    Args:
        folder: absolute path of a job folder with its ``request.json`` and sources.
        feedback: gets progress, stages and notices, and is asked about a cancel at least every 100 ms.
        python: the engine's interpreter, ``settings.engine_python()`` if None.

    Raises:
        Problem: when the job fails, or there is no engine.
        RunCancelled: when ``feedback`` was cancelled.
    """
    return _Run(folder, feedback).wait(python or _python())


def _python() -> str:
    failure = engine_failure()
    if failure is not None:
        raise Problem.of(failure)
    return settings.engine_python()


class _Run:
    """One process, from start to end, in the thread that called."""

    def __init__(self, folder: str, feedback: QgsProcessingFeedback):
        self._folder = os.path.abspath(folder)
        self._feedback = feedback
        self._lines = LineBuffer()
        self._notes = deque(maxlen=NOTES)
        self._note_rest = b""
        self._stage = ""
        self._end: Optional[Event] = None
        self._kill_at: Optional[float] = None

    def wait(self, python: str) -> Result:
        process = QProcess()
        process.setProcessEnvironment(engine_environment())
        process.start(python, launch_arguments("run", self._folder, "--watch-stdin"))
        if not process.waitForStarted(30000):
            message = tr("The engine could not be started: {}.").format(process.errorString())
            raise Problem(
                ErrorCode.ENGINE_MISSING, message, tr("Reinstall the engine in the Afterimage panel."), python
            )
        try:
            while process.state() != QProcess.ProcessState.NotRunning:
                process.waitForReadyRead(_POLL)
                self._read(process)
                self._heed_cancel(process)
        finally:
            if process.state() != QProcess.ProcessState.NotRunning:  # something here went wrong: leave no engine
                process.kill()
                process.waitForFinished(2000)
        self._read(process)
        return self._outcome(process)

    def _read(self, process: QProcess) -> None:
        *notes, self._note_rest = (self._note_rest + bytes(process.readAllStandardError())).split(b"\n")
        for note in notes:
            text = note.decode("utf-8", "replace").rstrip()
            self._notes.append(text)
            self._feedback.pushDebugInfo(text)
        try:
            lines = self._lines.feed(bytes(process.readAllStandardOutput()))
        except ValueError as error:
            self._notes.append(str(error))
            process.kill()
            return
        for line in lines:
            try:
                self._show(loads(Event, line))
            except WireError as error:
                log(tr("The engine sent what is no message: {}.").format(error))

    def _show(self, event: Event) -> None:
        if isinstance(event, Progressed):
            if event.fraction is not None:
                self._feedback.setProgress(100.0 * event.fraction)
            if event.stage != self._stage:
                self._stage = event.stage
                self._feedback.pushInfo(event.stage)
        elif isinstance(event, Previewed):
            self._feedback.pushDebugInfo(event.path)
        elif isinstance(event, (Succeeded, Failed, Cancelled)):
            self._end = event

    def _heed_cancel(self, process: QProcess) -> None:
        if self._kill_at is None:
            if self._feedback.isCanceled():
                self._kill_at = time.monotonic() + GRACE
                process.closeWriteChannel()
        elif time.monotonic() > self._kill_at:
            process.kill()
            process.waitForFinished(1000)

    def _outcome(self, process: QProcess) -> Result:
        if isinstance(self._end, Succeeded):
            for notice in self._end.result.notices:
                self._feedback.pushWarning(notice)
            return self._end.result
        if isinstance(self._end, Failed):
            raise Problem.of(self._end.failure)
        if isinstance(self._end, Cancelled) or self._kill_at is not None:
            raise RunCancelled
        raise Problem(
            ErrorCode.ENGINE_LOST,
            tr("The engine ended with status {} before the job did.").format(process.exitCode()),
            tr("Run it again: job folder {} continues where it stopped.").format(self._folder),
            "\n".join(self._notes),
            resumable=True,
        )
