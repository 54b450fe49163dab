"""What the tests with the real QGIS share: ``qgis_process`` in a profile of its own, and tiny published models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.plugin import settings

ROOT = Path(__file__).resolve().parents[2]
ENGINE = os.environ.get(settings.PYTHON_VARIABLE) or os.path.expanduser("~/.venvs/engine/bin/python")
PROGRAM = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
VARIABLES = {
    settings.PYTHON_VARIABLE: ENGINE,
    "AFTERIMAGE_TEST_MODELS": "1",
    "AFTERIMAGE_DEVICE": "cpu",
    "AFTERIMAGE_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="session")
def engine_variables():
    """Variables that point QGIS at the engine of the tests, on one thread of the CPU."""
    if not os.path.isfile(ENGINE):
        absent("the engine's Python is not there")
    return VARIABLES


@pytest.fixture(scope="session")
def qgis_process(engine_variables, tmp_path_factory):
    """Runs ``qgis_process`` in a fresh profile that has the plugin: (exit status, results, everything it said)."""
    if PROGRAM is None:
        absent("qgis_process is not there")
    base = tmp_path_factory.mktemp("profile")
    plugins = base / "profiles" / "default" / "python" / "plugins"
    plugins.mkdir(parents=True)
    os.symlink(ROOT, plugins / "afterimage")
    (base / "runtime").mkdir(mode=0o700)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))},
        **engine_variables,
        "QT_QPA_PLATFORM": "offscreen",
        "LC_ALL": "C.UTF-8",
        "QGIS_CUSTOM_CONFIG_PATH": str(base),
        "XDG_RUNTIME_DIR": str(base / "runtime"),
    }
    environment.pop("DISPLAY", None)

    def run(*arguments, json_output=True, **variables):
        command = [PROGRAM, *(["--json"] if json_output else []), *arguments]
        done = subprocess.run(
            command, env={**environment, **variables}, capture_output=True, text=True, timeout=280, check=False
        )
        results = {}
        if json_output and "{" in done.stdout:
            results = json.loads(done.stdout[done.stdout.index("{") :]).get("results", {})
        return done.returncode, results, done.stdout + done.stderr

    assert run("plugins", "enable", "afterimage", json_output=False)[0] == 0
    run.profile = base / "profiles" / "default"
    return run


#: Writes what has no copy in ``../shared``: run by the engine's Python, which has the networks.
MAKE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny_tower, tiny_xl
tiny_xl.write_pipeline(Path(sys.argv[3]) / "xl", Path(sys.argv[2]), 4)
tiny_tower.save(Path(sys.argv[3]) / "tower")
"""


@pytest.fixture(scope="session")
def made(parity, engine_variables, tmp_path_factory):
    """A folder with a tiny Stable Diffusion XL, ``xl``, and a tiny image tower, ``tower``, of random weights."""
    folder = tmp_path_factory.mktemp("made")
    support, words = ROOT / "tests" / "support", parity / "rsedit" / "tokenizer"
    command = [ENGINE, "-I", "-c", MAKE, str(support), str(words), str(folder)]
    subprocess.run(command, check=True, timeout=600, env={**os.environ, **VARIABLES})
    return folder


@pytest.fixture(scope="session")
def published(parity, made, import_models, engine_variables):
    """Tiny models of the published kinds, imported as a person would: ``published.folder("tiny-series")``."""
    small = ("--window", "64")
    checkpoint = str(parity / "crsdiff" / "last.ckpt")
    return import_models(
        ENGINE,
        {
            "tiny-diffusionsat": (str(parity / "diffusionsat"), *small),
            "tiny-crsdiff": (checkpoint, "--window", "128"),
            "tiny-reader": (checkpoint, "--window", "128", "--tower", str(made / "tower")),
            "tiny-xl": (str(made / "xl"), *small),
            "tiny-sentinel": (str(parity / "diffusionsat" / "controlnet_sr"), *small),
            "tiny-series": (str(parity / "diffusionsat" / "controlnet3d"), *small),
            "tiny-rsedit": (str(parity / "rsedit"), *small),
            "tiny-inpainting": (str(parity / "text2earth" / "text2earth-inpainting"), *small),
        },
    )


def absent(reason: str) -> None:
    """Skip, but fail where everything should be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
