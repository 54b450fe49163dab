"""One command of the engine about models: a process that tells how far it is, and ends."""

from typing import Callable, Optional, Tuple, Union

from qgis.core import Qgis
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ...engine.contract import (
    ErrorCode,
    Failure,
    Fetching,
    Files,
    Installed,
    Notice,
    Refused,
    Removed,
    WireError,
    loads,
)
from .. import settings
from ..report import Problem, log, tr
from .channel import Channel, ProcessChannel, engine_environment
from .environment import engine_failure
from .network import add_network, require_passable_proxy

#: What ends a command well: its answer.
Answer = Union[Files, Installed, Removed]
#: Command -> what its answer is. The list of files is the answer to "files", and only a beginning of "get".
_ANSWERS = {"files": Files, "get": Installed, "import": Installed, "remove": Removed}
#: Those that reach the network.
_ONLINE = ("files", "get")


def models_channel(words: Tuple[str, ...]) -> Channel:
    """A channel to a new process that runs ``models`` with these words; it ends with QGIS, whatever ends that.

    Raises:
        Problem: where there is no engine to start, or DOWNLOAD_FAILED where it could not go through QGIS's proxy.
    """
    failure = engine_failure()
    if failure is not None:
        raise Problem.of(failure)
    environment = engine_environment()
    if words[0] in _ONLINE:
        require_passable_proxy(ErrorCode.DOWNLOAD_FAILED)
        add_network(environment)
    return ProcessChannel(settings.engine_python(), ("models", *words, "--watch-stdin"), environment=environment)


class ModelCommand(QObject):
    """Runs ``models files|get|import|remove`` without making QGIS wait.

    Signals:
        progressed(object): a ``Fetching``, or the ``Files`` that a get begins with.
        ended(object, object): the answer and None, or None and the ``Failure``; both None after a cancel. Once, and
            never before ``start`` has returned.

    Attributes:
        words: what follows ``models`` on the command line.
        is_cancelled: whether it was stopped.
    """

    progressed = pyqtSignal(object)
    ended = pyqtSignal(object, object)

    def __init__(
        self,
        *words: str,
        open_channel: Callable[[Tuple[str, ...]], Channel] = models_channel,
        parent: Optional[QObject] = None,
    ):
        """Prepare a command.

        Args:
            words: the command and its arguments.
            open_channel: makes the way to the process (not opened yet); raises ``Problem`` where there is none.
            parent: owner.
        """
        super().__init__(parent)
        self.words = words
        self.is_cancelled = False
        self._make_channel = open_channel
        self._channel: Optional[Channel] = None
        self._answer: Optional[Answer] = None
        self._failure: Optional[Failure] = None
        self._is_over = False

    def start(self) -> None:
        """Begin; returns at once."""
        try:
            channel = self._make_channel(self.words)
        except Problem as problem:
            self._failure = problem.failure
            QTimer.singleShot(0, self._end)
            return
        channel.setParent(self)
        channel.line_arrived.connect(self._line_arrived)
        channel.note_arrived.connect(log)
        channel.ended.connect(self._ended)
        self._channel = channel
        channel.open()

    def cancel(self) -> None:
        """Kill the process; what it has fetched stays, and a later get goes on. ``ended`` follows when it is gone."""
        if not self._is_over:
            self.is_cancelled = True
            if self._channel is not None:
                self._channel.kill()

    def stop(self) -> None:
        """End the process because QGIS ends; nothing is told any more. Blocks for a moment."""
        self._is_over = True
        if self._channel is not None:
            self._channel.blockSignals(True)
            self._channel.kill()
            self._channel.close(1.0)

    def _line_arrived(self, line: bytes) -> None:
        try:
            notice = loads(Notice, line)
        except WireError as error:
            log(tr("The engine sent what is no message: {}.").format(error), Qgis.MessageLevel.Warning)
            return
        if isinstance(notice, Refused):
            self._failure = notice.failure
        elif isinstance(notice, _ANSWERS[self.words[0]]):
            self._answer = notice
        elif isinstance(notice, (Fetching, Files)):
            self.progressed.emit(notice)

    def _ended(self, reason: str) -> None:
        if self.is_cancelled and not isinstance(self._answer, (Installed, Removed)):
            self._answer = self._failure = None
        elif self._failure is None and self._answer is None:
            notes = self._channel.notes() if self._channel is not None else ""
            message = tr("The engine ended before it had answered.")
            hint = tr("Try again; what was fetched is kept. The log panel says more.")
            self._failure = Failure(ErrorCode.ENGINE_LOST, message, hint, f"{reason}\n{notes}".rstrip(), resumable=True)
        self._end()

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.ended.emit(self._answer if self._failure is None else None, self._failure)
