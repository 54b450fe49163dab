"""What a published model cannot do, and a model that is not what it should be, are refused in plain words."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from afterimage.engine.contract import (
    Control,
    ErrorCode,
    ModelCard,
    Notice,
    Source,
    dumps,
    loads,
)
from afterimage.engine.contract.bands import SENTINEL2
from safetensors.torch import load_file, save_file

from .jobs import (
    CASES,
    COARSE,
    FRAMES,
    ROADS,
    WIDE,
    edit,
    filled,
    forecast,
    frames,
    generate,
    multispectral,
    roads,
    scene,
    super_resolve,
    weights_of,
    with_maps,
    with_source,
)

#: The first to ask for a model waits for the imports before it.
pytestmark = pytest.mark.timeout(900)

#: What no person should read in a sentence.
INSIDES = re.compile(r"Traceback|Error\b|Exception|\.py\b|/tmp|self\.|None\b")


def assert_plain(failure, code: ErrorCode, *words: str) -> None:
    """That a person is told what is wrong and what to do."""
    assert failure.code is code, failure
    assert all(word in failure.message for word in words), failure
    assert failure.message.endswith(".") and failure.hint.endswith((".", "?")), failure
    assert not INSIDES.search(f"{failure.message} {failure.hint}"), failure


def change_text(**fields):
    """Write into ``request.json`` what the contract would not let a person make."""

    def change(folder):
        frames(folder)
        job = json.loads((folder / "request.json").read_text("utf-8"))
        for name, value in fields.items():
            job["request"]["sources"][1][name] = value
        (folder / "request.json").write_text(json.dumps(job), encoding="utf-8")

    return change


FOUR = (*FRAMES, replace(FRAMES[2], name="longest ago", date="2011-02-28"))

WITHOUT_B5 = tuple(name for name in SENTINEL2 if name != "B5")

REFUSED = {
    "four frames": (forecast(sources=FOUR), frames, ErrorCode.INVALID_REQUEST, "at most 3 layers"),
    "a layer without a date": (forecast(), change_text(date=None), ErrorCode.INVALID_REQUEST, "without a date"),
    "a date that is none": (forecast(), change_text(date="last May"), ErrorCode.INVALID_REQUEST, "YYYY-MM-DD"),
    "a layer that is not there": (
        forecast(sources=(*FRAMES[:2], replace(FRAMES[2], path="d.tif"))),
        frames,
        ErrorCode.SOURCE_UNREADABLE,
        "Layer 3 (long ago)",
    ),
    "bands that are missing": (
        super_resolve(),
        with_source(np.delete(multispectral(), 4, axis=0), COARSE, WITHOUT_B5),
        ErrorCode.UNSUPPORTED_RASTER,
        "B5",
    ),
    "three bands": (
        super_resolve(),
        with_source(multispectral()[:3], COARSE),
        ErrorCode.UNSUPPORTED_RASTER,
        "",
    ),
    "a control for a model that takes none": (
        generate("text2earth", controls=(ROADS,)),
        with_maps(roads=roads(64, 20)),
        ErrorCode.INVALID_REQUEST,
        "is not guided by roads",
    ),
    "a control of another model": (
        generate("crsdiff", WIDE, controls=(Control("map", Source("map.tif", "streets")),)),
        with_maps(map=scene(seed=5)),
        ErrorCode.INVALID_REQUEST,
        "is not guided by map",
    ),
    "a control that is missing": (
        generate("control"),
        lambda folder: None,
        ErrorCode.INVALID_REQUEST,
        "needs a layer of map",
    ),
    "a strength for a model without": (
        generate("crsdiff", WIDE, controls=(replace(ROADS, strength=0.5),)),
        with_maps(roads=roads(128, 20)),
        ErrorCode.INVALID_REQUEST,
        "knows no strength",
    ),
    "a strength of an edit": (
        edit("rsedit", strength=0.5),
        with_source(scene()),
        ErrorCode.INVALID_REQUEST,
        "knows no strength below 1",
    ),
    "another task": (edit("crsdiff"), with_source(scene()), ErrorCode.UNKNOWN_MODEL, "cannot do Edit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_model_cannot_is_refused_before_it_draws(do, card, name):
    request, prepare, code, words = REFUSED[name]
    event, stages, folder = do(filled(request, card(request.model)), prepare)
    assert type(event).__name__ == "Failed", event
    assert_plain(event.failure, code, words)
    assert "drawing" not in stages and not list(folder.glob("tiles/*")) and not list(folder.glob("outputs/*"))


def rehashed(folder: Path, **fields) -> None:
    """Make a card fit what its folder holds now, so that nothing but its content is wrong."""
    facts = loads(ModelCard, (folder / "card.json").read_bytes())
    changed = replace(facts, id=folder.name, weights=weights_of(folder), **fields)
    (folder / "card.json").write_text(dumps(changed), encoding="utf-8")


def retensored(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


KEY = "conv_in.weight"


def another_base(folder: Path, models) -> None:
    shutil.rmtree(folder / "unet")
    shutil.copytree(models.folder("rsedit") / "unet", folder / "unet")
    rehashed(folder)


DAMAGES: dict[str, tuple[str, Callable[[Path, Any], object], ErrorCode, str]] = {
    "wrong-family": (
        "diffusionsat",
        lambda folder, models: rehashed(folder, family="text2earth"),
        ErrorCode.UNKNOWN_MODEL,
        "of the family diffusionsat, not text2earth",
    ),
    "family-of-the-future": (
        "diffusionsat",
        lambda folder, models: rehashed(folder, family="hypersat"),
        ErrorCode.UNKNOWN_MODEL,
        "hypersat",
    ),
    "family-that-ships": (
        "diffusionsat",
        lambda folder, models: rehashed(folder, family="eo_latent"),
        ErrorCode.WEIGHTS_DAMAGED,
        "",
    ),
    "missing-key": (
        "diffusionsat",
        lambda folder, models: (retensored(folder, lambda tensors: tensors.pop(KEY)), rehashed(folder)),
        ErrorCode.WEIGHTS_DAMAGED,
        KEY,
    ),
    "extra-key": (
        "text2earth",
        lambda folder, models: (
            retensored(folder, lambda tensors: tensors.update({"mid.extra": torch.zeros(2)})),
            rehashed(folder),
        ),
        ErrorCode.WEIGHTS_DAMAGED,
        "mid.extra",
    ),
    "other-shape": (
        "text2earth",
        lambda folder, models: (
            retensored(folder, lambda tensors: tensors.update({KEY: tensors[KEY][:, :3].contiguous()})),
            rehashed(folder),
        ),
        ErrorCode.WEIGHTS_DAMAGED,
        KEY,
    ),
    "other-bytes": (
        "text2earth",
        lambda folder, models: retensored(folder, lambda tensors: tensors[KEY].add_(1)),
        ErrorCode.WEIGHTS_DAMAGED,
        "diffusion_pytorch_model",
    ),
    "another-base": ("control", another_base, ErrorCode.WEIGHTS_DAMAGED, "another base"),
    "no-autoencoder": (
        "text2earth",
        lambda folder, models: (shutil.rmtree(folder / "vae"), rehashed(folder)),
        ErrorCode.WEIGHTS_MISSING,
        "vae",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_model_that_is_not_what_it_should_be_is_refused(do, card, models, damaged, name):
    model, damage, code, words = DAMAGES[name]
    folder = Path(shutil.copytree(models.folder(model), damaged / name))
    rehashed(folder)
    damage(folder, models)
    request = filled(CASES[f"{card(model).family} generate"].request, card(model))
    event, stages, job = do(replace(request, model=name), with_maps(map=scene(seed=5)))
    assert type(event).__name__ == "Failed", event
    assert_plain(event.failure, code, words)
    assert "drawing" not in stages and not list(job.glob("tiles/*"))


def test_what_cannot_be_imported_leaves_nothing(models, parity, stock, tmp_path):
    damaged = Path(shutil.copytree(parity / "rsedit", tmp_path / "rsedit", ignore=shutil.ignore_patterns("refs.npz")))
    retensored(damaged, lambda tensors: tensors.pop(KEY))
    for words, own, sentence in (
        ((str(damaged), "--window", "64"), "missing-key", KEY),
        ((str(parity / "diffusionsat" / "controlnet_sr"), "--base", str(stock / "pipeline")), "base", "another base"),
    ):
        done = models.run("import", *words, "--id", own)
        assert done.returncode == 1, done.stdout + done.stderr
        refused = loads(Notice, done.stdout.splitlines()[-1])
        assert_plain(refused.failure, ErrorCode.WEIGHTS_DAMAGED, sentence)
        assert refused.id == own and not (models.store / own).exists()
