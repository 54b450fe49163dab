"""Networks in several processes: as many as there may be, in any order, they leave the bytes that one leaves."""

from __future__ import annotations

import dataclasses
import random
import threading

import numpy as np
import pytest
import rasterio
from afterimage.engine.context import JobContext
from afterimage.engine.contract import Generate, GeoBox, Sampling
from afterimage.engine.crew.opening import Opened
from afterimage.engine.journal import JobFolder
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings
from afterimage.engine.tasks import TASKS

GRID = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (300, 420))
GENERATE = Generate("tiny-generate", GRID, GRID, 10.0, "a forest", Sampling(7, 2, "DDIM", 2.0))
PLACE = {"AFTERIMAGE_DEVICE": "cpu", "AFTERIMAGE_BACKEND": "eager"}


def pixels(ending):
    assert type(ending).__name__ == "Succeeded", ending
    with rasterio.open(ending.result.outputs[0].path) as file:
        return file.read()


@pytest.fixture(scope="module")
def bytes_of_one():
    return {}


@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_processes_draw_the_same_bytes(start_engine, make_job, bytes_of_one, count):
    folder = make_job(f"with{count}", request=GENERATE)
    engine = start_engine("run", str(folder), "--workers", str(count), null=False, AFTERIMAGE_THREADS="2", **PLACE)
    ending = engine.until("Succeeded", "Failed", timeout=250)
    found = bytes_of_one.setdefault("pixels", pixels(ending))
    assert np.array_equal(pixels(ending), found)
    assert ending.result.provenance.pins["threads"] == "1", "several threads would round otherwise"


def test_chunks_in_any_order_are_the_same_tiles(make_job):
    settings = Settings(device="cpu", threads=1, backend="eager")
    kept = None
    for seed in range(4):
        folder = JobFolder(make_job(f"order{seed}", request=dataclasses.replace(GENERATE)))
        folder.pin("threads", "1")
        ctx = JobContext("job", lambda event: None, threading.Event(), None)
        opened = Opened(folder.job, folder, settings, catalog, TASKS, ctx, lambda way: None)
        missing = opened.finished.missing()
        random.Random(seed).shuffle(missing)
        for sample, chunk in missing:
            opened.finished.draw(sample, chunk, ctx)
        tiles = {path.name: path.read_bytes() for path in (folder.path / "tiles").iterdir()}
        kept = kept or tiles
        assert tiles == kept and len(tiles) == len(missing) > 4
