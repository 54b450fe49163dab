"""Blocks that stand in a result take the place of tiles: less disk, and no crash costs a chunk."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import os
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import rasterio
from afterimage.engine import durable, faults, moved, output
from afterimage.engine.contract import ErrorCode, GeoBox
from afterimage.engine.journal import JobFolder
from afterimage.engine.raster import Parts, Profile, Raster, blocks_of, cog, prepare, window_of
from afterimage.engine.settings import Settings
from afterimage.engine.tasks.chunks import chunks
from afterimage.engine.tiles import Tiles

from .conftest import SETTINGS, code, super_resolve

RNG = np.random.default_rng(5)
SIZE = (600, 530)
GRID = GeoBox("EPSG:32633", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), SIZE)


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Every block is handed over by itself."""
    monkeypatch.setattr(cog, "_BATCH", 1)
    yield
    faults.arm("")


def pixels(ending):
    found = []
    for path in (item.path for item in ending.result.outputs):
        with rasterio.open(path) as file:
            found.append((file.read(), file.dataset_mask(), [file.overviews(1)]))
    return found


def is_same(a, b):
    return all(np.array_equal(x[0], y[0]) and np.array_equal(x[1], y[1]) and x[2] == y[2] for x, y in zip(a, b))


def standing(path):
    """Block -> (place, length), as a list says."""
    lines = [json.loads(line.partition(" ")[2] or "[]") for line in path.read_text().splitlines()[1:]]
    return {(row, col): place for row, col, *place in filter(None, lines)}


def tiles_of(folder):
    return len(list((folder / "tiles").glob("*.tile")))


def broken(start, make_job, tmp_path):
    """A job that broke when all of its blocks were moved."""
    folder = make_job("broken", SIZE, output=tmp_path / "out.tif")
    faults.arm("publish.after_cog:1:raise")
    start(folder)
    faults.arm("")
    return folder


POINTS = [
    "handover.before_list:1",
    "handover.before_list:14",
    "handover.after_list:1",
    "handover.after_list:9",
    "handover.after_remove:1",
    "handover.after_remove:9",
    "publish.after_cog:1",
    "publish.after_cog:2",
    "stac.after_fsync:1",
    "publish.before_replace:1",
    "publish.after_replace:1",
    "publish.after_replace:2",
    "result.after_fsync:1",
]


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("point", POINTS)
def test_broken_anywhere_no_chunk_is_drawn_twice(start, make_job, null_engine, tmp_path, monkeypatch, point, side):
    monkeypatch.setattr(null_engine, "SIDE", side)
    whole = pixels(start(make_job("whole", SIZE, samples=2)))
    count = len(start.drawn)
    folder = make_job("broken", SIZE, samples=2, output=tmp_path / "out.tif")
    faults.arm(f"{point}:raise")
    assert code(start(folder)) is ErrorCode.INTERNAL and start.events[-1].failure.resumable
    assert len(start.drawn) == count
    is_moved = list((folder / "pending").glob("*.moved"))
    assert (tiles_of(folder) < count) == (point not in ("handover.before_list:1", "handover.after_list:1"))
    assert bool(is_moved) == (point != "handover.before_list:1")
    faults.arm(f"{point}:raise")  # and once more, from what the first left
    start(folder)
    assert start.drawn == []
    faults.arm("")
    ending = start(folder)
    assert start.drawn == [] and is_same(pixels(ending), whole)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not (folder / "pending").exists() and not (folder / "tiles").exists()


def test_a_cancelled_job_keeps_what_it_moved(start, make_job, monkeypatch):
    folder = make_job("job", SIZE)
    taken = []

    def take(self, blocks):
        taken.extend(blocks)
        original(self, blocks)
        if len(taken) == 5:
            start.cancelled.set()

    original = moved.Handover.take
    monkeypatch.setattr(moved.Handover, "take", take)
    assert type(start(folder)).__name__ == "Cancelled"
    assert len(list((folder / "pending").iterdir())) == 2
    start.cancelled.clear()
    ending = start(folder)
    assert type(ending).__name__ == "Succeeded" and start.drawn == []
    assert is_same(pixels(ending), pixels(start(make_job("whole", SIZE))))


