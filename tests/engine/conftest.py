"""The engine's tests run in the engine's Python; some compare with reference tensors of the published models."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import threading
import types
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from afterimage.engine import faults
from afterimage.engine.contract import Generate, Sampling, Source, SuperResolve
from afterimage.engine.settings import Settings

collect_ignore_glob = [] if find_spec("rasterio") else ["*"]

SETTINGS = Settings(device="cpu", threads=1)


class Run:
    """A job run in this process, with everything it told."""

    def __init__(self, null):
        self.null, self.events, self.cancelled, self.drawn = null, [], threading.Event(), []
        self.on_draw = lambda part: None

    def __call__(self, folder, settings=SETTINGS, **tasks):
        from afterimage.engine.runner import run

        self.events, self.drawn = [], []
        plans = {Generate: self.null.plan_generate, SuperResolve: self.null.plan_super_resolve}
        ending = run(
            folder,
            folder.name,
            self.events.append,
            self.cancelled,
            settings,
            self.null,
            {kind: self._spied(plan) for kind, plan in plans.items()},
        )
        self.events.append(ending)
        return ending

    def _spied(self, plan):
        def spied(request, folder, model, ctx):
            work = plan(request, folder, model, ctx)

            def draw(chunk, sample, part):
                self.drawn.append((sample, chunk))
                self.on_draw(part)
                return work.draw(chunk, sample, part)

            return dataclasses.replace(work, draw=draw)

        return spied


def super_resolve(name="source.tif", samples=1, spread=False, bands=(), factor=2, mean=False):
    sampling = Sampling(1, 1, "null", samples=samples)
    return SuperResolve("null", Source(name, "layer", bands), factor, 10.0, sampling, spread, mean=mean)


def code(ending):
    assert type(ending).__name__ == "Failed", ending
    failure = ending.failure
    assert failure.message and failure.hint, "a sentence and a next step"
    assert "Traceback" not in failure.message + failure.hint
    assert str(Path.home()) not in failure.detail
    return failure.code


@pytest.fixture(scope="session")
def make_reference(root: Path) -> Callable[[Path], Any]:
    """Opens a family's references: ``make_reference(folder)``; see ``tests/support/reference.py``."""
    spec = importlib.util.spec_from_file_location("reference", root / "tests" / "support" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def make(folder: Path) -> Any:
        if not (folder / "refs.npz").is_file():
            reason = f"there are no references of {folder.name}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        return module.Reference(folder)

    return make


@pytest.fixture(scope="session")
def crs_checkpoint(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference checkpoint of CRS-Diff as safetensors: no process has to convert it at each import."""
    from afterimage.engine.models.statedict import read_tensors
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("crsdiff")
    shutil.copytree(parity / "crsdiff" / "tokenizer", folder / "tokenizer")
    shutil.copyfile(parity / "crsdiff" / "config.json", folder / "config.json")
    tensors = read_tensors(parity / "crsdiff" / "last.ckpt")
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, folder / "last.safetensors")
    return folder / "last.safetensors"


@pytest.fixture
def start(null_engine: types.ModuleType) -> Iterator[Run]:
    """Runs job folders of the null model in this process: ``start(folder)`` gives the ending."""
    yield Run(null_engine)
    faults.arm("")
