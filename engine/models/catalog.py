"""The models that there are: those in folders with a card, and tiny ones with random weights for tests."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract import ModelCard, WireError, loads
from ..errors import UnknownModel
from ..settings import Settings

if TYPE_CHECKING:
    from .base import GenerateModel, SuperResolveModel

log = logging.getLogger(__name__)

CARD = "card.json"
#: Family on a card -> the file beside this one that loads it.
FAMILIES = ("eo_latent", "eo_residual", "ddpm")
#: Families of published models, in their authors' layouts: ``published`` opens them all, ``picture`` fits them in.
PUBLISHED = (
    "diffusionsat",
    "diffusionsat_control",
    "diffusionsat_temporal",
    "text2earth",
    "crs_diff",
    "rsedit",
    "stable_diffusion",
    "stable_diffusion_control",
    "stable_diffusion_xl",
    "stable_diffusion_xl_control",
)

_TINY = (
    ModelCard(
        id="tiny-generate",
        name="Tiny (random weights)",
        summary="For tests: draws noise.",
        family="eo_latent",
        version="0",
        tasks=("Generate", "Edit"),
        bands=("red", "green", "blue"),
        gsd=(10.0, 10.0),
        window=64,
        stride=48,
        schedulers=("DPM++ 2M", "DDIM", "DDPM"),
        steps=4,
        guidance_scale=2.0,
        uses=("prompt", "negative_prompt", "strength", "margin"),
        vocabulary=("forest", "river", "sea lake"),
        parameters=38_000,
        memory_mb=400,
        gflop_per_window_step=0.005,
        gflop_decode_per_megapixel=1.0,
        pickable=False,
    ),
    ModelCard(
        id="tiny-superresolve",
        name="Tiny (random weights)",
        summary="For tests: adds noise.",
        family="eo_residual",
        version="0",
        tasks=("SuperResolve",),
        bands=("red", "green", "blue"),
        gsd=(0.1, 60.0),
        window=64,
        stride=48,
        factors=(2, 4),
        gives_mean=True,
        schedulers=("DPM++ 2M", "DDIM", "DDPM"),
        steps=2,
        parameters=35_000,
        memory_mb=400,
        gflop_per_window_step=0.02,
        pickable=False,
    ),
    ModelCard(
        id="tiny-ddpm",
        name="Tiny DDPM (random weights)",
        summary="For tests: draws noise, and is told nothing.",
        family="ddpm",
        version="0",
        tasks=("Generate",),
        bands=("red", "green", "blue"),
        gsd=(10.0, 10.0),
        window=32,
        stride=24,
        schedulers=("DDPM", "DDIM", "DPM++ 2M"),
        steps=4,
        parameters=30_000,
        memory_mb=400,
        gflop_per_window_step=0.002,
        pickable=False,
    ),
)


def cards(settings: Settings) -> tuple[ModelCard, ...]:
    """Every model that is installed, those that ship first; without importing torch."""
    return tuple(card for card, _ in _rows(settings).values())


def load(model_id: str, settings: Settings) -> GenerateModel | SuperResolveModel:
    """A model on its device, its weights checked; a published one comes there when it is settled.

    Raises:
        UnknownModel: none has this id, or its family is not one of ours.
        WeightsMissing: one of its files is not there.
        WeightsDamaged: one of its files is not the one that its card names.
        InvalidRequest: for a device or a backend that is not here, or a backend that does not run this model.
    """
    from ..backends.choice import take
    from ..backends.names import check_backend, check_eager
    from ..device import torch_device

    rows = _rows(settings)
    if model_id not in rows:
        raise UnknownModel(f"There is no model {model_id[:60]!r} here.")
    card, folder = rows[model_id]
    device = torch_device(settings)
    check_backend(settings.backend, device.type)
    if card.family in PUBLISHED and folder is not None:
        from .picture import load_model

        check_eager(settings.backend, card.name)
        return load_model(card, folder, device)
    if card.family not in FAMILIES:
        raise UnknownModel(f"The model {card.name} is of the family {card.family!r}, which this version cannot run.")
    family = importlib.import_module(f".{card.family}", __package__)
    model: GenerateModel | SuperResolveModel = (
        family.make_tiny(card, device) if folder is None else family.load_model(card, folder, device)
    )
    take(model, settings)
    return model


def _rows(settings: Settings) -> dict[str, tuple[ModelCard, Path | None]]:
    """Id -> (card, folder); the first of two with the same id counts."""
    rows: dict[str, tuple[ModelCard, Path | None]] = {}
    for root in (settings.models, settings.store, *settings.more_models):
        for path in sorted(root.glob(f"*/{CARD}")):
            try:
                card: ModelCard = loads(ModelCard, path.read_bytes())
            except (OSError, WireError) as error:
                log.warning("left out the model in %s: %s", path.parent.name, error)
                continue
            rows.setdefault(card.id, (card, path.parent))
    return rows | {card.id: (card, None) for card in _TINY}
