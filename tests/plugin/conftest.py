"""What the tests of the plugin share: requests, and an engine of the standard library."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import Generate, GeoBox, ModelCard, Offer, Sampling, dumps
from afterimage.plugin import catalogue, settings
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


def public(id="sketcher", tasks=("Generate",), needs=(), **more) -> Offer:
    """An offer: a model that draws from text, with a licence and terms of its own."""
    card = ModelCard(
        id=id,
        name=id.capitalize(),
        summary="Draws from text.",
        family="stable_diffusion",
        version="1.0.0",
        tasks=tasks,
        bands=("red", "green", "blue"),
        gsd=(0.5, 10.0),
        window=512,
        stride=384,
        schedulers=("DDIM",),
        steps=50,
        memory_mb=6100,
        licence="Academic use only",
        citation="Somebody 2025",
        limitations="No clouds.",
        **more,
    )
    return Offer(
        card=card,
        host="huggingface",
        repository=f"somebody/{id}",
        licence_url="https://example.org/licence",
        terms=f"You use {card.name} for research only.",
        size=95_002_000,
        needs=needs,
    )


@pytest.fixture
def shop(tmp_path, monkeypatch, fake_python):
    """A catalogue of three offers, an empty folder of models, and an engine that fetches without a network."""
    folder = tmp_path / "catalogue"
    folder.mkdir()
    prophet = public("prophet", tasks=("Forecast",), frames=3, needs=("sketcher",))
    for offer in (public(), public("painter-two", tasks=("Generate", "Edit")), prophet):
        (folder / f"{offer.card.id}.json").write_text(dumps(offer), encoding="utf-8")
    monkeypatch.setattr(catalogue, "CATALOGUE", folder)
    monkeypatch.setenv("FAKE_CATALOGUE", str(folder))
    monkeypatch.delenv("FAKE_STORE", raising=False)
    monkeypatch.setenv(settings.PYTHON_VARIABLE, fake_python)
    monkeypatch.delenv(settings.MODELS_VARIABLE, raising=False)
    monkeypatch.setattr(settings, "default_models_folder", lambda: str(tmp_path / "store"))
    return tmp_path / "store"
