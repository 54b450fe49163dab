"""SuperResolve from the bands of Sentinel-2: the right bands, in the right numbers, over exactly each window."""

import dataclasses

import numpy as np
import pytest
import torch
from afterimage.engine.contract import ModelCard, Sampling, Source, SuperResolve
from afterimage.engine.contract.bands import SENTINEL2, band_name
from afterimage.engine.errors import (
    InvalidRequest,
    SourceEmpty,
    UnsupportedRaster,
    UnsupportedResolution,
)
from afterimage.engine.models.diffusionsat import metadata_vector
from afterimage.engine.models.picture import PictureModel
from afterimage.engine.models.published import open_model
from afterimage.engine.models.sentinel2 import BANDS, HINT, fit_hint, hint_bands
from afterimage.engine.raster import Profile
from afterimage.engine.tasks import multispectral, picture, sentinel2, super_resolve

NAMES = SENTINEL2
#: A degree of latitude, near enough, in metres.
DEGREE = 111_320.0


@pytest.fixture(scope="module")
def reference(parity, make_reference):
    return make_reference(parity / "diffusionsat")


@pytest.fixture(scope="module")
def network(reference):
    return open_model(reference.folder / "controlnet_sr")


@pytest.fixture
def model(network):
    card = ModelCard(
        id="tiny-sentinel",
        name="Tiny Sentinel",
        summary="",
        family="diffusionsat_control",
        version="1",
        tasks=("SuperResolve",),
        bands=("red", "green", "blue"),
        gsd=(0.3, 5.0),
        window=64,
        stride=48,
        schedulers=("DDIM",),
        steps=4,
        guidance_scale=5.0,
        uses=("prompt", "negative_prompt", "gsd", "date", "place", "cloud_cover"),
        factors=(4, 2, 8, 10, 16),
        source_bands=HINT,
        whole=True,
        tokens=77,
    )
    return PictureModel(card, network)


