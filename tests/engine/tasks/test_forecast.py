"""Forecast: each frame with its own metadata, in order, on the first one's grid and in its numbers, in any order."""

import dataclasses

import numpy as np
import pytest
import torch
from afterimage.engine.contract import Forecast, GeoBox, ModelCard, Sampling, Source, Window
from afterimage.engine.errors import (
    InvalidRequest,
    SourceEmpty,
    SourceUnreadable,
    UnsupportedRaster,
    UnsupportedResolution,
)
from afterimage.engine.models import diffusionsat_temporal
from afterimage.engine.models.diffusionsat import metadata_vector
from afterimage.engine.models.picture import PictureModel
from afterimage.engine.models.published import open_model
from afterimage.engine.tasks import forecast, picture

#: A degree of latitude, near enough, in metres.
DEGREE = 111_320.0
DATES = ("2016-09-11", "2018-11-20", "2020-02-29")
COVERS = (0.0, 12.5, None)


@pytest.fixture(scope="module")
def reference(parity, make_reference):
    return make_reference(parity / "diffusionsat")


@pytest.fixture(scope="module")
def network(reference):
    return open_model(reference.folder / "controlnet3d")


@pytest.fixture
def model(network):
    card = ModelCard(
        id="tiny-forecast",
        name="Tiny forecast",
        summary="",
        family="diffusionsat_temporal",
        version="1",
        tasks=("Forecast",),
        bands=("red", "green", "blue"),
        gsd=(0.3, 10.0),
        window=64,
        stride=48,
        schedulers=("DDIM",),
        steps=4,
        uses=("prompt", "negative_prompt", "gsd", "date", "place", "cloud_cover"),
        frames=3,
        whole=True,
        tokens=77,
    )
    return PictureModel(card, network)


def around(longitude, latitude, gsd, shape=(64, 64)):
    """Upright pixels of about that size with this place in their middle."""
    size = gsd / DEGREE
    transform = (size, 0.0, longitude - shape[1] / 2 * size, 0.0, -size, latitude + shape[0] / 2 * size)
    return {"crs": "EPSG:4326", "transform": transform}


BRISBANE = around(153.316697, -27.862, 0.4114541)


