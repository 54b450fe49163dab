"""Every family of published models, imported and run by the real engine process: tiny checkpoints."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import pytest
import torch
from afterimage.engine.contract import (
    ModelCard,
    Submit,
    loads,
)
from diffusers import ControlNetModel, UNet2DConditionModel


@pytest.fixture(scope="session")
def stock(parity, tmp_path_factory):
    """A stock pipeline and a ControlNet for it, random: text side, autoencoder and schedule of a reference."""
    folder = tmp_path_factory.mktemp("stock") / "pipeline"
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(parity / "rsedit" / part, folder / part)
    sizes: dict[str, Any] = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": json.loads((folder / "text_encoder" / "config.json").read_text())["hidden_size"],
    }
    with torch.random.fork_rng():
        torch.manual_seed(5)
        ups = ("UpBlock2D", "CrossAttnUpBlock2D")
        UNet2DConditionModel(in_channels=4, sample_size=8, up_block_types=ups, **sizes).save_pretrained(folder / "unet")
        control = ControlNetModel(conditioning_embedding_out_channels=(4, 8, 8, 12), **sizes)
        for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=0.3)  # made as zeros, which would steer nothing
        for weight in control.controlnet_cond_embedding.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=2 / weight[0].numel() ** 0.5)
    control.save_pretrained(folder.parent / "control")
    return folder.parent


@pytest.fixture(scope="session")
def xl(parity, tiny_xl, tmp_path_factory):
    """Stable Diffusion XL for text to image and for inpainting, and a ControlNet, random."""
    folder = tmp_path_factory.mktemp("xl")
    for name, channels in (("pipeline", 4), ("inpainting", 9)):
        tiny_xl.write_pipeline(folder / name, parity / "rsedit" / "tokenizer", channels)
    tiny_xl.write_control(folder / "control")
    return folder


@pytest.fixture(scope="session")
def models(parity, stock, xl, save_tower, tmp_path_factory, import_models):
    small = ("--window", "64")
    tower = save_tower(tmp_path_factory.mktemp("tower"))
    return import_models(
        sys.executable,
        {
            "diffusionsat": (str(parity / "diffusionsat"), *small),
            "sentinel": (str(parity / "diffusionsat" / "controlnet_sr"), *small),
            "series": (str(parity / "diffusionsat" / "controlnet3d"), *small),
            "text2earth": (str(parity / "text2earth"), *small),
            "inpainting": (str(parity / "text2earth" / "text2earth-inpainting"), *small),
            "rsedit": (str(parity / "rsedit"), *small),
            "crsdiff": (str(parity / "crsdiff" / "last.ckpt"), "--window", "128"),
            "reader": (str(parity / "crsdiff" / "last.ckpt"), "--window", "128", "--tower", str(tower)),
            "stock": (str(stock / "pipeline"), *small),
            "control": (str(stock / "control"), "--base", str(stock / "pipeline"), "--control", "map", *small),
            "xl": (str(xl / "pipeline"), *small),
            "xl-inpainting": (str(xl / "inpainting"), *small),
            "xl-control": (str(xl / "control"), "--base", str(xl / "pipeline"), "--control", "edges", *small),
        },
    )


@pytest.fixture(scope="session")
def card(models):
    """The card of a model, once that is imported."""

    def read(model: str) -> ModelCard:
        return loads(ModelCard, (models.folder(model) / "card.json").read_bytes())

    return read


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A folder of models that the engine lists beside the store."""
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def engine(models, damaged, engine_of):
    return engine_of(AFTERIMAGE_STORE=str(models.store), AFTERIMAGE_MODELS=str(damaged), AFTERIMAGE_DEVICE="cpu")


@pytest.fixture
def do(engine, make_job):
    """Run a request to its end: ``do(request, prepare)``, each time in a folder of its own."""
    count = 0

    def do(request, prepare=lambda folder: None):
        nonlocal count
        count += 1
        folder = make_job(f"job{count}", request=request)
        prepare(folder)
        engine.send(Submit(str(folder), str(folder)))
        stages = []
        while (event := engine.event(240)) is not None:
            if event.job == str(folder):
                if type(event).__name__ in ("Succeeded", "Failed", "Cancelled"):
                    return event, stages, folder
                stages.append(getattr(event, "stage", ""))
        pytest.fail(f"the engine ended:\n{engine.log.read_text(errors='replace')[-3000:]}")

    return do


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the engine's: what is compared byte by byte must be added up in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
