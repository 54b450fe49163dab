"""A folder of published weights is what it should be, or is refused in one sentence."""

import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import types

import pytest
import torch
from afterimage.engine.errors import EngineError, UnknownModel, UnknownScheduler, WeightsDamaged, WeightsMissing
from afterimage.engine.models import text
from afterimage.engine.models.layout import recognise
from afterimage.engine.models.published import examine, open_model
from afterimage.engine.models.statedict import read_tensors
from safetensors.torch import load_file, save_file

SAFE = "diffusion_pytorch_model.safetensors"
BIN = "diffusion_pytorch_model.bin"


@pytest.fixture
def copy(parity, tmp_path):
    """A copy that may be changed: ``copy("rsedit")``."""

    def make(name):
        return shutil.copytree(parity / name, tmp_path / name, ignore=shutil.ignore_patterns("refs.npz"))

    return make


def change(path, **changed):
    """Other values in a JSON file; None takes a key out."""
    told = json.loads(path.read_text()) | changed
    path.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


@pytest.mark.parametrize(
    ("name", "family", "kind", "told"),
    [
        ("diffusionsat", "diffusionsat", "single image", {"metadata"}),
        ("diffusionsat/unet", "diffusionsat", "single image", {"metadata"}),
        ("diffusionsat/checkpoint-100000", "diffusionsat", "single image", {"metadata"}),
        ("diffusionsat/controlnet_sr", "diffusionsat_control", "2-D ControlNet", {"metadata", "hint", "hint_metadata"}),
        ("diffusionsat/controlnet3d", "diffusionsat_temporal", "3-D ControlNet", {"metadata", "hint", "hint_metadata"}),
        ("text2earth", "text2earth", "text to image", {"level"}),
        ("text2earth/text2earth-inpainting", "text2earth", "inpainting", {"level", "picture", "repaint"}),
        ("crsdiff", "crs_diff", "text, metadata, six maps and content to image", {"metadata", "maps", "content"}),
        ("crsdiff/last.ckpt", "crs_diff", "text, metadata, six maps and content to image", {"metadata", "maps"}),
        ("rsedit", "rsedit", "instruction", {"picture"}),
    ],
)
def test_what_lies_in_a_folder(parity, name, family, kind, told):
    found = examine(parity / name)
    assert (found["family"], found["kind"]) == (family, kind)
    assert told | {"prompt", "negative_prompt"} <= set(found["conditioning"])
    assert found["prediction"] == ("v_prediction" if family.startswith("diffusionsat") else "epsilon")


def test_without_a_unet_of_its_own_the_latest_checkpoint_draws(copy):
    folder = copy("diffusionsat")
    shutil.move(folder / "unet", folder / "checkpoint-150000" / "unet")
    found = recognise(folder)
    assert found.unet == folder / "checkpoint-150000" / "unet"
    assert found.also_here == ("checkpoint-100000/unet", "controlnet3d/controlnet", "controlnet_sr/controlnet")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("what", ["missing", "extra", "shape"])
def test_every_key_counts(copy, part, what):
    folder = copy("rsedit")
    path = folder / part / ("model.safetensors" if part == "text_encoder" else SAFE)
    tensors = load_file(path)
    last = sorted(tensors)[-1]
    if what == "missing":
        del tensors[last]
    elif what == "extra":
        tensors["more"] = torch.zeros(1)
    else:
        tensors[last] = torch.zeros(*tensors[last].shape, 2)
    save_file(tensors, path)
    with pytest.raises(WeightsDamaged, match={"missing": "missing", "extra": "more", "shape": "shape"}[what]):
        open_model(folder)


def test_metadata_embeddings_are_not_left_out(copy):
    """What today's ``from_pretrained`` only warns about."""
    folder = copy("diffusionsat")
    change(folder / "unet" / "config.json", _class_name="UNet2DConditionModel", use_metadata=None, num_metadata=None)
    with pytest.raises(WeightsDamaged, match="metadata_embedding"):
        open_model(folder)


def test_an_option_that_is_not_known_is_not_left_out(copy):
    folder = copy("rsedit")
    change(folder / "unet" / "config.json", brightness=2)
    with pytest.raises(WeightsDamaged, match="brightness"):
        open_model(folder)


