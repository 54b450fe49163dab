"""The engine's own Python: found, made, filled and checked beside the one in use, then switched to in one step.

Runs only because a person clicked. Every step is a child process, so QGIS's window never waits, and what was downloaded
before a cancel or a crash is not downloaded again.
"""

import hashlib
import json
import os
import secrets
import shutil
import sys
from collections import deque
from functools import partial
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from qgis.PyQt.QtCore import (
    QLockFile,
    QObject,
    QProcess,
    QProcessEnvironment,
    QStandardPaths,
    QTimer,
    pyqtSignal,
)

from ...engine.contract import ErrorCode, Failure
from .. import errand, settings
from ..report import Problem, log, tr
from .channel import LAUNCH, clean_environment, engine_environment, launch_arguments
from .network import require_passable_proxy
from .pip import pip_environment

REQUIREMENTS = Path(LAUNCH).with_name("requirements.txt")
#: Pythons that every pinned package has a wheel for.
VERSIONS = ("3.12", "3.11", "3.13")
#: Free space without which nothing is started: 1.4 GB for CPUs, and as much again while it is unpacked.
DISK_NEEDED = 3_000_000_000
#: With NVIDIA's libraries, which come with torch on 64-bit Linux.
DISK_NEEDED_NVIDIA = 9_000_000_000
_PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
_TAIL = 30


def requirements_digest() -> str:
    """What identifies the list of packages; another digest means that the engine must be updated."""
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]


def is_current() -> bool:
    """Whether the engine's Python has the packages of this version; a person's own one is taken at their word."""
    if os.environ.get(settings.PYTHON_VARIABLE) or settings.read("engine/python"):
        return True
    current = settings.current_environment()
    return current is not None and current.get("requirements") == requirements_digest()


def engine_failure() -> Optional[Failure]:
    """Why no engine can be started: it has no Python yet, or one made for another version of the plugin."""
    python = settings.engine_python()
    if python is None:
        message = tr("The engine is not installed yet.")
        return Failure(ErrorCode.ENGINE_MISSING, message, tr("Open the Afterimage panel and click Install engine."))
    if not os.path.isfile(python):
        message = tr("The engine's Python {} is not there.").format(python)
        if os.environ.get(settings.PYTHON_VARIABLE):
            hint = tr("Correct the environment variable {}.").format(settings.PYTHON_VARIABLE)
        else:
            hint = tr("Correct the setting {}.").format(f"{settings.PREFIX}engine/python")
        return Failure(ErrorCode.ENGINE_MISSING, message, hint)
    if not is_current():
        message = tr("The engine was installed for another version of Afterimage.")
        return Failure(ErrorCode.ENGINE_MISSING, message, tr("Open the Afterimage panel and click Update engine."))
    return None


def candidates() -> List[Tuple[str, ...]]:
    """Commands that may be a suitable Python, the best first. Never QGIS itself."""
    chosen = settings.read("engine/base_python")
    if chosen:
        return [(os.path.expanduser(chosen),)]
    found: List[Tuple[str, ...]] = []
    if os.name == "nt":
        launcher = QStandardPaths.findExecutable("py")
        if launcher:
            found += [(launcher, f"-{version}") for version in VERSIONS]
        found.append((os.path.join(sys.base_prefix, "python.exe"),))  # the one beside QGIS, not sys.executable
    else:
        if sys.platform != "darwin":
            found.append(("/usr/bin/python3",))
        folders = ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"]
        for version in VERSIONS:
            if sys.platform == "darwin":
                found.append((f"/Library/Frameworks/Python.framework/Versions/{version}/bin/python3",))
            found += [(os.path.join(folder, f"python{version}"),) for folder in folders]
            found.append((QStandardPaths.findExecutable(f"python{version}"),))
    return [command for command in dict.fromkeys(found) if command[0] and os.path.isfile(command[0])]


