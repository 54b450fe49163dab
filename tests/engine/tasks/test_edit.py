"""Edit: new ground inside polygons, every number outside as it was, whatever the order and the size."""

import dataclasses
import json
import random

import numpy as np
import pytest
import rasterio
from afterimage.engine.contract import Edit, Generate, Mask, Sampling, Source
from afterimage.engine.errors import (
    ExtentTooLarge,
    InvalidRequest,
    MaskEmpty,
    MaskUnreadable,
    SourceEmpty,
    SourceUnreadable,
    UnsupportedGrid,
    UnsupportedRaster,
    UnsupportedResolution,
)
from afterimage.engine.tasks import edit, generate

#: A corner of the lattice that no block, chunk or window begins at.
ROW, COL = -460_003, 50_017
TRANSFORM = rasterio.Affine(10.0, 0.0, COL * 10.0, 0.0, -10.0, -ROW * 10.0)
#: Outline and hole in pixels (column, row), over two chunks, with edges that are neither upright nor on pixels, in
#: quarters, so that no corner is moved when it is snapped.
OUTLINE, HOLE = (
    [(81.25, 60.25), (203.75, 71.75), (190.0, 167.5), (92.5, 150.75)],
    [(120.25, 90.25), (150.5, 90.75), (149.75, 120.5)],
)