@pytest.mark.parametrize("key", ["cross_attention_dim", "block_out_channels", "layers_per_block", "num_metadata"])
def test_a_control_network_on_another_base(copy, key):
    folder = copy("diffusionsat")
    config = folder / "checkpoint-100000" / "unet" / "config.json"
    told = json.loads(config.read_text())[key]
    change(config, **{key: [2 * each for each in told] if isinstance(told, list) else 2 * told})
    with pytest.raises(WeightsDamaged, match=f"another base: its {key}"):
        open_model(folder / "controlnet_sr")


def test_a_control_network_on_a_base_of_another_family(parity):
    for name in ("text2earth", "rsedit"):
        with pytest.raises(WeightsDamaged, match="another base"):
            open_model(parity / "diffusionsat" / "controlnet3d", base=parity / name)


def test_a_control_network_without_its_base(copy, tmp_path):
    alone = shutil.move(copy("diffusionsat") / "controlnet_sr", tmp_path / "elsewhere")
    with pytest.raises(WeightsMissing, match="without its base"):
        open_model(alone)
    assert open_model(alone, base=tmp_path / "diffusionsat").title == "DiffusionSat with a ControlNet"


def test_velocities_are_not_taken_for_noise(copy):
    folder = copy("diffusionsat")
    change(folder / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    with pytest.raises(WeightsDamaged, match="predicts velocities"):
        open_model(folder)


class Call:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_can_call_nothing(copy, tmp_path):
    folder = copy("diffusionsat")
    with open(folder / "unet" / BIN, "wb") as file:
        pickle.dump({"weight": Call(str(tmp_path / "called"))}, file)
    with pytest.raises(WeightsDamaged, match="cannot be read"):
        open_model(folder)
    assert not (tmp_path / "called").exists()


def test_a_checkpoint_that_names_lightnings_callbacks(parity, tmp_path, monkeypatch):
    """Lightning 1.4 keeps what its callbacks remember under their classes, which are not there when it is read."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    content = torch.load(parity / "crsdiff" / "last.ckpt", weights_only=True)
    with monkeypatch.context() as patch:
        for package in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
            patch.setitem(sys.modules, package, module)
        torch.save(content | {"callbacks": {module.ModelCheckpoint: {"monitor": None}}}, tmp_path / "last.ckpt")
    for beside in ("config.json", "tokenizer"):
        (tmp_path / beside).symlink_to(parity / "crsdiff" / beside)
    assert open_model(tmp_path).title == "CRS-Diff"


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda folder: shutil.rmtree(folder / "vae"), WeightsMissing, "no pipeline around it"),
        (lambda folder: (folder / "unet" / SAFE).unlink(), WeightsMissing, "no weights"),
        (lambda folder: (folder / "unet" / SAFE).write_bytes(b"<html>not found</html>"), WeightsDamaged, "cannot be"),
        (lambda folder: (folder / "unet" / "config.json").write_text("<html>"), WeightsDamaged, "cannot be read"),
        (lambda folder: (folder / "tokenizer" / "merges.txt").unlink(), WeightsMissing, "merges.txt"),
        (lambda folder: shutil.rmtree(folder / "unet"), UnknownModel, "no model in this folder"),
        (lambda folder: change(folder / "unet" / "config.json", in_channels=12), UnknownModel, "12 input channels"),
        (
            lambda folder: change(folder / "unet" / "config.json", in_channels=8, addition_embed_type="text_time"),
            UnknownModel,
            "Stable Diffusion XL that follows instructions",
        ),
        (lambda folder: change(folder / "unet" / "config.json", norm_num_groups=7), WeightsDamaged, "not make a netw"),
        (
            lambda folder: change(folder / "scheduler" / "scheduler_config.json", _class_name="LCMScheduler"),
            UnknownScheduler,
            "LCMScheduler",
        ),
        (
            lambda folder: change(folder / "scheduler" / "scheduler_config.json", _class_name="../evil"),
            UnknownScheduler,
            "no scheduler",
        ),
        (
            lambda folder: change(folder / "scheduler" / "scheduler_config.json", prediction_type="flow_prediction"),
            WeightsDamaged,
            "predicts 'flow_prediction'",
        ),
    ],
)
def test_what_is_damaged_is_told_in_a_sentence(copy, damage, error, says):
    folder = copy("rsedit")
    damage(folder)
    with pytest.raises(error, match=says) as told:
        examine(folder)
    assert str(folder) not in told.value.message and told.value.hint


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("unet/config.json", {"in_channels": []}),
        ("unet/config.json", {"block_out_channels": [-8, -8]}),
        ("unet/config.json", {"layers_per_block": {}}),
        ("vae/config.json", {"scaling_factor": "x"}),
        ("vae/config.json", {"latent_channels": -1}),
        ("text_encoder/config.json", {"intermediate_size": -1}),
        ("text_encoder/config.json", {"hidden_size": "x"}),
        ("text_encoder/config.json", {"hidden_act": "x"}),
        ("text_encoder/config.json", {"hidden_size": 2**40, "num_attention_heads": 1}),
        ("text_encoder/config.json", {"dtype": "x"}),
        ("scheduler/scheduler_config.json", {"beta_schedule": "x"}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": -1}),
        ("scheduler/scheduler_config.json", {"trained_betas": []}),
    ],
)
def test_a_configuration_of_nonsense_is_told_in_a_sentence(copy, file, changed):
    folder = copy("rsedit")
    change(folder / file, **changed)
    with pytest.raises((WeightsDamaged, UnknownModel)) as told:
        examine(folder)
    assert str(folder) not in told.value.message and told.value.hint and "\n" not in told.value.message


def test_a_configuration_without_its_widths_is_told_in_a_sentence(copy):
    folder = copy("diffusionsat")
    change(folder / "unet" / "config.json", block_out_channels=None)
    with pytest.raises(WeightsDamaged, match="metadata embedding does not make a network"):
        examine(folder)
    change(folder / "controlnet_sr" / "controlnet" / "config.json", conditioning_scale="x")
    with pytest.raises(WeightsDamaged, match="does not make a network"):
        examine(folder / "controlnet_sr")


def test_a_text_tower_of_any_size_takes_no_memory_before_its_weights_are_compared(copy, monkeypatch):
    folder, made = copy("rsedit"), []
    make = text.CLIPTextModel

    def watched(config):
        made.append(network := make(config))
        return network

    monkeypatch.setattr(text, "CLIPTextModel", watched)
    change(folder / "text_encoder" / "config.json", hidden_size=2**14, intermediate_size=2**16)
    with pytest.raises(WeightsDamaged, match=r"text encoder.*shape"):
        examine(folder)
    assert len(made) == 1 and all(p.is_meta for p in made[0].parameters())


def pickled(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"0",
        b"N.",
        b"\x80\x02Q.",
        b"\x80\x02.",
        b"PK\x03\x04" + b"x" * 40,
        pickle.dumps({"a": 1}, 2),
        pickle.dumps({"a": 1}, 2)[:-1],
        pickled({"a": torch.zeros(3)})[:-20],
        pickled({1: torch.zeros(3)}),
        pickled({"a": torch.zeros(3).to_sparse()}),
        *(random.Random(seed).randbytes(60) for seed in range(40)),
    ],
    ids=lambda content: content[:6].hex(),
)
@pytest.mark.parametrize("ending", [".bin", ".safetensors"])
def test_bytes_that_are_no_weights_are_refused(tmp_path, content, ending):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    with pytest.raises(WeightsDamaged) as told:
        read_tensors(path)
    assert told.value.hint


def test_other_files_are_no_models(tmp_path):
    with pytest.raises(WeightsMissing):
        open_model(tmp_path / "nothing")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UnknownModel):
        open_model(tmp_path / "a.txt")
    with pytest.raises(UnknownModel):
        open_model(tmp_path)
    (tmp_path / "broken.ckpt").write_bytes(b"PK")
    with pytest.raises(EngineError, match="cannot be read"):
        open_model(tmp_path)


def test_the_command(root, parity, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-I", str(root / "engine" / "launch.py"), "models", "check", *map(str, arguments)]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        return ended.returncode, json.loads(ended.stdout)

    status, report = run(parity / "text2earth")
    assert (status, report["ok"], report["family"]) == (0, True, "text2earth")
    status, report = run(tmp_path)
    assert (status, report["ok"], report["code"]) == (1, False, "UNKNOWN_MODEL")
    assert report["message"].endswith(".") and report["hint"]
    (tmp_path / "one.ckpt").write_bytes(b".")
    status, report = run(tmp_path)
    assert (status, report["ok"], report["code"]) == (1, False, "WEIGHTS_DAMAGED")
    assert report["message"].endswith(".") and report["hint"]
