"""SuperResolve: own grid, own pixel type, own gaps, agreement with what was given, whatever the order and the size."""

import dataclasses
import math
import random

import numpy as np
import pytest
import rasterio
from afterimage.engine.contract import Sampling, Source, SuperResolve
from afterimage.engine.diffusion.balance import WAYS
from afterimage.engine.diffusion.windows import Lattice
from afterimage.engine.errors import InvalidRequest, SourceEmpty, SourceUnreadable, UnsupportedGrid
from afterimage.engine.tasks import super_resolve
from afterimage.engine.tasks.base import MEAN
from afterimage.engine.tasks.chunks import absolute

TRANSFORM = rasterio.Affine(20.0, 0.0, 500_000.0, 0.0, -20.0, 4_600_020.0)


def scene(bands, height, width, dtype="uint8", seed=0):
    """Smooth hills with fields on them, over most of the type's range."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:height, 0:width] / 9.0
    hills = np.stack([np.sin(rows + band) * np.cos(cols * (1 + band / 5)) for band in range(bands)])
    unit = np.clip(
        0.5
        + 0.3 * hills
        + rng.choice([-0.15, 0.0, 0.15], (height // 4 + 1, width // 4 + 1)).repeat(4, 0).repeat(4, 1)[:height, :width],
        0,
        1,
    )
    low, high = {"uint8": (0, 255), "uint16": (200, 9000), "int16": (-800, 6000), "float32": (-1.5, 7.25)}[dtype]
    values = low + unit * (high - low)
    return (values if dtype == "float32" else values.round()).astype(dtype)


def write(path, pixels, nodata=None, transform=TRANSFORM, crs="EPSG:32633", mask=None):
    count, height, width = pixels.shape
    with rasterio.open(
        path,
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
        if mask is not None:
            file.write_mask(mask)


def request(factor=2, bands=(), gsd=20.0, scheduler="DDIM", samples=1, spread=False, mean=False):
    return SuperResolve(
        model="stub",
        source=Source("source.tif", "a layer", bands, "2020-05-01"),
        factor=factor,
        gsd=gsd,
        sampling=Sampling(seed=3, steps=2, scheduler=scheduler, samples=samples),
        spread=spread,
        mean=mean,
    )


def block_means(pixels, factor):
    bands, height, width = pixels.shape
    return pixels.astype(np.float64).reshape(bands, height // factor, factor, width // factor, factor).mean(axis=(2, 4))


@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 3), ("uint8", 1), ("uint16", 4), ("int16", 13), ("float32", 5)])
@pytest.mark.parametrize("factor", [2, 4])
def test_type_and_bands_come_back_and_block_means_are_the_source(bench, super_resolve_model, dtype, bands, factor):
    pixels = scene(bands, 40, 33, dtype)
    write(bench.path / "source.tif", pixels)
    work = bench.plan(super_resolve, request(factor, gsd=10.0 * factor), super_resolve_model)
    made, valid = bench.draw(work)
    assert made.dtype == dtype and made.shape == (bands, 40 * factor, 33 * factor) and valid.all()
    assert work.result.bounds == pytest.approx((500_000.0, 4_600_020.0 - 800, 500_000.0 + 660, 4_600_020.0))
    means = block_means(made, factor)
    if dtype == "float32":
        assert np.abs(means - pixels).max() < 1e-5 * (pixels.max() - pixels.min())
    else:
        assert (np.rint(means) == pixels).mean() > 0.999
        assert np.abs(means - pixels).max() <= 0.5
    detail = made - pixels.repeat(factor, 1).repeat(factor, 2).astype(np.float64)
    assert detail.std() > 0.01 * (float(pixels.max()) - float(pixels.min())), "the model's detail got lost"


@pytest.mark.parametrize("scheduler", ["DDIM", "DDPM", "DPM++ 2M"])
def test_the_order_of_chunks_and_a_forgetful_cache_change_nothing(bench, super_resolve_model, monkeypatch, scheduler):
    pixels = scene(4, 150, 140, "uint16")
    pixels[:, 60:90, 50:100] = 0
    write(bench.path / "source.tif", pixels, nodata=0)
    expected, valid = bench.make(super_resolve, request(4, gsd=40.0, scheduler=scheduler), super_resolve_model)
    monkeypatch.setattr(super_resolve, "REMEMBERED", 2 * 3 * 64 * 64 * 4)

    def shuffled(chunks):
        return random.Random(1).sample(chunks, len(chunks))

    made, _ = bench.make(super_resolve, request(4, gsd=40.0, scheduler=scheduler), super_resolve_model, order=shuffled)
    assert np.array_equal(made, expected)
    assert np.array_equal(valid, (pixels != 0).any(axis=0).repeat(4, 0).repeat(4, 1))


def test_places_that_a_batch_leaves_over_draw_the_windows_that_come_next(bench, super_resolve_model):
    write(bench.path / "source.tif", scene(3, 150, 150))
    work = bench.plan(super_resolve, request(4, gsd=40.0), super_resolve_model)
    bench.draw(work)
    lattice = Lattice(super_resolve_model.window, super_resolve_model.stride)
    needed = len(lattice.touching(absolute(work.drawn.window, work.drawn.anchor())))
    assert len(work.chunks) >= 9
    assert super_resolve_model.calls == math.ceil(needed / super_resolve_model.batch) * request().sampling.steps


def test_a_crop_of_the_source_gives_the_crop_of_the_result_away_from_its_edges(bench, super_resolve_model):
    pixels = scene(3, 150, 150)
    write(bench.path / "source.tif", pixels)
    whole, _ = bench.make(super_resolve, request(), super_resolve_model)
    write(bench.path / "source.tif", pixels[:, 31:, 17:], transform=TRANSFORM @ rasterio.Affine.translation(17, 31))
    crop, _ = bench.make(super_resolve, request(), super_resolve_model)
    far = 64 + 2 * 6
    assert np.array_equal(crop[:, far:, far:], whole[:, 62 + far :, 34 + far :])


def test_gaps_stay_gaps_and_do_not_leak(bench, super_resolve_model):
    pixels = scene(3, 60, 60, "int16")
    hole = np.zeros((60, 60), bool)
    hole[20:45, 10:30] = hole[:3] = True
    made = []
    for garbage in (-9999, 32767):
        write(bench.path / "source.tif", np.where(hole, garbage, pixels), nodata=garbage)
        made.append(bench.make(super_resolve, request(4, gsd=40.0), super_resolve_model))
        assert np.array_equal(made[-1][1], ~hole.repeat(4, 0).repeat(4, 1))
        means = block_means(made[-1][0], 4)
        assert np.abs(means - pixels)[:, ~hole].max() <= 0.5
    fine = ~hole.repeat(4, 0).repeat(4, 1)
    assert np.array_equal(made[0][0][:, fine], made[1][0][:, fine])


@pytest.mark.parametrize("garbage", [-3.4028234663852886e38, np.nan, np.inf])
def test_extreme_numbers_in_gaps_do_not_leak(bench, super_resolve_model, garbage):
    pixels = scene(3, 40, 40, "float32") * 1e-4
    pixels[:, 10:20, 10:20] = garbage
    write(bench.path / "source.tif", pixels, nodata=None if np.isinf(garbage) else garbage)
    made, valid = bench.make(super_resolve, request(), super_resolve_model)
    assert (~valid).sum() == 400
    inside = np.abs(block_means(np.where(valid, made, 0), 2) - np.where(np.isfinite(pixels) & (pixels > -1), pixels, 0))
    assert inside.max() < 1e-8


def test_one_pixel_far_out_of_range_stays_what_it_is(bench, super_resolve_model):
    pixels = scene(3, 40, 40, "float32")
    pixels[:, 20, 20] = 1e6
    write(bench.path / "source.tif", pixels)
    made, _ = bench.make(super_resolve, request(), super_resolve_model)
    far = np.ones((40, 40), bool)
    far[14:27, 14:27] = False
    means = block_means(made, 2)
    assert np.allclose(means[:, 20, 20], 1e6, rtol=1e-5)
    assert np.abs(means - pixels)[:, far].max() < 1e-4


def test_chunks_without_data_do_not_reach_the_network(bench, super_resolve_model):
    pixels = np.zeros((3, 300, 300), "uint8")
    pixels[:, :40, :40] = scene(3, 40, 40).clip(1)
    write(bench.path / "source.tif", pixels, nodata=0)
    work = bench.plan(super_resolve, request(), super_resolve_model)
    made, valid = bench.draw(work)
    # 80 pixels and their halo, windows of 64 at 48: at most five along an axis
    assert super_resolve_model.calls <= (25 / 3 + 5) * 2
    assert valid.sum() == 80 * 80 and (made[:, ~valid] == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (70, 1), (3, 2)])
@pytest.mark.parametrize("factor", [2, 4])
def test_rasters_of_any_size(bench, super_resolve_model, shape, factor):
    pixels = scene(3, *shape)
    write(bench.path / "source.tif", pixels)
    made, valid = bench.make(super_resolve, request(factor, gsd=10.0 * factor), super_resolve_model)
    assert valid.all() and np.abs(block_means(made, factor) - pixels).max() <= 0.5


def test_a_source_off_the_lattice_and_one_that_is_rotated(bench, super_resolve_model):
    pixels = scene(3, 20, 30)
    for transform in (TRANSFORM @ rasterio.Affine.translation(0.37, 0.91), TRANSFORM @ rasterio.Affine.rotation(30)):
        write(bench.path / "source.tif", pixels, transform=transform)
        work = bench.plan(super_resolve, request(4, gsd=40.0), super_resolve_model)
        made, _ = bench.draw(work)
        assert np.abs(block_means(made, 4) - pixels).max() <= 0.5
        assert work.drawn.transform[2] == transform.c and work.drawn.transform[5] == transform.f


def test_saturated_pixels_stay_saturated_and_numbers_stay_in_their_type(bench, super_resolve_model):
    pixels = scene(3, 30, 30)
    pixels[:, 5:12, 5:12], pixels[:, 15:20, 15:20] = 255, 0
    write(bench.path / "source.tif", pixels)
    made, _ = bench.make(super_resolve, request(4, gsd=40.0), super_resolve_model)
    assert (made[:, 20:48, 20:48] == 255).all() and (made[:, 60:80, 60:80] == 0).all()
    assert np.abs(block_means(made, 4) - pixels).max() <= 0.5


def test_bands_are_those_asked_for_in_that_order(bench, super_resolve_model):
    pixels = scene(5, 20, 20, "uint16")
    write(bench.path / "source.tif", pixels)
    work = bench.plan(super_resolve, request(bands=(4, 2)), super_resolve_model)
    made, _ = bench.draw(work)
    assert work.profile.bands == ("band 4", "band 2")
    assert np.abs(block_means(made, 2) - pixels[[3, 1]]).max() <= 0.5


def test_samples_differ_and_agree_with_the_source(bench, super_resolve_model):
    pixels = scene(3, 30, 30)
    write(bench.path / "source.tif", pixels)
    work = bench.plan(super_resolve, request(samples=2, spread=True), super_resolve_model)
    one, two = bench.draw(work, sample=1)[0], bench.draw(work, sample=2)[0]
    assert work.spread and not np.array_equal(one, two)
    assert np.abs(block_means(two, 2) - pixels).max() <= 0.5


@pytest.fixture
def averaged(super_resolve_model, card):
    """The model, its card saying that it gives the mean."""
    super_resolve_model.card = card(window=64, stride=48, gives_mean=True)
    return super_resolve_model


def draw_mean(bench, model, asked, **how):
    return bench.draw(bench.plan(super_resolve, asked, model), sample=MEAN, **how)[0]


@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 3), ("int16", 4), ("float32", 1)])
def test_the_mean_is_like_a_sample_in_type_in_agreement_and_in_range(bench, averaged, dtype, bands):
    pixels = scene(bands, 40, 33, dtype)
    if dtype == "uint8":
        pixels[:, 5:12, 5:12] = 255
    hole = np.zeros((40, 33), bool)
    hole[20:30, 10:20] = True
    write(bench.path / "source.tif", np.where(hole, -99, pixels).astype(dtype), mask=~hole)
    work = bench.plan(super_resolve, request(4, gsd=40.0, mean=True), averaged)
    made, valid = bench.draw(work, sample=MEAN)
    assert work.mean and made.dtype == dtype
    assert np.array_equal(valid, ~hole.repeat(4, 0).repeat(4, 1))
    assert np.abs(block_means(made, 4) - pixels)[:, ~hole].max() <= (1e-4 if dtype == "float32" else 0.5)
    if dtype == "uint8":
        assert (made[:, 20:48, 20:48] == 255).all(), "what is saturated stays so"


def test_the_mean_is_of_the_models_own_and_takes_eight_calls_a_window(bench, averaged):
    """Whatever was chosen for the samples."""
    write(bench.path / "source.tif", scene(3, 60, 50))
    work = bench.plan(super_resolve, request(4, gsd=40.0, mean=True), averaged)
    made = bench.draw(work, sample=MEAN)[0]
    windows = len(Lattice(64, 48).touching(absolute(work.drawn.window, work.drawn.anchor())))
    assert averaged.calls == windows * math.ceil(WAYS / averaged.batch)
    sampling = Sampling(seed=2**40, steps=3, scheduler="DPM++ 2M", samples=5)
    other = dataclasses.replace(request(4, gsd=40.0, mean=True), sampling=sampling)
    assert np.array_equal(draw_mean(bench, averaged, other), made)
    assert not np.array_equal(bench.draw(work, sample=1)[0], made)


def test_the_order_of_chunks_and_a_forgetful_cache_do_not_change_the_mean(bench, averaged, monkeypatch):
    write(bench.path / "source.tif", scene(3, 70, 65, "uint16"))
    expected = draw_mean(bench, averaged, request(4, gsd=40.0, mean=True))
    monkeypatch.setattr(super_resolve, "REMEMBERED", 2 * 3 * 64 * 64 * 4)
    work = bench.plan(super_resolve, request(4, gsd=40.0, mean=True), averaged)
    again = np.zeros_like(expected)
    assert len(work.chunks) >= 4
    for chunk in random.Random(1).sample(work.chunks, len(work.chunks)):
        work.draw(chunk, 1, bench.ctx)  # samples in between
        again[(..., *chunk.slices())] = work.draw(chunk, MEAN, bench.ctx).pixels
    assert np.array_equal(again, expected)


def test_the_mean_is_what_many_estimates_at_the_noisiest_level_are_on_average(bench, averaged, monkeypatch):
    """Each of the eight ways counts, and no step of a sampler adds noise of its own."""
    # negative numbers: nothing is held within a range, which would not be linear
    write(bench.path / "source.tif", scene(3, 16, 16, "float32") - 50)
    asked = request(4, gsd=40.0, mean=True)
    whole = draw_mean(bench, averaged, asked).astype(float)
    parts = []
    for way in range(WAYS):
        monkeypatch.setattr(super_resolve, "over_ways", lambda estimate, way=way: estimate(way))
        parts.append(draw_mean(bench, averaged, asked).astype(float))
    assert len({part.tobytes() for part in parts}) == WAYS
    assert np.allclose(np.mean(parts, axis=0), whole, atol=1e-4 * np.std(parts))


def test_the_spread_is_what_the_network_tells_in_units_of_the_source(bench, averaged):
    """The stub's residuals are over 0.1 + 0.2 times the enlargement; 100 of 255 everywhere, without a border to see."""
    write(bench.path / "source.tif", np.full((3, 60, 50), 100, "uint8"))
    work = bench.plan(super_resolve, request(4, gsd=40.0, spread=True), averaged)
    mean = bench.draw(work, sample=MEAN)[0]
    for chunk in work.chunks:
        drawn, told = work.told(chunk, bench.ctx)
        assert np.array_equal(drawn.pixels, mean[(..., *chunk.slices())])
        assert told.pixels.dtype == np.float32 and told.valid.all()
        expected = math.exp(averaged.log_variance / 2) * (0.1 + 0.2 * 100 / 255) * 255
        assert np.allclose(told.pixels, expected, rtol=1e-3)


