"""Training that begins with the weights of a model that is there."""

import dataclasses
import shutil

import pytest
import torch
from afterimage.engine.training import command
from afterimage.engine.training.ddpm import NoiseObjective
from afterimage.engine.training.export import WEIGHTS
from afterimage.engine.training.latent import LatentObjective
from afterimage.engine.training.recipe import read_recipe
from afterimage.engine.training.sharpening import SharpeningObjective

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def decoder():
    """Without the classifier whose layers compare pictures: it takes long to teach."""
    recipe = read_recipe("eurosat-decoder")
    small = {"width": 16, "blocks": 1, "latent_channels": 4}
    return dataclasses.replace(recipe, network=recipe.network | small, options=recipe.options | {"layers": 0.0})


@pytest.fixture(scope="module")
def latent():
    recipe = read_recipe("eurosat-generate")
    small = {"block_out_channels": [16, 16], "norm_num_groups": 4, "attention_head_dim": 2, "cross_attention_dim": 16}
    return dataclasses.replace(recipe, network=recipe.network | small)


@pytest.fixture(scope="module")
def model(decoder, latent, plain_data, tmp_path_factory):
    """A model with weights of its own, in the layout of an export; no run stands behind it."""
    folder = tmp_path_factory.mktemp("runs")
    drawn = SharpeningObjective(decoder, plain_data, folder / "decoder" / "fitted", CPU)
    drawn.export(drawn.trained, folder / "decoder" / "export")
    cache = folder / "latents.safetensors"
    made = LatentObjective(dataclasses.replace(latent, seed=9), plain_data, folder / "decoder", cache, CPU)
    made.export(made.trained, folder / "model")
    shutil.rmtree(folder / "decoder")
    return folder / "model"


def near(ours, theirs):
    """Whether networks have the same weights, but for an export's half precision."""
    return all(torch.allclose(a, b, atol=1e-3) for a, b in zip(ours.parameters(), theirs.parameters()))


def test_a_generator_begins_with_a_models_weights_and_keeps_its_autoencoder(latent, model, plain_data, tmp_path):
    def make(start):
        return LatentObjective(latent, plain_data, tmp_path / "none", tmp_path / "latents.safetensors", CPU, start)

    begun, again = make(model), make(model)
    assert near(begun.trained, again.trained)
    fresh_seed = dataclasses.replace(latent, seed=latent.seed + 1)
    other = LatentObjective(fresh_seed, plain_data, tmp_path, tmp_path / "latents.safetensors", CPU, model)
    assert near(begun.trained, other.trained), "no seed decides"
    begun.export(begun.trained, tmp_path / "export")
    for part in ("vae", "unet", "caption"):
        assert (tmp_path / "export" / part / WEIGHTS).read_bytes() == (model / part / WEIGHTS).read_bytes()


def test_a_decoder_begins_with_a_models_transform_whatever_the_data(decoder, model, plain_data, tmp_path):
    other = dataclasses.replace(decoder, seed=decoder.seed + 1, options=decoder.options | {"every": 2})
    begun = SharpeningObjective(other, plain_data, tmp_path / "run" / "fitted", CPU, model)
    begun.export(begun.trained, tmp_path / "export")
    assert (tmp_path / "export" / "vae" / WEIGHTS).read_bytes() == (model / "vae" / WEIGHTS).read_bytes()
    plain = SharpeningObjective(other, plain_data, tmp_path / "run" / "fitted", CPU)
    assert not torch.equal(plain.autoencoder.encode(plain.held_out), begun.autoencoder.encode(plain.held_out))


def test_noise_is_told_by_a_models_weights(plain_data, tmp_path):
    recipe = read_recipe("eurosat-ddpm")
    small = dataclasses.replace(
        recipe, network=recipe.network | {"block_out_channels": [16, 16], "attention_head_dim": 8}
    )
    first = NoiseObjective(small, plain_data, CPU)
    first.export(first.trained, tmp_path)
    assert near(NoiseObjective(dataclasses.replace(small, seed=5), plain_data, CPU, tmp_path).trained, first.trained)


def test_a_model_that_is_not_there_is_said_before_any_work(plain_data, tmp_path, capsys):
    asked = ["eurosat-generate", "--data", str(plain_data), "--out", str(tmp_path), "--start", str(tmp_path / "models")]
    with pytest.raises(SystemExit):
        command.train(asked)
    assert "there is no eurosat-generate in" in capsys.readouterr().err


def test_a_run_is_resumed_as_it_began(plain_data, tmp_path, capsys):
    recipe = read_recipe("eurosat-ddpm")
    small = dataclasses.replace(
        recipe, network=recipe.network | {"block_out_channels": [16, 16], "attention_head_dim": 8}, batch=2
    )
    path = tmp_path / "small.json"
    path.write_text(small.to_json())
    first = NoiseObjective(small, plain_data, CPU)
    first.export(first.trained, tmp_path / "models" / small.model)
    start = ["--start", str(tmp_path / "models")]

    def train(out, steps, *words):
        asked = [str(path), "--data", str(plain_data), "--out", str(tmp_path / out), "--steps", str(steps), *words]
        return command.main(["train", *asked])

    assert train("begun", 1, *start) == train("fresh", 1) == 0
    for out, words, told in (("begun", [], "began with --start"), ("fresh", start, "began without --start")):
        with pytest.raises(SystemExit):
            train(out, 2, "--resume", *words)
        assert told in capsys.readouterr().err
    assert train("begun", 2, "--resume", *start) == train("fresh", 2, "--resume") == 0
    (tmp_path / "died" / small.name).mkdir(parents=True)
    (tmp_path / "died" / small.name / command.BEGUN).touch()  # before it had a checkpoint
    assert train("died", 1) == train("died", 2, "--resume") == 0