def disk(*folders):
    return sum(path.stat().st_size for folder in folders for path in Path(folder).rglob("*") if path.is_file())


def most_disk(start, make_job, monkeypatch, name, settings=SETTINGS):
    """The most bytes in a job's folder while its result is written, over those of the result."""
    seen, folder = [], make_job(name, (2000, 2000))
    monkeypatch.setattr(cog._Counted, "step", lambda self: seen.append(disk(folder)))
    ending = start(folder, settings)
    with rasterio.open(ending.result.outputs[0].path) as file:
        assert file.shape == (2000, 2000)
    return max(seen) / Path(ending.result.outputs[0].path).stat().st_size


def test_a_job_needs_little_more_disk_than_its_result(start, make_job, null_engine, monkeypatch):
    monkeypatch.setattr(null_engine, "SIDE", 256)
    assert most_disk(start, make_job, monkeypatch, "lean") < 1.25
    assert most_disk(start, make_job, monkeypatch, "kept", Settings("cpu", threads=1, keep_tiles=True)) > 1.7


def test_a_damaged_block_has_its_chunks_drawn_again_and_no_others(start, make_job, tmp_path):
    whole = pixels(start(make_job("whole", SIZE)))
    folder = broken(start, make_job, tmp_path)
    (path,) = (folder / "pending").glob("*.tif")
    at = standing(path.with_suffix(".moved"))[1, 0][0] + 1000
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    ending = start(folder)
    assert is_same(pixels(ending), whole)
    block = window_of((1, 0), SIZE)
    assert start.drawn and all(chunk.intersects(block) for _, chunk in start.drawn)


def test_a_file_that_is_gone_has_its_chunks_drawn_again(start, make_job):
    whole = pixels(start(make_job("whole", SIZE)))
    folder = make_job("broken", SIZE)
    faults.arm("publish.before_replace:1:raise")
    start(folder)
    faults.arm("")
    for path in (folder / "pending").glob("*.tif"):
        path.unlink()
    ending = start(folder)
    assert start.drawn and is_same(pixels(ending), whole)


@pytest.mark.parametrize("origin", [(0, 0), (100, 37)])
@pytest.mark.parametrize("profile", [Profile("uint8", ("a", "b"), 0.0), Profile("float32", ("a",))])
def test_chunks_come_back_from_the_blocks_that_they_were_moved_to(tmp_path, origin, profile):
    shape = (len(profile.bands), *SIZE)
    whole = Raster(RNG.integers(0, 200, shape).astype(profile.dtype), RNG.random(SIZE) > 0.1, GRID)
    windows = chunks(GRID, origin)
    tiles = Tiles(tmp_path / "tiles", "work", SIZE, tmp_path / "pending")
    tiles.prepare()
    drawn = {}
    for window in windows:
        rows, cols = window.slices()
        part = Raster(whole.pixels[:, rows, cols], whole.valid[rows, cols], GRID.crop(window))
        drawn[window] = Raster(profile.fill(part), part.valid, part.grid)
        tiles.write(1, window, drawn[window])
    packed = {window: tiles.packed(1, window) for window in windows}
    parts = Parts(windows, lambda window: tiles.read(1, window, GRID), lambda window: tiles.packed(1, window))
    taker = tiles.hand_over(1, windows, tmp_path / "a.tif", profile)

    def check(tiles):
        for window, raster in drawn.items():
            back = tiles.read(1, window, GRID)
            assert tiles.has(1, window) and np.array_equal(back.valid, raster.valid)
            assert back.pixels.tobytes() == raster.pixels.tobytes() and back.grid == raster.grid
            assert tiles.packed(1, window) == packed[window]

    prepare(tmp_path / "a.tif", parts, GRID, GRID, profile, {}, "{}", tmp_path / "s", lambda _: check(tiles), taker)
    assert not list((tmp_path / "tiles").iterdir())
    again = Tiles(tmp_path / "tiles", "work", SIZE, tmp_path / "pending")
    again.prepare()
    check(again)
    other = Tiles(tmp_path / "tiles", "other work", SIZE, tmp_path / "pending")
    assert not other.has(1, windows[0]) and other.read(1, windows[0], GRID) is None
    assert not again.has(2, windows[0])
    again.drop(1, windows[0])
    for known in (again, Tiles(tmp_path / "tiles", "work", SIZE, tmp_path / "pending")):
        assert not known.has(1, windows[0]) and known.read(1, windows[0], GRID) is None
        beside = [window for window in windows if not set(blocks_of(window)) & set(blocks_of(windows[0]))]
        assert beside and all(known.has(1, window) for window in beside)
    other.prepare()
    assert not list((tmp_path / "pending").iterdir()), "what was moved of other work is dropped"


