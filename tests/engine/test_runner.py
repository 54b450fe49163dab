"""One job, whatever happens to it: the same pixels, or a code, a sentence and a next step."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from afterimage.engine import faults, runner
from afterimage.engine.contract import ErrorCode, Generate, GeoBox, Job, Role, Sampling, dumps
from afterimage.engine.tiles import WAITING

from .conftest import Run, code, super_resolve


def pixels(ending):
    found = []
    for item in ending.result.outputs:
        with rasterio.open(item.path) as file:
            found.append((file.read(), file.dataset_mask(), file.profile["transform"], file.tags(ns="AFTERIMAGE")))
    return found


def is_same(a, b):
    return all(
        np.array_equal(x[0], y[0], equal_nan=x[0].dtype.kind == "f") and np.array_equal(x[1], y[1]) and x[2] == y[2]
        for x, y in zip(a, b, strict=True)
    )


def test_progress_only_rises_and_ends_at_one(start, make_job):
    ending = start(make_job(samples=2))
    assert type(ending).__name__ == "Succeeded"
    told = [event.fraction for event in start.events if type(event).__name__ == "Progressed"]
    assert told == sorted(told) and told[-1] == 1.0
    assert type(start.events[0]).__name__ == "Started" and start.events[-1] is ending
    assert {event.stage for event in start.events if hasattr(event, "stage")} >= {
        "loading model",
        "denoising",
        "writing",
    }


POINTS = [
    "pins.after_fsync:1",
    "tile.before_write:3",
    "tile.before_fsync:2",
    "tile.after_fsync:5",
    "tile.after_replace:7",
    "publish.before_cog:1",
    "publish.after_cog:2",
    "stac.after_fsync:1",
    "publish.before_replace:2",
    "publish.after_replace:1",
    "result.after_fsync:1",
    "result.after_replace:1",
]


@pytest.mark.parametrize("point", POINTS)
def test_broken_anywhere_it_resumes_to_the_same_pixels(start, make_job, tmp_path, point):
    whole = pixels(start(make_job("whole", samples=2)))
    count = len(start.drawn)
    folder = make_job("broken", samples=2, output=tmp_path / "out.tif")
    faults.arm(f"{point}:raise")
    assert code(start(folder)) is ErrorCode.INTERNAL and start.events[-1].failure.resumable
    before = start.drawn
    faults.arm("")
    ending = start(folder)
    assert is_same(pixels(ending), whole)
    again = set(before) & set(start.drawn)
    assert len(again) <= WAITING + 1, "at most what is on its way to the disk is drawn twice"
    assert len(set(before) | set(start.drawn)) == count
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not (folder / "tiles").exists() and not (folder / "scratch").exists()


def test_a_finished_job_answers_at_once(start, make_job):
    folder = make_job()
    first = start(folder)
    assert start(folder).result == first.result and not start.drawn
    Path(first.result.outputs[0].path).unlink()
    assert is_same(pixels(start(folder)), pixels(first)) and start.drawn


def test_a_changed_request_does_not_get_the_old_tiles(start, make_job):
    folder = make_job()
    start.on_draw = lambda part: start.cancelled.set() if len(start.drawn) == 6 else None
    assert type(start(folder)).__name__ == "Cancelled"
    start.cancelled.clear()
    start.on_draw = lambda part: None
    request = json.loads((folder / "request.json").read_text())
    request["request"]["sampling"]["seed"] = 2
    (folder / "request.json").write_text(json.dumps(request))
    start(folder)
    assert len(start.drawn) == 12


def test_a_changed_request_does_not_get_the_old_result(start, make_job):
    folder = make_job()
    first = start(folder)
    request = json.loads((folder / "request.json").read_text())
    request["request"]["sampling"]["seed"] = 2
    (folder / "request.json").write_text(json.dumps(request))
    second = start(folder)
    assert start.drawn and second.result.provenance.seed == 2 and first.result.provenance.seed != 2


def test_after_an_update_no_tile_of_the_version_before_is_left(start, make_job, monkeypatch):
    folder = make_job()
    start.on_draw = lambda part: start.cancelled.set() if len(start.drawn) == 6 else None
    assert type(start(folder)).__name__ == "Cancelled"
    start.cancelled.clear()
    start.on_draw = lambda part: None
    monkeypatch.setattr(runner, "libraries", lambda: {"torch": "9.9"})
    ending = start(folder)
    assert len(start.drawn) == 12 and ending.result.provenance.pins["torch"] == "9.9"


def test_a_torn_tile_is_drawn_again_while_assembling(start, make_job):
    whole = pixels(start(make_job("whole")))
    folder = make_job("torn")
    faults.arm("publish.before_cog:1:raise")
    start(folder)
    faults.arm("")
    path = sorted((folder / "tiles").iterdir())[4]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    assert is_same(pixels(start(folder)), whole)
    assert len(start.drawn) == 1


def test_a_square_that_was_left_out_is_told_and_tried_again_when_the_folder_is_run_again(start, make_job, monkeypatch):
    class Unlucky(runner.Alone):
        """Has a chunk that nobody can draw."""

        def draw(self, finished, missing, ctx):
            finished.leave_out(*missing[3])
            return super().draw(finished, [*missing[:3], *missing[4:]], ctx)

    whole, folder = pixels(start(make_job("whole"))), make_job("gap")
    with monkeypatch.context() as patch:
        patch.setattr(runner, "Alone", Unlucky)
        first = start(folder)
    assert any("One square" in notice and "again" in notice for notice in first.result.notices)
    assert not pixels(first)[0][1].all()
    second = start(folder)
    assert len(start.drawn) == 1 and not second.result.notices and is_same(pixels(second), whole)
    assert not (folder / "tiles").exists() and start(folder).result == second.result


@pytest.mark.parametrize("stage", ["checking", "loading model", "planning", "denoising", "writing"])
def test_it_stops_in_every_phase_and_keeps_its_tiles(start, make_job, tmp_path, stage, monkeypatch):
    folder = make_job(output=tmp_path / "out.tif")

    class Stopping(list):
        def append(self, event):
            super().append(event)
            if getattr(event, "stage", "") == stage:
                start.cancelled.set()

    monkeypatch.setattr(
        Run,
        "events",
        property(lambda self: self.told, lambda self, _: setattr(self, "told", Stopping())),
        raising=False,
    )
    ending = start(folder)
    assert type(ending).__name__ == "Cancelled"
    assert not (tmp_path / "out.tif").exists()
    start.cancelled.clear()
    done = len(start.drawn)
    monkeypatch.undo()
    start.events = []
    assert type(start(folder)).__name__ == "Succeeded"
    assert len(start.drawn) >= 12 - done


# --- while it works


def test_a_disk_that_fills_up_is_told_and_resumed(start, make_job, tmp_path):
    whole = pixels(start(make_job("whole")))
    for number, point in enumerate(
        ["tile.before_write:4", "publish.before_cog:1", "stac.before_write:1", "result.before_fsync:1"]
    ):
        folder = make_job(f"full{number}", output=tmp_path / f"{number}.tif")
        name, count = point.split(":")
        faults.arm(f"{name}:{count}:enospc")
        ending = start(folder)
        faults.arm("")
        if type(ending).__name__ == "Failed":
            assert code(ending) is ErrorCode.DISK_FULL and ending.failure.resumable
        assert is_same(pixels(start(folder)), whole)


def test_numbers_that_are_none_are_never_committed(start, make_job, make_raster, null_engine, monkeypatch):
    folder = make_job(request=super_resolve())
    make_raster(np.ones((1, 20, 20), "float32"), folder=folder)
    monkeypatch.setattr(np, "isfinite", lambda values: np.zeros(np.shape(values), bool), raising=True)
    ending = start(folder)
    assert type(ending).__name__ == "Failed" and not list(folder.glob("tiles/*"))


# --- what comes out


def test_a_prompt_is_recorded_as_it_was_used(start, make_job):
    ending = start(make_job(prompt="  a\u202e forest\n\x00 "))
    assert ending.result.provenance.prompt == "a forest"


def test_names_beyond_ascii_work(start, make_job, tmp_path):
    path = tmp_path / "Wälder 森林 #1 'é'.tif"
    assert start(make_job(output=path)).result.outputs[0].path == str(path)
    assert path.is_file()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_source_comes_back_finer_in_its_own_type(start, make_job, make_raster, dtype):
    folder = make_job(request=super_resolve(factor=4))
    rng = np.random.default_rng(3)
    given = rng.integers(1, 200, (5, 50, 40)).astype(dtype)
    given[:, 10:20, 10:20] = 0
    make_raster(given, folder=folder, nodata=0)
    ending = start(folder)
    item = ending.result.outputs[0]
    assert item.grid == GeoBox("EPSG:32633", (2.5, 0, 500000, 0, -2.5, 5000000), (200, 160)) and item.dtype == dtype
    with rasterio.open(item.path) as file:
        assert file.nodata == 0 and set(file.dtypes) == {dtype}
        assert np.array_equal(file.read(), given.repeat(4, 1).repeat(4, 2))
    assert [one.name for one in ending.result.provenance.inputs] == ["layer"]
    assert len(ending.result.provenance.inputs[0].sha256) == 64


def test_fill_that_nobody_declared_is_nodata_in_the_result(start, make_job, make_raster):
    folder = make_job(request=super_resolve())
    given = np.full((1, 40, 40), 7.5, "float32")
    given[0, :4, :4] = -3.4e38
    make_raster(given, folder=folder)
    with rasterio.open(start(folder).result.outputs[0].path) as file:
        made = file.read(1)
        assert np.isnan(file.nodata) and np.isnan(made[:8, :8]).all() and np.isnan(made).sum() == 64


def test_the_spread_is_the_standard_deviation(start, make_job, make_raster, null_engine, tmp_path):
    """Of the samples alone, whatever else is drawn."""
    request = super_resolve(samples=3, spread=True, mean=True)
    folder = make_job(request=request, output=tmp_path / "finer.tif")
    make_raster(np.full((2, 40, 40), 100, "uint16"), folder=folder)
    plan = null_engine.plan_super_resolve

    def noisy(request, folder, model, ctx):
        work = plan(request, folder, model, ctx)

        def draw(chunk, sample, part):
            raster = work.draw(chunk, sample, part)
            noise = null_engine.hashed(work.drawn, chunk, sample, 2, "uint16")
            return dataclasses.replace(raster, pixels=raster.pixels + noise)

        return dataclasses.replace(work, draw=draw)

    start.null = type(
        "Null",
        (),
        {
            "cards": null_engine.cards,
            "load": null_engine.load,
            "plan_generate": None,
            "plan_super_resolve": staticmethod(noisy),
        },
    )
    ending = start(folder)
    outputs = ending.result.outputs
    names = ["finer.tif", "finer_2.tif", "finer_3.tif", "finer_mean.tif", "finer_spread.tif"]
    assert [Path(item.path).name for item in outputs] == names
    assert [item.role.value for item in outputs] == ["sample"] * 3 + ["mean", "spread"]
    assert [item.sample for item in outputs] == [1, 2, 3, 0, 0]
    *samples, mean, spread = [found[0] for found in pixels(ending)]
    assert mean.dtype == samples[0].dtype and spread.dtype == np.float32
    whole = null_engine.hashed(outputs[0].grid, outputs[0].grid.window, 0, 2, "uint16")
    assert np.array_equal(mean, 100 + whole), "it is drawn as sample 0"
    assert np.allclose(spread, np.stack(samples).astype(float).std(axis=0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("point", [None, "tile.before_fsync:1", "tile.after_replace:1", "tile.after_replace:2"])
@pytest.mark.parametrize("has_mean", [False, True])
def test_a_spread_that_is_told_is_drawn_with_the_mean_and_survives_a_crash(
    start, make_job, make_raster, null_engine, tmp_path, point, has_mean
):
    request = super_resolve(samples=1, spread=True, mean=has_mean)
    folder = make_job(request=request, output=tmp_path / "finer.tif")
    make_raster(np.full((2, 40, 40), 100, "uint16"), folder=folder)
    plan, calls = null_engine.plan_super_resolve, []

    def telling(request, folder, model, ctx):
        work = plan(request, folder, model, ctx)

        def told(chunk, part):
            calls.append(chunk)
            mean = work.draw(chunk, 0, part)
            noise = null_engine.hashed(work.drawn, chunk, 7, 2, "uint16")
            return mean, dataclasses.replace(mean, pixels=(noise / 3).astype(np.float32))

        return dataclasses.replace(work, told=told)

    start.null = type(
        "Null",
        (),
        {
            "cards": null_engine.cards,
            "load": null_engine.load,
            "plan_generate": None,
            "plan_super_resolve": staticmethod(telling),
        },
    )
    if point is not None:
        faults.arm(f"{point}:raise")
        assert code(start(folder)) is ErrorCode.INTERNAL
        faults.arm("")
    ending = start(folder)
    outputs = ending.result.outputs
    names = ["finer.tif", *(["finer_mean.tif"] if has_mean else []), "finer_spread.tif"]
    assert [Path(item.path).name for item in outputs] == names
    found, mask, *_ = pixels(ending)[-1]
    expected = null_engine.hashed(outputs[0].grid, outputs[0].grid.window, 7, 2, "uint16") / 3
    assert found.dtype == np.float32 and (mask == 255).all() and np.allclose(found, expected, rtol=1e-6)
    # a chunk is there with both or not at all: the spread is committed first
    assert len(set(calls)) == 4 and len(calls) <= 4 + (0 if point is None else WAITING + 1)


@pytest.mark.parametrize("point", ["tile.before_fsync:1", "tile.after_replace:3", "publish.after_cog:2"])
def test_broken_while_the_mean_is_drawn_it_resumes_to_the_same_pixels(start, make_job, make_raster, tmp_path, point):
    given = np.arange(2 * 64 * 60, dtype="uint16").reshape(2, 64, 60)
    request = super_resolve(mean=True)

    def make(name, **more):
        folder = make_job(name, request=request, **more)
        make_raster(given, folder=folder)
        return folder

    whole = pixels(start(make("whole")))
    every = start.drawn
    assert [sample for sample, _ in every] == [0] * 4 + [1] * 4
    folder = make(
        "broken",
        output=tmp_path / "out.tif",
    )
    faults.arm(f"{point}:raise")
    assert code(start(folder)) is ErrorCode.INTERNAL
    before = start.drawn
    faults.arm("")
    assert is_same(pixels(start(folder)), whole)
    assert len(set(before) & set(start.drawn)) <= WAITING + 1 and {*before, *start.drawn} == set(every)


def test_the_mean_goes_where_it_is_asked_for_and_says_what_it_is(start, make_job, make_raster, tmp_path):
    folder = make_job(request=super_resolve(mean=True), output=tmp_path / "finer.tif")
    text = json.loads((folder / "request.json").read_text())
    (folder / "request.json").write_text(json.dumps({**text, "mean_output": str(tmp_path / "expected.tif")}))
    make_raster(np.full((3, 40, 40), 9, "uint8"), folder=folder)
    sample, mean = start(folder).result.outputs
    assert (mean.role, mean.sample, Path(mean.path)) == (Role.MEAN, 0, tmp_path / "expected.tif")
    assert (mean.bands, mean.dtype, mean.grid) == (sample.bands, "uint8", sample.grid)
    with rasterio.open(mean.path) as file:
        assert "mean of all samples" in file.tags()["TIFFTAG_IMAGEDESCRIPTION"] and file.tags()["AI_GENERATED"] == "YES"
    item = json.loads(Path(mean.path).with_suffix(".stac.json").read_text())["properties"]
    assert item["afterimage:role"] == "mean" and "smoother than the ground" in item["description"]


def test_a_result_says_what_it_is(start, make_job):
    ending = start(make_job(date="2024-06-01", prompt="a forest"))
    item, record = ending.result.outputs[0], ending.result.provenance
    assert record.ai_generated and record.task == "Generate" and record.weights and record.pins["device"] == "cpu"
    with rasterio.open(item.path) as file:
        tags = file.tags()
        assert tags["AI_GENERATED"] == "YES" and tags["TIFFTAG_SOFTWARE"].startswith("Afterimage ")
        assert "AI-generated" in tags["TIFFTAG_IMAGEDESCRIPTION"]
        assert json.loads(file.tags(ns="AFTERIMAGE")["PROVENANCE"])["job"] == record.job
    item = json.loads(Path(item.path).with_suffix(".stac.json").read_text())
    assert item["type"] == "Feature" and item["stac_version"] == "1.0.0"
    assert item["assets"]["data"]["href"] == "./result.tif"
    assert item["properties"]["afterimage:provenance"]["ai_generated"] is True
    assert item["properties"]["proj:code"] == "EPSG:32633"


def test_a_record_is_enough_to_make_it_again(start, make_job, tmp_path):
    ending = start(make_job(samples=2))
    folder = tmp_path / "again"
    folder.mkdir()
    (folder / "request.json").write_text(ending.result.provenance.job)
    assert is_same(pixels(start(folder)), pixels(ending))


def test_an_old_result_stays_until_the_new_one_is_whole(start, make_job, tmp_path):
    (tmp_path / "out.tif").write_bytes(b"old")
    folder = make_job(samples=2, output=tmp_path / "out.tif")
    faults.arm("publish.after_cog:2:enospc")
    assert code(start(folder)) is ErrorCode.DISK_FULL
    assert (tmp_path / "out.tif").read_bytes() == b"old" and not (tmp_path / "out_2.tif").exists()
    faults.arm("")
    assert type(start(folder)).__name__ == "Succeeded"
    shutil.rmtree(folder)


def test_workers_are_called_before_torch_is_there(root, tmp_path):
    box = GeoBox("EPSG:32633", (10.0, 0.0, 512000.0, 0.0, -10.0, 5120000.0), (1024, 1024))
    request = Generate("tiny-generate", box, box, 10.0, "forest", Sampling(0, 2, "DDIM"))
    (tmp_path / "request.json").write_text(dumps(Job(tmp_path.name, request)))
    code = """
import sys, threading; sys.path.insert(0, sys.argv[1]); import launch; from pathlib import Path
launch.register(Path(sys.argv[1]).parent)
from afterimage.engine import runner; from afterimage.engine.settings import Settings
def muster(*asked):
    print("torch" in sys.modules)
    raise SystemExit
runner.muster = muster
print(runner.run(Path(sys.argv[2]), "job", lambda event: None, threading.Event(), Settings(device="cpu")))
"""
    words = [sys.executable, "-c", code, str(root / "engine"), str(tmp_path)]
    told = subprocess.run(words, check=True, timeout=60, capture_output=True, text=True).stdout
    assert told.split() == ["False"]
