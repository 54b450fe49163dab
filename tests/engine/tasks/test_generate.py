"""Generate: the asked grid, the same pixels whatever the extent, the order and the number of chunks."""

import dataclasses
import random

import numpy as np
import pytest
from afterimage.engine.contract import Generate, GeoBox, Sampling, Window
from afterimage.engine.contract.messages import Previewed, Progressed
from afterimage.engine.errors import (
    InvalidRequest,
    JobCancelled,
    UnknownScheduler,
    UnsupportedResolution,
)
from afterimage.engine.models.ldm import LdmDDIMScheduler
from afterimage.engine.tasks import generate, picture


def grid(row, col, height, width, resolution=10.0, crs="EPSG:32633"):
    """Absolute pixels of the lattice of a CRS."""
    return GeoBox(crs, (resolution, 0.0, col * resolution, 0.0, -resolution, -row * resolution), (height, width))


def request(box, **changes):
    sampling = Sampling(
        seed=5, steps=3, scheduler=changes.pop("scheduler", "DDIM"), guidance_scale=changes.pop("scale", 2.0)
    )
    values = dict(model="stub", grid=box, lattice=box, gsd=10.0, prompt="forest", sampling=sampling)
    return Generate(**{**values, **changes})


ROW, COL = -500_003, 50_017


@pytest.mark.parametrize("scheduler", ["DDIM", "DDPM", "DPM++ 2M"])
def test_two_overlapping_extents_share_their_pixels(bench, generate_model, scheduler):
    one = bench.make(generate, request(grid(ROW, COL, 300, 270), scheduler=scheduler), generate_model)[0]
    other = bench.make(generate, request(grid(ROW + 100, COL + 130, 290, 200), scheduler=scheduler), generate_model)[0]
    assert np.array_equal(one[:, 100:, 130:], other[:, :200, :140])
    assert one.std() > 5


def test_the_order_of_chunks_and_a_forgetful_cache_change_nothing(bench, generate_model, monkeypatch):
    asked = request(grid(ROW, COL, 520, 530))
    expected = bench.make(generate, asked, generate_model)[0]
    monkeypatch.setattr(picture, "REMEMBERED", 3 * 4 * 16 * 16 * 4)

    def shuffled(chunks):
        return random.Random(1).sample(chunks, len(chunks))

    assert np.array_equal(bench.make(generate, asked, generate_model, order=shuffled)[0], expected)


def test_no_window_is_computed_twice(bench, generate_model):
    work = bench.plan(generate, request(grid(0, 0, 512, 512), scale=1.0), generate_model)
    bench.draw(work)
    # 512 pixels and the halo are 66 latents, -1 to 64: windows of 16 at 8 that touch them are -2 to 8
    windows, chunks, steps = 11 * 11, 4, 3
    assert windows / generate_model.batch <= generate_model.calls / steps <= windows / generate_model.batch + chunks
    assert len(work.chunks) == 4


def test_samples_and_seeds_differ_and_sample_two_is_the_next_seed(bench, generate_model):
    box = grid(ROW, COL, 40, 50)
    work = bench.plan(generate, request(box), generate_model)
    first, second = bench.draw(work, sample=1)[0], bench.draw(work, sample=2)[0]
    assert not np.array_equal(first, second)
    asked = request(box)
    asked = dataclasses.replace(asked, sampling=dataclasses.replace(asked.sampling, seed=6))
    assert np.array_equal(bench.make(generate, asked, generate_model)[0], second)


def test_prompt_negative_prompt_and_guidance_reach_the_network(bench, generate_model):
    box = grid(0, 0, 16, 16)
    made = [
        bench.make(generate, request(box, **changes), generate_model)[0].tobytes()
        for changes in ({}, {"prompt": "a longer text"}, {"negative_prompt": "clouds"}, {"scale": 1.0}, {"scale": 3.5})
    ]
    assert len(set(made)) == 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (257, 3)])
def test_extents_of_any_size(bench, generate_model, shape):
    pixels, valid = bench.make(generate, request(grid(ROW, COL, *shape)), generate_model)
    assert pixels.shape == (3, *shape) and valid.all()


def test_the_work_names_what_comes_out(bench, generate_model):
    box = grid(ROW, COL, 20, 30)
    work = bench.plan(generate, request(box, date="2021-07-15"), generate_model)
    assert work.drawn == work.result == box
    assert (work.profile.dtype, work.profile.bands) == ("uint8", ("red", "green", "blue"))
    assert work.profile.colors == ("red", "green", "blue")
    assert work.date == "2021-07-15" and work.inputs == () and not work.spread


@pytest.mark.parametrize(("asked", "drawn"), [(5.0, 8.0), (20.0, 12.0), (8.0, 8.0), (12.0, 12.0)])
def test_a_resolution_beside_the_trained_range_is_drawn_at_its_edge(bench, generate_model, asked, drawn):
    box = grid(ROW, COL, 40, 64, resolution=asked)
    work = bench.plan(generate, request(box, gsd=asked), generate_model)
    assert work.result == box
    assert work.drawn.resolution == pytest.approx((drawn, drawn))
    (left, bottom, right, top), inner = work.drawn.bounds, box.bounds
    assert left <= inner[0] and bottom <= inner[1] and right >= inner[2] and top >= inner[3]
    assert bool(work.notices and "resampled" in work.notices[-1]) == (asked != drawn)
    assert work.drawn.anchor() == pytest.approx((work.drawn.transform[5] / -drawn, work.drawn.transform[2] / drawn))


