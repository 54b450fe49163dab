"""The package under its own name, whatever the checkout is called, in the engine's Python and in QGIS's own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
LAUNCH = ROOT / "engine" / "launch.py"
#: Stands for the folder with a person's own data, models among them, in this process and in all that it starts. Set as
#: early as this, because lists of models are read while tests are collected, too.
_DATA = tempfile.TemporaryDirectory(prefix="afterimage-tests-")
os.environ["XDG_DATA_HOME"] = _DATA.name
os.environ["AFTERIMAGE_STORE"] = os.path.join(_DATA.name, "models")
os.environ["AFTERIMAGE_CACHE"] = os.path.join(_DATA.name, "cache")


def _register() -> None:
    """As ``engine/launch.py`` does, which cannot be imported by name before this."""
    if "afterimage" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location("launch", LAUNCH)
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    launch.register(ROOT)


_register()


def pytest_unconfigure() -> None:
    _DATA.cleanup()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The imagery that does not ship with the repository."""
    folder = SHARED / "data"
    if not folder.is_dir():
        reason = "../shared/data is not there"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def parity() -> Path:
    """Tiny checkpoints of the published families with their own code's outputs; AFTERIMAGE_PARITY names other ones."""
    folder = Path(os.environ.get("AFTERIMAGE_PARITY") or SHARED / "parity")
    if not folder.is_dir():
        reason = "the reference checkpoints are not there: AFTERIMAGE_PARITY names no folder that holds them"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


#: The engine's command line, again and again in one process: its libraries take seconds to import.
_COMMANDS = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("launch", sys.argv[1])
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)
launch.register(launch.Path(sys.argv[1]).parents[1])
from afterimage.engine.__main__ import main
for line in sys.stdin:
    print("ended", main(json.loads(line)), flush=True)
"""


class Models:
    """Models that are imported into a store of their own, by the engine's command line.

    All of them are begun at once, one after the other; who asks for one waits for that one.
    """

    def __init__(self, python: str, store: Path, wanted: dict[str, tuple[str, ...]]) -> None:
        self.store, self._python = store, python
        self._environment = {**os.environ, "AFTERIMAGE_STORE": str(store), "OMP_NUM_THREADS": "1"}
        self._log = open(store / "log", "w+b")
        self._process = subprocess.Popen(
            [python, "-I", "-c", _COMMANDS, str(LAUNCH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environment,
            text=True,
        )
        self._pool = ThreadPoolExecutor(1)
        self._said = {own: self._pool.submit(self._import, own, *words) for own, words in wanted.items()}

    def _import(self, own: str, *words: str) -> list[str]:
        """The lines that it says of one, the last of them how it ended."""
        self._process.stdin.write(json.dumps(["models", "import", *words, "--id", own]) + "\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            lines.append(line.strip())
            if line.startswith("ended"):
                break
        return lines

    def folder(self, own: str) -> Path:
        """The folder of a model, once it is imported."""
        lines = self._said[own].result()
        if lines[-1:] != ["ended 0"]:
            self._log.seek(0)
            pytest.fail("\n".join(["the import failed:", *lines, self._log.read().decode(errors="replace")]))
        return self.store / own

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``models`` with these words, in a process of its own."""
        return subprocess.run(
            [self._python, "-I", str(LAUNCH), "--log-level", "ERROR", "models", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    def end(self) -> None:
        """Begin no more, and wait for the one that runs."""
        self._pool.shutdown(cancel_futures=True)
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._log.close()


@pytest.fixture(scope="session")
def import_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Models]]:
    """Imports weights: ``import_models(python, {id: (path, *options)})``."""
    made: list[Models] = []

    def make(python: str, wanted: dict[str, tuple[str, ...]]) -> Models:
        made.append(Models(python, tmp_path_factory.mktemp("store"), wanted))
        return made[-1]

    yield make
    for models in made:
        models.end()


def _support(name: str) -> types.ModuleType:
    """A file of ``tests/support``. Needs the engine's Python."""
    pytest.importorskip("rasterio")
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "support" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def null_engine() -> types.ModuleType:
    """``tests/support/null_engine.py``: a model that costs nothing."""
    return _support("null_engine")


@pytest.fixture(scope="session")
def tiny_xl() -> types.ModuleType:
    """``tests/support/tiny_xl.py``: folders of Stable Diffusion XL with small random weights."""
    return _support("tiny_xl")


@pytest.fixture(scope="session")
def save_tower() -> Callable[..., Path]:
    """Saves a tiny image tower of CLIP: ``save_tower(folder, width=16)``, see ``tests/support/tiny_tower.py``."""
    return _support("tiny_tower").save


