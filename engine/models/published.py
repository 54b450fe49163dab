"""The published models: a folder or a ``.ckpt`` of their weights to a model that runs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsMissing
from .latent_diffusion import LatentDiffusion
from .layout import CONTROL_BASE, recognise
from .statedict import described


def open_model(
    folder: Path | str, base: Path | str | None = None, device: torch.device | str = "cpu"
) -> LatentDiffusion:
    """The model in a folder, every key of every network accounted for, in float32.

    Args:
        folder: a pipeline folder, one of its components, a training checkpoint, a ControlNet, or a ``.ckpt``.
        base: for a ControlNet without a pipeline around it: the folder of its base; None looks in the folders above.
        device: where the networks go.

    Raises:
        WeightsMissing: a part of the model is not there.
        WeightsDamaged: its weights are not those of the networks that its configuration describes.
        UnknownModel: it is of no family that is known here.
        UnknownScheduler: its scheduler is not known here.
    """
    layout = recognise(Path(folder), Path(base) if base is not None else None)
    if layout.controlnet is not None and layout.unet is None:
        raise WeightsMissing(
            f"This is a {layout.kind} without its base: there is no U-Net in this folder or those above.",
            f"Name its base with --base (for DiffusionSat the folder that holds {CONTROL_BASE}).",
        )
    family = importlib.import_module(f".{layout.family}", __package__)
    with described("model"):  # what its parts have not refused in sentences of their own
        model: LatentDiffusion = family.load_model(layout)
    return model.to(device)


def examine(folder: Path | str, base: Path | str | None = None) -> dict[str, Any]:
    """What lies in a folder, having loaded it: family, kind, conditioning. Raises like ``open_model``."""
    layout = recognise(Path(folder), Path(base) if base is not None else None)
    model = open_model(folder, base)
    model.scheduler()
    found: dict[str, Any] = {"family": layout.family, "kind": layout.kind, **model.describe()}
    if layout.also_here:
        found["also_here"] = list(layout.also_here)
    return found
