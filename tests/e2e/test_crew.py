"""Real worker processes of this machine, with a model that costs nothing: killed, cancelled, orphaned and resumed."""

from __future__ import annotations

import contextlib
import signal
import time

import numpy as np
import psutil
import pytest
import rasterio
from afterimage.engine.contract import Cancel, ErrorCode, Submit

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")

#: Workers are started from the null engine, too.
SETUP = """
import pathlib
from afterimage.engine.crew import processes
processes.LAUNCH = pathlib.Path(null.__file__)
"""
#: One square ends whoever draws it.
POISON = """
import os, signal
drawing = null.hashed
def hashed(grid, chunk, *more):
    if (chunk.row, chunk.col) == (64, 64):
        os.kill(os.getpid(), signal.SIGKILL)
    return drawing(grid, chunk, *more)
null.hashed = hashed
"""
PLACE = {"AFTERIMAGE_DEVICE": "cpu"}


def pixels(ending):
    assert type(ending).__name__ == "Succeeded", ending
    with rasterio.open(ending.result.outputs[0].path) as file:
        return file.read(), file.dataset_mask() > 0


def workers(engine):
    """The processes that draw for an engine."""
    found = psutil.Process(engine.process.pid).children(recursive=True)
    return [child for child in found if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def until(told, seconds=60.0):
    """Wait for something to be so."""
    limit = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < limit
        time.sleep(0.02)


def tiles(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "tiles").glob("s*.tile")}


@pytest.fixture
def run(start_engine, make_job):
    """Starts a job: ``run(name, workers)`` -> (engine, folder)."""

    def run(name, count, setup=SETUP, folder=None, **environment):
        folder = folder or make_job(name, size=(192, 512))
        engine = start_engine("run", str(folder), "--workers", str(count), setup=setup, **PLACE, **environment)
        return engine, folder

    return run


def test_any_number_of_workers_and_one_that_is_killed_leave_the_same_pixels(run):
    whole = pixels(run("one", 1)[0].until("Succeeded", "Failed"))
    for count in (2, 4):
        engine, folder = run(f"with{count}", count, NULL_CHUNK_SECONDS="0.1")
        until(lambda folder=folder: tiles(folder))
        workers(engine)[0].send_signal(signal.SIGKILL)
        found = pixels(engine.until("Succeeded", "Failed"))
        assert np.array_equal(found[0], whole[0]) and found[1].all()
        assert "SIGKILL" in engine.log.read_text(), "it was seen"
        assert engine.process.wait(10) == 0


def test_a_square_that_takes_three_workers_with_it_is_left_out_and_told(run):
    engine, folder = run("poison", 2, SETUP + POISON)
    ending = engine.until("Succeeded", "Failed")
    _, valid = pixels(ending)
    assert not valid[64:128, 64:128].any() and valid.sum() == valid.size - 64 * 64
    assert any("One square" in notice for notice in ending.result.notices)
    kept = tiles(folder)
    again, _ = run("poison", 1, folder=folder, AFTERIMAGE_KEEP_TILES="1")
    assert pixels(again.until("Succeeded", "Failed"))[1].all()
    changed = {name for name, when in tiles(folder).items() if kept.get(name) != when}
    assert len(changed) == 1, "what was missing is drawn, and nothing else"


def test_a_machine_that_ends_every_worker_leaves_no_gap(run):
    ending = "import os, signal\nnull.hashed = lambda *given: os.kill(os.getpid(), signal.SIGKILL)\n"
    engine, folder = run("doomed", 2, SETUP + ending)
    failure = engine.until("Succeeded", "Failed").failure
    assert failure.code is ErrorCode.WORKERS_LOST and failure.resumable and not tiles(folder)
    again, _ = run("doomed", 2, folder=folder)
    assert pixels(again.until("Succeeded", "Failed"))[1].all()


def test_an_engine_that_is_killed_takes_its_workers_along_and_loses_no_tile(run):
    engine, folder = run("killed", 2, NULL_CHUNK_SECONDS="0.3")
    until(lambda: len(tiles(folder)) >= 4)
    drawing = workers(engine)
    assert len(drawing) == 2
    engine.process.kill()
    engine.process.wait()
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in drawing), 5.0)
    kept = tiles(folder)
    again, _ = run("killed", 2, folder=folder, AFTERIMAGE_KEEP_TILES="1")
    found = pixels(again.until("Succeeded", "Failed"))
    assert kept == {name: when for name, when in tiles(folder).items() if name in kept}, "none is drawn again"
    whole = pixels(run("whole", 1)[0].until("Succeeded", "Failed"))
    assert np.array_equal(found[0], whole[0])


def test_cancelling_stops_the_workers_at_once_and_keeps_their_tiles(start_engine, make_job):
    folder = make_job("cancelled", size=(192, 512))
    engine = start_engine("serve", setup=SETUP, AFTERIMAGE_WORKERS="2", NULL_CHUNK_SECONDS="0.4", **PLACE)
    engine.until("Ready")
    engine.send(Submit("job", str(folder)))
    until(lambda: len(tiles(folder)) >= 2)
    began = time.monotonic()
    engine.send(Cancel("job"))
    engine.until("Cancelled")
    assert time.monotonic() - began < 2.5 and not workers(engine)
    kept = len(tiles(folder))
    assert 2 <= kept < 24
    engine.send(Submit("job", str(folder)))
    assert pixels(engine.until("Succeeded", "Failed", "Cancelled"))[1].all()
    assert not workers(engine), "none is left behind"


def test_workers_that_cannot_start_are_told(run):
    engine, _ = run("broken", 2, SETUP.replace("null.__file__", "'/nowhere.py'"))
    failure = engine.until("Succeeded", "Failed").failure
    assert failure.code is ErrorCode.WORKERS_LOST and failure.resumable


def test_a_worker_of_another_version_draws_nothing(run):
    other = "from afterimage.engine.crew import worker\nworker.engine_version = lambda: '0.0.1'\n"
    engine, folder = run("other", 2, SETUP + other)
    failure = engine.until("Succeeded", "Failed").failure
    assert failure.code is ErrorCode.WORKER_MISMATCH and "0.0.1" in failure.message
    with contextlib.suppress(FileNotFoundError):
        assert not tiles(folder)
