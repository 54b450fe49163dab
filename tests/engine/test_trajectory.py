"""A sample on its way from noise, kept by the real machinery: its files, its dates, and what a crash leaves of it."""

from __future__ import annotations

import dataclasses
import json
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from afterimage.engine import faults
from afterimage.engine.contract import FRAMES_MEMORY, ErrorCode, Generate, GeoBox, Role, Sampling, estimate
from afterimage.engine.models import catalog
from afterimage.engine.output import frame_date
from afterimage.engine.runner import run
from afterimage.engine.settings import Settings
from afterimage.engine.tasks import generate, picture
from afterimage.engine.tasks.trajectory import kept_states

SETTINGS = Settings(device="cpu", threads=1)
#: Two chunks: the grid crosses a multiple of 256 pixels.
GRID = GeoBox("EPSG:32633", (10.0, 0.0, 512000.0 - 400.0, 0.0, -10.0, 5120000.0), (40, 72))


def request(trajectory=4, samples=1, model="tiny-ddpm", scheduler="DDPM", steps=12, **changes):
    sampling = Sampling(3, steps, scheduler, samples=samples)
    return Generate(model, GRID, GRID, 10.0, "", sampling, trajectory=trajectory, **changes)


@pytest.fixture
def start():
    def start(folder):
        tasks = {Generate: generate.plan}
        return run(folder, folder.name, lambda event: None, threading.Event(), SETTINGS, catalog, tasks)

    yield start
    faults.arm("")


def read(item):
    with rasterio.open(item.path) as file:
        return file.read(), file.dataset_mask(), file.tags()["TIFFTAG_IMAGEDESCRIPTION"]


def frames(ending, sample=1):
    return [item for item in ending.result.outputs if item.role is Role.TRAJECTORY and item.sample == sample]


def test_the_way_begins_with_noise_ends_with_the_sample_and_grows_clearer(start, make_job, tmp_path):
    ending = start(make_job(request=request(5, samples=2, date="2024-03-02"), output=tmp_path / "out.tif"))
    outputs = ending.result.outputs
    assert [Path(item.path).name for item in outputs] == [
        "out.tif",
        "out_2.tif",
        *(f"out_frame_{number}.tif" for number in range(1, 6)),
        *(f"out_2_frame_{number}.tif" for number in range(1, 6)),
    ]
    for sample in (1, 2):
        way = frames(ending, sample)
        assert [item.frame for item in way] == [1, 2, 3, 4, 5]
        assert [item.date for item in way] == ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"]
        pictures = [read(item)[0].astype(float) for item in way]
        assert np.array_equal(pictures[-1], read(outputs[sample - 1])[0])
        apart = [np.abs(picture - pictures[-1]).mean() for picture in pictures]
        assert all(a > b for a, b in pairwise(apart)), apart
        assert all((read(item)[1] == 255).all() for item in way)
    assert [item.date for item in outputs[:2]] == ["2024-03-02"] * 2
    assert "on its way from noise, picture 2 of 5" in read(frames(ending)[1])[2]


def test_the_first_picture_is_the_noise_itself(start, make_job):
    from afterimage.engine.contract import Window
    from afterimage.engine.diffusion import noise

    ending = start(make_job(request=request(3)))
    row, col = GRID.anchor()
    drawn = noise.field(3, 0, Window(row, col, *GRID.shape), 3).numpy()
    expected = np.clip((drawn + 1) / 2, 0, 1) * 255
    found = read(frames(ending)[0])[0]
    # windows that overlap hold the same noise, so blending leaves it what it is but for the last bit
    assert np.abs(found - expected).max() <= 0.51


@pytest.mark.parametrize("scheduler", ["DDPM", "DDIM", "DPM++ 2M"])
def test_keeping_the_way_does_not_change_the_sample(start, make_job, scheduler):
    plain = start(make_job("plain", request=request(0, scheduler=scheduler)))
    kept = start(make_job("kept", request=request(3, scheduler=scheduler)))
    assert np.array_equal(read(plain.result.outputs[0])[0], read(kept.result.outputs[0])[0])
    assert len(plain.result.outputs) == 1 and len(kept.result.outputs) == 4