def moved_blocks(tmp_path):
    """A picture of two blocks by two of 16 bits, each one handed over by itself; what holds them, and its tiles."""
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), (512, 512))
    profile, windows = Profile("uint16", ("a",)), chunks(grid, (0, 0))
    tiles = Tiles(tmp_path / "tiles", "work", grid.shape, tmp_path / "pending")
    tiles.prepare()
    for window in windows:
        values = RNG.integers(0, 9999, (1, window.height, window.width)).astype("uint16")
        tiles.write(1, window, Raster(values, np.ones(values.shape[1:], bool), grid.crop(window)))
    known = {window: tiles.read(1, window, grid) for window in windows}
    parts = Parts(windows, known.__getitem__)
    taker = tiles.hand_over(1, windows, tmp_path / "a.tif", profile)
    prepare(tmp_path / "a.tif", parts, grid, grid, profile, {}, "{}", tmp_path / "s", lambda fraction: None, taker)
    return grid, known


def test_a_list_that_is_torn_at_any_byte_tells_nothing_wrong(tmp_path):
    grid, known = moved_blocks(tmp_path)
    (path,) = (tmp_path / "pending").glob("*.moved")
    content = path.read_bytes()
    found = collections.Counter()
    for at in range(len(content) + 1):
        path.write_bytes(content[:at])
        tiles = Tiles(tmp_path / "tiles", "work", grid.shape, tmp_path / "pending")
        for window, raster in known.items():
            back = tiles.read(1, window, grid)
            found[back is not None] += 1
            assert back is None or np.array_equal(back.pixels, raster.pixels)
    assert found[True] > 0 and found[False] > 0


@pytest.mark.parametrize("at", [0, 40, -20])
def test_a_list_goes_on_after_a_torn_line_and_a_torn_head_is_dropped(tmp_path, at):
    grid, known = moved_blocks(tmp_path)
    (path,) = (tmp_path / "pending").glob("*.moved")
    path.write_bytes(path.read_bytes()[:at])  # none, half of the first line, and all but half of the last
    tiles = Tiles(tmp_path / "tiles", "work", grid.shape, tmp_path / "pending")
    left = [window for window in known if tiles.has(1, window)]
    assert bool(left) == (at < 0)
    for window, raster in known.items():
        if window not in left:
            tiles.write(1, window, raster)
    taker = tiles.hand_over(1, tuple(known), tmp_path / "a.tif", Profile("uint16", ("a",)))
    assert path.exists() == (at < 0)
    parts = Parts(tuple(known), lambda window: tiles.read(1, window, grid))
    profile = Profile("uint16", ("a",))
    prepare(tmp_path / "a.tif", parts, grid, grid, profile, {}, "{}", tmp_path / "s", lambda fraction: None, taker)
    assert len(list((tmp_path / "pending").iterdir())) == 2, "what is needed no more is gone"
    again = Tiles(tmp_path / "tiles", "work", grid.shape, tmp_path / "pending")
    assert all(np.array_equal(again.read(1, w, grid).pixels, raster.pixels) for w, raster in known.items())