class EngineInstaller(QObject):
    """Makes the engine's Python, step by step.

    Signals:
        progressed(str): one line for the person.
        finished(object): None, or the ``Failure`` that ended it; once.

    Attributes:
        is_cancelled: whether the person stopped it.
    """

    progressed = pyqtSignal(str)
    finished = pyqtSignal(object)

    def __init__(self, folder: Optional[str] = None, parent: Optional[QObject] = None):
        """Install below this folder, ``settings.engine_folder()`` if None."""
        super().__init__(parent)
        self._root = folder or settings.engine_folder()
        self._folder = ""
        self._python: Tuple[str, ...] = ()
        self._version = ""
        self._untried: List[Tuple[str, ...]] = []
        self._anew = False
        self._is_over = False
        self.is_cancelled = False
        self._tail: deque = deque(maxlen=_TAIL)
        self._probe_output = ""
        self._lock: Optional[QLockFile] = None
        self._process: Optional[QProcess] = None
        self._then: Callable[[int], None] = self._probed

    def start(self, anew: bool = False) -> None:
        """Begin; returns at once. ``anew`` makes a fresh environment even where a complete one stands."""
        self._anew = anew
        QTimer.singleShot(0, self._preflight)

    def cancel(self) -> None:
        """Stop; what is there is kept for the next time. ``finished`` comes before this returns."""
        self.is_cancelled = True
        message = tr("The installation was stopped.")
        hint = tr("Click Install engine to continue; what was downloaded is kept.")
        self._finish(Failure(ErrorCode.ENGINE_MISSING, message, hint, resumable=True))

    # the steps, in their order

    def _preflight(self) -> None:
        if self._is_over:
            return
        try:
            require_passable_proxy(ErrorCode.ENGINE_MISSING)
        except Problem as problem:
            failure = problem.failure
            self._fail(failure.code, failure.message, hint=failure.hint)
            return
        try:
            os.makedirs(self._root, exist_ok=True)
            free = shutil.disk_usage(self._root).free
        except OSError as error:
            self._fail(ErrorCode.DISK_FULL, tr("The folder {} cannot be made.").format(self._root), str(error))
            return
        if free < DISK_NEEDED:
            message = tr("Installing needs {:.1f} GB and {:.1f} GB are free in {}.")
            message = message.format(DISK_NEEDED / 1e9, free / 1e9, self._root)
            self._fail(ErrorCode.DISK_FULL, message, hint=tr("Free some space, then click Install engine again."))
            return
        if sys.platform.startswith("linux") and free < DISK_NEEDED_NVIDIA:
            self._say(
                tr("{:.1f} GB are free; with NVIDIA's libraries up to {:.0f} GB are used.").format(
                    free / 1e9, DISK_NEEDED_NVIDIA / 1e9
                )
            )
        self._lock = QLockFile(os.path.join(self._root, "install.lock"))
        self._lock.setStaleLockTime(0)  # stale only when its owner is gone: an install may take an hour
        if not self._lock.tryLock(0):
            self._lock = None
            message = tr("Another QGIS window is installing the engine.")
            self._fail(ErrorCode.ENGINE_MISSING, message, hint=tr("Wait until it is done, then start the engine."))
            return
        self._untried = candidates()
        self._probe()

    def _probe(self) -> None:
        if not self._untried:
            message = tr("No complete Python 3.11 to 3.13 was found on this computer.")
            hint = tr("Install Python 3.12 from python.org, then click Install engine again.")
            if sys.platform.startswith("linux"):
                hint = tr(
                    "Install python3 and python3-venv with your package manager, then click Install engine again."
                )
            self._fail(ErrorCode.ENGINE_MISSING, message, "\n".join(self._tail), hint)
            return
        self._python = self._untried.pop(0)
        self._probe_output = ""
        program, *words = self._python
        self._run(program, [*words, "-I", "-c", _PROBE], self._probed, clean_environment())

    def _probed(self, code: int) -> None:
        self._version = self._probe_output.strip()
        if code != 0 or self._version not in VERSIONS:
            self._probe()
            return
        self._say(tr("Python {} from {}").format(self._version, " ".join(self._python)))
        try:
            self._folder = self._free_folder()
        except OSError as error:
            message = tr("An earlier environment in {} is in use.").format(self._root)
            self._fail(ErrorCode.ENGINE_MISSING, message, str(error), tr("Close other QGIS windows, then try again."))
            return
        if os.path.isfile(settings.environment_python(self._folder)):
            program = settings.environment_python(self._folder)
            self._run(program, ["-I", "-m", "pip", "--version"], self._continued, pip_environment())
        else:
            self._create()

    def _continued(self, code: int) -> None:
        if code == 0:
            self._say(tr("Continuing in {}").format(self._folder))
            self._fill()
        else:
            self._create()

    def _create(self) -> None:
        self._say(tr("Making an environment in {}").format(self._folder))
        program, *words = self._python
        self._run(program, [*words, "-I", "-m", "venv", "--clear", self._folder], self._created, clean_environment())

    def _created(self, code: int) -> None:
        if code == 0:
            self._fill()
        else:
            message = tr("The environment could not be made.")
            self._fail(ErrorCode.ENGINE_MISSING, message, "\n".join(self._tail))

    def _fill(self) -> None:
        self._say(tr("Downloading and installing packages"))
        words = ["-I", "-m", "pip", "install", "--progress-bar", "off", "--only-binary", ":all:"]
        index = settings.read("engine/package_index")
        if index:
            words += ["--extra-index-url", index]
        words += ["-r", str(REQUIREMENTS)]
        self._run(settings.environment_python(self._folder), words, self._filled, pip_environment())

    def _filled(self, code: int) -> None:
        if code == 0:
            self._say(tr("Checking the engine"))
            python = settings.environment_python(self._folder)
            self._run(python, launch_arguments("doctor"), self._checked, engine_environment())
            return
        text = "\n".join(self._tail)
        if "No space left" in text or "[Errno 28]" in text:
            self._fail(ErrorCode.DISK_FULL, tr("The disk is full."), text)
        elif "No matching distribution" in text or "Could not find a version" in text:
            message = tr("A package was not found, or the network could not be reached.")
            hint = tr("Check the connection and QGIS's proxy, then click Install engine again.")
            self._fail(ErrorCode.ENGINE_MISSING, message, text, hint)
        else:
            self._fail(ErrorCode.ENGINE_MISSING, tr("The packages could not be installed."), text)

    def _checked(self, code: int) -> None:
        if code != 0:
            message = tr("The engine was installed but does not work on this computer.")
            self._fail(ErrorCode.ENGINE_MISSING, message, "\n".join(self._tail), tr("Look into the log panel."))
            return
        record = {
            "folder": os.path.basename(self._folder),
            "requirements": requirements_digest(),
            "python": self._version,
        }
        path = os.path.join(self._root, settings.CURRENT)
        try:
            with open(path + ".part", "w", encoding="utf-8") as file:
                json.dump(record, file)
            os.replace(path + ".part", path)
        except OSError as error:
            self._fail(ErrorCode.DISK_FULL, tr("The new environment could not be switched to."), str(error))
            return
        errand.send(partial(_sweep, self._root, record["folder"]))  # tens of thousands of files
        self._finish(None)

    # what the steps share

    def _free_folder(self) -> str:
        """Where to install: a folder begun earlier with the same Python and packages, never the one in use."""
        current = settings.current_environment()
        used = current["folder"] if current else ""
        key = f"{requirements_digest()} {self._version} {self._python}"
        name = "env-" + hashlib.sha256(key.encode("utf-8")).hexdigest()[:8]
        folder = os.path.join(self._root, name)
        if os.path.basename(used) == name:
            folder += "-2"
        if self._anew and os.path.isdir(folder):  # deleting takes long: moved aside now, swept at the end
            os.replace(folder, f"{folder}-{secrets.token_hex(4)}")
        return folder

    def _run(
        self, program: str, words: List[str], then: Callable[[int], None], environment: QProcessEnvironment
    ) -> None:
        if self._process is not None:
            self._process.deleteLater()
        self._then = then
        self._process = QProcess(self)
        self._process.setProcessEnvironment(environment)
        self._process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.finished.connect(self._ended)
        self._process.errorOccurred.connect(self._error)
        self._process.start(program, words)
        self._process.closeWriteChannel()

    def _read(self) -> None:
        while self._process is not None and self._process.canReadLine():
            text = bytes(self._process.readLine()).decode("utf-8", "replace").rstrip()
            self._probe_output = text
            self._tail.append(text)
            log(text)
            if self._then != self._probed:
                self.progressed.emit(text)

    def _ended(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        if not self._is_over:
            self._then(code if status == QProcess.ExitStatus.NormalExit else -1)

    def _error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart and not self._is_over:
            self._tail.append(self._process.errorString())
            QTimer.singleShot(0, lambda: self._is_over or self._then(-1))

    def _say(self, text: str) -> None:
        log(text)
        self.progressed.emit(text)

    def _fail(self, code: ErrorCode, message: str, detail: str = "", hint: str = "") -> None:
        hint = hint or tr("Look into the log panel, then click Install engine again.")
        self._finish(Failure(code, message, hint, detail, resumable=True))

    def _finish(self, failure: Optional[Failure]) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._process is not None and self._process.state() != QProcess.ProcessState.NotRunning:
            self._process.kill()
            self._process.waitForFinished(1000)
        if self._lock is not None:
            self._lock.unlock()
        self.finished.emit(failure)


def _sweep(root: str, kept: str) -> None:
    """Take environments that are no longer used off the disk; a file in use stays for the next time."""
    for name in os.listdir(root):
        if name.startswith("env-") and name != kept:
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)