def test_every_step_can_be_kept_and_a_single_picture_is_the_result(start, make_job):
    every = start(make_job("every", request=request(6, steps=6)))
    assert len({read(item)[0].tobytes() for item in frames(every)}) == 6
    one = start(make_job("one", request=request(1, steps=6)))
    (only,) = frames(one)
    assert np.array_equal(read(only)[0], read(every.result.outputs[0])[0]) and only.date == "2000-01-01"


@pytest.mark.parametrize(
    "point",
    ["tile.before_write:2", "tile.after_replace:3", "tile.after_fsync:6", "publish.before_cog:3", "stac.after_fsync:4"],
)
def test_broken_anywhere_it_resumes_to_the_same_bytes(start, make_job, tmp_path, point):
    whole = start(make_job("whole", request=request()))
    folder = make_job("broken", request=request(), output=tmp_path / "out.tif")
    faults.arm(f"{point}:raise")
    assert type(start(folder)).__name__ == "Failed"
    faults.arm("")
    ending = start(folder)
    for a, b in zip(whole.result.outputs, ending.result.outputs, strict=True):
        assert np.array_equal(read(a)[0], read(b)[0]) and (a.role, a.frame, a.date) == (b.role, b.frame, b.date)
    assert not (folder / "tiles").exists()


def test_killed_in_the_middle_of_a_way_it_resumes_to_the_same_bytes(start, make_job, root):
    import os
    import signal
    import subprocess
    import sys

    whole = start(make_job("whole", request=request()))
    folder = make_job("killed", request=request())
    command = [sys.executable, "-I", str(root / "engine" / "launch.py"), "run", str(folder)]
    # four tiles to a chunk: the third of the second chunk is the last that is written
    environment = {**os.environ, "AFTERIMAGE_FAULT": "tile.after_replace:7:kill", "AFTERIMAGE_THREADS": "1"}
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    names = sorted(path.name for path in (folder / "tiles").glob("*.tile"))
    assert len(names) == 7 and sum("_f" not in name for name in names) == 1
    del environment["AFTERIMAGE_FAULT"]
    subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    for item in whole.result.outputs:
        other = folder / "outputs" / Path(item.path).name
        with rasterio.open(other) as file:
            assert np.array_equal(file.read(), read(item)[0]), other.name


def test_a_torn_picture_on_the_way_is_drawn_again(start, make_job):
    whole = start(make_job("whole", request=request()))
    folder = make_job("torn", request=request())
    faults.arm("publish.before_cog:1:raise")
    start(folder)
    faults.arm("")
    path = sorted((folder / "tiles").glob("*_f002_*"))[0]
    path.write_bytes(path.read_bytes()[:-3])
    for a, b in zip(whole.result.outputs, start(folder).result.outputs, strict=True):
        assert np.array_equal(read(a)[0], read(b)[0])


def test_each_picture_says_what_it_is(start, make_job):
    ending = start(make_job(request=request(3)))
    item = json.loads(Path(frames(ending)[0].path).with_suffix(".stac.json").read_text())
    properties = item["properties"]
    assert properties["datetime"] == "1999-12-30T00:00:00Z"
    assert (properties["afterimage:role"], properties["afterimage:frame"]) == ("trajectory", 1)
    assert "way from noise" in properties["description"] and properties["afterimage:provenance"]["ai_generated"]
    sample = json.loads(Path(ending.result.outputs[0].path).with_suffix(".stac.json").read_text())
    assert "afterimage:frame" not in sample["properties"]


def test_a_way_from_noise_of_latents_is_decoded_like_the_sample(bench_latents):
    work, ctx = bench_latents
    pictures = [raster.pixels.astype(float) for raster in work.draw_frames(work.chunks[0], 1, ctx)]
    assert len(pictures) == 4 and np.array_equal(pictures[-1], work.draw(work.chunks[0], 1, ctx).pixels)
    apart = [np.abs(picture - pictures[-1]).mean() for picture in pictures]
    # with so few steps the first ones leave nearly all of the noise
    assert all(a > b for a, b in pairwise(apart[1:])) and apart[0] > apart[2]


