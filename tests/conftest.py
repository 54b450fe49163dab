"""The package under its own name, whatever the checkout is called, in the engine's Python and in QGIS's own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def _register() -> None:
    """As ``engine/launch.py`` does, which cannot be imported by name before this."""
    if "afterimage" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location("launch", ROOT / "engine" / "launch.py")
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    launch.register(ROOT)


_register()


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
