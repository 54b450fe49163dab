"""The real engine process with the real tasks and tiny models with random weights: what a session sees."""

from __future__ import annotations

import dataclasses
import json
import signal
import time

import numpy as np
import pytest
import rasterio
from afterimage.engine.contract import (
    Cancel,
    Edit,
    ErrorCode,
    Generate,
    GeoBox,
    Mask,
    Sampling,
    Source,
    Submit,
    SuperResolve,
)

UTM = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (200, 300))
GENERATE = Generate("tiny-generate", UTM, UTM, 10.0, "a forest", Sampling(7, 2, "DDIM", 2.0), date="2024-06-01")
EDIT = Edit(
    "tiny-generate",
    Source("source.tif", "layer", (1, 2, 3)),
    10.0,
    "a forest",
    Sampling(7, 2, "DDIM", 2.0),
    Mask("mask.geojson", "plan"),
)
SUPER_RESOLVE = SuperResolve("tiny-superresolve", Source("source.tif", "layer"), 2, 10.0, Sampling(7, 2, "DDIM"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory, request):
    """One engine for all jobs of this file, as in a session."""
    conftest = request.config.pluginmanager
    module = next(p for p in conftest.get_plugins() if hasattr(p, "EngineProcess"))
    log = tmp_path_factory.mktemp("engine") / "log"
    process = module.EngineProcess(module.ROOT / "engine" / "launch.py", ("serve",), {}, log)
    process.until("Ready")
    yield process
    assert process.end(10) == 0
    process.process.stdout.close()


def write_mask(folder, *rings):
    """Polygons by their corners in pixels (column, row)."""
    corners = [[[500000.0 + 10.0 * x, 5000000.0 - 10.0 * y] for x, y in [*ring, ring[0]]] for ring in rings]
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        for ring in corners
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "mask.geojson").write_text(text, encoding="utf-8")


@pytest.fixture
def do(engine, make_job):
    """Run a request to its end: ``do(request, name)``."""

    def do(request, name="job", output="", prepare=lambda folder: None):
        folder = make_job(name, request=request, output=output)
        prepare(folder)
        engine.send(Submit(str(folder), str(folder)))
        ending = engine.until("Succeeded", "Failed", "Cancelled", timeout=200)
        assert ending.job == str(folder)
        return ending

    return do


def read(item):
    with rasterio.open(item.path) as file:
        return file.read(), file.dataset_mask() > 0, file.profile


def test_generate_over_several_tiles(do):
    request = dataclasses.replace(GENERATE, sampling=dataclasses.replace(GENERATE.sampling, samples=2))
    result = do(request).result
    first, second = (read(item)[0] for item in result.outputs)
    assert first.shape == (3, 200, 300) and first.dtype == np.uint8
    assert not np.array_equal(first, second), "samples differ"
    assert result.outputs[0].date == "2024-06-01" and any("date" in notice for notice in result.notices)


def test_generate_on_degrees_over_the_antimeridian(do):
    lattice = GeoBox("EPSG:32660", (10.0, 0.0, 815000.0, 0.0, -10.0, 8121000.0), (400, 500))
    grid = GeoBox("EPSG:4326", (1e-4, 0.0, 179.98, 0.0, -1e-4, -17.0), (200, 300))
    ending = do(dataclasses.replace(GENERATE, grid=grid, lattice=lattice))
    pixels, _, profile = read(ending.result.outputs[0])
    assert pixels.shape == (3, 200, 300) and profile["crs"].to_epsg() == 4326
    assert tuple(profile["transform"])[:6] == grid.transform


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_super_resolve_in_the_sources_own_type(do, make_raster, dtype):
    rng = np.random.default_rng(1)
    given = (np.cumsum(rng.normal(size=(4, 90, 140)), axis=2) * 20 + 120).clip(1, 250).astype(dtype)
    given[:, 30:50, 30:60] = 0
    if dtype == "float32":
        given[1, 5, 5] = np.nan

    def prepare(folder):
        make_raster(given, folder=folder, nodata=0, photometric="minisblack", alpha="unspecified")

    result = do(SUPER_RESOLVE, prepare=prepare).result
    pixels, _, profile = read(result.outputs[0])
    assert pixels.dtype == np.dtype(dtype) and profile["nodata"] == 0 and pixels.shape == (4, 180, 280)
    missing = (given == 0).any(axis=0) | ~np.isfinite(given).all(axis=0)
    assert np.array_equal((pixels == 0).all(axis=0), missing.repeat(2, 0).repeat(2, 1)), "nodata stays, and only it"
    assert np.isfinite(pixels).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_edit_in_the_sources_own_type_and_only_inside(do, make_raster, dtype):
    rng = np.random.default_rng(1)
    given = (np.cumsum(rng.normal(size=(4, 120, 180)), axis=2) * 20 + 120).clip(1, 250).astype(dtype)
    given[:, 30:50, 60:90] = 0

    def prepare(folder):
        make_raster(given, folder=folder, nodata=0, photometric="minisblack", alpha="unspecified")
        write_mask(folder, [(40, 20), (110, 20), (110, 95), (40, 95)])

    result = do(EDIT, prepare=prepare).result
    pixels, _, profile = read(result.outputs[0])
    inside = np.zeros((120, 180), bool)
    inside[20:95, 40:110] = True
    assert pixels.dtype == np.dtype(dtype) and profile["nodata"] == 0 and pixels.shape == (3, 120, 180)
    assert np.array_equal(pixels[:, ~inside], given[:3][:, ~inside])
    drawn = inside & (given != 0).all(axis=0)
    assert (pixels != given[:3])[:, drawn].any(axis=0).mean() > 0.9
    assert (pixels[:, inside & ~drawn] == 0).all()
    assert [item.name for item in result.provenance.inputs] == ["layer", "plan"]
    assert result.provenance.task == "Edit" and result.provenance.prompt == "a forest"


