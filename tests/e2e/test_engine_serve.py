"""The real engine process over its real pipe, with a model that costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from afterimage.engine.contract import Cancel, ErrorCode, Generate, GeoBox, Ready, Sampling, Shutdown, Submit


def read(result):
    found = []
    for item in result.outputs:
        with rasterio.open(item.path) as file:
            found.append((file.read(), file.dataset_mask()))
    return found


def is_same(a, b):
    return all(np.array_equal(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


def stage(engine, name, timeout=60):
    """Wait until the job is in a phase."""
    while True:
        event = engine.until("Progressed", "Failed", "Succeeded", timeout=timeout)
        assert type(event).__name__ == "Progressed", event
        if event.stage == name:
            return event


def test_a_job_becomes_a_layer(start_engine, make_job, tmp_path):
    folder = make_job(samples=2, output=tmp_path / "out" / "picture.tif", date="2024-06-01")
    (tmp_path / "out").mkdir()
    engine = start_engine("serve")
    assert isinstance(engine.event(), Ready)
    engine.send(Submit("job", str(folder)))
    assert type(engine.event()).__name__ == "Started"
    result = engine.until("Succeeded", "Failed").result
    assert [output.sample for output in result.outputs] == [1, 2]
    for output in result.outputs:
        with rasterio.open(output.path) as file:
            assert file.shape == (192, 256) and file.crs.to_epsg() == 32633
            assert json.loads(file.tags(ns="AFTERIMAGE")["PROVENANCE"])["prompt"] == "a forest"
    names = ["picture.stac.json", "picture.tif", "picture_2.stac.json", "picture_2.tif"]
    assert sorted(os.listdir(tmp_path / "out")) == names
    engine.send(Submit("job", str(folder)))
    assert engine.until("Succeeded").result == result, "a finished job answers at once"
    assert engine.end() == 0


def test_it_is_ready_before_the_networks_are_imported(start_engine):
    blocked = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'diffusers'): raise SystemError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
    )
    engine = start_engine("serve", setup=blocked)
    assert engine.event().models[0].id == "null"


def test_jobs_wait_their_turn_and_can_be_taken_back(start_engine, make_job):
    engine = start_engine("serve", NULL_CHUNK_SECONDS="0.2")
    engine.event()
    for name in ("first", "second", "third"):
        engine.send(Submit(name, str(make_job(name))))
    engine.send(Submit("first", str(make_job("first"))))  # a replay changes nothing
    assert engine.until("Started").job == "first"
    engine.send(Cancel("second"))
    assert engine.until("Cancelled", "Started").job == "second"
    engine.send(Cancel("first"))
    assert engine.until("Cancelled", "Started").job == "first"
    engine.send(Cancel("first"))
    engine.send(Cancel("nobody"))
    assert engine.until("Started", "Failed").job == "third"
    assert engine.until("Succeeded", "Failed", "Cancelled").job == "third"
    assert engine.end() == 0


@pytest.mark.parametrize("phase", ["loading model", "denoising", "writing"])
def test_cancel_takes_hold_before_the_engine_would_be_killed_and_keeps_the_tiles(start_engine, make_job, phase):
    slow = ""
    if phase == "writing":
        slow = (
            "import importlib, time\n"
            "null.register()\n"
            "tiled = importlib.import_module('afterimage.engine.raster.tiled')\n"
            "fill = tiled.Profile.fill\n"
            "tiled.Profile.fill = lambda self, raster: (time.sleep(0.3), fill(self, raster))[1]\n"
        )
    engine = start_engine("serve", setup=slow, NULL_CHUNK_SECONDS="0.1", NULL_LOAD_SECONDS="0.8")
    engine.event()
    folder = make_job()
    engine.send(Submit("job", str(folder)))
    stage(engine, phase)
    began = time.monotonic()
    engine.send(Cancel("job"))
    assert engine.until("Cancelled", "Succeeded", "Failed").job == "job"
    assert time.monotonic() - began < 5  # seconds after which the plugin would kill it
    assert engine.process.poll() is None  # it stopped by itself, and goes on
    assert not (folder / "outputs" / "result.tif").exists()
    kept = len(list((folder / "tiles").glob("*.tile"))) if phase != "loading model" else 0
    assert kept == {"loading model": 0, "writing": 12}.get(phase, kept)
    engine.send(Submit("job", str(folder)))
    assert type(engine.until("Succeeded", "Failed")).__name__ == "Succeeded"


def test_what_it_does_not_understand_is_answered(start_engine, make_job):
    engine = start_engine("serve")
    engine.event()
    lines = [
        b"\n",
        b"   \n",
        b"hello\n",
        b"{\n",
        b'{"type":"Exec","code":"1"}\n',
        b"\xff\xfe\x00\n",
        b"[" * 200_000 + b"\n",
        b'{"type":"Submit","job":"a"}\n',
        b'"' + b"x" * (33 * 1024 * 1024) + b"\n",
    ]
    for line in lines:
        engine.send(line)
    for _ in lines[2:]:
        event = engine.event()
        assert event.job == "" and event.failure.code is ErrorCode.INVALID_REQUEST
        assert len(event.failure.detail) <= 2000
    engine.send(Submit("job", str(make_job())))
    assert engine.until("Succeeded", "Failed").job == "job"
    engine.send(Submit("lost", "/no/such/folder"))
    assert engine.until("Failed").failure.code is ErrorCode.JOB_FOLDER_DAMAGED
    engine.send(Shutdown())
    assert engine.process.wait(10) == 0


def test_nothing_that_a_library_prints_reaches_the_stream(start_engine, make_job):
    noise = (
        "import ctypes, os, sys\n"
        "load = null.load\n"
        "def loud(*arguments):\n"
        "    libc = ctypes.CDLL(None)\n"
        '    libc.puts(b\'{"type":"Ready"}\'); libc.fflush(None)\n'
        "    os.write(1, b'x' * 1_000_000 + b'\\r\\xff\\xfe 50%|##\\n'); os.write(2, b'\\xff' * 10)\n"
        "    print('printed'); sys.stdout.flush(); sys.__stdout__.write('more\\n'); sys.__stdout__.flush()\n"
        "    os.system('echo from a child')\n"
        "    return load(*arguments)\n"
        "null.load = loud\n"
        "null.register()\n"
    )
    engine = start_engine("serve", setup=noise)
    engine.event()
    engine.send(Submit("job", str(make_job())))
    assert type(engine.until("Succeeded", "Failed")).__name__ == "Succeeded"
    engine.end()
    assert all(line.startswith(b'{"type":"') and line.endswith(b"}\n") for line in engine.raw)
    log = engine.log.read_bytes()
    assert b"printed" in log and b"from a child" in log and b"more" in log


def test_the_log_holds_neither_prompt_nor_paths(start_engine, make_job):
    folder = make_job(prompt="a very private forest")
    engine = start_engine("serve")
    engine.event()
    engine.send(Submit("job", str(folder)))
    engine.until("Succeeded", "Failed")
    engine.send(Submit("other", str(make_job("other", prompt="a very private forest", model="none"))))
    engine.until("Failed")
    engine.end()
    log = engine.log.read_text()
    assert "private" not in log and str(folder) not in log


# --- ends


@pytest.mark.parametrize("chunk_seconds", ["0.05", "30"])
def test_it_ends_when_its_input_ends(start_engine, make_job, chunk_seconds):
    """Also from a step that cannot be interrupted: then by force."""
    engine = start_engine("serve", NULL_CHUNK_SECONDS=chunk_seconds)
    engine.event()
    folder = make_job()
    engine.send(Submit("job", str(folder)))
    stage(engine, "denoising")
    began = time.monotonic()
    assert engine.end() == 0
    assert time.monotonic() - began < 5
    assert not (folder / "outputs" / "result.tif").exists()


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", "-u", *sys.argv[2:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         pass_fds=())
child.stdout.readline()
child.stdin.write(open(sys.argv[1], "rb").read()); child.stdin.flush()
for line in child.stdout:
    if b"denoising" in line:
        print(child.pid, flush=True)
        break
time.sleep(120)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("is_shared", [False, True])
def test_it_does_not_outlive_its_parent(make_job, tmp_path, root, is_shared):
    """Killed parents close the pipe; where another process holds it open, the parent's absence is seen."""
    from afterimage.engine.contract import dumps

    (tmp_path / "submit").write_bytes(dumps(Submit("job", str(make_job()))).encode() + b"\n")
    environment = {**os.environ, "NULL_CHUNK_SECONDS": "1", "OMP_NUM_THREADS": "1"}
    script = str(root / "tests" / "support" / "null_engine.py")
    source = PARENT
    if is_shared:
        source = source.replace("time.sleep(120)", "import os\nif os.fork() == 0: time.sleep(20)\ntime.sleep(120)")
    parent = subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path / "submit"), script, "serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        engine = psutil.Process(int(parent.stdout.readline()))
        others = [process for process in psutil.Process(parent.pid).children() if process.pid != engine.pid]
        time.sleep(0.3)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        began = time.monotonic()
        while engine.is_running() and engine.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() - began < 5, "the engine outlived its parent"
            time.sleep(0.05)
        for process in others:
            process.kill()
    finally:
        parent.stdout.close()
        if parent.poll() is None:
            os.killpg(parent.pid, signal.SIGKILL)


