"""A folder or a file of published weights becomes a model of its own: safetensors only, with a card that fits it."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import pickle
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
from afterimage.engine.contract import CONTENT, CONTROLS, ErrorCode, Fetching, ModelCard, loads
from afterimage.engine.errors import (
    DiskFull,
    DownloadFailed,
    InvalidRequest,
    OutputNotWritable,
    UnknownModel,
    WeightsDamaged,
    WeightsMissing,
)
from afterimage.engine.models import catalog
from afterimage.engine.models.catalog import CARD
from afterimage.engine.models.layout import KEPT
from afterimage.engine.models.picture import load_model
from afterimage.engine.models.published import examine, open_model
from afterimage.engine.models.statedict import read_tensors
from afterimage.engine.models.weights import check_files
from afterimage.engine.settings import Settings, default_store
from afterimage.engine.store import catalogue, command, places
from afterimage.engine.store import install as installing
from afterimage.engine.store.convert import convert
from afterimage.engine.store.install import RECORD, install
from afterimage.engine.store.turn import alone
from afterimage.engine.store.wish import Wish
from diffusers import ControlNetModel

#: Folder of the references -> (window, tasks, first scheduler, what else its card says).
MODELS = {
    "diffusionsat": (64, ("Generate", "Edit"), "DDIM", {"frames": 0, "steps": 20}),
    "diffusionsat/controlnet_sr": (64, ("SuperResolve",), "DDIM", {"steps": 50, "guidance_scale": 5.0}),
    "diffusionsat/controlnet3d": (64, ("Forecast",), "DDIM", {"frames": 3, "guidance_scale": 1.0}),
    "text2earth": (64, ("Generate", "Edit"), "Euler", {"gsd": (0.5, 128.0), "guidance_scale": 4.0}),
    "text2earth/text2earth-inpainting": (64, ("Edit",), "Euler", {"guidance_scale": 3.5}),
    "rsedit": (64, ("Edit",), "PNDM", {"image_guidance_scale": 1.5}),
    "crsdiff/last.ckpt": (128, ("Generate",), "DDIM", {"required": ()}),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def imported(parity, store):
    """Installs one of the references once: ``imported(name)`` gives (card, folder, notices)."""
    made = {}

    def make(name):
        if name not in made:
            own, notices = places.id_of(name), []
            card = install(parity / name, None, Wish(own, window=MODELS[name][0]), store, notices.append)
            made[name] = (card, store / own, notices)
        return made[name]

    return make


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_becomes_a_model(imported, parity, name):
    card, folder, notices = imported(name)
    window, tasks, scheduler, others = MODELS[name]
    assert loads(ModelCard, (folder / CARD).read_bytes()) == card
    assert (card.window, card.stride, card.tasks, card.schedulers[0]) == (window, window * 3 // 4, tasks, scheduler)
    assert {key: getattr(card, key) for key in others} == others
    assert card.whole and card.tokens == 77 and card.pickable and card.origin == "imported"
    assert card.licence and card.citation and card.summary and card.limitations
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".txt"}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(card.weights) == there - {CARD, RECORD} and any(name.endswith("config.json") for name in card.weights)
    check_files(folder, card.weights)
    found, before = examine(folder), examine(parity / name)
    before.pop("also_here", None), found.pop("also_here", None)
    assert found == before and found["parameters"] == card.parameters
    assert card.gflop_per_window_step > 0 and card.gflop_decode_per_megapixel > 0 and card.memory_mb > 500
    stages = [notice.stage for notice in notices if isinstance(notice, Fetching)]
    assert stages[-1] == "checking" and ("converting" in stages) == name.startswith(("diffusionsat", "crsdiff"))


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_are_the_same_numbers(imported, parity, name):
    ours, theirs = open_model(imported(name)[1]), open_model(parity / name)
    for mine, other in zip(ours.networks, theirs.networks):
        for key, value in other.state_dict().items():
            assert torch.equal(mine.state_dict()[key], value), key


def test_an_ending_may_be_in_capitals(imported, parity, tmp_path):
    card, folder, _ = imported("crsdiff/last.ckpt")
    for source, name in ((parity / "crsdiff" / "last.ckpt", "LAST.CKPT"), (folder / KEPT, "LAST.SAFETENSORS")):
        shutil.copytree(source.parent / "tokenizer", tmp_path / name / "tokenizer")
        path = shutil.copyfile(source, tmp_path / name / name)
        if (source.parent / "config.json").is_file():
            shutil.copyfile(source.parent / "config.json", tmp_path / name / "config.json")
        again = install(path, None, Wish("again", window=128), tmp_path / name / "store", lambda notice: None)
        assert (again.weights, again.family) == (card.weights, card.family)


def test_a_second_model_of_the_same_id_is_refused(imported, parity, store):
    imported("rsedit")
    with pytest.raises(InvalidRequest, match="already"):
        install(parity / "rsedit", None, Wish("rsedit", window=64), store, print)


def test_the_base_of_a_control_network_stays_steering(imported, parity, tmp_path):
    """An imported DiffusionSat keeps the checkpoint that its ControlNets need."""
    _, folder, _ = imported("diffusionsat")
    alone = shutil.copytree(parity / "diffusionsat" / "controlnet_sr", tmp_path / "alone")
    with pytest.raises(WeightsMissing, match="base"):
        install(alone, None, Wish("sr", window=64), tmp_path / "store", lambda notice: None)
    install(alone, folder, Wish("sr", window=64), tmp_path / "store", lambda notice: None)
    assert examine(tmp_path / "store" / "sr")["kind"] == "2-D ControlNet"


def test_a_stock_control_network_must_be_told_what_it_is_shown(parity, tmp_path):
    unet = open_model(parity / "rsedit").unet
    base = shutil.copytree(parity / "rsedit", tmp_path / "base", ignore=shutil.ignore_patterns("refs.npz", "unet"))
    config = {**unet.config, "in_channels": 4}
    plain = type(unet).from_config(config)
    plain.save_pretrained(base / "unet")
    ControlNetModel.from_unet(plain).save_pretrained(tmp_path / "control")
    quiet = {"store": tmp_path / "store", "tell": lambda notice: None}
    with pytest.raises(InvalidRequest, match="do not tell") as told:
        install(tmp_path / "control", base, Wish("map", window=64), **quiet)
    assert all(kind in told.value.hint for kind in CONTROLS if kind != CONTENT)
    card = install(tmp_path / "control", base, Wish("map", control="map", window=64), **quiet)
    assert card.controls == card.required == ("map",) and card.tasks == ("Generate",)
    assert examine(tmp_path / "store" / "map")["kind"] == "ControlNet"
    offer = catalogue.find("geosynth-osm")
    card = install(tmp_path / "control", base, Wish("osm", offer=offer, window=64), **quiet)
    assert (card.licence, card.controls, card.window) == (offer.card.licence, ("map",), 64)
    assert card.parameters < offer.card.parameters, "what is counted is this folder's"
    with pytest.raises(InvalidRequest, match="holds no RSEdit"):
        install(
            tmp_path / "control", base, Wish("x", control="map", offer=catalogue.find("rsedit"), window=64), **quiet
        )


def test_a_control_network_without_a_task_is_refused(parity, tmp_path):
    folder = shutil.copytree(
        parity / "diffusionsat", tmp_path / "sat", ignore=shutil.ignore_patterns("refs.npz", "controlnet3d")
    )
    control = folder / "controlnet_sr" / "controlnet"
    tensors = read_tensors(control / "diffusion_pytorch_model.bin")
    key = "controlnet_cond_embedding.conv_in.weight"
    torch.save(tensors | {key: tensors[key][:, :3].clone()}, control / "diffusion_pytorch_model.bin")
    config = json.loads((control / "config.json").read_text())
    (control / "config.json").write_text(json.dumps(config | {"conditioning_in_channels": 3}))
    with pytest.raises(InvalidRequest, match="3 bands"):
        install(folder / "controlnet_sr", None, Wish("sr", window=64), tmp_path / "store", lambda notice: None)
    assert not (tmp_path / "store" / "sr").exists()


@pytest.mark.parametrize("window", [8, 100, 8192])
def test_a_window_that_the_network_cannot_halve(parity, tmp_path, window):
    with pytest.raises(InvalidRequest, match="window"):
        install(parity / "rsedit", None, Wish("x", window=window), tmp_path, lambda notice: None)


def test_what_cannot_be_run_leaves_nothing(parity, tmp_path):
    folder = shutil.copytree(parity / "rsedit", tmp_path / "rsedit", ignore=shutil.ignore_patterns("refs.npz"))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"<html>")
    with pytest.raises(WeightsDamaged):
        install(folder, None, Wish("x", window=64), tmp_path / "store", lambda notice: None)
    assert [path.name for path in (tmp_path / "store").iterdir()] == [places.WORK]
    assert [path.name for path in (tmp_path / "store" / places.WORK).iterdir()] == ["x.lock"]
    with pytest.raises(UnknownModel):
        install(tmp_path, None, Wish("x"), tmp_path / "store", lambda notice: None)


def test_space_is_looked_for_before_anything_is_written(parity, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "free", lambda folder: places.SPARE)
    with pytest.raises(DiskFull, match="are needed"):
        install(parity / "rsedit", None, Wish("x", window=64), tmp_path / "store", lambda notice: None)
    assert [path.name for path in (tmp_path / "store").rglob("*")] == [places.WORK, "x.lock"]


@pytest.mark.parametrize("name", ["scheduler/scheduler_config.json", "unet/config.json", "tokenizer/vocab.json"])
def test_a_file_that_was_changed_since(imported, tmp_path, name):
    card, installed, _ = imported("rsedit")
    folder = shutil.copytree(installed, tmp_path / "rsedit")
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(WeightsDamaged, match=name):
        load_model(card, folder, torch.device("cpu"))
    (folder / name).unlink()
    with pytest.raises(WeightsMissing, match=name):
        check_files(folder, card.weights)
    (folder / name).mkdir()  # cannot be read, as one that belongs to somebody else
    with pytest.raises(WeightsDamaged, match="cannot be read"):
        check_files(folder, card.weights)
    with pytest.raises(WeightsDamaged, match="card"):
        load_model(dataclasses.replace(card, weights={}), installed, torch.device("cpu"))


def test_a_model_that_came_meanwhile_is_not_replaced(parity, tmp_path, monkeypatch):
    """Where a file system has no locks, another process may have been faster."""

    def card(work, wish, total, tell):
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / CARD).write_text("another's")
        return catalogue.find("rsedit").card

    monkeypatch.setattr(installing, "_build", lambda moves, work, *others: work.mkdir())
    monkeypatch.setattr(installing, "_card", card)
    with pytest.raises(InvalidRequest, match="already"):
        install(parity / "rsedit", None, Wish("x", window=64), tmp_path, lambda notice: None)
    assert (tmp_path / "x" / CARD).read_text() == "another's"


def test_two_processes_that_install_the_same_id(parity, tmp_path):
    with alone("x", tmp_path), pytest.raises(DownloadFailed, match="already") as told:
        install(parity / "rsedit", None, Wish("x", window=64), tmp_path, lambda notice: None)
    assert told.value.hint


def test_a_folder_whose_name_is_taken_below_is_taken_away(tmp_path, monkeypatch):
    with monkeypatch.context() as stuck:  # an open file, on Windows
        stuck.setattr(shutil, "rmtree", lambda folder, ignore_errors: None)
        for _ in range(2):
            (tmp_path / "x" / "unet").mkdir(parents=True)
            places.discard(tmp_path / "x", tmp_path)
            assert not (tmp_path / "x").exists()
    assert len(list((tmp_path / places.WORK).iterdir())) == 2
    (tmp_path / places.WORK / "gone-id").mkdir()  # of a model of that name
    places.sweep(tmp_path)
    assert [path.name for path in (tmp_path / places.WORK).iterdir()] == ["gone-id"]


def test_a_removal_that_fails_can_be_repeated(tmp_path, monkeypatch):
    settings = Settings(models=tmp_path / "shipped", store=tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / CARD).write_text("{}")

    def replace(source, target):
        raise OSError(errno.EBUSY, "busy")

    with monkeypatch.context() as held:
        held.setattr(places.durable, "replace", replace)
        with pytest.raises(OutputNotWritable, match="taken away") as told:
            command._remove(argparse.Namespace(id="x"), settings)
        assert told.value.hint and catalogue.state("x", tmp_path) == "installed", "it can be chosen to be removed again"
    command._remove(argparse.Namespace(id="x"), settings)
    assert not (tmp_path / "x").exists()


class Call:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_is_read_in_another_process_that_calls_nothing(tmp_path):
    with open(tmp_path / "bad.bin", "wb") as file:
        pickle.dump({"weight": Call(str(tmp_path / "called"))}, file)
    with pytest.raises(WeightsDamaged, match="cannot be read") as told:
        convert([(tmp_path / "bad.bin", tmp_path / "out.safetensors")])
    assert told.value.hint and not (tmp_path / "called").exists() and not (tmp_path / "out.safetensors").exists()


def test_names_that_share_memory_and_packed_pickles(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    torch.save({"state_dict": {"a": weight, "b": weight, "c": weight.T}}, tmp_path / "tied.ckpt")
    torch.save({"a": torch.zeros(4000)}, tmp_path / "plain.bin")
    with zipfile.ZipFile(tmp_path / "plain.bin") as plain, zipfile.ZipFile(tmp_path / "packed.bin", "w", 8) as packed:
        for entry in plain.namelist():
            packed.writestr(entry, plain.read(entry))
    convert([(tmp_path / "tied.ckpt", tmp_path / "tied.safetensors")])
    made = read_tensors(tmp_path / "tied.safetensors")
    assert torch.equal(made["a"], weight) and torch.equal(made["b"], weight) and torch.equal(made["c"], weight.T)
    with pytest.raises(WeightsDamaged, match="no checkpoint"):
        convert([(tmp_path / "packed.bin", tmp_path / "packed.safetensors")])


def test_the_command(root, parity, tmp_path, capfd):
    def run(*arguments):
        launch = [sys.executable, "-I", str(root / "engine" / "launch.py"), "--log-level", "ERROR", "models"]
        ended = subprocess.run(
            [*launch, *map(str, arguments)],
            capture_output=True,
            timeout=250,
            env={"AFTERIMAGE_STORE": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": ""},
        )
        return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]

    status, told = run("import", parity / "rsedit", "--id", "after", "--name", "After", "--window", 64)
    assert status == 0 and told[-1]["type"] == "Installed" and told[-1]["card"]["name"] == "After"
    assert {line["type"] for line in told[:-1]} == {"Fetching"}
    status, (refused,) = run("import", parity / "rsedit", "--id", "../after")
    assert status == 1 and refused["failure"]["code"] == ErrorCode.INVALID_REQUEST.value


def test_an_installation_that_was_ended_is_cleared(root, parity, tmp_path):
    def run(fault, *arguments):
        launch = [sys.executable, "-I", str(root / "engine" / "launch.py"), "--log-level", "ERROR", "models"]
        environment = {"AFTERIMAGE_STORE": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": "", "AFTERIMAGE_FAULT": fault}
        return subprocess.run([*launch, *map(str, arguments)], capture_output=True, timeout=250, env=environment)

    run("record.before_write:1:kill", "import", parity / "rsedit", "--id", "x", "--window", 64)
    left = tmp_path / places.WORK / "x"
    assert (left / "unet").is_dir() and not (tmp_path / "x").exists()
    assert run("", "remove", "x").returncode == 0 and not left.exists()
    left.mkdir()
    with alone("x", tmp_path):
        assert not left.exists(), "whoever starts next finds an empty place"


def test_what_is_installed_is_listed(imported, store, tmp_path):
    card, _, _ = imported("text2earth")
    settings = Settings(models=tmp_path, store=store)
    assert card in catalog.cards(settings)
    with pytest.raises(InvalidRequest, match="already"):
        places.check_free(card.id, settings)


@pytest.mark.parametrize("name", ["", "A", "../a", "a/b", "con", "a" * 64, ".partial", "ä", "-a", "a."])
def test_an_id_is_a_name_of_a_folder_everywhere(name):
    with pytest.raises(InvalidRequest):
        places.check_id(name)


def test_names_become_ids():
    assert places.id_of("Text2Earth v1.0") == "text2earth-v1-0"
    assert places.check_id(places.id_of("Ä ö.../" * 40)) == "model"
    assert command.ACTIONS == ("offers", "files", "get", "import", "remove")


def test_where_the_store_is():
    assert default_store({"HOME": "/h"}, "linux").as_posix() == "/h/.local/share/afterimage/models"
    assert default_store({"HOME": "/h", "XDG_DATA_HOME": "/d"}, "linux").as_posix() == "/d/afterimage/models"
    assert default_store({"HOME": "/h", "XDG_DATA_HOME": "d"}, "linux").as_posix().startswith("/h/")
    assert default_store({"HOME": "/h"}, "darwin").as_posix() == "/h/Library/Application Support/afterimage/models"
    assert default_store({"LOCALAPPDATA": "/l"}, "win32").as_posix() == "/l/afterimage/models"
    assert Settings.from_environment({"AFTERIMAGE_STORE": "/s"}).store.as_posix() == "/s"