def test_a_spread_that_the_network_tells_follows_it_and_ends_with_the_data(bench, averaged):
    hole = np.zeros((40, 33), bool)
    hole[20:30, 10:20] = True
    write(bench.path / "source.tif", np.where(hole, -99, scene(3, 40, 33, "int16")).astype("int16"), mask=~hole)
    spreads = []
    for averaged.log_variance in (-1.0, 1.0):
        work = bench.plan(super_resolve, request(4, gsd=40.0, spread=True), averaged)
        told = work.told(work.chunks[0], bench.ctx)[1]
        assert np.array_equal(told.valid, work.draw(work.chunks[0], 1, bench.ctx).valid)
        spreads.append(told.pixels[:, told.valid])
    assert (spreads[0] > 0).all() and np.allclose(spreads[1] / spreads[0], math.e, rtol=1e-4)


def test_a_model_that_tells_nothing_needs_two_samples_for_a_spread(bench, super_resolve_model):
    write(bench.path / "source.tif", scene(3, 20, 20))
    with pytest.raises(InvalidRequest, match="at least 2 samples") as refused:
        bench.plan(super_resolve, request(spread=True), super_resolve_model)
    assert refused.value.hint and super_resolve_model.calls == 0
    assert bench.plan(super_resolve, request(samples=2, spread=True), super_resolve_model).told is None