# --- survives


POINTS = [
    "tile.after_fsync:5",
    "tile.after_replace:9",
    "publish.before_cog:1",
    "publish.after_cog:2",
    "publish.before_replace:2",
    "result.before_fsync:1",
]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_anywhere_run_resumes_to_the_same_pixels(start_engine, make_job, tmp_path):
    """One job, killed at every point in turn; then what is left is finished."""
    whole = start_engine("run", str(make_job("whole", samples=2)))
    expected = read(whole.until("Succeeded").result)
    assert whole.end() == 0
    folder = make_job("killed", samples=2, output=tmp_path / "out.tif")
    for point in POINTS:
        engine = start_engine("run", str(folder), AFTERIMAGE_FAULT=f"{point}:kill")
        assert engine.process.wait(60) == -signal.SIGKILL, point
        if (tmp_path / "out.tif").exists():
            with rasterio.open(tmp_path / "out.tif") as file:
                assert np.array_equal(file.read(), expected[0][0]), "only a whole result ever shows"
    engine = start_engine("run", str(folder))
    assert is_same(read(engine.until("Succeeded", "Failed").result), expected)
    assert engine.end() == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


#: Every block of a result is handed over by itself.
EAGER = "from afterimage.engine.raster import cog\ncog._BATCH = 1"
MOVING = [
    "handover.before_list:2",
    "handover.after_list:3",
    "handover.after_remove:9",
    "publish.after_cog:1",
    "publish.before_replace:1",
    "publish.after_replace:1",
]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_while_blocks_take_the_place_of_tiles_nothing_is_drawn_again(start_engine, make_job, tmp_path):
    """In the last run the engine would be killed at the first tile that it writes."""
    whole = start_engine("run", str(make_job("whole", (700, 600))))
    expected = read(whole.until("Succeeded").result)
    assert whole.end() == 0
    folder = make_job("killed", (700, 600), output=tmp_path / "out.tif")
    for point in MOVING:
        engine = start_engine("run", str(folder), setup=EAGER, AFTERIMAGE_FAULT=f"{point}:kill")
        assert engine.process.wait(60) == -signal.SIGKILL, point
    engine = start_engine("run", str(folder), setup=EAGER, AFTERIMAGE_FAULT="tile.before_write:1:kill")
    assert is_same(read(engine.until("Succeeded", "Failed").result), expected)
    assert engine.end() == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_at_random_times_no_finished_tile_is_lost(start_engine, make_job, tmp_path):
    rng = np.random.default_rng(int(os.environ.get("KILL_SEED", "1")))
    whole = start_engine("run", str(make_job("whole")))
    expected = read(whole.until("Succeeded").result)
    whole.end()
    folder = make_job("killed", output=tmp_path / "out.tif")
    for _ in range(int(os.environ.get("KILLS", "8"))):
        finished = {path.name for path in (folder / "tiles").glob("s*.tile")}
        engine = start_engine("run", str(folder), NULL_CHUNK_SECONDS="0.05")
        engine.until("Started")
        time.sleep(rng.uniform(0, 0.8))
        engine.process.kill()
        engine.process.wait()
        if not (tmp_path / "out.tif").exists():
            assert finished <= {path.name for path in (folder / "tiles").glob("s*.tile")}, "a finished tile was lost"
    engine = start_engine("run", str(folder))
    assert is_same(read(engine.until("Succeeded", "Failed").result), expected)