def test_a_rotated_lattice_is_resized_around_the_same_ground():
    box = GeoBox("EPSG:32633", (3.0, 4.0, 5e5, 4.0, -3.0, 5e6), (100, 50))
    resized = generate._resized(box, 1.6)
    assert resized.resolution == pytest.approx((8.0, 8.0))
    for corner in box.corners:
        col, row = resized.to_pixel(*corner)
        assert 3.9 <= col <= resized.width - 3.9 and 3.9 <= row <= resized.height - 3.9


@pytest.mark.parametrize("asked", [3.9, 24.5, 0.3, 1000.0])
def test_a_resolution_far_from_the_trained_range_is_refused(bench, generate_model, asked):
    with pytest.raises(UnsupportedResolution) as refused:
        bench.plan(generate, request(grid(0, 0, 9, 9, asked), gsd=asked), generate_model)
    assert "8 to 12 m" in refused.value.message and "4 to 24 m" in refused.value.hint


def test_what_the_model_does_not_use_is_said(bench, generate_model):
    asked = request(grid(0, 0, 9, 9), date="2020-01-01", negative_prompt="x", longitude=10.0, latitude=50.0)
    assert bench.plan(generate, asked, generate_model).notices == (
        "Not used by this model: the negative prompt and the place.",
    )
    asked = request(grid(0, 0, 9, 9), told_gsd=10.0)
    assert bench.plan(generate, asked, generate_model).notices == ("Not used by this model: the resolution told.",)


def test_a_negative_prompt_without_guidance_is_told(bench, generate_model, card):
    generate_model.card = card(uses=("prompt", "negative_prompt"))
    asked = request(grid(0, 0, 9, 9), negative_prompt="x")
    for scale, is_told in ((1.0, True), (0.5, True), (1.1, False)):
        sampling = dataclasses.replace(asked.sampling, guidance_scale=scale)
        notices = bench.plan(generate, dataclasses.replace(asked, sampling=sampling), generate_model).notices
        assert bool(notices) == is_told and all("guidance above 1" in notice for notice in notices)


def test_bad_requests_are_refused_before_any_work(bench, generate_model):
    box = grid(0, 0, 9, 9)
    with pytest.raises(UnknownScheduler):
        bench.plan(generate, request(box, scheduler="none"), generate_model)
    generate_model.scheduler = lambda name: __import__("diffusers").DDIMScheduler(num_train_timesteps=100)
    asked = request(box)
    asked = dataclasses.replace(asked, sampling=dataclasses.replace(asked.sampling, steps=101))
    with pytest.raises(InvalidRequest, match="101"):
        bench.plan(generate, asked, generate_model)
    generate_model.scheduler = lambda name: LdmDDIMScheduler(num_train_timesteps=100)
    with pytest.raises(InvalidRequest, match="101") as told:
        bench.plan(generate, asked, generate_model)
    assert "divides 100" in told.value.hint
    assert generate_model.calls == 0


def test_cancelling_stops_between_steps_and_while_decoding(bench, generate_model):
    work = bench.plan(generate, request(grid(0, 0, 256, 256)), generate_model)
    predict, decode = generate_model.predict, generate_model.decode

    def cancel_at_step(x, t, condition):
        bench.cancelled.set()
        return predict(x, t, condition)

    generate_model.predict = cancel_at_step
    with pytest.raises(JobCancelled):
        work.draw(work.chunks[0], 1, bench.ctx)
    assert generate_model.calls == 2  # both branches of guidance of one step
    bench.cancelled.clear()
    generate_model.predict = predict
    decoded = []

    def cancel_while_decoding(z):
        decoded.append(tuple(z.shape))
        if z.shape[-1] == 18:
            bench.cancelled.set()
        return decode(z)

    generate_model.decode = cancel_while_decoding
    with pytest.raises(JobCancelled):
        work.draw(work.chunks[0], 1, bench.ctx)
    assert decoded.count((1, 4, 18, 18)) == 1


def test_progress_rises_and_previews_show_the_extent(bench, generate_model):
    work = bench.plan(generate, request(grid(0, 0, 256, 256)), generate_model)
    bench.draw(work)
    fractions = [event.fraction for event in bench.events if isinstance(event, Progressed)]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert any(isinstance(event, Previewed) for event in bench.events)


def test_previews_are_decoded_one_by_one(bench, generate_model, monkeypatch):
    """Batches of every size that happens would each have a decoder exported for it."""
    decode, sizes = generate_model.decode, []
    monkeypatch.setattr("afterimage.engine.tasks.canvas.Canvas.is_due", lambda self: True)
    generate_model.decode = lambda z: sizes.append(len(z)) or decode(z)
    work = bench.plan(generate, request(grid(0, 0, 256, 256)), generate_model)
    bench.draw(work)
    assert len(sizes) > 10 and set(sizes) == {1}


def test_chunks_lie_on_the_absolute_lattice():
    box = grid(ROW, COL, 600, 700)
    work = generate.chunks(box, box.anchor())
    assert Window(0, 0, 1, 1) not in work
    for chunk in work:
        assert (chunk.row + ROW) // 256 == (chunk.row_end - 1 + ROW) // 256
        assert (chunk.col + COL) // 256 == (chunk.col_end - 1 + COL) // 256