def test_a_model_that_gives_no_mean_refuses_it_before_any_work(bench, super_resolve_model):
    with pytest.raises(InvalidRequest, match="not their mean") as refused:
        bench.plan(super_resolve, request(mean=True), super_resolve_model)
    assert refused.value.hint and super_resolve_model.calls == 0


def test_the_work_names_its_input(bench, super_resolve_model):
    write(bench.path / "source.tif", scene(3, 20, 20), nodata=7)
    work = bench.plan(super_resolve, request(), super_resolve_model)
    assert [given.name for given in work.inputs] == ["a layer"] and len(work.inputs[0].sha256) == 64
    assert work.date == "2020-05-01" and work.profile.nodata == 7 and work.notices == ()
    cloudy = dataclasses.replace(request(), source=dataclasses.replace(request().source, cloud_cover=20.0))
    (notice,) = bench.plan(super_resolve, cloudy, super_resolve_model).notices
    assert notice == "Not used by this model: the cloud cover."


@pytest.mark.parametrize(("gsd", "said"), [(20.0, False), (24.0, False), (30.0, True), (9.0, True)])
def test_a_resolution_beside_the_trained_range_is_done_with_a_notice(bench, super_resolve_model, gsd, said):
    write(bench.path / "source.tif", scene(3, 20, 20))
    notices = bench.plan(super_resolve, request(gsd=gsd), super_resolve_model).notices
    assert bool(notices) == said