def test_an_edit_that_cannot_be_is_refused_before_any_work(do, make_raster):
    given = np.full((3, 60, 60), 90, "uint8")
    square = [(10, 10), (40, 10), (40, 40)]
    cases = {
        "beside": (EDIT, [(-50, -50), (-10, -50), (-10, -10)], ErrorCode.MASK_EMPTY),
        "absent": (EDIT, None, ErrorCode.MASK_UNREADABLE),
        "bands": (
            dataclasses.replace(EDIT, source=Source("source.tif", "", (1,))),
            square,
            ErrorCode.UNSUPPORTED_RASTER,
        ),
        "gsd": (dataclasses.replace(EDIT, gsd=0.6), square, ErrorCode.UNSUPPORTED_RESOLUTION),
        "words": (dataclasses.replace(EDIT, prompt="qwertz uiop"), square, ErrorCode.PROMPT_NOT_UNDERSTOOD),
    }
    for name, (request, ring, expected) in cases.items():

        def prepare(folder, ring=ring):
            make_raster(given, folder=folder)
            if ring is not None:
                write_mask(folder, ring)

        failure = do(request, name, prepare=prepare).failure
        assert failure.code is expected and failure.message and failure.hint, (name, failure)


def test_what_cannot_be_is_refused_before_any_work(do, make_raster, tmp_path):
    ones = np.ones((3, 40, 40), "float32")
    cases = {
        "nan": (ones * np.nan, {}, ErrorCode.SOURCE_EMPTY),
        "nodata": (ones, {"nodata": 1}, ErrorCode.SOURCE_EMPTY),
        "crs": (ones, {"crs": None}, ErrorCode.UNKNOWN_CRS),
        "complex": (ones.astype("complex64"), {}, ErrorCode.UNSUPPORTED_RASTER),
    }
    for name, (pixels, options, expected) in cases.items():
        ending = do(
            SUPER_RESOLVE,
            name,
            prepare=lambda folder, p=pixels, o=options: make_raster(p, folder=folder, **o),
        )
        assert ending.failure.code is expected and ending.failure.hint, name
    absent = do(SUPER_RESOLVE, "absent")
    assert absent.failure.code is ErrorCode.SOURCE_UNREADABLE
    text = do(SUPER_RESOLVE, "text", prepare=lambda folder: (folder / "source.tif").write_text("text"))
    assert text.failure.code is ErrorCode.SOURCE_UNREADABLE
    requests = {
        "gsd": (dataclasses.replace(GENERATE, gsd=0.3), ErrorCode.UNSUPPORTED_RESOLUTION),
        "prompt": (dataclasses.replace(GENERATE, prompt="x" * 1_000_000), ErrorCode.PROMPT_TOO_LONG),
        "words": (dataclasses.replace(GENERATE, prompt="qwertz uiop"), ErrorCode.PROMPT_NOT_UNDERSTOOD),
        "model": (dataclasses.replace(GENERATE, model="tiny-superresolve"), ErrorCode.UNKNOWN_MODEL),
        "scheduler": (
            dataclasses.replace(GENERATE, sampling=dataclasses.replace(GENERATE.sampling, scheduler="x")),
            ErrorCode.UNKNOWN_SCHEDULER,
        ),
        "large": (
            dataclasses.replace(GENERATE, lattice=dataclasses.replace(UTM, shape=(70_000, 70_000))),
            ErrorCode.EXTENT_TOO_LARGE,
        ),
    }
    for name, (request, expected) in requests.items():
        failure = do(request, name).failure
        assert failure.code is expected and failure.message and failure.hint, (name, failure)
        assert "Traceback" not in failure.message and str(tmp_path) not in failure.message


