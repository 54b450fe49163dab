"""The same promises with real networks: convolutions, normalisation and attention, at a tiny size."""

import numpy as np
import pytest
import rasterio
from afterimage.engine.backends.names import available
from afterimage.engine.contract import Generate, GeoBox, Sampling, Source, SuperResolve
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings
from afterimage.engine.tasks import generate, super_resolve
from afterimage.engine.tasks.plans import TASKS

ROW, COL = -500_003, 50_017


@pytest.fixture(scope="module", params=["eager", "channels_last", "onnxruntime"])
def models(request):
    if request.param not in available("cpu"):
        pytest.skip(f"{request.param} is not installed")
    settings = Settings(device="cpu", threads=1, backend=request.param)
    loaded = {name: catalog.load(name, settings) for name in ("tiny-generate", "tiny-superresolve")}
    assert {model.networks.backend for model in loaded.values()} == {request.param}
    return loaded


def asked(row, col, height, width, scheduler):
    box = GeoBox("EPSG:32633", (10.0, 0.0, col * 10.0, 0.0, -10.0, -row * 10.0), (height, width))
    return Generate("tiny-generate", box, box, 10.0, "Forest", Sampling(1, 2, scheduler, 2.0))


@pytest.mark.parametrize("scheduler", ["DPM++ 2M", "DDPM"])
def test_overlapping_extents_share_every_byte(bench, models, scheduler):
    model = models["tiny-generate"]
    one = bench.make(generate, asked(ROW, COL, 150, 130, scheduler), model)[0]
    other = bench.make(generate, asked(ROW + 50, COL + 70, 130, 90, scheduler), model)[0]
    assert np.array_equal(one[:, 50:, 70:], other[:, :100, :60])
    assert one.std() > 5


def test_super_resolution_agrees_with_its_source_whatever_the_order(bench, models):
    rng = np.random.default_rng(0)
    pixels = rng.integers(300, 4000, (4, 12, 11)).repeat(7, 1).repeat(7, 2).astype("uint16")
    transform = rasterio.Affine(10.0, 0.0, COL * 10.0, 0.0, -10.0, -ROW * 10.0)
    with rasterio.open(
        bench.path / "source.tif",
        "w",
        driver="GTiff",
        count=4,
        height=84,
        width=77,
        dtype="uint16",
        crs="EPSG:32633",
        transform=transform,
        photometric="minisblack",
    ) as file:
        file.colorinterp = [rasterio.enums.ColorInterp.undefined] * 4
        file.write(pixels)
    request = SuperResolve("tiny-superresolve", Source("source.tif"), 4, 10.0, Sampling(1, 2, "DPM++ 2M"))
    made = bench.make(super_resolve, request, models["tiny-superresolve"])[0]
    again = bench.make(super_resolve, request, models["tiny-superresolve"], order=lambda chunks: chunks[::-1])[0]
    assert np.array_equal(made, again)
    means = made.astype(float).reshape(4, 84, 4, 77, 4).mean(axis=(2, 4))
    assert np.abs(means - pixels).max() <= 0.5


def test_every_request_has_a_task():
    from typing import get_args

    from afterimage.engine.contract import Request

    assert set(TASKS) == set(get_args(Request))
