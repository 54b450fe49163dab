"""Exports and measurements are kept on disk: made once, and again where they are damaged or of another engine."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch
from afterimage.engine.backends import cache, choice, export
from afterimage.engine.backends.names import available
from afterimage.engine.models import catalog

from .conftest import MODELS, MUCH, needs_onnxruntime

#: Prints what a model's networks are known by.
_DIGEST = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("launch", sys.argv[1])
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)
launch.register(pathlib.Path(sys.argv[1]).parents[1])
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings
print(catalog.load(sys.argv[2], Settings(device="cpu", threads=1)).networks.digest())
"""


@pytest.mark.parametrize("name", MODELS)
def test_every_process_knows_the_networks_by_one_name(root, name):
    told = {
        subprocess.run(
            [sys.executable, "-s", "-c", _DIGEST, str(root / "engine" / "launch.py"), name],
            env={**os.environ, "PYTHONHASHSEED": order},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for order in "123"
    }
    assert len(told) == 1 and told != {b""}, "or each process measures again"


def test_other_threads_or_another_model_are_measured_anew(settings):
    model = catalog.load("tiny-generate", settings)
    choice.measure(model, settings)
    assert choice.remembered(catalog.load("tiny-superresolve", settings), settings) is None
    torch.set_num_threads(2)
    assert choice.remembered(model, settings) is None


@needs_onnxruntime
def test_an_export_is_made_once_and_again_where_the_file_is_damaged(settings, monkeypatch):
    made = []
    kept = export._exported
    monkeypatch.setattr(export, "_exported", lambda *given: made.append(1) or kept(*given))
    asked = dataclasses.replace(settings, backend="onnxruntime")
    first = catalog.load("tiny-superresolve", asked).picture()
    assert len(made) == 1
    assert torch.equal(first, catalog.load("tiny-superresolve", asked).picture()) and len(made) == 1
    file = next(settings.cache.rglob("*.onnx"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert torch.equal(first, catalog.load("tiny-superresolve", asked).picture()) and len(made) == 2


@needs_onnxruntime
def test_a_cache_that_cannot_be_written_to_costs_time_alone(settings, tmp_path):
    (tmp_path / "file").write_text("")
    asked = dataclasses.replace(settings, backend="onnxruntime", cache=tmp_path / "file" / "cache")
    assert catalog.load("tiny-superresolve", asked).picture().isfinite().all()


def test_the_exports_that_were_not_used_for_long_go_first_and_nothing_else_goes(tmp_path):
    kept, own = cache.Cache(tmp_path), tmp_path / cache.OWN
    names = [f"{number:064x}.onnx" for number in range(cache.KEPT + 3)]
    foreign = [tmp_path / "thesis.odt", own / "notes.onnx", own / f"{7:064x}.json"]
    own.mkdir()
    for path in foreign:
        path.write_bytes(b"mine")
        os.utime(path, (0, 0))
    for age, name in enumerate(names):
        kept.write(name, b"x")
        os.utime(own / name, (age, age))
    assert kept.read(names[3]) == b"x", "from now on the one that was used last"
    left = own / f".{names[0]}.abcd.part"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    kept.write(f"{99:064x}.onnx", b"y")
    assert {path.name for path in own.glob("*.onnx")} - {"notes.onnx"} == {
        names[3],
        *names[-cache.KEPT + 2 :],
        f"{99:064x}.onnx",
    }
    assert all(path.read_bytes() == b"mine" for path in foreign)
    assert not list(own.glob(".*")), "what a write left half-way is gone too"


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a person's folders by other means")
def test_the_folder_of_the_cache_is_the_persons_alone(tmp_path):
    cache.Cache(tmp_path).write("x.json", b"x")
    assert (tmp_path / cache.OWN).stat().st_mode & 0o777 == 0o700


def test_a_file_that_another_engine_deleted_meanwhile_is_no_error(tmp_path, monkeypatch, caplog):
    kept, own = cache.Cache(tmp_path), tmp_path / cache.OWN
    for number in range(cache.KEPT + 1):
        kept.write(f"{number:064x}.onnx", b"x")
    used = cache._used

    def gone(path):
        path.unlink(missing_ok=True)
        return used(path)

    monkeypatch.setattr(cache, "_used", gone)
    kept.write(f"{99:064x}.onnx", b"y")
    assert not caplog.text and not list(own.glob("*.onnx"))


@needs_onnxruntime
def test_another_engine_exports_and_measures_anew(settings, monkeypatch):
    """The code of our networks changes with it, and neither weights nor settings tell."""
    model = catalog.load("tiny-superresolve", settings)
    keys = {export._key(model.networks.denoiser.module, model.example(), False), choice._name(model)}
    for module in (export, choice):
        monkeypatch.setattr(module, "engine_version", lambda: "another")
    again = {export._key(model.networks.denoiser.module, model.example(), False), choice._name(model)}
    assert not keys & again


RECORD = {"backend": "eager", "speeds": {}, "outputs": {}, "pictures": {}, "refused": {}, "seconds": 1.0}


@pytest.mark.parametrize(
    "measured",
    [
        {"backend": "eager", "winner": 3},
        {**RECORD, "backend": "tensorflow"},
        {**RECORD, "backend": ["eager"]},
        {**RECORD, "speeds": [1.0]},
        {**RECORD, "refused": None},
        {**RECORD, "pictures": {"eager": "near"}},
        [],
        None,
    ],
    ids=str,
)
def test_a_record_of_another_shape_counts_as_none(settings, measured, caplog):
    model = catalog.load("tiny-superresolve", settings)
    choice.measure(model, settings)
    cache.Cache(settings.cache).write(choice._name(model), json.dumps({"measured": measured}).encode())
    assert choice.remembered(model, settings) is None and "cannot be read" in caplog.text
    assert choice.choose(model, settings, MUCH) in available("cpu")
    assert choice.remembered(model, settings) is not None
