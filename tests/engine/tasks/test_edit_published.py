"""Edit with the published kinds of model: held latents, inpainting networks, instructed edits. On tiny checkpoints."""

import dataclasses
import os
import random

import numpy as np
import pytest
import rasterio
import torch
from afterimage.engine.contract import ModelCard, Window
from afterimage.engine.diffusion.constraints import JOIN_REACH
from afterimage.engine.diffusion.loop import sample
from afterimage.engine.diffusion.noise import field
from afterimage.engine.errors import InvalidRequest
from afterimage.engine.models.base import Scene
from afterimage.engine.models.picture import PictureModel
from afterimage.engine.models.published import open_model
from afterimage.engine.tasks import edit, held

from .test_edit import centres_inside, polygons, request, scene, write

#: Kind -> folder of the references, and what differs on its card.
KINDS = {
    "rsedit": ("rsedit", dict(uses=("prompt", "negative_prompt", "image_guidance"), schedulers=("PNDM", "DDIM"))),
    "inpainting": (
        "text2earth/text2earth-inpainting",
        dict(uses=("prompt", "gsd", "mask", "margin"), schedulers=("Euler", "DDIM")),
    ),
    "held": (
        "diffusionsat",
        dict(
            uses=("prompt", "gsd", "date", "place", "cloud_cover", "strength", "margin"),
            schedulers=("DDIM", "Euler", "DPM++ 2M", "DDPM", "PNDM", "UniPC"),
        ),
    ),
}
#: A raster that lies across four chunks, though it is small.
ROW, COL = -256 * 1800 - 50, 256 * 200 - 61
CROSSING = rasterio.Affine(10.0, 0.0, COL * 10.0, 0.0, -10.0, -ROW * 10.0)
OUTLINE = [(42.25, 34.5), (84.5, 41.25), (78.0, 72.5), (46.5, 67.75)]


@pytest.fixture(scope="module")
def opened(parity):
    """The network of a kind, opened once."""
    found = {}

    def get(kind):
        folder = parity / KINDS[kind][0]
        if not (folder / "unet").is_dir():
            reason = f"there is no checkpoint in {KINDS[kind][0]}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        if kind not in found:
            found[kind] = open_model(folder)
        return found[kind]

    return get


@pytest.fixture
def make(opened):
    """Makes a model of a kind: ``make("rsedit", whole=True)``."""

    def model(kind, **changes):
        facts = dict(
            id="stub",
            name="Stub",
            summary="",
            family="",
            version="1",
            tasks=("Edit",),
            bands=("red", "green", "blue"),
            gsd=(8.0, 12.0),
            window=64,
            stride=48,
            steps=2,
            **KINDS[kind][1],
        )
        return PictureModel(ModelCard(**{**facts, **changes}), opened(kind))

    return model


@pytest.fixture
def calls(monkeypatch):
    """The windows that reach a network, counted where the prediction is made."""
    made = []
    predictor = PictureModel.predictor

    def counted(self, *given):
        made.append(given)
        return predictor(self, *given)

    monkeypatch.setattr(PictureModel, "predictor", counted)
    return made


def asked(model, mask=True, steps=2, **more):
    return request(model.card.schedulers[0], mask=mask, steps=steps, **more)


def unit(pixels):
    """8-bit pixels (bands, h, w) as a model sees them, as a batch of one."""
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


