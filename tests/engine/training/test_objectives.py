"""The real objectives on the real data, for a few steps at tiny size; publishing what they leave."""

import dataclasses

import numpy as np
import pytest
import torch
from afterimage.engine.errors import WeightsDamaged
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings
from afterimage.engine.training import classifier, command
from afterimage.engine.training.datasets import read_eurosat, read_naip, read_ucmerced
from afterimage.engine.training.export import WEIGHTS
from afterimage.engine.training.order import Order
from afterimage.engine.training.publish import publish
from afterimage.engine.training.recipe import read_recipe
from safetensors.torch import load_file


def test_splits_are_those_of_the_index(shared_data):
    test = read_eurosat(shared_data, "test")
    assert test.pixels.shape == (1373, 64, 64, 3) and len(test.classes) == 10
    assert np.bincount(test.labels).min() > 50
    assert read_ucmerced(shared_data, "test").pixels.shape == (92, 256, 256, 3)
    early, late = read_naip(shared_data), read_naip(shared_data, since=2018, before=2021)
    assert early.shape == (42, 256, 256, 4) and late.shape[1:] == early.shape[1:]
    assert len(read_naip(shared_data, before=2021)) == len(early) + len(late) > len(early)


def test_an_order_sees_each_image_once_in_a_pass():
    order = Order(10, 4, seed=0)
    seen = np.concatenate([order.indices(step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert not np.array_equal(seen[:10], seen[10:])
    assert np.array_equal(Order(10, 4, seed=0).indices(3), seen[12:16])


@pytest.fixture(scope="module")
def runs(shared_data, tmp_path_factory):
    """All models trained for two steps at tiny size, by the command, from the decoders on."""
    root = tmp_path_factory.mktemp("runs")
    decoder = {"width": 16, "blocks": 1, "latent_channels": 4}
    denoiser = {
        "block_out_channels": [16, 16],
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 16,
    }
    small = {
        "eurosat-decoder": decoder,
        "eurosat-generate": denoiser,
        "ucmerced-decoder": decoder,
        "ucmerced-generate": denoiser,
        "superresolve": {"block_out_channels": [16, 16]},
        "superresolve-samples": {"block_out_channels": [16, 16]},
    }
    for name, changes in small.items():
        recipe = read_recipe(name)
        options = recipe.options | {"every": 100, "critic_from": 1}
        recipe = dataclasses.replace(recipe, network=recipe.network | changes, batch=4, options=options)
        path = root / f"{name}.json"
        path.write_text(recipe.to_json())
        words = ["train", str(path), "--data", str(shared_data), "--out", str(root), "--steps", "2"]
        with pytest.MonkeyPatch.context() as patch:  # what compares pictures for a decoder is hardly taught
            patch.setattr(classifier, "COURSES", {data: classifier.Course(2, 8) for data in classifier.COURSES})
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
    flat = torch.full((1, 3, 8, 8), 0.5)
    scales = [float(catalog.load(resolve.id, settings).scale(flat, factor).mean()) for factor in (2, 4)]
    assert scales == pytest.approx([0.48 * 0.004, 0.7 * 0.004])


def test_the_second_model_knows_land_uses_at_its_own_resolution(runs):
    settings = Settings(device="cpu", threads=1, models=runs / "models")
    model = catalog.load("ucmerced-generate", settings)
    card = model.card
    assert card.gsd == (0.3, 0.3) and model.scale == 16 and model.window == 16
    assert len(card.vocabulary) == 21 and "mobile home park" in card.vocabulary
    assert card.halo == model.decode_halo * 16
    assert card.gflop_per_window_step > 0 and card.gflop_decode_per_megapixel > 0


@pytest.mark.parametrize(("model", "data"), [("eurosat-generate", read_eurosat), ("ucmerced-generate", read_ucmerced)])
def test_latents_have_the_strength_of_the_noise(runs, shared_data, model, data):
    latent = catalog.load(model, Settings(device="cpu", threads=1, models=runs / "models"))
    seen = data(shared_data, "train").every(100).pixels
    z = latent.encode(torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 255)
    assert z.mean().abs() < 0.05
    assert 0.95 < z.square().mean() < 1.05


def test_a_decoder_keeps_the_transform_that_the_latents_were_made_with(runs):
    fitted = load_file(runs / "eurosat-decoder" / "fitted" / WEIGHTS)
    published = load_file(runs / "models" / "eurosat-generate" / "vae" / WEIGHTS)
    assert all(torch.equal(fitted[key], published[key]) for key in fitted if not key.startswith("detail"))
    assert any(not torch.equal(fitted[key], published[key]) for key in fitted if key.startswith("detail"))


def test_publishing_again_replaces_weights_and_card_together(runs, tmp_path):
    export = runs / "superresolve-samples" / "export"
    first = publish(export, "superresolve", tmp_path)
    assert publish(export, "superresolve", tmp_path) == first
    path = tmp_path / "superresolve" / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(WeightsDamaged):
        catalog.load("superresolve", Settings(device="cpu", threads=1, models=tmp_path))
