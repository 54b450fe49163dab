"""A coarser level first: what follows from it, and that no byte depends on the extent, the order or what is remembered.

The model writes what it is told into its pixels, draws a picture that depends on its noise as its encoder sees it, and
so shows what came from where.
"""

import dataclasses
import json
import random

import diffusers
import numpy as np
import pytest
import torch
from afterimage.engine.contract import Generate, GeoBox, Regions, Sampling, Window
from afterimage.engine.contract.messages import Progressed
from afterimage.engine.errors import InvalidRequest, JobCancelled
from afterimage.engine.models.picture import PictureModel
from afterimage.engine.models.published import open_model
from afterimage.engine.tasks import coarse, generate, picture

#: Near a corner where four chunks meet, and where no coarse pixel begins.
ROW, COL = 256 * 40 - 21, -256 * 7 - 19
FINER = ((128, 96), (64, 48))
ABLE = {"gsd": (1.0, 128.0), "uses": ("prompt", "gsd", "strength")}


def grid(row, col, height, width, resolution=10.0):
    transform = (resolution, 0.0, col * resolution, 0.0, -resolution, -row * resolution)
    return GeoBox("EPSG:32633", transform, (height, width))


def asked_for(box, scheduler="DDIM", steps=8, factor=2, seed=5, **changes):
    facts = dict(model="stub", grid=box, lattice=box, gsd=10.0, prompt="a", coarse=factor, coarse_strength=0.6)
    return Generate(**{**facts, "sampling": Sampling(seed, steps, scheduler, samples=3), **changes})


@pytest.fixture
def able(edit_model, card):
    """A model that takes a coarser level, and tells what it is told."""
    edit_model.card = card(phases=FINER, **ABLE)
    told = edit_model.told
    edit_model.scenes = []
    # metres, so that both levels are told apart
    edit_model.told = lambda scene: (
        edit_model.scenes.append(scene) or tuple(each + 0.001 * (scene.gsd or 0) for each in told(scene))
    )
    return edit_model


@pytest.fixture(params=[(), FINER], ids=["one phase", "two phases"])
def model(request, able, card):
    able.card = card(phases=request.param, **ABLE)
    return able


@pytest.fixture
def cheap(able):
    """One of two phases that is quick, and still looks at its neighbours."""
    able.predict = lambda x, t, condition: 0.9 * x + 0.2 * x.roll(1, -1) + condition
    able.batch = 8
    return able


@pytest.mark.parametrize(("scheduler", "halo"), [("DDIM", None), ("DDPM", 1), ("DPM++ 2M", None)])
def test_overlapping_extents_share_their_pixels(bench, model, scheduler, halo):
    model.decode_halo = halo
    one = bench.make(generate, asked_for(grid(ROW, COL, 60, 40), scheduler), model)[0]
    other = bench.make(generate, asked_for(grid(ROW + 31, COL - 71, 50, 100), scheduler), model)[0]
    assert np.array_equal(one[:, 31:, :29], other[:, :29, 71:])
    assert one.std() > 5


@pytest.mark.parametrize("factor", [2, 8])
def test_a_crop_goes_on_where_an_earlier_one_ended(bench, cheap, factor):
    whole = bench.make(generate, asked_for(grid(ROW - 70, COL - 60, 120, 260), factor=factor), cheap)[0]
    for row, col, height, width in ((-70, -60, 1, 3), (-7, 103, 50, 91)):
        part = bench.make(generate, asked_for(grid(ROW + row, COL + col, height, width), factor=factor), cheap)[0]
        assert np.array_equal(part, whole[:, row + 70 :, col + 60 :][:, :height, :width])


