"""A network is loaded as its card says, or not at all."""

import json

import pytest
import torch
from afterimage.engine.errors import WeightsDamaged, WeightsMissing
from afterimage.engine.models.caption import CaptionTokens
from afterimage.engine.models.weights import WEIGHTS, digests, load_network
from afterimage.engine.training.export import save_component
from safetensors.torch import load_file, save_file


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_component(CaptionTokens(classes=("Forest", "River"), width=8), tmp_path / "caption")
    return tmp_path


def test_what_was_saved_is_loaded(folder):
    network = load_network(CaptionTokens, folder, "caption", digests(folder))
    assert network.config.classes == ["Forest", "River"]
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    torch.manual_seed(0)
    saved = CaptionTokens(classes=("Forest", "River"), width=8)
    assert torch.allclose(network.class_embedding, saved.class_embedding, atol=2e-3)  # half precision on disk


def test_a_flipped_bit_is_noticed(folder):
    known = digests(folder)
    path = folder / "caption" / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsDamaged, match="not the one"):
        load_network(CaptionTokens, folder, "caption", known)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_other_tensors_than_the_network_has_are_refused(folder, change):
    path = folder / "caption" / WEIGHTS
    tensors = load_file(path)
    if change == "missing":
        del tensors["null_text"]
    elif change == "extra":
        tensors["more"] = torch.zeros(1)
    else:
        tensors["null_text"] = torch.zeros(9)
    save_file(tensors, path)
    with pytest.raises(WeightsDamaged, match="does not fit"):
        load_network(CaptionTokens, folder, "caption", digests(folder))


def test_a_file_without_a_hash_on_the_card_is_refused(folder):
    with pytest.raises(WeightsDamaged):
        load_network(CaptionTokens, folder, "caption", {})


def test_something_else_than_safetensors_is_refused(folder):
    (folder / "caption" / WEIGHTS).write_bytes(b"\x80\x04K*.")
    with pytest.raises(WeightsDamaged, match="does not fit"):
        load_network(CaptionTokens, folder, "caption", digests(folder))


def test_missing_files_are_named(folder):
    with pytest.raises(WeightsMissing, match="vae"):
        load_network(CaptionTokens, folder, "vae", {})
    known = digests(folder)
    (folder / "caption" / WEIGHTS).unlink()
    with pytest.raises(WeightsMissing, match="caption"):
        load_network(CaptionTokens, folder, "caption", known)


def test_a_broken_configuration_is_told(folder):
    known = digests(folder)
    (folder / "caption" / "config.json").write_text(json.dumps([1]))
    with pytest.raises(WeightsDamaged, match=r"config\.json"):
        load_network(CaptionTokens, folder, "caption", known)