@pytest.mark.parametrize("gsd", [5.0, 100.0])
def test_a_resolution_far_from_the_trained_range_is_done_with_a_warning(bench, super_resolve_model, gsd):
    write(bench.path / "source.tif", scene(3, 20, 20))
    (notice,) = bench.plan(super_resolve, request(gsd=gsd), super_resolve_model).notices
    assert "16 to 24 m" in notice and "do not rely on it" in notice


def test_bad_requests_are_refused_before_any_work(bench, super_resolve_model, card):
    with pytest.raises(SourceUnreadable):
        bench.plan(super_resolve, request(), super_resolve_model)
    write(bench.path / "source.tif", np.full((3, 50, 50), np.nan, "float32"))
    with pytest.raises(SourceEmpty):
        bench.plan(super_resolve, request(), super_resolve_model)
    write(bench.path / "source.tif", scene(3, 20, 20))
    super_resolve_model.card = card(factors=(2,))
    with pytest.raises(InvalidRequest, match="by 4"):
        bench.plan(super_resolve, request(4, gsd=40.0), super_resolve_model)
    assert super_resolve_model.calls == 0


def test_a_layer_without_a_place_on_the_ground_is_refused_before_any_work(bench, super_resolve_model):
    write(bench.path / "source.tif", scene(3, 20, 20), crs='LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(UnsupportedGrid):
        bench.plan(super_resolve, request(), super_resolve_model)


def test_a_layer_that_is_turned_by_a_right_angle(bench, super_resolve_model):
    pixels = scene(3, 20, 30)
    write(bench.path / "source.tif", pixels, transform=rasterio.Affine(0.0, 20.0, 500_000.0, 20.0, 0.0, 4_600_020.0))
    made, valid = bench.make(super_resolve, request(4, gsd=40.0), super_resolve_model)
    assert valid.all() and np.abs(block_means(made, 4) - pixels).max() <= 0.5


def test_fill_that_nobody_declared_does_not_hide_the_rest(bench, super_resolve_model):
    pixels = scene(1, 40, 40, "float32")
    pixels[0, :4, :4] = -3.4e38
    write(bench.path / "source.tif", pixels)
    work = bench.plan(super_resolve, request(), super_resolve_model)
    made, valid = bench.draw(work)
    assert not valid[:8, :8].any() and valid.sum() == 80 * 80 - 64 and np.isnan(work.profile.nodata)
    means, known = block_means(made, 2)[0], pixels[0] > -1e30
    assert np.abs(means - pixels[0])[known].max() < 1e-4
