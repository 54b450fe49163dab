"""The real engine with a model that costs nothing: a pixel is a hash of its place, and a chunk takes ``CHUNK_SECONDS``.

Run like ``engine/launch.py``: for kills, cancels and full disks, where only the machinery matters. Started with
``NULL_SETUP`` naming a Python file, it runs that first (``null`` is this module), so a test can break something.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
import types
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
CHUNK_SECONDS = float(os.environ.get("NULL_CHUNK_SECONDS", "0"))
SIDE = int(os.environ.get("NULL_SIDE", "64"))


def register() -> None:
    """Make the package importable, with these models and tasks in the place of its own."""
    if "afterimage" not in sys.modules:
        spec = importlib.util.spec_from_file_location("launch", ROOT / "engine" / "launch.py")
        launch = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(launch)
        launch.register(ROOT)
    catalog = types.ModuleType("afterimage.engine.models.catalog")
    catalog.CARD, catalog.cards, catalog.load, catalog.verify = "card.json", cards, load, lambda *_: None
    sys.modules[catalog.__name__] = importlib.import_module("afterimage.engine.models").catalog = catalog
    contract = importlib.import_module("afterimage.engine.contract")
    plans = types.ModuleType("afterimage.engine.tasks.plans")
    plans.TASKS = {contract.Generate: plan_generate, contract.SuperResolve: plan_super_resolve}
    sys.modules[plans.__name__] = importlib.import_module("afterimage.engine.tasks").plans = plans


def cards(settings=None):
    """One model for both tasks."""
    from afterimage.engine.contract import ModelCard

    return (
        ModelCard(
            id="null",
            name="Null",
            summary="Draws a hash of each pixel's place.",
            family="null",
            version="1",
            tasks=("Generate", "SuperResolve"),
            bands=("red", "green", "blue"),
            gsd=(0.5, 60.0),
            window=64,
            stride=32,
            schedulers=("null",),
            steps=1,
            factors=(2, 4),
            weights={"null": "0" * 64},
            licence="CC0-1.0",
            pickable=False,
        ),
    )


def load(model_id, settings=None):
    """Takes as long as ``NULL_LOAD_SECONDS`` says."""
    time.sleep(float(os.environ.get("NULL_LOAD_SECONDS", "0")))
    return cards()[0]


def chunks(grid):
    """Squares of ``SIDE`` pixels."""
    from afterimage.engine.raster.tiled import blocks

    return tuple(blocks(grid, SIDE))


def hashed(grid, chunk, sample, bands, dtype):
    """Pixels that depend on sample, band and place only."""
    rows, cols = np.mgrid[chunk.row : chunk.row_end, chunk.col : chunk.col_end].astype(np.uint64)
    planes = [
        (rows * np.uint64(73856093)) ^ (cols * np.uint64(19349663)) ^ np.uint64((sample * 31 + b) * 83492791)
        for b in range(bands)
    ]
    return (np.stack(planes) % np.uint64(251)).astype(dtype)


def pause(ctx):
    """Take ``CHUNK_SECONDS``, in steps that can be cancelled."""
    for _, part in ctx.track(range(4), "denoising"):
        time.sleep(CHUNK_SECONDS / 4)
        part.check()


def plan_generate(request, folder, model, ctx):
    """Three bands of bytes on the lattice, all valid."""
    from afterimage.engine.raster import Profile, Raster
    from afterimage.engine.tasks.base import Work

    def draw(chunk, sample, part):
        pause(part)
        valid = np.ones((chunk.height, chunk.width), bool)
        raster = Raster(hashed(request.lattice, chunk, sample, 3, "uint8"), valid, request.lattice.crop(chunk))
        part.preview(raster)
        return raster

    profile = Profile("uint8", model.bands, colors=model.bands)
    return Work(model, request.lattice, request.grid, chunks(request.lattice), profile, draw, date=request.date)


def plan_super_resolve(request, folder, model, ctx):
    """Each pixel of the source, repeated."""
    from afterimage.engine.contract import Input, Window
    from afterimage.engine.radiometry import measure
    from afterimage.engine.raster import Raster, SourceRaster
    from afterimage.engine.tasks.base import Work

    source = SourceRaster(folder.path, request.source)
    measure(source.sample(), source.profile)
    grid, f = source.grid.zoom(request.factor), request.factor

    def draw(chunk, sample, part):
        pause(part)
        window = Window(chunk.row // f, chunk.col // f, -(-chunk.height // f), -(-chunk.width // f))
        given = source.read(window)
        pixels = given.pixels.repeat(f, 1).repeat(f, 2)[:, : chunk.height, : chunk.width]
        valid = given.valid.repeat(f, 0).repeat(f, 1)[: chunk.height, : chunk.width]
        return Raster(pixels, valid, grid.crop(chunk))

    return Work(
        model,
        grid,
        grid,
        chunks(grid),
        source.profile,
        draw,
        inputs=(Input(request.source.name, source.sha256(), source.grid),),
        date=request.source.date,
        mean=request.mean,
        spread=request.spread,
    )


if __name__ == "__main__":
    register()
    setup = os.environ.get("NULL_SETUP")
    if setup:
        exec(compile(Path(setup).read_text(), setup, "exec"), {"null": sys.modules[__name__]})
    sys.exit(importlib.import_module("afterimage.engine.__main__").main())
