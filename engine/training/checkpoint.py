"""The state of a training run in one safetensors file, replaced as a whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

NAME = "checkpoint.safetensors"


def save_checkpoint(
    folder: Path,
    trained: nn.Module,
    averaged: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    progress: dict[str, Any],
) -> None:
    """Write the state beside the old one, then put it in its place, so that a kill leaves one or the other.

    Args:
        folder: of the run.
        trained: the modules that the optimizers change.
        averaged: their running average.
        optimizers: over the parameters of ``trained``.
        progress: JSON values: step, seconds spent.
    """
    names = {id(parameter): name for name, parameter in trained.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("trained", trained), ("averaged", averaged)):
        tensors |= {f"{prefix}/{name}": p.detach().contiguous().clone() for name, p in module.named_parameters()}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                tensors[f"optimizer/{names[id(parameter)]}/{key}"] = torch.as_tensor(value).contiguous().clone()
    target = folder / NAME
    temporary = target.with_suffix(".writing")
    save_file(tensors, temporary, metadata={"progress": json.dumps(progress)})
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, target)


def load_checkpoint(
    folder: Path, trained: nn.Module, averaged: nn.Module, optimizers: list[torch.optim.Optimizer]
) -> dict[str, Any]:
    """Put a saved state back and return its progress.

    Raises:
        FileNotFoundError: no checkpoint there.
        KeyError: the checkpoint is of another network.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint in {folder}")
    with safe_open(path, framework="pt") as file, torch.no_grad():
        keys = set(file.keys())
        for prefix, module in (("trained", trained), ("averaged", averaged)):
            for name, parameter in module.named_parameters():
                if f"{prefix}/{name}" not in keys:
                    raise KeyError(f"the checkpoint has no {name}: it is of another network")
                parameter.copy_(file.get_tensor(f"{prefix}/{name}"))
        parameters = dict(trained.named_parameters())
        owners = {id(p): optimizer for optimizer in optimizers for g in optimizer.param_groups for p in g["params"]}
        for key in sorted(k for k in keys if k.startswith("optimizer/")):
            _, name, entry = key.split("/")
            parameter = parameters[name]
            owners[id(parameter)].state[parameter][entry] = file.get_tensor(key)
        return dict(json.loads(file.metadata()["progress"]))
