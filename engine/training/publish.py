"""From a training run to a model that people can pick: weights, settings, and a card with the figures."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..contract import Measure, ModelCard, WireError, dumps, loads
from ..diffusion.loop import set_timesteps
from ..models import catalog, ddpm, eo_latent, eo_residual
from ..models.base import Scene
from ..models.eo_latent import LatentModel
from ..models.vocabulary import spelled
from ..models.weights import digests

CARDS = Path(__file__).parent / "cards"


def publish(
    export: Path,
    model_id: str,
    models: Path,
    measures: tuple[Measure, ...] = (),
    parts: Mapping[str, Path] = MappingProxyType({}),
) -> ModelCard:
    """Copy a finished export to the folder of models and write its card.

    Args:
        export: what a run left in ``export``.
        model_id: of a file in ``cards/``, which holds what people should read.
        models: folder of models.
        measures: figures to put on the card; without any, those of the card that is there stay if its weights do.
        parts: component -> folder of another run's export that takes its place.

    Raises:
        FileNotFoundError: there is no such card, or no export.
    """
    folder = models / model_id
    written = json.loads((CARDS / f"{model_id}.json").read_text(encoding="utf-8"))
    old = _read_card(folder / catalog.CARD)
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".publishing-") as place:
        fresh = Path(place) / model_id
        shutil.copytree(export, fresh)
        for name, part in parts.items():
            shutil.rmtree(fresh / name)
            shutil.copytree(part, fresh / name)
        card: ModelCard = loads(ModelCard, json.dumps(written | {"weights": digests(fresh)}))
        if not measures and old is not None and old.weights == card.weights:
            measures = old.measures
        card = replace(_with_costs(card, fresh), measures=measures)
        write_card(card, fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return card


def write_card(card: ModelCard, folder: Path) -> None:
    """Write a card, readable, beside its weights."""
    text = json.dumps(json.loads(dumps(card)), ensure_ascii=False, indent=2)
    (folder / catalog.CARD).write_text(text + "\n", encoding="utf-8")


def _read_card(path: Path) -> ModelCard | None:
    try:
        card: ModelCard = loads(ModelCard, path.read_bytes())
    except (FileNotFoundError, WireError):
        return None
    return card


def _with_costs(card: ModelCard, folder: Path) -> ModelCard:
    """The card with what can be counted: parameters, work, vocabulary."""
    device = torch.device("cpu")
    if card.family == "eo_residual":
        model = eo_residual.load_model(card, folder, device)
        x = torch.zeros(1, 3, card.window, card.window)
        step = gflop(lambda: model.predict(x, torch.tensor(1), x, card.factors[0]))
        return replace(card, gflop_per_window_step=step, parameters=count(folder), memory_mb=700)
    if card.family == "ddpm":
        pixels = ddpm.load_model(card, folder, device)
        x = torch.zeros(1, pixels.channels, pixels.window, pixels.window)
        step = gflop(lambda: pixels.predict(x, torch.tensor(1)))
        return replace(card, gflop_per_window_step=step, parameters=count(folder), memory_mb=700)
    latent = eo_latent.load_model(card, folder, device)
    z = torch.zeros(1, latent.channels, latent.window, latent.window)
    tokens = _tokens(latent)
    card = replace(
        card,
        vocabulary=tuple(map(spelled, latent.vocabulary.classes)),
        halo=(latent.decode_halo or 0) * latent.scale,
        parameters=count(folder),
        memory_mb=700,
        guided=_guided(latent),
    )
    megapixel = 1e6 / (latent.window * latent.scale) ** 2
    return replace(
        card,
        gflop_per_window_step=gflop(lambda: latent.predict(z, torch.tensor(1), tokens)),
        gflop_decode_per_megapixel=round(gflop(lambda: latent.decode(z)) * megapixel, 1),
    )


def _guided(model: LatentModel) -> float:
    """The share of the card's steps in which guidance counts."""
    scheduler = model.scheduler(model.card.schedulers[0])
    set_timesteps(scheduler, model.card.steps)
    return round(sum(map(model.guides, scheduler.timesteps)) / model.card.steps, 3)


def _tokens(model: LatentModel) -> Any:
    return model.told(Scene(spelled(model.vocabulary.classes[0]), gsd=model.card.gsd[0]))[0]


def gflop(call: Callable[[], Any]) -> float:
    """Work of a call in GFLOP, two for each multiplication and addition."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    return round(counter.get_total_flops() / 1e9, 4)


def count(folder: Path) -> int:
    """Number of weights in a model's files."""
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            total += sum(nn.Parameter(file.get_tensor(key), requires_grad=False).numel() for key in file.keys())
    return total
