"""Regions of a published model: its prompts share calls of the U-Net, and keep the bits of one prompt."""

import dataclasses
import json

import numpy as np
import pytest
from afterimage.engine.contract import Generate, GeoBox, ModelCard, Regions, Sampling
from afterimage.engine.models.picture import PictureModel
from afterimage.engine.models.published import open_model
from afterimage.engine.tasks import generate

LEFT, TOP = 500000.0, 5000000.0
CARD = ModelCard(
    id="stub",
    name="Stub",
    summary="",
    family="stable_diffusion_xl",
    version="1",
    tasks=("Generate",),
    bands=("red", "green", "blue"),
    gsd=(0.1, 100.0),
    window=64,
    stride=48,
    steps=2,
    schedulers=("Euler",),
    uses=("prompt", "negative_prompt"),
    whole=True,
)


@pytest.fixture(scope="module")
def network(parity, tiny_xl, tmp_path_factory):
    return open_model(tiny_xl.write_pipeline(tmp_path_factory.mktemp("xl") / "model", parity / "rsedit" / "tokenizer"))


@pytest.fixture
def model(network):
    return PictureModel(CARD, network)


@pytest.fixture
def calls(network):
    """Rows of each call of the U-Net."""
    seen = []
    handle = network.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    yield seen
    handle.remove()


def write(folder, *regions):
    """(text, first column, last column) each, over all rows."""
    features = [
        {
            "type": "Feature",
            "properties": {"prompt": text},
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [[LEFT + col, TOP + row] for col, row in ((left, 900), (right, 900), (right, -900), (left, -900))]
                    + [[LEFT + left, TOP + 900]]
                ],
            },
        }
        for text, left, right in regions
    ]
    (folder / "regions.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")


def request(prompt="a farm", regions=True, scale=5.0):
    grid = GeoBox("EPSG:32633", (1.0, 0.0, LEFT, 0.0, -1.0, TOP), (64, 160))
    asked = Generate("stub", grid, grid, 1.0, prompt, Sampling(7, 2, "Euler", scale))
    return dataclasses.replace(asked, regions=Regions("regions.geojson", "plan", False)) if regions else asked


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_a_region_over_all_is_the_plain_prompt_bit_for_bit(bench, model, calls, scale):
    plain = bench.make(generate, request("two roads", regions=False, scale=scale), model)[0]
    size, count = calls[0], len(calls)
    write(bench.path, ("two roads", -900, 900))
    assert np.array_equal(bench.make(generate, request(scale=scale), model)[0], plain)
    assert set(calls) == {size} and len(calls) == 2 * count


def test_prompts_share_their_calls_and_what_they_are_guided_away_from(bench, model, calls):
    bench.make(generate, request(regions=False), model)
    plain = sum(calls)
    calls.clear()
    write(bench.path, ("two roads", 80, 900))
    made = bench.make(generate, request(), model)[0]
    assert set(calls) == {2} and plain < sum(calls) <= 1.5 * plain + 2  # three rows in place of two, none left over
    assert np.array_equal(bench.make(generate, request(), model)[0], made)


def test_one_branch_after_the_other_draws_the_same(bench, model, calls, monkeypatch):
    write(bench.path, ("two roads", 80, 900))
    made = bench.make(generate, request(), model)[0].astype(int)
    monkeypatch.setattr(model.network, "is_sliced", True)
    calls.clear()
    sliced = bench.make(generate, request(), model)[0]
    assert set(calls) == {1} and np.abs(sliced - made).max() <= 1