def test_other_orders_and_a_forgetful_cache_change_nothing(bench, cheap, monkeypatch):
    asked = asked_for(grid(256 * 40 - 40, -256 * 7 - 30, 80, 70))
    expected = bench.make(generate, asked, cheap)[0]
    monkeypatch.setattr(picture, "REMEMBERED", 60 * 4 * 16 * 16 * 4)
    monkeypatch.setattr(coarse, "COARSE_MEMORY", 4 * 2 * 3 * 128 * 128 * 4)
    work = bench.plan(generate, asked, cheap)
    for seed in range(2):
        for chunk in random.Random(seed).sample(work.chunks, 3):
            rows, cols = chunk.slices()
            assert np.array_equal(work.draw(chunk, 1, bench.ctx).pixels, expected[:, rows, cols])
    assert len(work.chunks) == 4


def test_sample_two_is_the_next_seed(bench, cheap):
    box = grid(ROW, COL, 30, 40)
    work = bench.plan(generate, asked_for(box), cheap)
    second = bench.draw(work, sample=2)[0]
    assert not np.array_equal(bench.draw(work, sample=1)[0], second)
    assert np.array_equal(bench.make(generate, asked_for(box, seed=6), cheap)[0], second)


def means(pixels, side):
    height, width = (length // side * side for length in pixels.shape[1:])
    return pixels[:, :height, :width].astype(float).reshape(3, height // side, side, width // side, side).mean((2, 4))


def level_of(request, model, ctx, area):
    """(3, h, w) pixels 0..255 of the coarser level of a request, in an area of its pixels."""
    level = coarse.CoarseLevel(
        request.grid,
        model,
        request.sampling,
        generate._scene(request, request.gsd),
        request.coarse,
        request.coarse_strength,
        picture.Canvas(request.grid, 3, "uint8"),
    )
    return 255 * level._picture.pixels([area], 1, ctx)[0].numpy()


def test_the_picture_follows_the_coarser_level(bench, cheap):
    scheduler, factor = "DPM++ 2M", 2
    # the best guess at the noise in latents that know nothing of each other, of mean 0 and deviation 1
    levels = cheap.scheduler(scheduler).alphas_cumprod
    cheap.predict = lambda x, t, condition: (1 - levels[int(t)]) ** 0.5 * x + condition * 0.01
    row, col = ROW // 8 * 8, COL // 8 * 8  # where coarse blocks of 8 pixels begin, too
    box = grid(row, col, 96 * factor, 96 * factor)
    area = coarse.coarse_window(Window(row, col, *box.shape), factor)
    correlation = {}
    for strength in (0.1, 0.95):
        asked = asked_for(box, scheduler, 20, factor, coarse_strength=strength)
        seen = means(level_of(asked, cheap, bench.ctx, area), 8)
        made = means(bench.make(generate, asked, cheap)[0], 8 * factor)
        correlation[strength] = np.corrcoef(seen.ravel(), made.ravel())[0, 1]
    alone = means(bench.make(generate, asked_for(box, scheduler, 20, 1), cheap)[0], 8 * factor)
    assert abs(np.corrcoef(alone.ravel(), seen.ravel())[0, 1]) < 0.3
    assert correlation[0.1] > 0.85 and correlation[0.95] < 0.5


def test_each_level_is_told_its_own_resolution(bench, cheap):
    bench.plan(generate, asked_for(grid(ROW, COL, 20, 20), factor=4), cheap)
    assert {scene.gsd for scene in cheap.scenes} == {10.0, 40.0}
    cheap.scenes.clear()
    bench.plan(generate, asked_for(grid(ROW, COL, 20, 20), factor=4, told_gsd=8.0), cheap)
    assert {scene.gsd for scene in cheap.scenes} == {8.0, 32.0}
    cheap.scenes.clear()
    bench.plan(generate, asked_for(grid(ROW, COL, 20, 20, 0.5), gsd=0.5), cheap)  # drawn at 1 m
    assert {scene.gsd for scene in cheap.scenes} == {1.0, 2.0}


def test_only_the_last_steps_are_taken_and_the_coarser_level_takes_all(bench, able, card):
    able.card, able.batch = card(**ABLE), 1
    calls = []
    for strength in (0.25, 0.5):
        work = bench.plan(generate, asked_for(grid(0, 0, 256, 256), coarse_strength=strength), able)
        able.calls = 0
        bench.draw(work)
        calls.append(able.calls)
    # 34 latents touch 7 windows in a row, see test_phases; those cover 256 coarse pixels and 2 for the enlargement on
    # each side, which lie in 3 squares of 128: 48 latents and the halo, which touch 9 windows
    fine, level = 7**2, 9**2
    assert calls == [2 * fine + 8 * level, 4 * fine + 8 * level]


@pytest.mark.parametrize("steps", [2, 5])
def test_a_strength_that_rounds_to_all_steps_still_leaves_one_out(bench, cheap, steps, monkeypatch):
    seen, noised = [], picture.noised
    monkeypatch.setattr(picture, "noised", lambda scheduler, *facts: seen.append(facts[1]) or noised(scheduler, *facts))
    bench.make(generate, asked_for(grid(0, 0, 8, 8), steps=steps, coarse_strength=0.99), cheap)
    assert set(seen) == {1}


def regions(bench, *parts, only=False):
    features = []
    for text, (top, left, bottom, right) in parts:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        ring = [[(COL + x) * 10.0, -(ROW + y) * 10.0] for x, y in corners]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": {"prompt": text}, "geometry": geometry})
    content = json.dumps({"type": "FeatureCollection", "features": features})
    (bench.path / "regions.geojson").write_text(content, "utf-8")
    return Regions("regions.geojson", only=only)


def test_regions_tell_the_coarser_level_too(bench, cheap):
    parts = ("bbbb", (0, 0, 90, 65)), ("cc", (30, 65, 90, 120))
    seen = []
    told = cheap.told
    cheap.told = lambda scene: seen.append((scene.prompt, scene.gsd)) or told(scene)
    one = bench.make(generate, asked_for(grid(ROW, COL, 90, 120), regions=regions(bench, *parts)), cheap)[0]
    assert set(seen) == {(text, gsd) for text in ("a", "bbbb", "cc") for gsd in (10.0, 20.0)}
    other = bench.make(generate, asked_for(grid(ROW + 15, COL + 33, 60, 50), regions=regions(bench, *parts)), cheap)[0]
    assert np.array_equal(one[:, 15:75, 33:83], other)
    plain = bench.make(generate, asked_for(grid(ROW, COL, 90, 120)), cheap)[0]
    assert not np.array_equal(one, plain)
    # the same text everywhere is no region
    same = bench.make(generate, asked_for(grid(ROW, COL, 90, 120), regions=regions(bench, ("a", parts[0][1]))), cheap)
    assert np.array_equal(same[0], plain)


def test_a_level_sees_the_shares_of_what_lies_under_its_latents(bench, cheap):
    asked = asked_for(grid(ROW, COL, 90, 120), regions=regions(bench, ("bbbb", (0, 0, 64, 64))))
    bench.folder(asked)
    texts = generate.RegionTexts(bench.path, asked, asked.grid, cheap.card)
    level = coarse.CoarseTexts(texts, 2, (-1, -1))
    fine = texts.shares(Window(-1, -1, 96, 128), 16)
    found = level.shares(Window(0, 0, 48, 64), 8)
    assert found.keys() == fine.keys() and all(torch.equal(found[place], fine[place]) for place in found)
    assert np.array_equal(level.labels(Window(0, 0, 8, 8)), texts.labels(Window(-1, -1, 16, 16))[1::2, 1::2])


def test_only_regions_are_drawn_and_they_see_a_level_around_them(bench, cheap):
    box = grid(ROW, COL, 200, 300)
    place = ("bbbb", (5, 7, 9, 12))  # between the middles of coarse pixels of 8
    for factor in (2, 8):
        given = regions(bench, place, only=True)
        asked = asked_for(box, factor=factor, prompt="", regions=given)
        pixels, valid = bench.make(generate, asked, cheap)
        assert valid.sum() == 4 * 5 and valid[5:9, 7:12].all()
        everywhere = bench.make(generate, asked_for(box, factor=factor, prompt="bbbb"), cheap)[0]
        assert np.array_equal(pixels[:, valid], everywhere[:, valid])


@pytest.mark.parametrize(
    ("facts", "changes", "words"),
    [
        ({"uses": ("prompt", "strength")}, {}, "told no ground resolution"),
        ({"uses": ("prompt", "gsd")}, {}, "cannot start from a picture"),
        ({"gsd": (1.0, 39.0)}, {"factor": 4}, "up to 39 m, and those of a level 4 times coarser have 40 m"),
        ({"gsd": (1.0, 10.0)}, {}, "have 20 m"),
        ({"whole": True}, {}, "sees all of this extent at once"),
    ],
)
def test_what_a_model_cannot_is_refused_before_any_work(bench, edit_model, card, facts, changes, words):
    edit_model.card = card(**{**ABLE, **facts})
    with pytest.raises(InvalidRequest, match=words) as refused:
        bench.plan(generate, asked_for(grid(0, 0, 100, 100), **changes), edit_model)
    assert refused.value.hint.startswith("Choose ") and edit_model.calls == 0


def test_a_sampler_that_cannot_pause_is_refused(bench, model):
    model.card = dataclasses.replace(model.card, schedulers=("PNDM",))
    model.scheduler = lambda name: diffusers.PNDMScheduler()
    with pytest.raises(InvalidRequest, match="PNDM cannot start from a coarser level"):
        bench.plan(generate, asked_for(grid(0, 0, 9, 9), "PNDM", steps=16), model)


def test_a_model_that_is_told_the_same_of_both_levels_is_refused(bench, edit_model, card):
    edit_model.card = card(**ABLE)  # its told knows no resolution
    with pytest.raises(InvalidRequest, match="told the same of the picture and of its coarser level"):
        bench.plan(generate, asked_for(grid(0, 0, 9, 9)), edit_model)


def test_the_coarser_level_counts_for_one_texture(bench, cheap):
    box = grid(0, 0, 513, 513)
    said = {factor: bench.plan(generate, asked_for(box, factor=factor), cheap).notices for factor in (1, 2, 4)}
    assert "A coarser level first" in said[1][0] and not said[2] and not said[4]
    large = bench.plan(generate, asked_for(grid(0, 0, 1025, 1025)), cheap).notices
    assert "one texture" in large[0] and "A coarser level first" in large[0]
    cheap.card = dataclasses.replace(cheap.card, gsd=(1.0, 30.0))
    large = bench.plan(generate, asked_for(grid(0, 0, 1025, 1025)), cheap).notices
    assert "one texture" in large[0] and "A coarser level first" not in large[0]


def test_the_coarser_level_is_shown_first_where_the_picture_will_be(bench, cheap, monkeypatch):
    monkeypatch.setattr("afterimage.engine.tasks.canvas.Canvas.is_due", lambda self: True)
    monkeypatch.setattr("afterimage.engine.context.PROGRESS_INTERVAL", -1.0)
    shown = []
    monkeypatch.setattr(type(bench.ctx), "preview", lambda ctx, raster: shown.append(raster))
    work = bench.plan(generate, asked_for(grid(256 * 40, -256 * 7, 200, 200)), cheap)
    pixels = bench.draw(work)[0]
    assert len(shown) > 10 and all(raster.grid == work.drawn for raster in shown)
    first = next(raster for raster in shown if raster.valid.any())  # windows around the extent come before
    assert first.pixels[:, first.valid].std() > 1
    blocks = first.pixels.reshape(3, 100, 2, 100, 2)  # each pixel of the coarser level covers four
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    assert np.array_equal(shown[-1].pixels, pixels)
    fractions = [event.fraction for event in bench.events if isinstance(event, Progressed)]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(set(fractions)) > 10


def test_cancelling_stops_while_the_coarser_level_is_drawn(bench, cheap):
    work, calls = bench.plan(generate, asked_for(grid(0, 0, 256, 256)), cheap), []
    inner = cheap.predict

    def predict(x, t, condition):
        calls.append(int(t))
        bench.cancelled.set()
        return inner(x, t, condition)

    cheap.predict = predict
    with pytest.raises(JobCancelled):
        work.draw(work.chunks[0], 1, bench.ctx)
    assert len(calls) == 1


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_enlarging_is_bicubic_and_the_same_in_every_window(factor):
    torch.manual_seed(0)
    pixels = torch.rand(3, 40, 40)
    area = Window(-13, 7, 40, 40)
    inner = Window((area.row + 8) * factor, (area.col + 8) * factor, 20 * factor, 20 * factor)
    large = coarse.enlarged(pixels, area, inner, factor)
    usual = torch.nn.functional.interpolate(pixels[None], scale_factor=factor, mode="bicubic", antialias=True)[0]
    assert torch.allclose(large, usual[:, 8 * factor :, 8 * factor :][:, : 20 * factor, : 20 * factor], atol=1e-6)
    for window in (Window(inner.row + 5, inner.col + 3, 17, 1), Window(inner.row + 1, inner.col, 3, 20 * factor)):
        around = coarse.coarse_window(window, factor).pad(2)
        rows, cols = around.relative_to(area).slices()
        part = coarse.enlarged(pixels[:, rows, cols], around, window, factor)
        rows, cols = window.relative_to(inner).slices()
        assert torch.equal(part, large[:, rows, cols])


def test_a_coarse_pixel_holds_the_pixels_from_its_multiple_on():
    assert coarse.coarse_window(Window(-5, 7, 2, 2), 4) == Window(-2, 1, 2, 2)
    assert coarse.coarse_window(Window(-4, 8, 4, 8), 4) == Window(-1, 2, 1, 2)


# --- published models, tiny -----------------------------------------------------------------------------------------

#: Kind -> folder of the references, what it is told, a factor.
KINDS = {
    "text2earth": ("text2earth", ("prompt", "negative_prompt", "gsd", "strength"), "Euler", 2),
    "diffusionsat": ("diffusionsat", ("prompt", "gsd", "date", "place", "cloud_cover", "strength"), "DDIM", 4),
}


@pytest.fixture(scope="module")
def networks(parity):
    return {name: open_model(parity / folder) for name, (folder, *_) in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_published_models_share_their_pixels_too(bench, card, networks, name):
    _, uses, scheduler, factor = KINDS[name]
    facts = dict(window=64, stride=48, gsd=(0.5, 128.0), uses=uses, whole=True, schedulers=(scheduler,))
    model = PictureModel(card(**facts), networks[name])

    def request(*box, **changes):
        facts = {"steps": 2, "factor": factor, "prompt": "a harbour", "gsd": 1.0, **changes}
        return asked_for(grid(*box, 1.0), scheduler, **facts)

    row, col = 256 * 40, -256 * 7
    one = bench.make(generate, request(row, col, 66, 20), model)[0]
    other = bench.make(generate, request(row + 6, col + 10, 65, 12), model)[0]
    assert np.array_equal(one[:, 6:, 10:], other[:, :60, :10])
    assert not np.array_equal(one, bench.make(generate, request(row, col, 66, 20, factor=1), model)[0])
    with pytest.raises(InvalidRequest, match="sees all of this extent at once"):
        bench.plan(generate, request(ROW, COL, 64, 64), model)
    if name == "text2earth":
        with pytest.raises(InvalidRequest, match="told the same"):
            bench.plan(generate, request(ROW, COL, 70, 66, prompt="17_GOOGLE_LEVEL_a harbour"), model)
