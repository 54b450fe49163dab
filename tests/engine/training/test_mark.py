"""What is kept between runs is used where it was made from the same, and made anew where it was not."""

import dataclasses
import logging
import shutil
import zipfile

import pytest
import torch
from afterimage.engine.training import classifier, command, mark
from afterimage.engine.training.classifier import judge_mark, read_judge
from afterimage.engine.training.export import WEIGHTS
from afterimage.engine.training.latent import LatentObjective
from afterimage.engine.training.recipe import read_recipe
from afterimage.engine.training.sharpening import SharpeningObjective
from safetensors.torch import load_file, save_file

CPU = torch.device("cpu")
ANEW = "made anew"


@pytest.fixture
def other_data(plain_data, tmp_path):
    """The same chips in an archive that holds a file more."""
    shutil.copytree(plain_data, tmp_path / "other")
    with zipfile.ZipFile(tmp_path / "other" / "eurosat_rgb_mosaics.zip", "a") as archive:
        archive.writestr("more.txt", "more")
    return tmp_path / "other"


@pytest.fixture(scope="module")
def decoder():
    """Without the classifier whose layers compare pictures: it has a mark of its own, and takes long to teach."""
    recipe = with_options(read_recipe("eurosat-decoder"), layers=0.0)
    return dataclasses.replace(recipe, network=recipe.network | {"width": 16, "blocks": 1, "latent_channels": 4})


@pytest.fixture(scope="module")
def latent():
    recipe = read_recipe("eurosat-generate")
    small = {"block_out_channels": [16, 16], "norm_num_groups": 4, "attention_head_dim": 2, "cross_attention_dim": 16}
    return dataclasses.replace(recipe, network=recipe.network | small)


def with_options(recipe, **options):
    return dataclasses.replace(recipe, options=recipe.options | options)


@pytest.fixture
def logged(caplog):
    """How often something was made anew since the last time that this was asked."""
    caplog.set_level(logging.INFO)

    def count():
        found = sum(ANEW in record.getMessage() for record in caplog.records)
        caplog.clear()
        return found

    return count


def test_a_fitted_transform_is_that_of_its_recipe_and_data(decoder, plain_data, other_data, tmp_path, logged):
    fitted = tmp_path / "run" / "fitted"

    def fit(recipe, data=plain_data):
        SharpeningObjective(recipe, data, fitted, CPU)
        return (fitted / WEIGHTS).stat().st_ino, (fitted / "config.json").read_text()

    first, config = fit(decoder)
    assert fit(with_options(decoder, texture=1.0)) == (first, config) and logged() == 0
    fit(with_options(decoder, whitening=0.25))
    assert fitted.joinpath("config.json").read_text() != config and logged() == 1
    wider = dataclasses.replace(decoder, network=decoder.network | {"latent_channels": 6})
    assert '"latent_channels": 6' in fit(wider)[1] and logged() == 1
    fit(wider, other_data)
    assert logged() == 1
    (fitted / mark.FILE).unlink()
    fit(wider, other_data)
    assert logged() == 1 and (fitted / mark.FILE).is_file()
    assert [path.name for path in fitted.parent.iterdir()] == ["fitted"]


def test_a_kill_while_a_transform_is_written_leaves_none_that_is_half(decoder, plain_data, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def die(network, folder):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("afterimage.engine.training.sharpening.save_component", die)
        with pytest.raises(Killed):
            SharpeningObjective(decoder, plain_data, tmp_path / "fitted", CPU)
    assert not (tmp_path / "fitted").exists()
    SharpeningObjective(decoder, plain_data, tmp_path / "fitted", CPU)
    assert (tmp_path / "fitted" / WEIGHTS).is_file()


def test_latents_are_those_of_the_transform_the_data_and_the_chips(
    decoder, latent, plain_data, other_data, tmp_path, logged
):
    run, cache = tmp_path / "decoder", tmp_path / "generate" / "latents.safetensors"
    SharpeningObjective(decoder, plain_data, run / "fitted", CPU)

    def encode(recipe, data=plain_data):
        return LatentObjective(recipe, data, run, cache, CPU).latents

    first = encode(latent)
    written = cache.stat().st_ino
    assert torch.equal(encode(latent), first) and cache.stat().st_ino == written and logged() == 0
    assert encode(with_options(latent, every=2)).shape[1] == first.shape[1] // 2 and logged() == 1
    assert torch.equal(encode(latent), first) and logged() == 1
    encode(latent, other_data)
    assert logged() == 1
    SharpeningObjective(with_options(decoder, whitening=0.25), plain_data, run / "fitted", CPU)
    logged()
    assert not torch.equal(encode(latent), first) and logged() == 1
    save_file(load_file(cache), cache)  # without a mark
    encode(latent)
    assert logged() == 1
    cache.write_bytes(cache.read_bytes()[:100])
    encode(latent)
    assert logged() == 1 and [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_the_mark_of_a_transform_is_not_part_of_a_model(decoder, latent, plain_data, tmp_path):
    run = tmp_path / "decoder"
    SharpeningObjective(decoder, plain_data, run / "fitted", CPU)
    objective = LatentObjective(latent, plain_data, run, tmp_path / "latents.safetensors", CPU)
    objective.export(objective.trained, tmp_path / "export")
    assert sorted(path.name for path in (tmp_path / "export" / "vae").iterdir()) == ["config.json", WEIGHTS]


def test_a_judge_is_that_of_its_course_and_data(plain_data, other_data, short_courses, tmp_path, monkeypatch, logged):
    cache = tmp_path / "work" / "judge-eurosat-7.safetensors"

    def read(data=plain_data):
        read_judge("eurosat", data, cache.parent, seed=7)
        return cache.stat().st_ino

    first = read()
    assert read() == first and logged() == 0
    read(other_data)
    assert logged() == 1
    with monkeypatch.context() as patch:
        patch.setitem(classifier.COURSES, "eurosat", classifier.Course(steps=2, batch=16))
        read(other_data)
        assert logged() == 1
    save_file(load_file(cache), cache)
    read()
    assert logged() == 1
    weights = load_file(cache)
    save_file(weights, cache)
    mark.keep(cache, weights, judge_mark("eurosat", plain_data, 7))  # a file of before is adopted
    adopted = cache.stat().st_ino
    assert read() == adopted and logged() == 0


def test_what_a_run_keeps_is_not_made_anew_for_one_that_may_not_start(plain_data, decoder, tmp_path):
    run = tmp_path / decoder.name
    (run / "checkpoint-5").mkdir(parents=True)
    (run / "fitted").mkdir()
    path = tmp_path / f"{decoder.name}.json"
    path.write_text(decoder.to_json())
    with pytest.raises(FileExistsError, match="resume"):
        command.main(["train", str(path), "--data", str(plain_data), "--out", str(tmp_path), "--steps", "2"])
    assert not list((run / "fitted").iterdir())