def scene(height, width, dtype="uint8", bands=3, seed=0):
    """Hills with fields on them; no number is 0."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:height, 0:width] / 17.0
    hills = np.stack([np.sin(rows + band) * np.cos(cols * (1 + band / 5)) for band in range(bands)])
    fields = rng.choice([-0.15, 0.0, 0.15], (height // 9 + 1, width // 9 + 1)).repeat(9, 0).repeat(9, 1)
    unit = np.clip(0.5 + 0.25 * hills + fields[:height, :width] + rng.normal(0, 0.02, hills.shape), 0, 1)
    low, high = {"uint8": (5, 250), "uint16": (200, 9000), "float32": (0.02, 0.6)}[dtype]
    values = low + unit * (high - low)
    return (values if dtype == "float32" else values.round()).astype(dtype)


def write(folder, pixels, nodata=None, transform=TRANSFORM, crs="EPSG:32633"):
    count, height, width = pixels.shape
    with rasterio.open(
        folder / "source.tif",
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=pixels.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
        photometric="minisblack",
    ) as file:
        file.colorinterp = [rasterio.enums.ColorInterp.undefined] * count
        file.write(pixels)


def polygons(folder, *features, transform=TRANSFORM):
    """Writes each feature, a list of rings in pixels (column, row)."""
    rings = [[[list(transform @ corner) for corner in [*ring, ring[0]]] for ring in feature] for feature in features]
    found = [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": r}} for r in rings]
    text = json.dumps({"type": "FeatureCollection", "features": found})
    (folder / "mask.geojson").write_text(text, encoding="utf-8")


def request(scheduler="DDIM", strength=1.0, gsd=10.0, bands=(), mask=True, samples=1, steps=3, **more):
    return Edit(
        model="stub",
        source=Source("source.tif", "a layer", bands, "2020-05-01"),
        gsd=gsd,
        prompt="a wood",
        sampling=Sampling(seed=3, steps=steps, scheduler=scheduler, samples=samples),
        mask=Mask("mask.geojson", "a plan") if mask else None,
        strength=strength,
        **more,
    )


def centres_inside(ring, height, width):
    """Even-odd rule for pixel centres, the slow way."""
    rows, cols = np.mgrid[0:height, 0:width] + 0.5
    found = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]]):
        if y0 != y1:
            found ^= ((y0 > rows) != (y1 > rows)) & (cols < (x1 - x0) * (rows - y0) / (y1 - y0) + x0)
    return found


@pytest.fixture(params=[(3, ()), (7, ((128, 96), (128, 96)))], ids=["one phase", "two phases"])
def paced(request, edit_model):
    """(a model, steps that are as many phases as it has)."""
    steps, phases = request.param
    edit_model.card = dataclasses.replace(edit_model.card, phases=phases)
    return edit_model, steps


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", None), ("uint8", 0), ("uint16", 65535), ("float32", -1.0)])
def test_numbers_outside_stay_bit_by_bit_and_gaps_stay_gaps(bench, paced, dtype, nodata):
    model, steps = paced
    pixels = scene(230, 300, dtype)
    hole = np.zeros((230, 300), bool)
    if nodata is not None:
        hole[140:180, 130:260] = hole[:, 297:] = True
        pixels[:, hole] = nodata
    write(bench.path, pixels, nodata)
    polygons(bench.path, [OUTLINE, HOLE])
    made, valid = bench.make(edit, request(steps=steps), model)
    inside = centres_inside(OUTLINE, 230, 300) & ~centres_inside(HOLE, 230, 300) & ~hole
    assert made.dtype == pixels.dtype and np.array_equal(valid, ~hole)
    kept = valid & ~inside
    assert made[:, kept].tobytes() == pixels[:, kept].tobytes()
    assert (made != pixels)[:, inside].any(axis=0).mean() > 0.9
    assert np.isfinite(made[:, valid]).all()


@pytest.mark.parametrize("scheduler", ["DDIM", "DDPM", "DPM++ 2M"])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_the_order_of_chunks_and_a_forgetful_cache_change_nothing(bench, paced, monkeypatch, scheduler, strength):
    model, steps = paced
    pixels = scene(280, 330)
    pixels[:, 100:130, 90:140] = 0
    write(bench.path, pixels, nodata=0)
    polygons(bench.path, [OUTLINE, HOLE], [[(10, 200), (320, 210), (300, 270)]])
    expected, _ = bench.make(edit, request(scheduler, strength, steps=steps), model)
    monkeypatch.setattr(edit, "REMEMBERED", 2 * 4 * 16 * 16 * 4)

    def shuffled(chunks):
        return random.Random(1).sample(chunks, len(chunks))

    made, _ = bench.make(edit, request(scheduler, strength, steps=steps), model, order=shuffled)
    assert np.array_equal(made, expected)


def test_a_crop_of_the_source_gives_the_crop_of_the_result(bench, paced):
    """Nothing further away than a window and the halos decides a drawn pixel."""
    model, steps = paced
    pixels = scene(560, 600)
    write(bench.path, pixels)
    there = [[(x + 170, y + 190) for x, y in ring] for ring in (OUTLINE, HOLE)]
    polygons(bench.path, there)
    whole, _ = bench.make(edit, request(steps=steps), model)
    write(bench.path, pixels[:, 61:, 43:], transform=TRANSFORM @ rasterio.Affine.translation(43, 61))
    crop, _ = bench.make(edit, request(steps=steps), model)
    assert np.array_equal(crop, whole[:, 61:, 43:])


def test_only_windows_that_the_polygons_touch_reach_the_network(bench, edit_model):
    write(bench.path, scene(1100, 1100))
    polygons(bench.path, [[(500, 500), (506, 500), (506, 506), (500, 506)]])
    work = bench.plan(edit, request(steps=2), edit_model)
    assert len(work.chunks) > 16
    made, _ = bench.draw(work)
    # a few latents lie in at most nine windows of 16 at 8; three in each call, two steps
    assert 0 < edit_model.calls <= 2 * 3
    assert (made != scene(1100, 1100)).any(axis=0).sum() <= 36


def test_windows_of_an_edit_agree_in_phases_and_the_network_is_asked_no_further_away(bench, edit_model):
    write(bench.path, scene(400, 400))
    polygons(bench.path, [[(60, 60), (340, 60), (340, 340), (60, 340)]])
    made, calls = [], []
    for phases in ((), ((128, 64), (128, 64), (128, 64))):
        edit_model.card, edit_model.calls = dataclasses.replace(edit_model.card, phases=phases), 0
        work = bench.plan(edit, request(steps=12), edit_model)
        made.append(bench.draw(work)[0])
        calls.append(edit_model.calls)
    assert not np.array_equal(*made)
    outside = np.ones((400, 400), bool)
    outside[60:340, 60:340] = False
    assert np.array_equal(made[1][:, outside], scene(400, 400)[:, outside])
    # windows that the polygon touches in each phase, no further ones around them; in more calls, each less full
    assert calls[1] <= 2 * calls[0]


def test_polygons_that_overlap_are_one(bench, edit_model):
    write(bench.path, scene(200, 260))
    polygons(bench.path, [OUTLINE])
    one, _ = bench.make(edit, request(), edit_model)
    polygons(bench.path, [OUTLINE], [[(100, 80), (180, 80), (180, 140)]])
    two, _ = bench.make(edit, request(), edit_model)
    assert np.array_equal(one, two)


def test_a_small_strength_stays_near_the_source_and_a_large_one_leaves_it(bench, paced):
    model, steps = paced
    pixels = scene(150, 180)
    write(bench.path, pixels)
    found = {}
    for strength in (0.1, 0.5, 1.0):
        made, _ = bench.make(edit, request(strength=strength, mask=False, steps=3 * steps), model)
        found[strength] = np.corrcoef(made.ravel().astype(float), pixels.ravel().astype(float))[0, 1]
    assert found[0.1] > 0.5 and found[0.1] > found[0.5] + 0.05 and found[0.5] > found[1.0] + 0.05


def test_the_whole_raster_at_full_strength_is_what_generate_draws(bench, paced):
    model, steps = paced
    write(bench.path, scene(150, 180))
    work = bench.plan(edit, request(mask=False, steps=steps), model)
    made, _ = bench.draw(work)
    asked = Generate("stub", work.drawn, work.drawn, 10.0, "a wood", request(steps=steps).sampling)
    expected, _ = bench.make(generate, asked, model)
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_what_lies_around_changes_what_is_drawn(bench, edit_model):
    polygons(bench.path, [OUTLINE])
    drawn = []
    for level in (60, 190):
        write(bench.path, np.full((200, 260), level, "uint8")[None].repeat(3, 0))
        drawn.append(bench.make(edit, request(), edit_model)[0])
    edge, deep = (slice(None), slice(100, 104), slice(87, 89)), (slice(None), slice(100, 130), slice(130, 160))
    assert (drawn[1][edge].astype(float) - drawn[0][edge]).mean() > 40, "the rim joins what is around"
    assert np.abs(drawn[1][deep].astype(float) - drawn[0][deep]).mean() < 40, "the middle is drawn"


def test_a_margin_is_drawn_beyond_the_raster_and_leaves_the_rest_as_it_is(bench, edit_model):
    edit_model.card = dataclasses.replace(edit_model.card, uses=(*edit_model.card.uses, "margin"))
    pixels = scene(50, 70, "uint16")
    write(bench.path, pixels)
    ring = [(20.25, 10.25), (44.5, 12.5), (40.25, 35.5)]
    polygons(bench.path, [ring])
    without, _ = bench.make(edit, request(steps=2), edit_model)
    work = bench.plan(edit, request(margin=9, steps=2), edit_model)
    made, valid = bench.draw(work)
    assert work.drawn.shape == (68, 88) and valid.all()
    assert np.array_equal(made[:, 9:-9, 9:-9], without)
    alone, _ = bench.make(edit, request(margin=9, mask=False, steps=2), edit_model)
    assert np.array_equal(alone[:, 9:-9, 9:-9], pixels)
    beyond = np.ones((68, 88), bool)
    beyond[9:-9, 9:-9] = False
    assert alone[:, beyond].std() > 0


def test_a_margin_that_is_too_wide_is_refused(bench, edit_model, monkeypatch):
    edit_model.card = dataclasses.replace(edit_model.card, uses=("prompt", "margin"))
    write(bench.path, scene(20, 30))
    monkeypatch.setattr(edit, "PIXELS_LIMIT", 10_000)
    with pytest.raises(ExtentTooLarge, match="margin have 21,000 pixels"):
        bench.plan(edit, request(mask=False, margin=60), edit_model)


def test_samples_differ_inside_only(bench, edit_model):
    write(bench.path, scene(200, 260))
    polygons(bench.path, [OUTLINE])
    work = bench.plan(edit, request(samples=2), edit_model)
    one, two = bench.draw(work, sample=1)[0], bench.draw(work, sample=2)[0]
    differ = (one != two).any(axis=0)
    assert differ.any() and not (differ & ~centres_inside(OUTLINE, 200, 260)).any()


def test_bands_are_those_asked_for_in_that_order(bench, edit_model):
    pixels = scene(200, 260, "uint16", bands=5)
    write(bench.path, pixels)
    polygons(bench.path, [OUTLINE])
    work = bench.plan(edit, request(bands=(4, 3, 2)), edit_model)
    made, _ = bench.draw(work)
    outside = ~centres_inside(OUTLINE, 200, 260)
    assert work.profile.bands == ("band 4", "band 3", "band 2")
    assert np.array_equal(made[:, outside], pixels[[3, 2, 1]][:, outside])


def test_the_work_names_its_inputs(bench, edit_model):
    write(bench.path, scene(200, 260), nodata=7)
    polygons(bench.path, [OUTLINE])
    work = bench.plan(edit, request(), edit_model)
    assert [given.name for given in work.inputs] == ["a layer", "a plan"]
    assert all(len(given.sha256) == 64 for given in work.inputs) and work.profile.nodata == 7
    assert work.date == "2020-05-01" and work.notices == ()
    polygons(bench.path, [HOLE])
    other = bench.plan(edit, request(date="2021-01-01"), edit_model)
    assert other.date == "2021-01-01" and other.inputs[1].sha256 != work.inputs[1].sha256
    assert other.inputs[0].sha256 == work.inputs[0].sha256


def test_a_resolution_beside_the_trained_range_is_told(bench, edit_model):
    write(bench.path, scene(200, 260))
    polygons(bench.path, [OUTLINE])
    (notice,) = bench.plan(edit, request(gsd=5.0), edit_model).notices
    assert "5 m" in notice and "8 m" in notice


@pytest.mark.parametrize(("shape", "ring"), [((1, 1), [(0, 0), (1, 0), (1, 1), (0, 1)]), ((3, 70), OUTLINE[:0])])
def test_rasters_of_any_size(bench, edit_model, shape, ring):
    pixels = scene(*shape)
    write(bench.path, pixels)
    polygons(bench.path, [ring or [(0, 0), (30, 0), (30, 3), (0, 3)]])
    made, valid = bench.make(edit, request(), edit_model)
    assert valid.all() and np.array_equal(made[:, :, 30:], pixels[:, :, 30:])


def test_a_layer_off_the_lattice_and_one_that_is_turned(bench, edit_model):
    pixels = scene(200, 260)
    for transform in (TRANSFORM @ rasterio.Affine.translation(0.37, 0.91), TRANSFORM @ rasterio.Affine.rotation(30)):
        write(bench.path, pixels, transform=transform)
        polygons(bench.path, [OUTLINE], transform=transform)
        made, _ = bench.make(edit, request(), edit_model)
        changed = (made != pixels).any(axis=0)
        inside = centres_inside(OUTLINE, 200, 260)
        assert not (changed & ~inside).any() and changed[inside].mean() > 0.9


def test_bad_requests_are_refused_before_any_work(bench, edit_model, monkeypatch):
    with pytest.raises(SourceUnreadable):
        bench.plan(edit, request(), edit_model)
    write(bench.path, np.full((3, 50, 50), np.nan, "float32"))
    with pytest.raises(SourceEmpty):
        bench.plan(edit, request(), edit_model)
    for bands in (1, 4):
        write(bench.path, scene(200, 260, bands=bands))
        with pytest.raises(UnsupportedRaster, match=f"3 bands .red, green, blue., and {bands} ") as refusal:
            bench.plan(edit, request(), edit_model)
        assert "Choose 3 bands" in refusal.value.hint
    write(bench.path, scene(200, 260))
    for gsd in (3.9, 24.1):
        with pytest.raises(UnsupportedResolution, match="m per pixel"):
            bench.plan(edit, request(gsd=gsd), edit_model)
    with pytest.raises(InvalidRequest, match="cannot do 1000 steps"):
        bench.plan(edit, request(steps=1000), _with_fewer_levels(edit_model))
    monkeypatch.setattr(edit, "PIXELS_LIMIT", 1000)
    with pytest.raises(ExtentTooLarge):
        bench.plan(edit, request(), edit_model)
    monkeypatch.undo()
    write(bench.path, scene(200, 260), crs='LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(UnsupportedGrid):
        bench.plan(edit, request(), edit_model)
    assert edit_model.calls == 0


def _with_fewer_levels(model):
    import diffusers

    class Fewer(type(model)):
        def scheduler(self, name):
            return diffusers.DDIMScheduler(num_train_timesteps=100, clip_sample=False, timestep_spacing="trailing")

    return Fewer()


def test_polygons_that_hold_no_pixel_with_data_are_refused(bench, edit_model):
    pixels = scene(200, 260)
    pixels[:, 50:160] = 0
    write(bench.path, pixels, nodata=0)
    beside = [(-50, -50), (-2, -50), (-2, -2)]
    between = [(20.6, 20.6), (21.4, 20.6), (21.4, 21.4), (20.6, 21.4)]
    on_nodata = [(90, 60), (150, 60), (150, 150)]
    for ring in (beside, between, on_nodata):
        polygons(bench.path, [ring])
        with pytest.raises(MaskEmpty):
            bench.plan(edit, request(), edit_model)
    polygons(bench.path)
    with pytest.raises(MaskEmpty):
        bench.plan(edit, request(), edit_model)


def test_a_mask_that_is_not_there_is_refused(bench, edit_model):
    write(bench.path, scene(200, 260))
    with pytest.raises(MaskUnreadable):
        bench.plan(edit, request(), edit_model)
