"""Phases in a picture: no byte depends on the extent, the order of its chunks, or what is remembered."""

import dataclasses
import itertools
import random

import numpy as np
import pytest
from afterimage.engine.contract import Generate, GeoBox, Sampling
from afterimage.engine.diffusion.windows import Lattice, shifted
from afterimage.engine.tasks import generate, picture

#: Near a corner where four chunks meet, so that a small extent has four.
ROW, COL = 256 * 40 - 20, -256 * 7 - 20


def grid(row, col, height, width):
    return GeoBox("EPSG:32633", (10.0, 0.0, col * 10.0, 0.0, -10.0, -row * 10.0), (height, width))


def asked_for(box, scheduler="DDIM", steps=8, **changes):
    sampling = Sampling(5, steps, scheduler)
    return Generate(**{**dict(model="stub", grid=box, lattice=box, gsd=10.0, prompt="a", sampling=sampling), **changes})


#: Two phases of windows as they were, and of smaller ones at the end.
EVEN, FINER = dict(phases=((128, 64), (128, 64))), dict(phases=((128, 96), (64, 48)))


@pytest.fixture(params=[EVEN, FINER], ids=["even", "finer"])
def model(request, generate_model, card):
    generate_model.card = card(**request.param)
    return generate_model


@pytest.mark.parametrize("scheduler", ["DDIM", "DDPM", "DPM++ 2M"])
@pytest.mark.parametrize("halo", [1, None])
def test_overlapping_extents_share_their_pixels(bench, model, scheduler, halo):
    model.decode_halo = halo
    one = bench.make(generate, asked_for(grid(ROW, COL, 60, 40), scheduler), model)[0]
    other = bench.make(generate, asked_for(grid(ROW + 30, COL - 70, 50, 100), scheduler), model)[0]
    assert np.array_equal(one[:, 30:, :30], other[:, :30, 70:])
    assert one.std() > 5


def test_other_orders_and_a_forgetful_cache_change_nothing(bench, model, monkeypatch):
    model.predict = lambda x, t, condition: 0.9 * x + 0.2 * x.roll(1, -1) + condition  # cheap, and sees its neighbours
    model.batch = 8
    asked = asked_for(grid(ROW - 220, COL - 220, 480, 480))
    expected = bench.make(generate, asked, model)[0]
    monkeypatch.setattr(picture, "REMEMBERED", 20 * 4 * 16 * 16 * 4)
    work = bench.plan(generate, asked, model)
    chosen = random.Random(1)
    orders = list(itertools.permutations(work.chunks))
    drawn = {}
    for order in chosen.sample(orders, min(len(orders), 24)):
        for chunk in order[: chosen.randrange(1, 5)]:
            pixels = work.draw(chunk, 1, bench.ctx).pixels
            rows, cols = chunk.slices()
            assert np.array_equal(pixels, expected[:, rows, cols])
            drawn[chunk] = True
    assert len(work.chunks) == len(drawn) == 4


def test_phases_change_the_picture_and_cost_their_cone_once(bench, generate_model, card):
    model, calls = generate_model, []
    box = grid(0, 0, 256, 256)
    made = []
    for phases in ({}, EVEN):
        model.card, model.calls = card(**phases), 0
        made.append(bench.make(generate, asked_for(box), model)[0])
        calls.append(model.calls)
    assert not np.array_equal(*made)
    # 256 pixels and the halo are 34 latents, -1 to 32, which windows -2 to 4 touch; those of the second phase begin 4
    # latents further, so -2 to 3 do, -12 to 43; these are touched by -3 to 5 of the first
    one, last, cone = (-(-(count**2) // model.batch) for count in (7, 6, 9))
    assert calls == [8 * one, 4 * last + 4 * cone]


def test_a_border_between_windows_is_in_the_middle_of_one_in_the_next_phase():
    lattices = shifted([Lattice(16, 12)] * 5 + [Lattice(8, 6)])
    assert [each.first for each in lattices] == [0, 6, 3, 9, 1, 3]
    for before, after in itertools.pairwise(lattices):
        borders = {before.window((0, place)).col for place in range(4)}
        middles = [after.window((0, place)) for place in range(-1, 9)]
        assert all(any(window.col < border < window.col_end - 1 for window in middles) for border in borders)


def test_few_steps_make_fewer_phases(bench, generate_model, card):
    model, box, made = generate_model, grid(ROW, COL, 30, 30), []
    for phases in ({}, EVEN):
        model.card = card(**phases)
        made.append(bench.make(generate, asked_for(box, steps=3), model)[0])
    assert np.array_equal(*made)


def test_one_window_has_one_phase(bench, generate_model, card):
    model, box, made = generate_model, grid(ROW, COL, 100, 100), []
    for phases in ({}, EVEN, FINER):
        model.card = card(**phases, whole=True)
        made.append(bench.make(generate, asked_for(box), model)[0])
    assert all(np.array_equal(made[0], each) for each in made[1:])


@pytest.mark.parametrize("pictures", [2, 5, 8])
def test_a_way_from_noise_goes_through_all_phases(bench, model, pictures):
    box = grid(ROW, COL, 30, 50)
    plain = bench.make(generate, asked_for(box), model)[0]
    work = bench.plan(generate, asked_for(box, trajectory=pictures), model)
    for chunk in work.chunks:
        frames = [raster.pixels for raster in work.draw_frames(chunk, 1, bench.ctx)]
        rows, cols = chunk.slices()
        assert len(frames) == pictures and np.array_equal(frames[-1], plain[:, rows, cols])
        assert len({frame.tobytes() for frame in frames}) == pictures
    # a picture on the way is that of a shorter way too: state 4 is where the second phase begins
    again = bench.plan(generate, asked_for(box, trajectory=3), model)
    longer = bench.plan(generate, asked_for(box, trajectory=5), model)
    chunk = work.chunks[0]
    middle = [
        next(itertools.islice(each.draw_frames(chunk, 1, bench.ctx), place, None))
        for each, place in ((again, 1), (longer, 2))
    ]
    assert np.array_equal(middle[0].pixels, middle[1].pixels)


def test_a_sampler_that_cannot_pause_draws_in_one_phase_and_says_so(bench, model):
    import diffusers

    model.card = dataclasses.replace(model.card, schedulers=("PNDM",))
    model.scheduler = lambda name: diffusers.PNDMScheduler()
    work = bench.plan(generate, asked_for(grid(0, 0, 9, 9), "PNDM", steps=16), model)
    assert any("cannot pause" in notice for notice in work.notices)
    model.scheduler = lambda name: diffusers.PNDMScheduler(skip_prk_steps=True)
    assert bench.plan(generate, asked_for(grid(0, 0, 9, 9), "PNDM", steps=16), model).notices == ()
