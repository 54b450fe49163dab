"""What the tests of the plugin share: requests, and an engine of the standard library."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import Generate, GeoBox, Sampling
from afterimage.plugin.jobs import Draft

HERE = Path(__file__).resolve().parent


@pytest.fixture
def request_() -> Generate:
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (64, 64))
    return Generate("m", grid, grid, 10.0, "forest", Sampling(1, 2, "DDIM"))


@pytest.fixture
def draft(request_):
    """Makes a draft whose title tells the fake engine what to do."""

    def make(title: str = "plain", **more) -> Draft:
        return Draft(request_, title, **more)

    return make


@pytest.fixture
def fake_python(tmp_path, monkeypatch) -> str:
    """An "engine's Python" that runs the fake engine, whatever launcher it is given."""
    monkeypatch.delenv("FAKE_ENGINE", raising=False)
    program = tmp_path / "bin" / "fake-python"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec /usr/bin/python3 -I -u "{HERE / "fake_engine.py"}" "$@"\n')
    program.chmod(0o755)
    return str(program)