def test_a_line_that_names_another_block_is_not_believed(start, make_job, tmp_path):
    whole = pixels(start(make_job("whole", SIZE)))
    folder = broken(start, make_job, tmp_path)
    (path,) = (folder / "pending").glob("*.moved")
    path.write_bytes(path.read_bytes().replace(b" [1, 1, ", b" [1, 0, "))
    assert is_same(pixels(start(folder)), whole) and start.drawn


def test_one_bad_byte_costs_one_block(start, make_job, tmp_path):
    folder = broken(start, make_job, tmp_path)
    count = len(start.drawn)
    (path,) = (folder / "pending").glob("*.moved")
    content = bytearray(path.read_bytes())
    content[content.index(b" [1, 1, ") + 3] = 0xFF
    path.write_bytes(content)
    assert type(start(folder)).__name__ == "Succeeded" and 0 < len(start.drawn) < count / 2


def test_a_block_that_was_lost_stays_lost_in_older_lists(tmp_path):
    grid, known = moved_blocks(tmp_path)
    windows, profile = tuple(known), Profile("uint16", ("a",))
    tiles = Tiles(tmp_path / "tiles", "work", grid.shape, tmp_path / "pending")
    taker = tiles.hand_over(1, windows, tmp_path / "a.tif", profile)
    (old,) = (tmp_path / "pending").glob("*.001.moved")  # and a second list, of one block of the first
    (row, col), (at, length, mask, total) = next(iter(standing(old).items()))
    taker.path.write_bytes(old.with_suffix(".tif").read_bytes())
    taker.take([cog.Standing((row, col), at, length, b64decode(mask), total)])
    assert len(list((tmp_path / "pending").glob("*.moved"))) == 2
    other = next(window for window in windows if (window.row, window.col) != (256 * row, 256 * col))
    tiles.drop(1, other)
    again = Tiles(tmp_path / "tiles", "work", grid.shape, tmp_path / "pending")
    assert not again.has(1, other) and all(again.has(1, window) for window in windows if window != other)


def test_runs_that_get_less_far_each_time_leave_no_files(start, make_job, monkeypatch):
    folder = make_job("job", SIZE)
    for point in (9, 7, 5, 3):
        faults.arm(f"handover.after_list:{point}:raise")
        start(folder)
        assert len(list((folder / "pending").glob("*.tif"))) <= 2
    faults.arm("")
    assert type(start(folder)).__name__ == "Succeeded"


def test_what_an_earlier_version_left_beside_the_target_goes(start, make_job, tmp_path, monkeypatch):
    folder = make_job("job", SIZE, output=tmp_path / "out.tif")
    monkeypatch.setattr(cog.Pending, "discard", lambda self: None)  # killed
    faults.arm("publish.after_cog:1:raise")
    start(folder, Settings(device="cpu", threads=1, keep_tiles=True))
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".out")]
    faults.arm("")
    assert type(start(folder)).__name__ == "Succeeded"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_another_file_in_the_targets_place_is_not_taken_for_the_result(start, make_job, tmp_path):
    folder = make_job("job", SIZE, output=tmp_path / "out.tif")
    faults.arm("publish.after_replace:1:raise")
    start(folder)
    count = len(start.drawn)
    faults.arm("")
    (tmp_path / "out.tif").write_bytes(bytes(10**7))
    with JobFolder(folder) as opened:
        (path,) = opened.pending.glob("*.moved")
        known = moved.Moved(opened.pending, path.name.partition(".")[0], SIZE)
    assert known.sizes() == (0, 0) and not known.has(GRID.window)
    assert type(start(folder)).__name__ == "Succeeded" and len(start.drawn) == count