def to_bytes(picture):
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_outside_stay_bit_by_bit_and_gaps_stay_gaps(bench, make, kind):
    pixels = scene(110, 120, "uint16")
    gap = np.zeros((110, 120), bool)
    gap[55:62, 40:110] = True
    pixels[:, gap] = 65535
    write(bench.path, pixels, 65535, CROSSING)
    polygons(bench.path, [OUTLINE], transform=CROSSING)
    model = make(kind)
    made, valid = bench.make(edit, asked(model), model)
    inside = centres_inside(OUTLINE, 110, 120) & ~gap
    assert made.dtype == pixels.dtype and np.array_equal(valid, ~gap)
    kept = valid & ~inside
    assert made[:, kept].tobytes() == pixels[:, kept].tobytes()
    assert (made != pixels)[:, inside].any(axis=0).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_chunks_and_a_forgetful_cache_change_nothing(bench, make, monkeypatch, kind):
    pixels = scene(110, 120)
    pixels[:, 40:50, 30:60] = 0
    write(bench.path, pixels, 0, CROSSING)
    polygons(bench.path, [OUTLINE], transform=CROSSING)
    model = make(kind)
    work = bench.plan(edit, asked(model), model)
    assert len(work.chunks) == 4
    expected, _ = bench.draw(work)
    monkeypatch.setattr(edit, "REMEMBERED", 2 * 4 * 8 * 8 * 4)
    monkeypatch.setattr(held, "REMEMBERED", 0)

    def shuffled(chunks):
        return random.Random(1).sample(chunks, len(chunks))

    made, _ = bench.make(edit, asked(model), model, order=shuffled)
    assert np.array_equal(made, expected)


def test_a_job_that_goes_on_draws_the_same(bench, make):
    write(bench.path, scene(110, 120), transform=CROSSING)
    polygons(bench.path, [OUTLINE], transform=CROSSING)
    model = make("inpainting")
    first, second = (bench.plan(edit, asked(model), model) for _ in range(2))
    whole = {chunk: first.draw(chunk, 1, bench.ctx).pixels for chunk in first.chunks}
    for chunk in second.chunks[2:]:
        assert np.array_equal(second.draw(chunk, 1, bench.ctx).pixels, whole[chunk])


def test_an_instructed_edit_of_one_window_is_what_the_model_draws(bench, make):
    pixels = scene(64, 64)
    write(bench.path, pixels)
    model = make("rsedit", whole=True)
    made, _ = bench.make(edit, asked(model, mask=False, steps=4, image_guidance_scale=2.5), model)
    sampled = model.network.sample(
        field(3, 0, Window(0, 0, 8, 8), 4)[None],
        4,
        prompt="a wood",
        guidance_scale=1.0,
        image_guidance_scale=2.5,
        picture=unit(pixels),
    )
    expected = to_bytes(model.network.decode(sampled.latents)[0])
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_more_image_guidance_is_another_picture(bench, make):
    write(bench.path, scene(64, 64))
    model = make("rsedit", whole=True)
    few, many = (
        bench.make(edit, _guided(asked(model, mask=False, image_guidance_scale=scale)), model)[0]
        for scale in (1.2, 6.0)
    )
    assert (few != many).mean() > 0.1


def _guided(asked_for, scale=7.5):
    return dataclasses.replace(asked_for, sampling=dataclasses.replace(asked_for.sampling, guidance_scale=scale))


def test_what_an_inpainting_network_draws_in_one_window_is_what_is_there(bench, make):
    pixels = scene(64, 64)
    write(bench.path, pixels)
    ring = [(8, 8), (58, 8), (58, 58), (8, 58)]
    polygons(bench.path, [ring])
    model = make("inpainting", whole=True)
    made, _ = bench.make(edit, asked(model, steps=4), model)
    inside = centres_inside(ring, 64, 64)
    sampled = model.network.sample(
        field(3, 0, Window(0, 0, 8, 8), 4)[None],
        4,
        prompt="a wood",
        guidance_scale=1.0,
        level=14,  # 10 m, rounded: 2 ** (17 - 14) = 8
        picture=unit(pixels),
        repaint=torch.from_numpy(inside)[None, None].float(),
    )
    expected = to_bytes(model.network.decode(sampled.latents)[0])
    deep = slice(8 + JOIN_REACH, 58 - JOIN_REACH)
    assert np.abs(made[:, deep, deep].astype(int) - expected[:, deep, deep]).max() <= 1
    assert np.array_equal(made[:, ~inside], pixels[:, ~inside])