def pictures(count=3, shape=(64, 64), seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 3, shape[0] // 8 + 1, shape[1] // 8 + 1))
    return coarse.repeat(8, -2).repeat(8, -1)[..., : shape[0], : shape[1]].astype("uint8")


def sources(count=3, gsds=(0.4114541, 10.0, 1.0)):
    return tuple(
        Source(f"source_{k + 1}.tif", f"layer {k + 1}", date=DATES[k], gsd=gsds[k], cloud_cover=COVERS[k])
        for k in range(count)
    )


def request(given=None, gsd=0.4114541, date="2017-02-11", steps=1, guidance=1.0, **more):
    sampling = Sampling(seed=5, steps=steps, scheduler="DDIM", guidance_scale=guidance)
    return Forecast("tiny-forecast", sources() if given is None else given, gsd, date, sampling, **more)


@pytest.fixture
def written(make_raster):
    """Three rasters of one grid; their pixels."""

    def write(pixels=None, place=BRISBANE, **options):
        pixels = pictures() if pixels is None else pixels
        for k, frame in enumerate(pixels):
            make_raster(frame, f"source_{k + 1}.tif", **place, **options)
        return pixels

    return write


@pytest.mark.parametrize("case", ["temporal_g1", "temporal_g5"])
def test_the_authors_own_picture(bench, model, reference, make_raster, monkeypatch, case):
    """Their frames, in their order, with their metadata, from their noise: their picture."""
    longitude, latitude, gsd, cover, year, month, day = reference["md_raw"][1].tolist()
    place = around(longitude, latitude, gsd)
    for k, frame in enumerate(reference["pipe_frames"].numpy()):
        make_raster(frame.transpose(2, 0, 1), f"source_{k + 1}.tif", **place)
    columns = dict(zip(DATES, reference["pipe_cond_md_3d"].T))
    monkeypatch.setattr(diffusionsat_temporal, "metadata_of", lambda scene: columns[scene.date])
    monkeypatch.setattr(picture, "noise_of", lambda *_: reference["latents0"])
    made, valid = bench.make(
        forecast,
        request(
            gsd=gsd,
            date=f"{year:04.0f}-{month:02.0f}-{day:02.0f}",
            steps=reference.cases["steps"],
            guidance=reference.cases["guidance"][case],
            prompt=reference.cases["prompt_temporal"],
            cloud_cover=100 * cover,
        ),
        model,
    )
    theirs = 255 * reference[f"{case}_image"].numpy().transpose(2, 0, 1)
    assert valid.all() and np.abs(made - theirs).max() < 0.5 + 255e-4


def test_each_frame_and_the_result_are_told_in_units_of_the_world(bench, model, reference, written, asked):
    pixels = written()
    work = bench.plan(forecast, request(cloud_cover=0.0), model)
    bench.draw(work)
    assert len(asked) == 1 and work.date == "2017-02-11"
    golden = torch.tensor([925.8798, 345.2111, 411.4541, 0, 308.3333, 166.6667, 354.8387])
    assert torch.allclose(asked[0]["metadata"], golden, atol=1e-3)
    columns = asked[0]["hint_metadata"].T
    assert columns.shape == (3, 7) and torch.allclose(columns[:, :2], golden[:2], atol=1e-3)
    assert torch.allclose(columns[:, 2], torch.tensor(411.4541))  # as they are shown, whatever their own
    assert torch.allclose(columns[:, 3], torch.tensor([0.0, 125.0, 0.0]))
    days = [[300.0, 750.0, 354.8387], [1e3 * 38 / 120, 1e3 * 11 / 12, 645.1613], [1e3 * 40 / 120, 166.6667, 935.4839]]
    assert torch.allclose(columns[:, 4:], torch.tensor(days), atol=1e-3)
    shown = torch.from_numpy(pixels).float().transpose(0, 1)[None] / 255
    assert torch.allclose(asked[0]["hint"], shown, atol=1e-6)


@pytest.mark.parametrize("date", ["2009-06-30", "2017-02-11", "2031-12-24"])
def test_before_between_and_after(bench, model, written, asked, date):
    written()
    work = bench.plan(forecast, request(date=date), model)
    bench.draw(work)
    year, month, day = (int(part) for part in date.split("-"))
    told = metadata_vector(year=year, month=month, day=day)
    assert work.date == date and torch.equal(asked[0]["metadata"][4:], told[4:])
    assert torch.allclose(asked[0]["hint_metadata"][4], torch.tensor([36.0, 38.0, 40.0]) / 0.12)


def test_swapping_frames_moves_their_metadata_along_and_nothing_else(bench, model, written, asked):
    written()
    first, second, third = sources()
    made, _ = bench.make(forecast, request(), model)
    swapped, _ = bench.make(forecast, request((first, third, second)), model)
    before, after = asked
    order = [0, 2, 1]
    assert torch.equal(after["hint"], before["hint"][:, :, order])
    assert torch.equal(after["hint_metadata"], before["hint_metadata"][:, order])
    assert torch.equal(after["metadata"], before["metadata"]) and after["prompt"] == before["prompt"]
    dated, _ = bench.make(forecast, request((first, dataclasses.replace(second, date="2001-01-01"), third)), model)
    assert torch.equal(asked[2]["hint"], before["hint"])
    changed = (asked[2]["hint_metadata"] != before["hint_metadata"]).nonzero().tolist()
    assert changed == [[4, 1], [5, 1], [6, 1]]
    assert (made != swapped).any() and (made != dated).any()


def test_fewer_frames_are_filled_up_with_the_first(bench, model, written, asked):
    pixels = written()
    work = bench.plan(forecast, request(sources(2)), model)
    bench.draw(work)
    told = asked[0]
    shown = torch.from_numpy(pixels[[0, 1, 0]]).float().transpose(0, 1)[None] / 255
    assert torch.allclose(told["hint"], shown, atol=1e-6)
    assert torch.equal(told["hint_metadata"][:, 2], told["hint_metadata"][:, 0])
    assert any("starts from 3 layers" in notice and "1 that is missing" in notice for notice in work.notices)
    assert [given.name for given in work.inputs] == ["layer 1", "layer 2"]
    assert len({given.sha256 for given in work.inputs}) == 2


def test_by_windows_the_order_of_the_chunks_does_not_matter(bench, model, written, asked):
    wide = (40, 300)
    written(pictures(shape=wide), around(153.3, -27.9, 1.0, wide))
    given = sources(gsds=(1.0, 1.0, 1.0))
    made, valid = bench.make(forecast, request(given, 1.0), model)
    assert valid.all() and len(asked) > 8
    again, _ = bench.make(forecast, request(given, 1.0), model, order=lambda chunks: chunks[::-1])
    assert np.array_equal(again, made)
    work = bench.plan(forecast, request(given, 1.0), model)
    last = work.chunks[-1]
    alone = work.draw(last, 1, bench.ctx)
    assert np.array_equal(alone.pixels, made[(slice(None), *last.slices())])


def test_the_others_are_brought_onto_the_grid_of_the_first(bench, model, make_raster, asked):
    grid = GeoBox("EPSG:32633", (5.0, 0.0, 500_000.0, 0.0, -5.0, 5_000_000.0), (64, 64))
    make_raster(np.full((3, *grid.shape), 60, "uint8"), "source_1.tif", crs=grid.crs, transform=grid.transform)
    halves = np.full((3, 60, 60), 200, "uint8")
    halves[..., :30] = 100
    coarse = (10.0, 0.0, 500_160.0 - 300.0, 0.0, -10.0, 5_000_140.0)
    make_raster(halves, "source_2.tif", crs=grid.crs, transform=coarse)
    work = bench.plan(forecast, request(sources(2, (5.0, 10.0)), 5.0), model)
    made, _ = bench.draw(work)
    assert work.result == grid and made.shape == (3, 64, 64)
    first, second, third = asked[0]["hint"][0].unbind(1)
    assert torch.equal(first, third) and torch.allclose(first, torch.tensor(60 / 255))
    assert torch.allclose(second[..., :31], torch.tensor(100 / 255))
    assert torch.allclose(second[..., 33:], torch.tensor(200 / 255))


def test_the_result_has_the_numbers_of_the_first(bench, model, make_raster):
    rng = np.random.default_rng(3)
    own = rng.integers(300, 4000, (3, 64, 64)).astype("uint16")
    make_raster(own, "source_1.tif", **BRISBANE, nodata=0)
    make_raster(pictures(1)[0], "source_2.tif", **BRISBANE)
    work = bench.plan(forecast, request(sources(2)), model)
    made, valid = bench.draw(work)
    assert made.dtype == "uint16" and valid.all() and work.profile.nodata == 0
    assert 300 <= made.min() and made.max() <= 4000 and made.std() > 50


def test_it_is_valid_where_any_frame_is_and_across_narrow_gaps(bench, model, make_raster):
    holes = np.ones((2, 64, 64), bool)
    holes[:, :20, :] = False  # wide, at the edge, in both
    holes[:, 40:46, 30:36] = False  # narrow, in both
    holes[0, 50:, :] = False  # in one of them
    for k, hole in enumerate(holes):
        make_raster(pictures()[k], f"source_{k + 1}.tif", **BRISBANE, mask=hole)
    work = bench.plan(forecast, request(sources(2)), model)
    made, valid = bench.draw(work)
    expected = np.ones((64, 64), bool)
    expected[:20] = False
    assert np.array_equal(valid, expected) and (made[:, :20] == 0).all()
    assert not any("layer 1" in notice for notice in work.notices)
    far = work.draw(Window(0, 0, 8, 8), 1, bench.ctx)
    assert not far.valid.any() and (far.pixels == 0).all()


def test_what_a_source_does_not_cover_is_said(bench, model, make_raster, asked):
    make_raster(pictures()[0], "source_1.tif", **BRISBANE)
    a, _, c, _, e, f = BRISBANE["transform"]
    make_raster(pictures()[1], "source_2.tif", crs="EPSG:4326", transform=(a, 0, c + 48 * a, 0, e, f))
    work = bench.plan(forecast, request(sources(2)), model)
    assert any("Layer 2 (layer 2) holds data on 25.0%" in notice for notice in work.notices)
    bench.draw(work)
    assert torch.isfinite(asked[0]["hint"]).all()
    make_raster(pictures()[1], "source_2.tif", crs="EPSG:4326", transform=(a, 0, c + 64 * a, 0, e, f))
    with pytest.raises(InvalidRequest, match=r"Layer 2 .* no data on the ground of the first"):
        bench.plan(forecast, request(sources(2)), model)


def test_a_negative_prompt_without_guidance_is_said(bench, model, written):
    written()
    assert not any("negative" in each for each in bench.plan(forecast, request(), model).notices)
    work = bench.plan(forecast, request(negative_prompt="clouds"), model)
    assert any("guidance above 1" in notice for notice in work.notices)
    work = bench.plan(forecast, request(prompt="house " * 90, negative_prompt="clouds", guidance=3.0), model)
    assert not any("guidance" in notice for notice in work.notices)
    assert any("its end is not used" in notice for notice in work.notices)


def test_what_cannot_be_done_is_told_before_work_starts(bench, model, written, make_raster):
    written()
    few = PictureModel(dataclasses.replace(model.card, frames=2), model.network)
    with pytest.raises(InvalidRequest, match="at most 2 layers, and 3 are given"):
        bench.plan(forecast, request(), few)
    with pytest.raises(UnsupportedResolution, match=r"0\.1 m per pixel") as told:
        bench.plan(forecast, request(gsd=0.1), model)
    assert "0.15 to 20" in told.value.hint
    missing = dataclasses.replace(sources()[1], path="missing.tif")
    with pytest.raises(SourceUnreadable, match=r"Layer 2 \(layer 2\): "):
        bench.plan(forecast, request((sources()[0], missing)), model)
    make_raster(pictures()[1][:2], "source_2.tif", **BRISBANE)
    with pytest.raises(UnsupportedRaster, match=r"Layer 2 .* 3 bands \(red, green, blue\), and 2 are given"):
        bench.plan(forecast, request(), model)
    make_raster(pictures()[1], "source_2.tif", **BRISBANE, mask=np.zeros((64, 64), bool))
    with pytest.raises(SourceEmpty, match="Layer 2"):
        bench.plan(forecast, request(), model)
