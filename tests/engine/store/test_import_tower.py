"""An image tower is imported beside a CRS-Diff checkpoint: then content is among what guides it."""

import argparse
import json
import shutil

import pytest
import torch
from afterimage.engine.contract import ModelCard, loads
from afterimage.engine.errors import InvalidRequest, UnknownModel, WeightsDamaged, WeightsMissing
from afterimage.engine.models.catalog import CARD
from afterimage.engine.models.image_tower import FOLDER, PROCESSING
from afterimage.engine.models.layout import Layout
from afterimage.engine.models.published import examine, open_model
from afterimage.engine.models.weights import check_files
from afterimage.engine.store import abilities, catalogue, command
from afterimage.engine.store.install import install
from afterimage.engine.store.wish import Wish
from safetensors.torch import load_file

MAPS = ("lines", "edges", "sketch", "roads", "depth", "land_use")


@pytest.fixture(scope="module")
def tower(save_tower, tmp_path_factory):
    return save_tower(tmp_path_factory.mktemp("tower"))


@pytest.fixture(scope="module")
def bring(crs_checkpoint, tmp_path_factory):
    """Imports the reference checkpoint: ``bring(tower, path=..., **wish)`` gives the card and the folder."""

    def run(tower, path=None, **wish):
        store = tmp_path_factory.mktemp("store")
        path = crs_checkpoint if path is None else path
        card = install(path, None, Wish("crs", window=128, tower=tower, **wish), store, lambda notice: None)
        return card, store / "crs"

    return run


@pytest.fixture(scope="module")
def with_tower(bring, tower):
    return bring(tower)


@pytest.fixture(scope="module")
def without_tower(bring):
    return bring(None)


def test_the_card_lists_content_only_with_a_tower(with_tower, without_tower):
    card, folder = with_tower
    plain, _ = without_tower
    assert card.controls == (*MAPS, "content") and plain.controls == MAPS
    assert card.knows_strength("content") and not card.knows_strength("roads")
    assert not plain.knows_strength("content")
    assert abilities.FOREIGN in card.limitations and abilities.FOREIGN not in plain.limitations
    assert "content of a picture" in card.summary and "content" not in plain.summary
    assert loads(ModelCard, (folder / CARD).read_bytes()) == card


def test_its_files_are_the_models_own(with_tower, without_tower, tower):
    card, folder = with_tower
    own = {name for name in card.weights if name.startswith(FOLDER)}
    assert own == {f"{FOLDER}/{name}" for name in ("config.json", PROCESSING, "model.safetensors")}
    assert not any(name.startswith(FOLDER) for name in without_tower[0].weights)
    check_files(folder, card.weights)
    found = examine(folder)
    assert found["content"] == {"width": 16, "tower": True} and found["parameters"] == card.parameters
    extra = sum(value.numel() for value in load_file(tower / "model.safetensors").values())
    assert card.parameters == without_tower[0].parameters + extra


def test_its_vectors_are_those_of_the_folder(with_tower, tower, tmp_path, crs_checkpoint):
    beside = shutil.copytree(crs_checkpoint.parent, tmp_path / "beside")
    shutil.copytree(tower, beside / FOLDER)
    picture = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    vectors = [open_model(place).tower.vector(picture) for place in (with_tower[1], beside)]
    assert torch.equal(*vectors)


def test_an_installed_model_is_imported_again_with_its_tower_and_with_another(with_tower, without_tower, bring, tower):
    """That is how a tower comes to a checkpoint that was fetched."""
    card, _ = with_tower
    assert bring(None, with_tower[1])[0].controls == card.controls
    assert bring(tower, without_tower[1])[0].weights == card.weights


def test_of_a_public_model_too(bring, tower):
    offer = catalogue.find("crs-diff")
    card, _ = bring(tower, offer=offer)
    assert card.controls == (*MAPS, "content") and card.knows_strength("content")
    assert card.limitations == f"{offer.card.limitations} {abilities.FOREIGN}"
    assert (card.licence, card.palettes) == (offer.card.licence, offer.card.palettes)
    plain, _ = bring(None, offer=offer)
    assert (plain.controls, plain.limitations) == (offer.card.controls, offer.card.limitations)


def test_a_pickled_tower_is_converted(bring, tower, tmp_path, with_tower):
    folder = shutil.copytree(tower, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    card, made = bring(folder)
    assert card.controls == with_tower[0].controls
    assert {path.suffix for path in (made / FOLDER).iterdir()} == {".json", ".safetensors"}


def test_another_width_is_refused(bring, save_tower, tmp_path):
    with pytest.raises(WeightsDamaged, match="makes vectors of 24 numbers, and the checkpoint takes 16"):
        bring(save_tower(tmp_path / "wide", 24))


def test_another_kind_is_refused(bring, parity, tower, tmp_path):
    with pytest.raises(UnknownModel, match="a clip_text_model, not an image tower of CLIP"):
        bring(parity / "rsedit" / "text_encoder")
    folder = shutil.copytree(tower, tmp_path / "bare")
    (folder / PROCESSING).unlink()
    with pytest.raises(WeightsMissing, match=PROCESSING):
        bring(folder)
    with pytest.raises(WeightsMissing):
        bring(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", PROCESSING])
def test_a_configuration_of_any_size_is_not_copied(bring, tower, tmp_path, monkeypatch, name):
    folder = shutil.copytree(tower, tmp_path / "tower")
    with open(folder / name, "ab") as file:
        file.write(b" " * 200_000)
    monkeypatch.setattr("afterimage.engine.store.install.SMALL_LIMIT", 200_000)
    with pytest.raises(InvalidRequest, match=f"{FOLDER}/{name} is larger"):
        bring(folder)


def test_only_crs_diff_takes_one(parity, tower, tmp_path):
    with pytest.raises(InvalidRequest, match="Only CRS-Diff"):
        install(parity / "rsedit", None, Wish("x", window=64, tower=tower), tmp_path, lambda notice: None)
    assert not (tmp_path / "x").exists()


def test_nothing_is_left_of_an_import_with_damaged_weights(crs_checkpoint, tower, tmp_path):
    folder = shutil.copytree(tower, tmp_path / "damaged")
    (folder / "config.json").write_text(
        json.dumps({**json.loads((folder / "config.json").read_text()), "num_hidden_layers": 3})
    )
    with pytest.raises(WeightsDamaged, match="tensors are missing"):
        install(crs_checkpoint, None, Wish("x", window=128, tower=folder), tmp_path / "store", lambda _: 0)
    assert not (tmp_path / "store" / "x").exists()


def test_no_control_network_is_shown_content(tmp_path):
    layout = Layout("stable_diffusion_control", "ControlNet", controlnet=tmp_path)
    found = abilities.ABILITIES["stable_diffusion_control", "ControlNet"]
    with pytest.raises(InvalidRequest, match="do not tell") as told:
        abilities.controls(layout, found, "content")
    assert "content" not in told.value.hint and "map" in told.value.hint
    assert abilities.controls(layout, found, "map") == ("map",)


def test_the_command_line(crs_checkpoint, tower, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers(dest="action"))
    words = ["import", str(crs_checkpoint), "--id", "mine", "--window", "128", "--tower", str(tower)]
    from afterimage.engine.settings import Settings

    settings = Settings(device="cpu", threads=1, models=tmp_path / "shipped", store=tmp_path / "store")
    assert command.run(parser.parse_args(words), settings) == 0
    card = loads(ModelCard, (tmp_path / "store" / "mine" / CARD).read_bytes())
    assert "content" in card.controls and '"Installed"' in capsys.readouterr().out