@pytest.fixture
def make_raster(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plain GeoTIFF: ``make_raster(pixels, name=..., crs=..., transform=..., mask=..., nodata=...)``."""
    rasterio = pytest.importorskip("rasterio")

    def make(
        pixels,
        name="source.tif",
        crs="EPSG:32633",
        transform=(10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0),
        mask=None,
        folder=None,
        **options,
    ):
        path = (folder or tmp_path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        count, height, width = pixels.shape
        shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype.name}
        place = {"crs": crs, "transform": rasterio.Affine(*transform)} if transform else {}
        with (
            warnings.catch_warnings(),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"),
        ):
            warnings.simplefilter("ignore")
            with rasterio.open(path, "w", driver="GTiff", **shape, **place, **options) as file:
                file.write(pixels)
                if mask is not None:
                    file.write_mask(mask)
        return path

    return make


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Path]:
    """Writes a job folder for the null model: ``make_job(size=..., samples=..., output=..., request=...)``."""
    from afterimage.engine import contract

    def make(name="job", size=(192, 256), samples=1, output="", request=None, model="null", scheduler="null", **more):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if request is None:
            grid = contract.GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), size)
            sampling = contract.Sampling(1, 1, scheduler, samples=samples)
            request = contract.Generate(model, grid, grid, 10.0, more.pop("prompt", "a forest"), sampling, **more)
        job = contract.Job(name, request, str(output))
        (folder / "request.json").write_text(contract.dumps(job), encoding="utf-8")
        return folder

    return make


class EngineProcess:
    """A real engine process and the events that it sends."""

    def __init__(self, script: Path, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with open(log, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-u", str(script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "OMP_NUM_THREADS": "1", "AFTERIMAGE_THREADS": "1", **environment},
            )
        self.raw: list[bytes] = []
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in self.process.stdout:
                self.raw.append(line)
                self._lines.put(line)
        self._lines.put(b"")

    def send(self, command) -> None:
        """A command of the contract, or raw bytes."""
        from afterimage.engine.contract import dumps

        line = command if isinstance(command, bytes) else dumps(command).encode() + b"\n"
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def event(self, timeout: float = 60.0):
        """The next event; None at the end of the stream. Fails on anything that is no event."""
        from afterimage.engine.contract import Event, loads

        line = self._lines.get(timeout=timeout)
        return loads(Event, line) if line else None

    def until(self, *names: str, timeout: float = 60.0):
        """The next event of one of these types."""
        limit = time.monotonic() + timeout
        while (event := self.event(max(0.1, limit - time.monotonic()))) is not None:
            if type(event).__name__ in names:
                return event
        pytest.fail(f"the engine ended before {names}:\n{self.log.read_text(errors='replace')[-3000:]}")

    def end(self, timeout: float = 10.0) -> int:
        """Close its input and wait."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        return self.process.wait(timeout)


@pytest.fixture(scope="module")
def engine_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., EngineProcess]]:
    """Starts engines with models of their own that live as long as a file of tests: ``engine_of(VARIABLE=...)``."""
    pytest.importorskip("rasterio")
    started: list[EngineProcess] = []

    def start(**environment: str) -> EngineProcess:
        log = tmp_path_factory.mktemp("engine") / "log"
        started.append(EngineProcess(ROOT / "engine" / "launch.py", ("serve",), environment, log))
        started[-1].until("Ready")
        return started[-1]

    yield start
    for engine in started:
        assert engine.end(10) == 0
        engine.process.stdout.close()


@pytest.fixture
def start_engine(tmp_path: Path) -> Iterator[Callable[..., EngineProcess]]:
    """Starts engine processes: ``start_engine("serve")``; with ``null=False`` the engine with its own models."""
    pytest.importorskip("rasterio")
    started: list[EngineProcess] = []

    def start(*arguments: str, null: bool = True, setup: str = "", **environment: str) -> EngineProcess:
        script = ROOT / ("tests/support/null_engine.py" if null else "engine/launch.py")
        if setup:
            file = tmp_path / f"setup{len(started)}.py"
            file.write_text(setup)
            environment["NULL_SETUP"] = str(file)
        log = tmp_path / f"engine{len(started)}.log"
        started.append(EngineProcess(script, arguments, environment, log))
        return started[-1]

    yield start
    for engine in started:
        with contextlib.suppress(OSError):
            engine.process.stdin.close()
        if engine.process.poll() is None:
            engine.process.kill()
        engine.process.wait()
        engine.process.stdout.close()


@pytest.fixture(autouse=True)
def kept_widgets(request):
    """Keeps the widgets of a test until they are closed.

    pytest-qt holds them weakly. A visible widget that the garbage collector takes apart first crashes when painted.
    """
    kept = []
    if "qtbot" in request.fixturenames:
        qtbot = request.getfixturevalue("qtbot")
        add = qtbot.addWidget

        def keep(widget, **options):
            kept.append(widget)
            add(widget, **options)

        qtbot.addWidget = keep
    return kept