@pytest.mark.parametrize("scheduler", ["DDIM", "Euler", "DPM++ 2M", "PNDM", "UniPC"])
def test_strength_starts_from_the_source_as_the_loop_does(bench, make, scheduler):
    pixels = scene(64, 64)
    write(bench.path, pixels)
    model = make("held", whole=True)
    asked_for = request(scheduler, strength=0.5, mask=False, steps=4, told_gsd=0.0, cloud_cover=20.0)
    made, _ = bench.make(edit, asked_for, model)
    with rasterio.open(bench.path / "source.tif") as file:
        (longitude,), (latitude,) = rasterio.warp.transform(
            file.crs, "EPSG:4326", *([value] for value in file.transform @ (32, 32))
        )
    told = model.told(
        Scene("a wood", longitude=longitude, latitude=latitude, date="2020-05-01", cloud_cover=20.0, gsd=None)
    )
    predict = model.network.predictor(1, guidance_scale=1.0, **told)
    noise = field(3, 0, Window(0, 0, 8, 8), 4)[None]
    code = model.network.codec.encode(unit(pixels))
    z = sample(predict, model.scheduler(scheduler), 4, lambda stream: noise, source=code, strength=0.5)
    expected = to_bytes(model.network.decode(z)[0])
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_the_latents_of_known_ground_are_those_of_the_source(bench, make, monkeypatch):
    write(bench.path, scene(64, 64))
    polygons(bench.path, [[(16, 16), (48, 16), (48, 48), (16, 48)]])
    model = make("held", whole=True)
    seen = []
    decode = PictureModel.decode
    monkeypatch.setattr(PictureModel, "decode", lambda self, z: seen.append(z) or decode(self, z))
    for scheduler in model.card.schedulers:
        bench.make(edit, request(scheduler, steps=3), model)
        code = model.encode(unit(scene(64, 64)))
        known = torch.ones(8, 8, dtype=torch.bool)
        known[2:6, 2:6] = False
        assert torch.allclose(seen[-1][0][:, known], code[0][:, known], atol=1e-5)
        assert (seen[-1][0][:, ~known] - code[0][:, ~known]).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["inpainting", "held"])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_a_margin_is_drawn_beyond_the_raster_which_stays(bench, make, kind, mask, whole):
    pixels = scene(40, 52, "float32")
    pixels[:, 3:9, 2:20] = -1
    write(bench.path, pixels, -1.0)
    ring = [(30, 20), (44, 20), (44, 34), (30, 34)]
    polygons(bench.path, [ring])
    model = make(kind, whole=whole)
    work = bench.plan(edit, asked(model, mask=mask, margin=6), model)
    made, valid = bench.draw(work)
    assert work.drawn == work.result and work.drawn.shape == (52, 64)
    assert work.drawn.transform[2] == rasterio.open(bench.path / "source.tif").transform[2] - 60
    inside = centres_inside(ring, 40, 52) if mask else np.zeros((40, 52), bool)
    inner = made[:, 6:-6, 6:-6]
    kept = ~inside & (pixels[0] != -1)
    assert inner[:, kept].tobytes() == pixels[:, kept].tobytes()
    assert not mask or (inner != pixels)[:, inside].any(axis=0).mean() > 0.9
    gap = np.zeros((52, 64), bool)
    gap[6:-6, 6:-6] = pixels[0] == -1
    assert np.array_equal(valid, ~gap)
    beyond = np.ones((52, 64), bool)
    beyond[6:-6, 6:-6] = False
    assert np.isfinite(made[:, beyond]).all() and made[:, beyond].std() > 0


def test_a_margin_of_many_windows_is_drawn_in_any_order(bench, make):
    write(bench.path, scene(20, 20), transform=CROSSING)
    model = make("inpainting")
    expected, valid = bench.make(edit, asked(model, mask=False, margin=45, steps=1), model)
    backwards = asked(model, mask=False, margin=45, steps=1)
    made, _ = bench.make(edit, backwards, model, order=lambda chunks: chunks[::-1])
    assert valid.all() and np.array_equal(made, expected)
    assert np.array_equal(made[:, 45:-45, 45:-45], scene(20, 20))


