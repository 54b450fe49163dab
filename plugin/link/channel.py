"""Channel: send a line, a line arrives, ended. ``ProcessChannel`` is the one over the engine's stdin and stdout."""

import os
from collections import deque
from pathlib import Path
from typing import Deque, List, Optional

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject, QProcess, QProcessEnvironment, pyqtSignal

from ...engine.contract import LINE_LIMIT
from .. import settings
from ..report import tr

LAUNCH = str(Path(__file__).resolve().parents[2] / "engine" / "launch.py")
#: Lines of the engine's stderr that are kept for a failure's detail.
NOTES = 40
#: Variables that QGIS sets for itself, and that would make another Python load QGIS's libraries.
_DROPPED = (
    "PYTHON",
    "VIRTUAL_ENV",
    "CONDA",
    "GDAL_",
    "OGR_",
    "PROJ_",
    "GEOTIFF_",
    "CPL_",
    "LD_",
    "DYLD_",
    "QT_",
    "QT3D_",
    "QML",
    "QGIS_",
    "GISBASE",
    "GRASS_",
    "OSGEO4W_",
    "OTB_",
    "PDAL_",
    "TCL_",
    "TK_",
    "__PYVENV_",
)
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


def clean_environment() -> QProcessEnvironment:
    """The environment for another Python: without QGIS's libraries, and without certificate files that are gone."""
    environment = QProcessEnvironment.systemEnvironment()
    for name in environment.keys():
        if name.upper().startswith(_DROPPED):
            environment.remove(name)
    for name in _CERTIFICATES:
        if environment.contains(name) and not os.path.exists(environment.value(name)):
            environment.remove(name)
    if os.name == "nt":  # DLLs of QGIS's own folders would be found before the engine's
        inside = os.path.normcase(os.path.abspath(os.path.join(QgsApplication.prefixPath(), "..", "..")))
        folders = environment.value("PATH").split(os.pathsep)
        kept = [folder for folder in folders if not os.path.normcase(folder).startswith(inside)]
        environment.insert("PATH", os.pathsep.join(kept))
    environment.insert("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow each other down on busy cores
    return environment


def engine_environment() -> QProcessEnvironment:
    """The environment for the engine: told where fetched models lie."""
    environment = clean_environment()
    environment.insert(settings.MODELS_VARIABLE, settings.models_folder())
    return environment


def launch_arguments(*words: str) -> List[str]:
    """What follows the interpreter on the command line: isolated, unbuffered, UTF-8, our launcher, then these words."""
    return ["-I", "-u", "-X", "utf8", LAUNCH, *words]


class LineBuffer:
    """Cuts a stream of bytes into lines."""

    def __init__(self, limit: int = LINE_LIMIT):
        """Accept lines of at most ``limit`` bytes."""
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> List[bytes]:
        """The lines that are complete with this data, without their ends.

        Raises:
            ValueError: when a line is longer than the limit.
        """
        searched = len(self._rest)
        self._rest += data
        if self._rest.find(b"\n", searched) < 0:
            if len(self._rest) > self._limit:
                raise ValueError(f"a line of more than {self._limit} bytes")
            return []
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        if max(map(len, lines)) > self._limit:
            raise ValueError(f"a line of more than {self._limit} bytes")
        return [bytes(line) for line in lines if line.strip()]


class Channel(QObject):
    """A way to an engine.

    Signals:
        line_arrived(bytes): one line of the protocol.
        note_arrived(str): one line of the engine's log.
        ended(str): the other side is gone, and why, in one sentence; once, and nothing comes after it.
    """

    line_arrived = pyqtSignal(bytes)
    note_arrived = pyqtSignal(str)
    ended = pyqtSignal(str)

    def open(self) -> None:
        """Begin; returns at once."""
        raise NotImplementedError

    def send(self, line: str) -> None:
        """Send one line, given without its end."""
        raise NotImplementedError

    def close(self, patience: float = 0.0) -> None:
        """Ask the other side to end; after ``patience`` seconds of waiting, end it."""
        raise NotImplementedError

    def kill(self) -> None:
        """End the other side at once; ``ended`` follows."""
        raise NotImplementedError

    def notes(self) -> str:
        """The last lines of the engine's log."""
        return ""


class ProcessChannel(Channel):
    """The engine as a child process, over its stdin and stdout."""

    def __init__(
        self,
        python: str,
        words: tuple = ("serve",),
        parent: QObject = None,
        environment: Optional[QProcessEnvironment] = None,
    ):
        """Prepare ``python -I -u launch.py serve``, in ``engine_environment()`` if no other is given."""
        super().__init__(parent)
        self._python = python
        self._words = words
        self._lines = LineBuffer()
        self._note_lines = LineBuffer(limit=1 << 20)
        self._notes: Deque[str] = deque(maxlen=NOTES)
        self._is_over = False
        self._reason = ""
        self._process = QProcess(self)
        self._process.setProcessEnvironment(engine_environment() if environment is None else environment)
        self._process.setProcessChannelMode(QProcess.ProcessChannelMode.SeparateChannels)
        self._process.readyReadStandardOutput.connect(self._read_lines)
        self._process.readyReadStandardError.connect(self._read_notes)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._error)

    def open(self) -> None:
        """Start the process; returns at once."""
        self._process.start(self._python, launch_arguments(*self._words))

    def send(self, line: str) -> None:
        """Send one line."""
        self._process.write(line.encode("utf-8") + b"\n")

    def close(self, patience: float = 0.0) -> None:
        """Close the engine's stdin, then terminate, then kill it. Blocks for at most ``patience`` seconds and a bit."""
        self._process.closeWriteChannel()
        if self._process.state() == QProcess.ProcessState.NotRunning:
            return
        if not self._process.waitForFinished(int(patience * 1000)):
            self._process.terminate()
            if not self._process.waitForFinished(300):
                self._process.kill()
                self._process.waitForFinished(1000)

    def kill(self) -> None:
        """Kill the process; ``ended`` follows."""
        self._process.kill()

    def notes(self) -> str:
        """The last lines of the engine's stderr."""
        return "\n".join(self._notes)

    @property
    def pid(self) -> int:
        """Id of the process, 0 while there is none."""
        return int(self._process.processId())

    def _read_lines(self) -> None:
        try:
            lines = self._lines.feed(bytes(self._process.readAllStandardOutput()))
        except ValueError as error:
            self._reason = tr("The engine sent what is no message: {}.").format(error)
            self._process.kill()
            return
        for line in lines:
            self.line_arrived.emit(line)

    def _read_notes(self) -> None:
        try:
            lines = self._note_lines.feed(bytes(self._process.readAllStandardError()))
        except ValueError:
            self._note_lines = LineBuffer(limit=1 << 20)
            lines = [b"(a very long line was left out)"]
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            self._notes.append(text)
            self.note_arrived.emit(text)

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read_notes()
        self._read_lines()
        if status == QProcess.ExitStatus.CrashExit:
            self._end(tr("The engine was killed or crashed."))
        else:
            self._end(tr("The engine ended with status {}.").format(code))

    def _error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:  # ``finished`` does not come then
            self._end(tr("The engine could not be started: {}.").format(self._process.errorString()))

    def _end(self, reason: str) -> None:
        if not self._is_over:
            self._is_over = True
            self.ended.emit(self._reason or reason)
