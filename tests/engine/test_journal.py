"""A job folder survives: kills, torn files, two runners, and disks that fail at any step."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from afterimage.engine import durable, faults
from afterimage.engine.contract import GeoBox, Window
from afterimage.engine.errors import InvalidRequest, JobFolderBusy, JobFolderDamaged
from afterimage.engine.journal import JobFolder
from afterimage.engine.raster import Raster

GRID = GeoBox("EPSG:32633", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), (64, 64))
WINDOW = Window(0, 32, 16, 32)
WORK = {"request": "x", "pins": {"device": "cpu"}}


@pytest.fixture(autouse=True)
def disarmed():
    yield
    faults.arm("")


def tile(dtype="uint16", seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 100, (3, WINDOW.height, WINDOW.width)).astype(dtype)
    return Raster(pixels, rng.random((WINDOW.height, WINDOW.width)) > 0.5, GRID.crop(WINDOW))


def same(a, b):
    return a.pixels.dtype == b.pixels.dtype and np.array_equal(a.pixels, b.pixels) and np.array_equal(a.valid, b.valid)


@pytest.fixture
def folder(make_job):
    with JobFolder(make_job()) as folder:
        yield folder


@pytest.fixture
def tiles(folder):
    tiles = folder.tiles(WORK)
    tiles.prepare()
    return tiles


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_a_tile_comes_back_as_it_was(tiles, dtype):
    assert not tiles.has(1, WINDOW) and tiles.read(1, WINDOW, GRID) is None
    tiles.write(1, WINDOW, tile(dtype))
    assert tiles.has(1, WINDOW)
    back = tiles.read(1, WINDOW, GRID)
    assert same(back, tile(dtype)) and back.grid == GRID.crop(WINDOW)
    assert not tiles.has(2, WINDOW) and not tiles.has(1, Window(0, 0, 16, 32))


def test_a_tile_of_other_work_is_not_seen(folder, tiles):
    tiles.write(1, WINDOW, tile())
    for other in ({**WORK, "request": "y"}, {**WORK, "pins": {"device": "cuda"}}):
        assert not folder.tiles(other).has(1, WINDOW)
        assert folder.tiles(other).read(1, WINDOW, GRID) is None


def test_a_tile_torn_at_any_byte_is_drawn_again(folder, tiles):
    tiles.write(1, WINDOW, tile())
    (path,) = (folder.path / "tiles").iterdir()
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert not tiles.has(1, WINDOW) and tiles.read(1, WINDOW, GRID) is None
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        back = tiles.read(1, WINDOW, GRID)
        assert back is None or same(back, tile()), f"a flipped bit at {at} was believed"
    path.write_bytes(whole)
    assert same(tiles.read(1, WINDOW, GRID), tile())


def test_what_a_crash_left_half_written_goes(folder, tiles):
    leftover = folder.path / "tiles" / ".s001.tile.99.1"
    leftover.write_bytes(b"half")
    tiles.write(1, WINDOW, tile())
    tiles.prepare()
    assert not leftover.exists() and tiles.has(1, WINDOW)


def test_what_goes_by_itself_or_stays_open_is_no_error(folder, tiles, monkeypatch):
    for name in (".gone", ".open"):
        (folder.path / "tiles" / name).write_bytes(b"half")
    unlink = Path.unlink

    def racing(path, missing_ok=False):
        if path.name == ".open":
            raise PermissionError(13, "another process has it open")
        if path.name == ".gone":  # its owner, a worker whose engine died, gives it its final name
            path.rename(path.with_name("final"))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", racing)
    tiles.prepare()
    assert (folder.path / "tiles" / "final").exists()


def test_two_machines_with_the_same_process_number_write_under_two_names(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(durable, "replace", lambda source, target: names.append(source.name))
    monkeypatch.setattr(os, "getpid", lambda: 7)
    for _ in range(2):
        durable.write(tmp_path / "a.tile", b"x", "tile")
    assert len(set(names)) == 2 and all(name.startswith(".a.tile.") for name in names)


def test_a_dropped_tile_is_drawn_again_with_its_way_and_no_other_goes(tiles):
    other = Window(WINDOW.row + 256, WINDOW.col, WINDOW.height, WINDOW.width)
    for sample, window, frame in ((1, WINDOW, 0), (1, WINDOW, 2), (2, WINDOW, 0), (1, other, 0)):
        tiles.write(sample, window, tile(), frame)
    tiles.drop(1, WINDOW)
    assert not tiles.has(1, WINDOW) and not tiles.has(1, WINDOW, 2) and tiles.has(2, WINDOW) and tiles.has(1, other)


def test_a_pin_is_set_once(folder):
    assert folder.pin("device", "cpu") == "cpu"
    assert folder.pin("device", "cuda") == "cpu"
    assert JobFolder(folder.path).pins() == {"device": "cpu"}


def test_damaged_pins_are_set_aside(folder):
    folder.pin("device", "cpu")
    (folder.path / "pins.json").write_text('{"device": ')
    assert folder.pins() == {}
    assert folder.pin("device", "cuda") == "cuda"
    assert (folder.path / "pins.bad").exists()


def test_two_runners_do_not_share_a_folder(make_job):
    path = make_job()
    with JobFolder(path), pytest.raises(JobFolderBusy), JobFolder(path):
        pass
    with JobFolder(path):
        pass


def test_a_killed_runner_leaves_no_lock(make_job, root):
    path = make_job()
    script = (
        f"import sys, time, pathlib; sys.path.insert(0, {str(root / 'tests')!r}); import conftest\n"
        "from afterimage.engine.journal import JobFolder\n"
        f"held = JobFolder(pathlib.Path({str(path)!r}))\n"
        "held.__enter__(); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout.readline().strip() == b"held"
    with pytest.raises(JobFolderBusy), JobFolder(path):
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    with JobFolder(path):
        pass


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, JobFolderDamaged),
        ("", InvalidRequest),
        ("{", InvalidRequest),
        ('{"type":"Job"}', InvalidRequest),
        ('{"type":"Submit","job":"a","folder":"b"}', InvalidRequest),
        ("[" * 100_000, InvalidRequest),
        ('{"type":"Job","id":"a","request":{"type":"Evil"}}', InvalidRequest),
    ],
)
def test_a_folder_without_a_job_is_refused(tmp_path, content, error):
    if content is not None:
        (tmp_path / "request.json").write_text(content)
    with pytest.raises(error):
        JobFolder(tmp_path)


class Disk:
    """A disk that fails at the n-th operation: once, or from then on."""

    def __init__(self, monkeypatch, at, once):
        self.count, self.at, self.once = 0, at, once
        for name in ("fsync", "replace"):
            monkeypatch.setattr(durable.os, name, self._wrap(getattr(os, name)))
        monkeypatch.setattr("builtins.open", self._wrap(open))

    def _wrap(self, function):
        def call(*args, **kwargs):
            self.count += 1
            if self.count == self.at or (self.count > self.at and not self.once):
                raise OSError(errno.EIO, "the disk failed")
            return function(*args, **kwargs)

        return call


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("at", range(1, 9))
def test_a_write_that_fails_at_any_step_leaves_old_or_new(tmp_path, monkeypatch, at, once):
    target = tmp_path / "pins.json"
    target.write_bytes(b"old")
    with monkeypatch.context() as patch:
        disk = Disk(patch, at, once)
        try:
            durable.write(target, b"new", "pins")
            is_told = False
        except OSError:
            is_told = True
        reached = disk.count >= at
    content = target.read_bytes()
    assert content in (b"old", b"new")
    assert is_told or content == b"new", "a write that was not refused must be there"
    if not reached or once:
        assert content == b"new", "one failure is survived: the content is written anew"
    assert [path.name for path in tmp_path.iterdir()] == ["pins.json"]


@pytest.mark.parametrize("instant", ["before_write", "before_fsync", "after_fsync", "after_replace"])
def test_no_crash_state_of_a_commit_shows_a_wrong_tile(folder, tiles, instant):
    faults.arm(f"tile.{instant}:1:raise")
    with pytest.raises(RuntimeError):
        tiles.write(1, WINDOW, tile())
    faults.arm("")
    tiles.prepare()
    back = tiles.read(1, WINDOW, GRID)
    assert (back is not None) == (instant == "after_replace")
    tiles.write(1, WINDOW, tile())
    assert same(tiles.read(1, WINDOW, GRID), tile())