@pytest.fixture
def bench_latents(tmp_path):
    """Work of a model whose latents are eight pixels wide: the real task, a decoder that is a mean."""
    import torch
    from afterimage.engine.context import JobContext
    from torch import nn

    pixels = catalog.load("tiny-ddpm", SETTINGS)
    alphas = pixels.scheduler("DDPM").alphas_cumprod

    class Latent:
        card, device, dtype, batch = pixels.card, torch.device("cpu"), torch.float32, 3
        scale, channels, window, stride, decode_halo = 8, 3, 8, 6, 0
        scheduler, told, remarks = pixels.scheduler, pixels.told, pixels.remarks

        def predictor(self, told, guidance_scale, given):
            """The noise of a picture that is one grey."""
            return lambda x, t: (x - 0.4 * alphas[t] ** 0.5) / (1 - alphas[t]) ** 0.5

        def decode(self, z):
            return nn.functional.interpolate(torch.sigmoid(z), scale_factor=8.0)

    ctx = JobContext("job", lambda event: None, threading.Event(), tmp_path)
    return generate.plan(request(), None, Latent(), ctx), ctx


@pytest.mark.parametrize(
    ("steps", "pictures", "expected"),
    [(12, 4, (0, 4, 8)), (1000, 5, (0, 250, 500, 750)), (6, 6, (0, 1, 2, 3, 4)), (1, 1, ()), (5, 2, (0,))],
)
def test_pictures_lie_evenly_over_the_steps(steps, pictures, expected):
    assert kept_states(steps, pictures) == expected
    assert all(len(set(kept_states(s, n))) == n - 1 for s in (1, 7, 100) for n in range(1, min(s, 100) + 1))


def test_dates_are_a_day_apart_and_end_on_the_one_asked_for():
    assert [frame_date("2024-03-01", number, 3) for number in (1, 2, 3)] == ["2024-02-28", "2024-02-29", "2024-03-01"]
    assert frame_date(None, 1, 2) == "1999-12-31"


def test_a_date_at_the_beginning_of_the_calendar_is_refused_before_any_work(start, make_job):
    folder = make_job(request=request(12, date="0001-01-05"))
    ending = start(folder)
    assert ending.failure.code is ErrorCode.INVALID_REQUEST and "Choose a later date" in ending.failure.hint
    assert not (folder / "tiles").exists()


def test_no_more_is_held_in_memory_than_the_estimate_counts(start, make_job, monkeypatch):
    limits, held = [], []

    class Watched(picture.TileCache):
        def __init__(self, limit):
            limits.append(limit)
            super().__init__(limit)

        def get(self, *asked):
            tiles = super().get(*asked)
            held.append(2 * sum(tile.nbytes for tile in tiles.values()))
            return tiles

    monkeypatch.setattr(picture, "TileCache", Watched)
    for number in (0, 4):
        start(make_job(str(number), request=request(number)))
    assert limits[1] == FRAMES_MEMORY > limits[0]
    card = next(card for card in catalog.cards(SETTINGS) if card.id == "tiny-ddpm")
    counted = estimate(request(4), card).memory_mb - estimate(request(0), card).memory_mb
    assert 0 < max(held) / 1e6 <= counted


def test_more_pictures_than_steps_are_no_request():
    with pytest.raises(ValueError, match="trajectory"):
        request(13)


def test_a_model_that_is_told_nothing_is_not_guided_and_says_what_it_did_not_use(start, make_job):
    plain = start(make_job("plain", request=request(0)))
    asked = request(0, negative_prompt="clouds")
    sampling = dataclasses.replace(asked.sampling, guidance_scale=7.0)
    ending = start(make_job("asked", request=dataclasses.replace(asked, prompt="a forest", sampling=sampling)))
    assert np.array_equal(read(plain.result.outputs[0])[0], read(ending.result.outputs[0])[0])
    assert ending.result.notices == ("Not used by this model: the prompt and the negative prompt.",)
