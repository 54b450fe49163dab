"""A mosaic of Stable Diffusion XL: each window is told the frame of a picture of its own."""

import dataclasses

import numpy as np
import pytest
import torch
from afterimage.engine.contract import Generate, GeoBox, ModelCard, Sampling
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
def told(network):
    """(shape of the latents, time_ids) of each call of the U-Net."""
    seen = []
    handle = network.unet.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0].shape, kwargs["added_cond_kwargs"]["time_ids"])), with_kwargs=True
    )
    yield seen
    handle.remove()


def request(width, height=64, west=0):
    grid = GeoBox("EPSG:32633", (1.0, 0.0, LEFT + west, 0.0, -1.0, TOP), (height, width))
    return Generate("stub", grid, grid, 1.0, "a farm", Sampling(7, 2, "Euler", 5.0))


@pytest.mark.parametrize(("width", "height"), [(64, 64), (40, 64), (144, 64), (80, 96)])
def test_every_window_is_a_picture_of_its_own(bench, model, told, width, height):
    pixels, valid = bench.make(generate, request(width, height), model)
    assert pixels.shape == (3, height, width) and valid.all() and pixels.std() > 0
    assert {shape[1:] for shape, _ in told} == {(4, 8, 8)}
    frames = torch.cat([frame for _, frame in told])
    assert len(told) >= (2 if max(width, height) <= 64 else 8)
    assert torch.equal(frames, torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).expand(len(frames), -1))


def test_two_extents_share_their_pixels(bench, model):
    whole, _ = bench.make(generate, request(160), model)
    part, _ = bench.make(generate, request(96, west=48), model)
    np.testing.assert_array_equal(part, whole[:, :, 48:144])


def test_another_frame_is_another_picture(bench, model, monkeypatch):
    asked = dataclasses.replace(request(144), prompt="two roads")
    first, _ = bench.make(generate, asked, model)
    added = model.network.added
    frame = torch.tensor([[64.0, 144.0, 0.0, 0.0, 64.0, 144.0]]).expand(2, -1)
    monkeypatch.setattr(model.network, "added", lambda *given: {**added(*given), "time_ids": frame})
    other, _ = bench.make(generate, asked, model)
    assert (other != first).any(axis=0).mean() > 0.5
