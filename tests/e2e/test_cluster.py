"""A real Dask scheduler, and workers in processes of their own that share nothing with the engine but a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import psutil
import pytest
import rasterio
from afterimage.engine.contract import Cancel, ErrorCode, Submit

if find_spec("distributed") is None:
    REASON = "distributed is not installed: engine/requirements-dask.txt"
    if os.environ.get("CI") == "true":
        pytest.fail(REASON, pytrace=False)
    pytest.skip(REASON, allow_module_level=True)
pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX"),
    pytest.mark.timeout(600),  # ten processes import what takes seconds each, on whatever machine this is
]

PLACE = {"AFTERIMAGE_DEVICE": "cpu"}
#: Members are started from the null engine, too, and know their processor without torch.
SETUP = """
import pathlib
from afterimage.engine.crew import cluster, member
member.LAUNCH = pathlib.Path(null.__file__)
member.processor = lambda: "any"
cluster.PATIENCE = 120.0
"""
POISON = """
import os, signal
drawing = null.hashed
def hashed(grid, chunk, *more):
    if (chunk.row, chunk.col) == (64, 64):
        os.kill(os.getpid(), signal.SIGKILL)
    return drawing(grid, chunk, *more)
null.hashed = hashed
"""


def pixels(ending):
    assert type(ending).__name__ == "Succeeded", ending
    with rasterio.open(ending.result.outputs[0].path) as file:
        return file.read(), file.dataset_mask() > 0


def until(told, seconds=240.0):
    """Wait for something to be so; what it told."""
    limit = time.monotonic() + seconds
    while not (found := told()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found


def tiles(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "tiles").glob("s*.tile")}


class Scheduler:
    """``dask scheduler``, as anybody starts it: it does not know this package."""

    def __init__(self, folder):
        file = folder / "scheduler.json"
        command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--scheduler-file", str(file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        until(file.is_file)
        time.sleep(0.2)  # the file is written, then filled
        self.address = json.loads(file.read_text())["address"]

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def scheduler(tmp_path):
    started = Scheduler(tmp_path)
    yield started
    started.end()


@pytest.fixture
def offer(start_engine, scheduler):
    """Offers workers to it: ``offer(2)`` -> the process that watches over them."""

    def offer(count, setup=SETUP, **environment):
        words = ("work", "--scheduler", scheduler.address, "--workers", str(count))
        return start_engine(*words, setup=setup, **PLACE, **environment)

    return offer


@pytest.fixture
def run(start_engine, make_job, scheduler):
    """Starts a job there: ``run(name)`` -> (engine, folder)."""

    def run(name, *flags, setup=SETUP, folder=None, **environment):
        folder = folder or make_job(name, size=(192, 512))
        flags = flags or ("--scheduler", scheduler.address)
        return start_engine("run", str(folder), *flags, setup=setup, **PLACE, **environment), folder

    return run


def members(keeper):
    return psutil.Process(keeper.process.pid).children()


def is_at_work(member):
    """Whether a worker has found its scheduler."""
    return any(item.status == psutil.CONN_ESTABLISHED for item in member.net_connections())


def test_a_worker_that_is_killed_costs_one_chunk_and_no_byte(run, offer):
    keeper = offer(2, NULL_CHUNK_SECONDS="0.3")
    until(lambda: len(members(keeper)) == 2 and all(map(is_at_work, members(keeper))))
    engine, folder = run("cluster", AFTERIMAGE_KEEP_TILES="1")
    until(lambda: len(tiles(folder)) >= 4)
    members(keeper)[0].send_signal(signal.SIGKILL)
    kept = tiles(folder)
    found = pixels(engine.until("Succeeded", "Failed", timeout=120))
    assert kept.items() <= tiles(folder).items(), "none is drawn again"
    assert "a worker was lost" in engine.log.read_text()
    whole = pixels(run("alone", "--workers", "1")[0].until("Succeeded", "Failed"))
    assert np.array_equal(found[0], whole[0]) and found[1].all()


def test_a_chunk_that_takes_three_workers_with_it_is_left_out(run, offer):
    keeper = offer(2, SETUP + POISON)
    until(lambda: len(members(keeper)) == 2 and all(map(is_at_work, members(keeper))))
    ending = run("poison")[0].until("Succeeded", "Failed", timeout=200)
    _, valid = pixels(ending)
    assert not valid[64:128, 64:128].any() and valid.sum() == valid.size - 64 * 64
    assert any("One square" in notice for notice in ending.result.notices)


def test_a_scheduler_that_is_lost_pauses_the_job_and_another_one_goes_on(run, offer, scheduler, make_job):
    keeper = offer(1, NULL_CHUNK_SECONDS="0.3")
    until(lambda: len(members(keeper)) == 1 and all(map(is_at_work, members(keeper))))
    engine, folder = run("lost")
    until(lambda: len(tiles(folder)) >= 2)
    scheduler.end()
    failure = engine.until("Succeeded", "Failed", timeout=60).failure
    assert failure.code is ErrorCode.WORKERS_LOST and failure.resumable
    until(lambda: engine.process.poll() is not None, 15)
    kept = tiles(folder)
    assert kept
    engine, _ = run("lost", "--workers", "1", folder=folder, AFTERIMAGE_KEEP_TILES="1")
    assert pixels(engine.until("Succeeded", "Failed"))[1].all()
    assert kept.items() <= tiles(folder).items(), "none is drawn again, whoever goes on"


def test_what_cannot_be_is_said_before_work_starts(run, offer, scheduler):
    failure = run("nobody")[0].until("Succeeded", "Failed").failure
    assert failure.code is ErrorCode.WORKERS_LOST and "engine work" in failure.hint
    keeper = offer(1, SETUP + "member.engine_version = lambda: '0.0.1'\n")
    until(lambda: len(members(keeper)) == 1 and all(map(is_at_work, members(keeper))))
    engine, folder = run("other")
    failure = engine.until("Succeeded", "Failed").failure
    assert failure.code is ErrorCode.WORKER_MISMATCH and "0.0.1" in failure.message and failure.hint
    assert not (folder / "tiles").exists()
    scheduler.end()
    failure = run("gone")[0].until("Succeeded", "Failed").failure
    assert failure.code is ErrorCode.SCHEDULER_UNREACHABLE and failure.resumable


def test_cancelling_stops_workers_elsewhere(start_engine, make_job, offer, scheduler):
    keeper = offer(1, NULL_CHUNK_SECONDS="2")
    until(lambda: len(members(keeper)) == 1 and all(map(is_at_work, members(keeper))))
    folder = make_job("cancelled", size=(192, 512))
    engine = start_engine("serve", setup=SETUP, AFTERIMAGE_SCHEDULER=scheduler.address, **PLACE)
    engine.until("Ready")
    engine.send(Submit("job", str(folder)))
    until(lambda: tiles(folder))
    began = time.monotonic()
    engine.send(Cancel("job"))
    engine.until("Cancelled")
    assert time.monotonic() - began < 5
    time.sleep(1.0)
    kept = tiles(folder)
    time.sleep(2.5)
    assert tiles(folder) == kept, "nobody draws on"