def land(shape=(32, 32), seed=0, names=NAMES):
    """Digital numbers of every band, around what the model was trained on, dark pixels among them."""
    rng = np.random.default_rng(seed)
    height, width = shape
    coarse = rng.normal(0, 0.8, (len(names), height // 4 + 1, width // 4 + 1)).repeat(4, 1).repeat(4, 2)
    unit = coarse[:, :height, :width] + rng.normal(0, 0.3, (len(names), height, width))
    mean, deviation = np.array([BANDS[name] for name in names]).T[..., None, None]
    return np.clip(mean + deviation * unit, 1, 20_000).astype("uint16")


@pytest.fixture
def write(make_raster):
    """Writes ``source.tif`` with these bands, named so."""
    import rasterio

    def make(pixels, names=NAMES, tags=None, scales=None, offsets=None, **options):
        path = make_raster(pixels, **options)
        with rasterio.open(path, "r+") as file:
            for band, name in enumerate(names, 1):
                file.set_band_description(band, name)
            file.update_tags(**(tags or {}))
            if scales is not None:
                file.scales, file.offsets = scales, offsets
        return path

    return make


def request(factor=2, gsd=10.0, name="a layer", date="2019-08-31", steps=1, guidance=5.0, samples=1, **more):
    sampling = Sampling(seed=5, steps=steps, scheduler="DDIM", guidance_scale=guidance, samples=samples)
    source = Source("source.tif", name, more.pop("bands", ()), date, cloud_cover=more.pop("cloud_cover", None))
    return SuperResolve("tiny-sentinel", source, factor, gsd, sampling, **more)


def numbers_of(hint):
    """Digital numbers (10, h, w) float64 that are mapped to these steps of 1/255."""
    mean, deviation = np.array([BANDS[name] for name in HINT]).T[..., None, None]
    return mean + 2 * deviation * (2 * (hint + 0.5) / 255 - 1)


def test_the_authors_own_picture(bench, model, reference, write, monkeypatch):
    """Their hint, with their metadata, from their noise: their picture."""
    longitude, latitude, gsd, cover, year, month, day = reference["md_raw"][1].tolist()
    size = 10.0 / DEGREE
    transform = (size, 0.0, longitude - 16 * size, 0.0, -size, latitude + 16 * size)
    hint = reference["pipe_hint_sr_u8"][0].numpy()
    write(numbers_of(hint.astype("float64")), HINT, crs="EPSG:4326", transform=transform)
    monkeypatch.setattr(picture, "noise_of", lambda *_: reference["latents0"])
    monkeypatch.setattr(multispectral, "trained_gsd", lambda *_: gsd)
    made, valid = bench.make(
        super_resolve,
        request(
            date=f"{year:04.0f}-{month:02.0f}-{day:02.0f}",
            steps=reference.cases["steps"],
            guidance=reference.cases["guidance"]["sr"],
            prompt=reference.cases["prompt_sr"],
            cloud_cover=100 * cover,
        ),
        model,
    )
    theirs = 255 * reference["sr_image"].numpy().transpose(2, 0, 1)
    assert made.dtype == np.uint8 and valid.all() and np.abs(made - theirs).max() < 0.5 + 255e-4


def test_what_the_network_is_told(bench, model, write, asked):
    write(land())
    work = bench.plan(super_resolve, request(4, prompt="a farm", negative_prompt="clouds", cloud_cover=20.0), model)
    bench.draw(work)
    (longitude, latitude) = work.drawn.bounds[0] + 160.0, work.drawn.bounds[3] - 160.0
    import pyproj

    place = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(longitude, latitude)
    known = dict(longitude=place[0], latitude=place[1], cloud_cover=0.2, year=2019, month=8, day=31)
    for told in asked:
        assert (told["prompt"], told["negative_prompt"], told["guidance_scale"]) == ("a farm", "clouds", 5.0)
        assert torch.allclose(told["metadata"], metadata_vector(**known, gsd=2.5), atol=1e-3)
        assert torch.allclose(told["hint_metadata"], metadata_vector(**known, gsd=10.0), atol=1e-3)
        assert told["hint"].shape == (1, 10, 32, 32)
    assert work.date == "2019-08-31" and work.profile.bands == ("red", "green", "blue")
    assert work.result.shape == (128, 128) and work.result.resolution == (2.5, 2.5)
    assert any("not measured" in notice for notice in work.notices)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_window_is_shown_exactly_its_ground(bench, model, write, asked, factor):
    """As training did it: the bands in steps, then resampled; here over the middle of a layer, with neighbours."""
    pixels = land((96, 96))
    write(pixels)
    drawn = bench.plan(super_resolve, request(factor), model)
    side = 64 // factor
    row, col = 40 - side // 2, 48 - side // 2
    bands = multispectral._Bands(
        request(factor, bands=tuple(NAMES.index(name) + 1 for name in HINT)),
        bench.folder(request(factor)),
        sentinel2.Numbers((1.0,) * 10, (0.0,) * 10),
        np.zeros(10, np.float32),
    )
    window = multispectral.Window(row * factor, col * factor, 64, 64)
    assert drawn.drawn.window.intersects(window)
    ours = bands.shown(window, model.shown_side)
    told = hint_bands(torch.from_numpy(pixels.astype("int32")))
    margin = 4  # resampled with its neighbours, then cut
    around = told[:, row - margin : row + side + margin, col - margin : col + side + margin]
    scale = 32 // side if side <= 32 else 1
    theirs = fit_hint(around, scale * around.shape[-1])
    assert torch.allclose(
        ours, theirs[:, margin * scale : -margin * scale, margin * scale : -margin * scale], atol=1e-6
    )


@pytest.mark.parametrize(("start", "step", "count"), [(3.0, 2.0, 16), (5.0, 3.5, 9), (2.0, 0.4, 30), (7.5, 1.0, 8)])
def test_shares_are_those_of_antialiased_bilinear_resampling(start, step, count):
    pixels = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = multispectral.shares(start, step, count, 0, 64) @ pixels
    assert torch.allclose(multispectral.shares(start, step, count, 0, 64).sum(dim=1), torch.ones(count).double())
    if start % 1 == 0 and (step * count) % 1 == 0:
        reach = int(step) + 1
        stop = int(start + step * count)
        stretch = pixels[: stop + 20]
        if (len(stretch) / step) % 1 == 0 and (start / step) % 1 == 0:
            theirs = torch.nn.functional.interpolate(
                stretch[None, None, None], size=(1, int(len(stretch) / step)), mode="bilinear", antialias=True
            )[0, 0, 0]
            assert torch.allclose(ours, theirs[int(start / step) : int(start / step) + count]) and reach
    ramp = torch.arange(64, dtype=torch.float64) + 0.5
    centres = start + (torch.arange(count).double() + 0.5) * step
    middle = (centres > step + 1) & (centres < 63 - step)
    assert torch.allclose((multispectral.shares(start, step, count, 0, 64) @ ramp)[middle], centres[middle], atol=0.3)


def test_a_larger_layer_is_drawn_in_windows_in_any_order(bench, model, write, asked):
    write(land((20, 140)))
    made, valid = bench.make(super_resolve, request(2), model)
    assert made.shape == (3, 40, 280) and valid.all() and len(asked) >= 6
    again, _ = bench.make(super_resolve, request(2), model, order=lambda chunks: chunks[::-1])
    assert np.array_equal(again, made)
    work = bench.plan(super_resolve, request(2), model)
    last = work.chunks[-1]
    alone = work.draw(last, 1, bench.ctx)
    assert np.array_equal(alone.pixels, made[(slice(None), *last.slices())])


def test_samples_differ_and_a_spread_may_be_asked_for(bench, model, write):
    write(land())
    work = bench.plan(super_resolve, request(samples=2, spread=True), model)
    assert work.spread
    assert (bench.draw(work, 1)[0] != bench.draw(work, 2)[0]).any()


@pytest.mark.parametrize("factor", [2, 10])
def test_it_is_valid_where_the_layer_is(bench, model, write, factor):
    mask = np.ones((26, 26), bool)
    mask[:, :9] = False
    mask[15:18, 15:18] = False
    write(land((26, 26)), mask=mask)
    made, valid = bench.make(super_resolve, request(factor), model)
    assert np.array_equal(valid, mask.repeat(factor, 0).repeat(factor, 1))
    assert (made[:, ~valid] == 0).all() and made[:, valid].std() > 0


@pytest.mark.parametrize(
    "names",
    [
        NAMES[::-1],
        tuple(name if len(name) > 2 else f"B0{name[1]}" for name in NAMES),
        tuple(f"Band {name[1:]} (665nm)" for name in NAMES),
        tuple(f"{name}, central wavelength 665 nm" for name in NAMES),
        tuple(f"T32UQD_20190831T101031_{name}_10m" for name in NAMES),
        tuple("coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 cirrus swir16 swir22".split()),
        tuple(f"Band {name[1:]}" for name in NAMES),
        tuple({"B4": "red", "B3": "green", "B2": "blue"}.get(name, name) for name in NAMES),
        HINT,
    ],
)
def test_bands_are_found_by_their_names(names):
    profile = Profile("uint16", names)
    numbers = range(1, len(names) + 1)
    found = sentinel2.recognise(Source("source.tif"), tuple(numbers), profile, {})
    assert [band_name(names[band - 1]) for band in found.bands] == list(HINT) and not found.is_ordered


def test_the_names_are_those_of_the_statistics():
    assert tuple(BANDS) == SENTINEL2


def test_what_is_no_name_of_a_band():
    for text in ("", "gray", "band", "B13", "B0", "Band 99", "SCL", "AOT_10m", "DEM", "BB4", "B44", "NDVI"):
        assert band_name(text) == "", text


@pytest.mark.parametrize("prefix", ["band", "Band"])
@pytest.mark.parametrize(("count", "level"), [(13, "L1C"), (12, "L2A")])
def test_bands_without_names_are_taken_in_order(prefix, count, level):
    names = tuple(f"{prefix} {number}" for number in range(1, count + 1))  # what a band without a name is called
    found = sentinel2.recognise(Source("source.tif"), tuple(range(1, count + 1)), Profile("uint16", names), {})
    order = NAMES if count == 13 else tuple(name for name in NAMES if name != "B10")
    assert [order[band - 1] for band in found.bands] == list(HINT)
    assert found.is_ordered and found.level == level


def test_a_layer_that_is_not_of_sentinel_2_is_refused(bench, model, write):
    write(land(names=NAMES[:8]), NAMES[:8])
    with pytest.raises(UnsupportedRaster, match="lacks the Sentinel-2 bands B8A, B11, B12") as told:
        bench.plan(super_resolve, request(), model)
    assert "B4, B3, B2" in told.value.hint
    write(land(names=NAMES[:3]), ("", "", ""))
    with pytest.raises(UnsupportedRaster, match="3 bands without the names"):
        bench.plan(super_resolve, request(), model)
    write(land(), ("B4", "B4", *NAMES[2:]))
    with pytest.raises(UnsupportedRaster, match="band B4 twice"):
        bench.plan(super_resolve, request(), model)
    write((land() // 256).astype("uint8"))
    with pytest.raises(UnsupportedRaster, match="8 bits"):
        bench.plan(super_resolve, request(), model)
    write(land(), mask=np.zeros((32, 32), bool))
    with pytest.raises(SourceEmpty):
        bench.plan(super_resolve, request(), model)


def shown(bench, model, asked, **told):
    """(hint that the network is shown, what is said)."""
    work = bench.plan(super_resolve, request(**told), model)
    work.draw(work.chunks[0], 1, bench.ctx)
    return asked[-1]["hint"], " ".join(work.notices)


def test_the_offset_of_newer_baselines_is_taken_off(bench, model, write, asked):
    pixels = land()
    write(pixels)
    plain, said = shown(bench, model, asked)
    assert "subtracted" not in said and "below 1000" not in said and "level 1C" not in said
    added = (pixels + 1000).astype("uint16")

    def same(hint):
        return torch.allclose(hint, plain, atol=1e-6)

    write(added)
    hint, said = shown(bench, model, asked, date="2022-01-25")
    assert same(hint) and "1000 is subtracted" in said
    hint, said = shown(bench, model, asked, date="2022-01-24")
    assert not same(hint) and "subtracted" not in said, "a desert has no dark pixels either"
    assert "hardly a number of any band is below 1000" in said and "name of its product" in said
    hint, said = shown(bench, model, asked, date=None)
    assert not same(hint) and "Set the layer's date" in said
    name = "S2B_MSIL1C_20190831T101031_N{}_R022_T32UQD_20190831T121212"
    hint, said = shown(bench, model, asked, name=name.format("0500"), date="2019-08-31")
    assert same(hint) and "1000" not in said
    write(added, tags={"PROCESSING_BASELINE": "04.00"})
    assert same(shown(bench, model, asked)[0])
    write(added, tags={"RADIO_ADD_OFFSET": "-1000"})
    assert same(shown(bench, model, asked)[0])
    write(added, scales=(1e-4,) * 13, offsets=(-0.1,) * 13)
    assert same(shown(bench, model, asked, date="2023-05-05")[0])
    write(pixels, tags={"PROCESSING_BASELINE": "02.08"})
    assert same(shown(bench, model, asked, date="2023-05-05")[0])
    write(pixels)  # harmonised: new, and without the offset
    hint, said = shown(bench, model, asked, date="2023-05-05")
    assert same(hint) and "too low for that" in said
    write((pixels / 10_000).astype("float32"))
    hint, said = shown(bench, model, asked, date="2023-05-05")
    assert (hint - plain).abs().max() <= 1 / 255 + 1e-6 and "reflectances" in said


def test_the_offset_is_taken_off_reflectances_too(bench, model, write, asked):
    pixels = land()
    write(pixels)
    plain, _ = shown(bench, model, asked)
    write(((pixels + 1000) / 10_000).astype("float32"))

    def is_plain(hint):
        return (hint - plain).abs().max() <= 1 / 255 + 1e-6

    name = "S2B_MSIL1C_20230831T101031_N0509_R022_T32UQD_20230831T121212"
    hint, said = shown(bench, model, asked, name=name, date="2023-08-31")
    assert is_plain(hint) and "reflectances" in said
    hint, said = shown(bench, model, asked, date="2023-08-31")
    assert is_plain(hint) and "0.1 is subtracted" in said
    hint, said = shown(bench, model, asked, date="2019-08-31")
    assert not is_plain(hint) and "is below 0.1" in said
    write((pixels / 10_000).astype("float32"))  # the offset was taken off when they became reflectances
    hint, said = shown(bench, model, asked, name=name, date="2023-08-31")
    assert is_plain(hint) and "too low for that" in said


def test_level_2a_is_said(bench, model, write):
    twelve = tuple(name for name in NAMES if name != "B10")
    write(land(names=twelve), twelve)
    assert any("level 2A" in notice for notice in bench.plan(super_resolve, request(), model).notices)
    write(land(), tags={"PROCESSING_LEVEL": "Level-2A"})
    assert any("level 2A" in notice for notice in bench.plan(super_resolve, request(), model).notices)
    write(land())
    name = "S2A_MSIL2A_20200101T101031_N0208_R022_T32UQD_20200101T121212"
    assert any("level 2A" in notice for notice in bench.plan(super_resolve, request(name=name), model).notices)
    assert not any("level" in notice for notice in bench.plan(super_resolve, request(), model).notices)
    write(land(names=HINT), HINT)
    assert any("level that nothing tells" in notice for notice in bench.plan(super_resolve, request(), model).notices)


def test_what_cannot_be_done_is_told_before_work_starts(bench, model, write):
    write(land())
    with pytest.raises(InvalidRequest, match="does not refine by 3") as told:
        bench.plan(super_resolve, request(3), model)
    assert "2 or 4 or 8 or 10 or 16" in told.value.hint
    with pytest.raises(UnsupportedResolution, match="60 m become pixels of 30 m"):
        bench.plan(super_resolve, request(2, gsd=60.0), model)
    assert any("trained on 10 m" in each for each in bench.plan(super_resolve, request(4, gsd=20.0), model).notices)
    blunt = PictureModel(dataclasses.replace(model.card, uses=("gsd",)), model.network)
    work = bench.plan(super_resolve, request(prompt="a farm", cloud_cover=20.0), blunt)
    assert any("Not used by this model: the prompt and the cloud cover." in notice for notice in work.notices)