def test_a_small_change_in_a_large_raster_is_one_window_around_it(bench, make, calls):
    pixels = scene(200, 230)
    write(bench.path, pixels)
    for ring in ([(100, 90), (140, 90), (140, 130), (100, 130)], [(0.25, 0), (20.25, 0), (20.25, 20)]):
        calls.clear()
        polygons(bench.path, [ring])
        model = make("inpainting", whole=True)
        made, _ = bench.make(edit, asked(model), model)
        assert len(calls) == 1, "one window"
        (given,) = (call[-1] for call in calls)
        assert given.repaint.sum() == centres_inside(ring, 200, 230).sum(), "all of it, and nothing beyond the raster"
        changed = (made != pixels).any(axis=0)
        assert not (changed & ~centres_inside(ring, 200, 230)).any() and changed.any()
    calls.clear()
    polygons(bench.path, [[(100, 90), (150, 90), (150, 130)]])
    bench.make(edit, asked(model), model)
    assert len(calls) > 1, "no ground would be in sight"
    calls.clear()
    bench.make(edit, asked(model := make("inpainting")), model)
    assert len(calls) > 1, "a part of the lattice"


def test_only_windows_with_something_to_draw_reach_the_network(bench, make, calls):
    write(bench.path, scene(400, 400))
    polygons(bench.path, [[(200, 200), (206, 200), (206, 206), (200, 206)]])
    for kind in KINDS:
        calls.clear()
        model = make(kind)
        bench.make(edit, asked(model), model)
        assert 1 <= len(calls) <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_seeds_of_their_own_and_differ_inside_only(bench, make, kind):
    write(bench.path, scene(64, 70))
    ring = [(10, 10), (50, 10), (50, 50), (10, 50)]
    polygons(bench.path, [ring])
    model = make(kind, whole=True)
    work = bench.plan(edit, asked(model, samples=3), model)
    drawn = [bench.draw(work, sample=number)[0] for number in (1, 2, 3)]
    differ = (drawn[0] != drawn[1]).any(axis=0)
    assert differ.any() and not (differ & ~centres_inside(ring, 64, 70)).any()
    later = _seeded(asked(model), 4)
    assert np.array_equal(bench.make(edit, later, model)[0], drawn[1])


def _seeded(asked_for, seed):
    return dataclasses.replace(asked_for, sampling=dataclasses.replace(asked_for.sampling, seed=seed))


def test_what_a_model_cannot_is_refused_before_any_work(bench, make, calls):
    """Neither the raster nor the polygons are there: nothing was read."""
    for kind, change, sentence in (
        ("rsedit", dict(strength=0.6), "knows no strength below 1"),
        ("inpainting", dict(strength=0.99), "knows no strength below 1"),
        ("rsedit", dict(margin=1), "cannot draw beyond a raster"),
        ("held", dict(margin=5, strength=0.5), "nothing to start from"),
    ):
        model = make(kind)
        with pytest.raises(InvalidRequest, match=sentence) as refusal:
            bench.plan(edit, asked(model, **change), model)
        assert refusal.value.hint.startswith("Set the ")
    assert not calls


def test_what_is_not_used_or_not_read_is_told(bench, make):
    write(bench.path, scene(64, 70))
    polygons(bench.path, [[(10, 10), (50, 10), (50, 50)]])
    model = make("inpainting")
    asked_for = asked(model, image_guidance_scale=2.0, cloud_cover=10.0, date="2024-01-01")
    assert bench.plan(edit, asked_for, model).notices == (
        "Not used by this model: the date, the cloud cover and the image strength.",
    )
    model = make("rsedit")
    asked_for = asked(model, image_guidance_scale=2.0, told_gsd=0.5)
    assert bench.plan(edit, _guided(asked_for), model).notices == ("Not used by this model: the resolution told.",)
    without = dataclasses.replace(asked_for, told_gsd=None)
    assert bench.plan(edit, without, model).notices == (
        "The image strength is not used: it counts only with a guidance above 1.",
    )
    both = dataclasses.replace(without, negative_prompt="clouds")
    assert bench.plan(edit, both, model).notices == (
        "The negative prompt and the image strength are not used: they count only with a guidance above 1.",
    )
    assert bench.plan(edit, _guided(both, 1.1), model).notices == ()
    assert bench.plan(edit, asked(model), model).notices == (), "an image strength that nobody set"
    long = dataclasses.replace(asked(model), prompt="flood " * 100)
    (notice,) = bench.plan(edit, long, model).notices
    assert "its end is not used" in notice