def test_nothing_goes_before_the_disk_holds_what_takes_its_place(start, make_job, tmp_path, monkeypatch):
    """The order that a loss of power asks for: data, list, the list's name, and only then the tiles."""
    told, folder = [], make_job("job", SIZE)
    fsync, unlink, sync_folder = os.fsync, Path.unlink, durable.sync_folder

    def synced(descriptor):
        told.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).suffix)
        fsync(descriptor)

    def unlinked(path, missing_ok=False):
        told.append(f"-{path.suffix}")
        unlink(path, missing_ok)

    monkeypatch.setattr(durable, "sync_folder", lambda path: (told.append(path.name), sync_folder(path)))
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "unlink", unlinked)
    faults.arm("handover.after_remove:9:raise")
    start(folder)
    moving = told[told.index(".moved") - 1 :]
    assert [name for name in moving if name][:4] == [".tif", ".moved", "pending", "job"]
    kinds = [kind for kind in moving if kind in (".tif", ".moved", "-.tile")]
    runs = [kind for kind, _ in itertools.groupby(kinds)]
    assert "-.tile" in runs
    for number, kind in enumerate(runs):
        assert kind != "-.tile" or runs[number - 2 : number] == [".tif", ".moved"]


@pytest.mark.parametrize("is_told", [False, True])
def test_a_mean_makes_room_and_its_spread_stays(start, make_job, make_raster, null_engine, monkeypatch, is_told):
    taken = []
    original = moved.Handover.take

    def take(self, blocks):
        taken.append(self.path.name)
        original(self, blocks)

    monkeypatch.setattr(moved.Handover, "take", take)
    plan = null_engine.plan_super_resolve

    def telling(request, folder, model, ctx):
        work = plan(request, folder, model, ctx)

        def told(chunk, part):
            mean = work.draw(chunk, 0, part)
            return mean, dataclasses.replace(mean, pixels=mean.pixels.astype(np.float32))

        return dataclasses.replace(work, told=told)

    monkeypatch.setattr(null_engine, "plan_super_resolve", telling if is_told else plan)
    folder = make_job(request=super_resolve(samples=2, mean=True, spread=is_told))
    make_raster(RNG.integers(1, 200, (3, 150, 140)).astype("uint8"), folder=folder)
    faults.arm("publish.before_replace:1:raise")
    start(folder)
    faults.arm("")
    assert {name.partition(".")[0].rpartition("_")[2] for name in taken} == {"s000", "s001", "s002"}
    ending = start(folder)
    assert start.drawn == [] and len(ending.result.outputs) == 3 + is_told


def test_what_is_read_again_or_wanted_stays_in_tiles(start, make_job, make_raster, null_engine, monkeypatch):
    begun = []
    monkeypatch.setattr(moved.Handover, "take", lambda self, blocks: begun.append(blocks))
    for name, request, settings in (
        ("spread", super_resolve(samples=2, spread=True), SETTINGS),
        ("kept", super_resolve(), Settings(device="cpu", threads=1, keep_tiles=True)),
        ("plain", super_resolve(), SETTINGS),
    ):
        folder = make_job(name, request=request)
        make_raster(RNG.integers(1, 200, (3, 150, 140)).astype("uint8"), folder=folder)
        assert type(start(folder, settings)).__name__ == "Succeeded"
        assert bool(begun) == (name == "plain")


def test_a_square_that_was_left_out_can_still_be_tried_again(start, make_job, monkeypatch):
    from afterimage.engine import finished

    folder = make_job("job", SIZE)
    gap = []

    def draw(self, sample, chunk, ctx):
        if not gap:
            gap.append(chunk)
            return self.leave_out(sample, chunk)
        return original(self, sample, chunk, ctx)

    original = finished.Finished.draw
    monkeypatch.setattr(finished.Finished, "draw", draw)
    first = start(folder)
    assert "could not be drawn" in first.result.notices[0] and tiles_of(folder)
    second = start(folder)
    assert [chunk for _, chunk in start.drawn] == gap and not second.result.notices


def test_the_disk_that_is_asked_for_is_what_is_needed(start, make_job, null_engine, monkeypatch):
    monkeypatch.setattr(null_engine, "SIDE", 256)
    raw = 3 * 2000 * 2000
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(output.shutil, "disk_usage", lambda _: usage(10**12, 0, int(2.0 * raw + 4e6)))
    assert type(start(make_job("lean", (2000, 2000)))).__name__ == "Succeeded"
    monkeypatch.setattr(output.durable, "can_move", lambda *_: False)
    assert code(start(make_job("beside", (2000, 2000)))) is ErrorCode.DISK_FULL
    assert start.drawn == []
