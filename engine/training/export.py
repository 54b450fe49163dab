"""Writing what was trained in the layout of a diffusers pipeline: fp16 safetensors beside JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_file, save_file
from torch import nn

WEIGHTS = "diffusion_pytorch_model.safetensors"


def save_component(module: ModelMixin, folder: Path) -> None:
    """Write a network's configuration and its weights in half precision.

    Args:
        module: a diffusers network, or one of ours with the same mixins.
        folder: of the component, made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: value.detach().to(torch.float16).contiguous() for name, value in module.state_dict().items()}
    save_file(halves, folder / WEIGHTS, metadata={"format": "pt"})
    module.save_config(folder)


def load_component(module: nn.Module, folder: Path) -> None:
    """Read the weights that ``save_component`` wrote into a network of the same configuration.

    Raises:
        RuntimeError: they are of another network.
    """
    weights = load_file(folder / WEIGHTS)
    module.load_state_dict({name: value.float() for name, value in weights.items()})


def save_index(folder: Path, components: dict[str, tuple[str, str]], settings: dict[str, Any]) -> None:
    """Write ``model_index.json``: which class each component is, and the family's own settings.

    Args:
        folder: of the model.
        components: name -> (library, class).
        settings: further JSON values.
    """
    index: dict[str, Any] = {"_class_name": "DiffusionPipeline", **settings}
    index |= {name: list(where) for name, where in components.items()}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
