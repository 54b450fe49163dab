"""The real objectives on the real data, for a few steps at tiny size; publishing what they leave."""

import dataclasses

import numpy as np
import pytest
import torch
from afterimage.engine.errors import WeightsDamaged
from afterimage.engine.models import catalog
from afterimage.engine.models.vocabulary import EUROSAT, Vocabulary
from afterimage.engine.settings import Settings
from afterimage.engine.training import command
from afterimage.engine.training.captions import write_caption
from afterimage.engine.training.datasets import read_eurosat, read_naip, read_ucmerced
from afterimage.engine.training.order import Order
from afterimage.engine.training.publish import publish
from afterimage.engine.training.recipe import read_recipe


def test_splits_are_those_of_the_index(shared_data):
    test = read_eurosat(shared_data, "test")
    assert test.pixels.shape == (1373, 64, 64, 3) and len(test.classes) == 10
    assert np.bincount(test.labels).min() > 50
    assert read_ucmerced(shared_data, "test").pixels.shape == (92, 256, 256, 3)
    assert len(read_naip(shared_data)) == 42 < len(read_naip(shared_data, before=2021))


def test_an_order_sees_each_image_once_in_a_pass():
    order = Order(10, 4, seed=0)
    seen = np.concatenate([order.indices(step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert not np.array_equal(seen[:10], seen[10:])
    assert np.array_equal(Order(10, 4, seed=0).indices(3), seen[12:16])


def test_captions_are_understood():
    known, rng = Vocabulary(tuple(EUROSAT)), np.random.default_rng(0)
    for k, name in enumerate(EUROSAT):
        for _ in range(20):
            assert known.named(write_caption(name, EUROSAT, rng)) == [k]


@pytest.fixture(scope="module")
def runs(shared_data, tmp_path_factory):
    """Both models trained for two steps at tiny size, by the command, from the autoencoder on."""
    root = tmp_path_factory.mktemp("runs")
    small = {
        "eurosat-autoencoder": {"width": 20, "blocks": 1, "latent_channels": 4},
        "eurosat-decoder": {},
        "eurosat-generate": {
            "block_out_channels": [16, 16],
            "norm_num_groups": 4,
            "attention_head_dim": 2,
            "cross_attention_dim": 16,
        },
        "superresolve": {"block_out_channels": [16, 16]},
    }
    for name, changes in small.items():
        recipe = read_recipe(name)
        options = recipe.options | {"every": 100, "critic_from": 1}
        recipe = dataclasses.replace(recipe, network=recipe.network | changes, batch=4, options=options)
        path = root / f"{name}.json"
        path.write_text(recipe.to_json())
        words = ["train", str(path), "--data", str(shared_data), "--out", str(root), "--steps", "2"]
        assert command.main([*words, "--publish", str(root / "models")]) == 0
    return root


def test_what_was_trained_is_found_and_loaded(runs):
    settings = Settings(device="cpu", threads=1, models=runs / "models")
    cards = {card.id: card for card in catalog.cards(settings)}
    generate, resolve = cards["eurosat-generate"], cards["superresolve"]
    assert generate.pickable and generate.parameters > 10_000 and generate.gflop_per_window_step > 0
    assert len(generate.vocabulary) == 10
    assert set(generate.weights) == {f"{c}/diffusion_pytorch_model.safetensors" for c in ("unet", "vae", "caption")}
    model = catalog.load(generate.id, settings)
    assert model.window * model.scale == generate.window
    assert catalog.load(resolve.id, settings).residual_scale == 0.025


def test_latents_are_standardised(runs, shared_data):
    model = catalog.load("eurosat-generate", Settings(device="cpu", threads=1, models=runs / "models"))
    pixels = torch.from_numpy(read_eurosat(shared_data, "val").pixels[::20]).permute(0, 3, 1, 2).float() / 255
    z = model.encode(pixels)
    assert z.mean(dim=(0, 2, 3)).abs().max() < 0.3
    assert (z.std(dim=(0, 2, 3)) - 1).abs().max() < 0.3


def test_publishing_again_replaces_weights_and_card_together(runs, tmp_path):
    export = runs / "superresolve" / "export"
    first = publish(export, "superresolve", tmp_path)
    assert publish(export, "superresolve", tmp_path) == first
    path = tmp_path / "superresolve" / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(WeightsDamaged):
        catalog.load("superresolve", Settings(device="cpu", threads=1, models=tmp_path))