def limited(start_engine, folder, megabytes):
    limit = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({int(megabytes * 1e6)}, {int(megabytes * 1e6)}))\n"
    )
    return start_engine("run", str(folder), setup=limit, NULL_SIDE="256")


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE")
@pytest.mark.parametrize("megabytes", [0.1, 0.9, 1.8])
def test_a_file_that_may_not_grow_is_a_full_disk(start_engine, make_job, tmp_path, megabytes):
    """In a tile, in the assembled file, in the copy."""
    folder = make_job(size=(768, 1024), output=tmp_path / "out.tif")
    engine = limited(start_engine, folder, megabytes)
    failure = engine.until("Succeeded", "Failed").failure
    assert engine.end() == 1
    assert failure.code is ErrorCode.DISK_FULL and failure.resumable and failure.hint
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".out", "out"))]
    engine = start_engine("run", str(folder), NULL_SIDE="256")
    assert type(engine.until("Succeeded", "Failed")).__name__ == "Succeeded"


@pytest.mark.slow
def test_a_large_extent_needs_no_more_memory(start_engine, make_job):
    """Sixteen times the pixels, the same memory, but for the block cache."""

    def peak(name, size):
        engine = start_engine("run", str(make_job(name, size=size)), NULL_SIDE="256")
        watched, most = psutil.Process(engine.process.pid), 0
        while engine.process.poll() is None:
            try:
                most = max(most, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
        assert type(engine.until("Succeeded", "Failed")).__name__ == "Succeeded"
        return most / 1e6

    small, large = peak("small", (512, 512)), peak("large", (4096, 4096))
    assert large - small < 128 + 64, f"{small:.0f} MB for 0.3 megapixels, {large:.0f} MB for 17"


# --- from a shell


def test_run_is_stopped_by_a_signal_and_by_the_end_of_its_input(start_engine, make_job):
    for stop in ("signal", "input"):
        folder = make_job(stop)
        engine = start_engine("run", str(folder), "--watch-stdin", NULL_CHUNK_SECONDS="0.2")
        stage(engine, "denoising")
        if stop == "signal":
            engine.process.send_signal(signal.SIGTERM)
            assert type(engine.until("Cancelled", "Succeeded")).__name__ == "Cancelled"
            assert engine.process.wait(5) == 2
        else:
            assert engine.end(5) == 2
        again = start_engine("run", str(folder))
        assert type(again.until("Succeeded", "Failed")).__name__ == "Succeeded"
        assert again.process.wait(10) == 0


def test_run_without_watching_does_not_need_an_input(start_engine, make_job):
    engine = start_engine("run", str(make_job()))
    engine.process.stdin.close()
    assert engine.process.wait(60) == 0


def test_run_tells_by_its_exit_status_how_it_went(start_engine, make_job, tmp_path):
    assert start_engine("run", str(tmp_path / "absent")).process.wait(60) == 1
    grid = GeoBox("EPSG:999999", (1.0, 0, 0, 0, -1.0, 0), (4, 4))
    request = Generate("null", grid, grid, 1.0, "", Sampling(1, 1, "null"))
    engine = start_engine("run", str(make_job(request=request)))
    assert engine.until("Failed").failure.code is ErrorCode.UNKNOWN_CRS and engine.process.wait(10) == 1


def test_two_engines_do_not_run_one_job(start_engine, make_job):
    folder = make_job()
    first = start_engine("run", str(folder), NULL_CHUNK_SECONDS="0.3")
    stage(first, "denoising")
    second = start_engine("run", str(folder))
    assert second.until("Failed").failure.code is ErrorCode.JOB_FOLDER_BUSY
    first.process.kill()
    first.process.wait()
    third = start_engine("run", str(folder))
    assert type(third.until("Succeeded", "Failed")).__name__ == "Succeeded"


def test_models_are_listed_as_json(root):
    done = subprocess.run(
        [sys.executable, "-I", str(root / "engine" / "launch.py"), "models"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert {card["type"] for card in json.loads(done.stdout)} == {"ModelCard"}


def test_a_strange_folder_name_does_not_matter(root, tmp_path):
    link = tmp_path / "my-plugin 2"
    link.symlink_to(root)
    done = subprocess.run(
        [sys.executable, "-I", str(link / "engine" / "launch.py"), "models"],
        capture_output=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(link).exists()
