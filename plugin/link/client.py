"""EngineClient: starts the engine when it is needed, supervises it, and turns its lines into events."""

import time
from typing import Callable, Dict, List, Optional, Set, Tuple

from qgis.core import Qgis
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ...engine.contract import (
    PROTOCOL,
    Cancel,
    Cancelled,
    ErrorCode,
    Event,
    Failed,
    Failure,
    Ready,
    Shutdown,
    Started,
    Submit,
    Succeeded,
    WireError,
    dumps,
    loads,
)
from ..report import Problem, log, tr
from .channel import Channel

#: Seconds that the engine has to say that it is ready. It does before it imports torch; antivirus scanners are slow.
READY_WITHIN = 60.0
#: Seconds that the engine has to end a job that was cancelled.
GRACE = 5.0
#: Restarts that are tried within ``RESTART_SPAN`` seconds.
RESTARTS = 4
RESTART_SPAN = 180.0


class EngineClient(QObject):
    """The engine, as the session sees it. Lives on the main thread and never blocks it.

    Signals:
        event_received(object): an ``Event`` of the contract, those that the client itself makes included.
        state_changed(str): "stopped", "starting", "ready", "missing" or "crashed".

    Attributes:
        state: the last of these.
        problem: why there is no engine, while the state is "missing" or "crashed".
    """

    event_received = pyqtSignal(object)
    state_changed = pyqtSignal(str)

    def __init__(
        self,
        open_channel: Callable[[], Channel],
        parent: Optional[QObject] = None,
        grace: float = GRACE,
        ready_within: float = READY_WITHIN,
        restart_delay: float = 0.5,
    ):
        """Supervise the engine behind the channels that ``open_channel`` makes (not opened yet).

        Args:
            open_channel: raises ``Problem`` where there is no engine to start.
            parent: owner.
            grace: seconds between a cancel and the kill.
            ready_within: seconds for the engine to become ready.
            restart_delay: seconds before the first restart after a crash; doubles with each.
        """
        super().__init__(parent)
        self.state = "stopped"
        self.problem: Optional[Failure] = None
        self._told = self.state  # what listeners know; a restart passes through "stopped" untold
        self._open_channel = open_channel
        self._grace = grace
        self._restart_delay = restart_delay
        self._channel: Optional[Channel] = None
        self._unfinished: Dict[str, str] = {}  # job -> folder, in the order of submission
        self._running: Optional[str] = None
        self._cancelling: Dict[str, float] = {}  # job -> when its patience ends
        self._overdue: Set[str] = set()
        self._crashes: List[float] = []
        self._ready_timer = self._timer(self._not_ready_in_time)
        self._ready_timer.setInterval(int(ready_within * 1000))
        self._grace_timer = self._timer(self._end_overdue)
        self._restart_timer = self._timer(self._open)

    # what the session asks

    def start(self) -> None:
        """Start the engine unless it runs. A person's wish: earlier crashes are forgotten."""
        self._crashes.clear()
        if self._channel is None:
            self._restart_timer.stop()
            self._open()

    def submit(self, job: str, folder: str) -> None:
        """Run the job in this folder, starting the engine first where it does not run."""
        self._unfinished[job] = folder
        if self.state == "ready":
            self._send(Submit(job, folder))
        elif self._channel is None and not self._restart_timer.isActive():
            self.start()

    def cancel(self, job: str) -> None:
        """Stop this job. ``Cancelled`` follows, at the latest after the grace period, which the engine pays for."""
        if job not in self._unfinished or job in self._cancelling:
            return
        if self.state != "ready":
            self._dispatch(Cancelled(job))
            return
        self._cancelling[job] = time.monotonic() + self._grace
        self._send(Cancel(job))
        if not self._grace_timer.isActive():
            self._grace_timer.start(int(self._grace * 1000))

    def stop(self, patience: float = 1.5) -> None:
        """End the engine, for a new one or because QGIS ends. Unfinished jobs are forgotten; their folders resume."""
        for timer in (self._ready_timer, self._grace_timer, self._restart_timer):
            timer.stop()
        channel, self._channel = self._channel, None
        self._unfinished.clear()
        self._cancelling.clear()
        self._running = None
        if channel is not None:
            channel.blockSignals(True)
            channel.send(dumps(Shutdown()))
            channel.close(patience)
            channel.deleteLater()
        self._become("stopped")

    def renew(self) -> None:
        """Take a newly installed engine: end the one that runs, and submit what is unfinished to the new one."""
        unfinished = dict(self._unfinished)
        self.stop()
        for job, folder in unfinished.items():
            self.submit(job, folder)

    def lack(self, failure: Optional[Failure]) -> None:
        """Say, before anything was started, why there is no engine."""
        if failure is not None and self._channel is None:
            self._become("missing", failure)

    # the life of a channel

    def _open(self) -> None:
        try:
            channel = self._open_channel()
        except Problem as problem:
            self._give_up("missing", problem.failure)
            return
        channel.setParent(self)
        channel.line_arrived.connect(self._line_arrived)
        channel.note_arrived.connect(log)
        channel.ended.connect(self._ended)
        self._channel = channel
        self._become("starting")
        self._ready_timer.start()
        channel.open()

    def _ready(self, event: Ready) -> None:
        self._ready_timer.stop()
        if event.protocol != PROTOCOL:
            sentence = tr("The engine speaks protocol {} and this plugin protocol {}.")
            hint = tr("Update engine in the dock; if the plugin was updated just now, restart QGIS first.")
            message = sentence.format(event.protocol, PROTOCOL)
            self._drop_channel()
            self._give_up("missing", Failure(ErrorCode.PROTOCOL_MISMATCH, message, hint))
            return
        self._become("ready")
        for job, folder in self._unfinished.items():
            self._send(Submit(job, folder))

    def _ended(self, reason: str) -> None:
        channel, self._channel = self._channel, None
        notes = channel.notes() if channel is not None else ""
        if channel is not None:
            channel.deleteLater()
        self._ready_timer.stop()
        self._grace_timer.stop()
        lost, self._running = self._running, None
        overdue, self._overdue = self._overdue, set()
        asked = [job for job in self._unfinished if job in self._cancelling]
        self._cancelling.clear()
        if overdue:  # killed by us, not its fault: what ran beside is submitted again
            log(tr("The engine did not answer a cancel in time and was ended."), Qgis.MessageLevel.Warning)
        else:
            self._crashes = [at for at in self._crashes if time.monotonic() - at < RESTART_SPAN] + [time.monotonic()]
            log(f"{reason}\n{notes}".rstrip(), Qgis.MessageLevel.Warning)
        self.state = "stopped"  # before events go out, so that what they cause finds no engine
        for job in asked:
            self._dispatch(Cancelled(job))
        failure = Failure(
            ErrorCode.ENGINE_LOST,
            tr("The engine was lost while it worked on this job."),
            tr("Retry continues where it stopped."),
            f"{reason}\n{notes}".rstrip(),
            resumable=True,
        )
        if not overdue and lost in self._unfinished:
            self._dispatch(Failed(lost, failure))
        if self._channel is not None or self._restart_timer.isActive():  # somebody started it meanwhile
            return
        if len(self._crashes) > RESTARTS:
            message = tr("The engine ended {} times within 3 minutes.").format(len(self._crashes))
            hint = tr("Look into the log panel, reinstall the engine, then try again.")
            self._give_up("crashed", Failure(ErrorCode.ENGINE_LOST, message, hint, failure.detail, resumable=True))
            return
        self._become("starting")
        delay = 0.0 if overdue else self._restart_delay * 2 ** (len(self._crashes) - 1)
        self._restart_timer.start(int(delay * 1000))

    def _drop_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.blockSignals(True)
            channel.kill()
            channel.deleteLater()

    def _not_ready_in_time(self) -> None:
        if self._channel is not None:
            log(tr("The engine did not become ready in time."), Qgis.MessageLevel.Warning)
            self._channel.kill()

    def _end_overdue(self) -> None:
        now = time.monotonic()
        self._overdue = {job for job, end in self._cancelling.items() if end <= now + 0.02}
        if self._overdue and self._channel is not None:
            self._channel.kill()
        elif self._cancelling:
            self._grace_timer.start(max(20, int((min(self._cancelling.values()) - now) * 1000)))

    def _give_up(self, state: str, failure: Failure) -> None:
        self._running = None
        self._become(state, failure)
        for job in list(self._unfinished):
            self._dispatch(Failed(job, failure))
        self._dispatch(Failed("", failure))

    def _become(self, state: str, problem: Optional[Failure] = None) -> None:
        self.problem = problem
        self.state = state
        if state != self._told or problem is not None:
            self._told = state
            self.state_changed.emit(state)

    # lines in and out

    def _send(self, command) -> None:
        if self._channel is not None:
            self._channel.send(dumps(command))

    def _line_arrived(self, line: bytes) -> None:
        try:
            event = loads(Event, line)
        except WireError as error:
            log(tr("The engine sent what is no message: {}.").format(error), Qgis.MessageLevel.Warning)
            return
        if isinstance(event, Ready) or self.state == "ready":
            self._dispatch(event)

    def _dispatch(self, event: Event) -> None:
        try:
            if isinstance(event, Ready):
                self._ready(event)
            elif not self._note(event):
                return
            self.event_received.emit(event)
        except Exception as error:  # whatever listens must not end the supervision
            log(f"{type(event).__name__}: {type(error).__name__}: {error}", Qgis.MessageLevel.Critical)

    def _note(self, event: Event) -> bool:
        """Keep the books; False for news of a job that is over."""
        if event.job and event.job not in self._unfinished:
            return False
        if isinstance(event, Started):
            self._running = event.job
        elif isinstance(event, (Succeeded, Failed, Cancelled)) and event.job:
            del self._unfinished[event.job]
            self._cancelling.pop(event.job, None)
            if self._running == event.job:
                self._running = None
            if not self._cancelling:
                self._grace_timer.stop()
        return True

    def _timer(self, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.timeout.connect(slot)
        return timer

    @property
    def unfinished(self) -> Tuple[str, ...]:
        """Ids of the jobs that have not ended, in the order of submission."""
        return tuple(self._unfinished)
