"""Networks in several processes: as many as there may be, in any order, they leave the bytes that one leaves.

The mean of a super-resolution is drawn as samples are, so it stands beside one here.
"""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest
import rasterio
from afterimage.engine.context import JobContext
from afterimage.engine.contract import Generate, GeoBox, Role, Sampling, Source, SuperResolve
from afterimage.engine.crew.opening import Opened
from afterimage.engine.journal import JobFolder
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings
from afterimage.engine.tasks.base import MEAN
from afterimage.engine.tasks.plans import TASKS

GRID = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (300, 420))
GENERATE = Generate("tiny-generate", GRID, GRID, 10.0, "a forest", Sampling(7, 2, "DDIM", 2.0))
FINER = SuperResolve("tiny-superresolve", Source("source.tif", "layer"), 4, 10.0, Sampling(7, 2, "DDIM"), mean=True)
PLACE = {"AFTERIMAGE_DEVICE": "cpu", "AFTERIMAGE_BACKEND": "eager"}


def pixels(ending):
    assert type(ending).__name__ == "Succeeded", ending
    found = []
    for item in ending.result.outputs:
        with rasterio.open(item.path) as file:
            found.append(file.read())
    return np.stack(found)


@pytest.fixture(scope="module")
def bytes_of_one():
    return {}


@pytest.fixture
def make(make_job, make_raster):
    """Makes the folder of a job, with a source of three chunks by two once it is finer."""

    def make(name, request):
        folder = make_job(name, request=request)
        if request is not GENERATE:
            rng = np.random.default_rng(0)
            make_raster(rng.integers(300, 4000, (3, 120, 150), "uint16"), folder=folder, photometric="minisblack")
        return folder

    return make


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("request_", [GENERATE, FINER], ids=["generate", "mean"])
def test_one_and_two_processes_draw_the_same_bytes(start_engine, make, bytes_of_one, request_, count):
    folder = make(f"with{count}", request_)
    engine = start_engine("run", str(folder), "--workers", str(count), null=False, AFTERIMAGE_THREADS="2", **PLACE)
    ending = engine.until("Succeeded", "Failed", timeout=250)
    found = bytes_of_one.setdefault(request_, pixels(ending))
    assert np.array_equal(pixels(ending), found)
    assert ending.result.provenance.pins["threads"] == "1", "several threads would round otherwise"


def test_the_mean_of_a_job_that_was_killed_is_the_one_that_was_not(start_engine, make, bytes_of_one):
    folder = make("killed", FINER)
    place = {**PLACE, "AFTERIMAGE_THREADS": "1"}
    engine = start_engine("run", str(folder), "--workers", "1", null=False, **place)
    limit = time.monotonic() + 250
    while not list((folder / "tiles").glob("s000_r*.tile")):
        assert time.monotonic() < limit and engine.process.poll() is None
        time.sleep(0.05)
    engine.process.kill()
    engine.process.wait()
    tiles = folder / "tiles"
    # A spread (f001) is written before its mean: alone it is no finished chunk.
    finished = [path for path in tiles.glob("s*.tile") if (tiles / path.name.replace("_f001", "")).exists()]
    kept = {path.name: path.stat().st_mtime_ns for path in finished}
    again = start_engine("run", str(folder), "--workers", "1", null=False, AFTERIMAGE_KEEP_TILES="1", **place)
    ending = again.until("Succeeded", "Failed", timeout=250)
    found = pixels(ending)
    assert [item.role for item in ending.result.outputs] == [Role.SAMPLE, Role.MEAN]
    assert not np.array_equal(*found)
    assert {name: (tiles / name).stat().st_mtime_ns for name in kept} == kept, "none is drawn again"
    if FINER in bytes_of_one:
        assert np.array_equal(found, bytes_of_one[FINER])


@pytest.mark.parametrize("request_", [GENERATE, FINER], ids=["generate", "mean"])
def test_chunks_in_any_order_are_the_same_tiles(make, request_):
    settings = Settings(device="cpu", threads=1, backend="eager")
    kept = None
    for seed in range(4):
        folder = JobFolder(make(f"order{seed}", request_))
        folder.pin("threads", "1")
        ctx = JobContext("job", lambda event: None, threading.Event(), None)
        opened = Opened(folder.job, folder, settings, catalog, TASKS, ctx, lambda way: None)
        missing = opened.finished.missing()
        random.Random(seed).shuffle(missing)
        for sample, chunk in missing:
            opened.finished.draw(sample, chunk, ctx)
        tiles = {path.name: path.read_bytes() for path in (folder.path / "tiles").iterdir()}
        kept = kept or tiles
        # how far the truth lies from the mean is a frame of its own
        told = sum(sample == MEAN for sample, _ in missing)
        assert tiles == kept and len(tiles) == len(missing) + told > 4
