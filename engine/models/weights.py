"""Networks from files: safetensors only, every key accounted for, every byte as the card says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from ..errors import WeightsDamaged, WeightsMissing

WEIGHTS = "diffusion_pytorch_model.safetensors"
N = TypeVar("N", bound=nn.Module)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        WeightsMissing: there is no such file.
        WeightsDamaged: it is not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise WeightsMissing(f"The model's file {path.parent.name}/{path.name} is not there.") from error
    except (ValueError, RecursionError, OSError) as error:
        raise WeightsDamaged(f"The model's file {path.parent.name}/{path.name} cannot be read.") from error
    if not isinstance(value, dict):
        raise WeightsDamaged(f"The model's file {path.parent.name}/{path.name} cannot be read.")
    return value


def load_network(kind: type[N], folder: Path, component: str, digests: Mapping[str, str]) -> N:
    """A component of a model, strictly.

    Args:
        kind: class with ``from_config``, of diffusers or ours.
        folder: of the model.
        component: name of the component's folder in it.
        digests: file below the model's folder -> hash, of its card.

    Returns:
        The network in float32 on the CPU, for inference.

    Raises:
        WeightsMissing: a file is not there.
        WeightsDamaged: a file has other bytes than the card names, or other tensors than the network has.
    """
    config = read_json(folder / component / "config.json")
    name = f"{component}/{WEIGHTS}"
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise _unreadable(name, error) from error
    if digest(content) != digests.get(name):
        raise WeightsDamaged(f"The model's file {name} is not the one that its card names.")
    try:
        tensors = {key: value.to(torch.float32) for key, value in load(content).items()}
        network = kind.from_config(config)  # type: ignore[attr-defined]
        network.load_state_dict(tensors, strict=True)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsDamaged(f"The model's file {name} does not fit its network.") from error
    return network.eval().requires_grad_(False)


def digest(content: bytes) -> str:
    """The hash of a file of weights as a card records it. Its prefix says which, and that it is no secret."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def check_files(folder: Path, digests: Mapping[str, str]) -> None:
    """See that the files below a folder are those that a card names; they may be larger than memory.

    Raises:
        WeightsMissing: one is not there.
        WeightsDamaged: one has other bytes or cannot be read, or the card names none.
    """
    if not digests:
        raise WeightsDamaged("The model's card does not say which files it is made of.")
    for name, expected in digests.items():
        try:
            with open(folder / name, "rb") as file:
                found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(name, error) from error
        if found != expected:
            raise WeightsDamaged(f"The model's file {name} is not the one that its card names.")


def _unreadable(name: str, error: OSError) -> WeightsMissing | WeightsDamaged:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return WeightsMissing(f"The model's file {name} is not there.")
    return WeightsDamaged(
        f"The model's file {name} cannot be read.", "See who may read the folder of the models, then try again."
    )


def digests(folder: Path) -> dict[str, str]:
    """The hash of every file of weights below a model's folder, as its card records them."""
    files = sorted(folder.rglob("*.safetensors"))
    return {path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in files}