def test_cancel_while_it_denoises_and_decodes(engine, make_job):
    """Stopped right after a preview, that is in or next to the decoder; the next job runs."""
    large = dataclasses.replace(UTM, shape=(1500, 1500))
    folder = make_job("large", request=dataclasses.replace(GENERATE, grid=large, lattice=large))
    for _ in range(3):
        engine.send(Submit("large", str(folder)))
        engine.until("Previewed", "Succeeded", "Failed", timeout=200)
        began = time.monotonic()
        engine.send(Cancel("large"))
        assert type(engine.until("Cancelled", "Succeeded", "Failed")).__name__ == "Cancelled"
        assert time.monotonic() - began < 3
    assert not (folder / "outputs" / "result.tif").exists()


@pytest.mark.parametrize("request_", [GENERATE, SUPER_RESOLVE, EDIT], ids=["generate", "super_resolve", "edit"])
def test_killed_and_resumed_the_pixels_are_those_of_the_undisturbed_run(
    do, start_engine, make_job, make_raster, request_
):
    rng = np.random.default_rng(2)
    given = rng.integers(1, 4000, (3, 300, 600 if isinstance(request_, Edit) else 200)).astype("uint16")
    request = request_
    if isinstance(request, Generate):
        request = dataclasses.replace(request, grid=dataclasses.replace(UTM, shape=(300, 600)))
        request = dataclasses.replace(request, lattice=request.grid)

    def prepare(folder):
        make_raster(given, folder=folder)
        write_mask(folder, [(20, 20), (580, 40), (550, 280), (60, 250)])

    expected = read(do(request, "whole", prepare=prepare).result.outputs[0])[0]
    folder = make_job("killed", request=request)
    prepare(folder)
    # drawn by this process alone: a worker that is killed is replaced, and the job goes on (tests/e2e/test_crew.py)
    lone = ("run", str(folder), "--workers", "1")
    killed = start_engine(*lone, null=False, AFTERIMAGE_FAULT="tile.after_replace:3:kill")
    assert killed.process.wait(200) == -signal.SIGKILL
    assert len(list((folder / "tiles").glob("*.tile"))) == 3
    again = start_engine("run", str(folder), null=False)
    ending = again.until("Succeeded", "Failed", timeout=200)
    assert np.array_equal(read(ending.result.outputs[0])[0], expected)


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        "s2_l1c_13band_i16_wgs84_flood.tif",
        "hro_rgb_u8_utm13n_internalmask.tif",
        "rgba_u8_3857_jpeg.tif",
        "dsm_f32_utm18n_nodata-9999.tif",
        "landsat5_i16_customalbers_nodata-9999.tif",
        "goes_rgb_u8_geostationary.tif",
        "cog_u16_utm60n_dateline.tif",
        "cog_f64_wgs84_4band.tif",
    ],
)
def test_rasters_of_many_kinds_come_back_as_they_are(do, shared_data, name):
    """A corner of each, so that it stays quick: types, bands, masks, nodata, CRSs as people have them."""
    path = shared_data / "test_rasters" / name
    with rasterio.open(path) as file:
        window = rasterio.windows.Window(0, 0, min(96, file.width), min(96, file.height))
        profile = file.profile
        is_alpha = file.colorinterp[-1].name == "alpha"
        count = file.count - is_alpha
        pixels, valid = file.read(window=window), file.dataset_mask(window=window) > 0
    if valid.mean() < 0.02:
        pytest.skip("no data in this corner")

    def prepare(folder):
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"),
            rasterio.open(
                folder / "source.tif",
                "w",
                driver="GTiff",
                count=count,
                height=window.height,
                width=window.width,
                dtype=profile["dtype"],
                crs=profile["crs"],
                transform=profile["transform"],
                nodata=profile["nodata"],
            ) as file,
        ):
            file.write(pixels[:count])
            if profile["nodata"] is None:
                file.write_mask(valid)

    ending = do(SUPER_RESOLVE, prepare=prepare)
    assert type(ending).__name__ == "Succeeded", ending
    found, mask, out = read(ending.result.outputs[0])
    assert found.dtype == np.dtype(profile["dtype"]) and found.shape == (count, window.height * 2, window.width * 2)
    same = out["nodata"] == profile["nodata"] or (np.isnan(out["nodata"]) and np.isnan(profile["nodata"]))
    assert same
    assert not mask[~valid.repeat(2, 0).repeat(2, 1)].any(), "known nodata stays nodata"
    a, b = tuple(out["transform"]), tuple(profile["transform"])
    assert a[2] == b[2] and a[5] == b[5] and a[0] == pytest.approx(b[0] / 2)
