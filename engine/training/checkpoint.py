"""The state of a training run: a folder of small safetensors files, put in place as a whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

#: Most bytes of a file: machines that are lent for an hour often give back small files only.
SHARD = 15_000_000
_PREFIX = "checkpoint-"


def find_checkpoint(folder: Path) -> Path | None:
    """The latest finished checkpoint of a run, or None."""
    finished = {
        int(number): path
        for path in folder.glob(f"{_PREFIX}*")
        if path.is_dir() and (number := path.name.removeprefix(_PREFIX)).isdigit()
    }
    return finished[max(finished)] if finished else None


def save_checkpoint(
    folder: Path,
    trained: nn.Module,
    averaged: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    progress: dict[str, Any],
) -> None:
    """Write the state beside the old one, give it its name, then remove the old one: a kill leaves one or the other.

    A step that is saved already stays as it is, since its state follows from the recipe: nothing is taken away first.

    Args:
        folder: of the run.
        trained: the modules that the optimizers change.
        averaged: their running average.
        optimizers: over the parameters of ``trained``.
        progress: JSON values: step, seconds spent.
    """
    before = find_checkpoint(folder)
    target = folder / f"{_PREFIX}{progress['step']}"
    if target.is_dir():
        return
    names = {id(parameter): name for name, parameter in trained.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("trained", trained), ("averaged", averaged)):
        tensors |= {f"{prefix}/{name}": _kept(p) for name, p in module.named_parameters()}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            tensors |= {f"optimizer/{names[id(parameter)]}/{key}": _kept(value) for key, value in state.items()}
    fresh = target.with_suffix(".writing")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for number, shard in enumerate(_shards(tensors)):
        path = fresh / f"{number:02d}.safetensors"
        save_file(shard, path, metadata={"progress": json.dumps(progress)})
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    os.replace(fresh, target)
    if before is not None:
        shutil.rmtree(before)


def load_checkpoint(
    folder: Path, trained: nn.Module, averaged: nn.Module, optimizers: list[torch.optim.Optimizer]
) -> dict[str, Any]:
    """Put a saved state back and return its progress.

    Raises:
        FileNotFoundError: no checkpoint there.
        KeyError: the checkpoint is of another network.
    """
    found = find_checkpoint(folder)
    if found is None:
        raise FileNotFoundError(f"no checkpoint in {folder}")
    tensors: dict[str, Tensor] = {}
    progress: dict[str, Any] = {}
    for path in sorted(found.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys()}
            progress = json.loads(file.metadata()["progress"])
    with torch.no_grad():
        for prefix, module in (("trained", trained), ("averaged", averaged)):
            for name, parameter in module.named_parameters():
                if f"{prefix}/{name}" not in tensors:
                    raise KeyError(f"the checkpoint has no {name}: it is of another network")
                parameter.copy_(tensors[f"{prefix}/{name}"])
    parameters = dict(trained.named_parameters())
    owners = {id(p): optimizer for optimizer in optimizers for g in optimizer.param_groups for p in g["params"]}
    for key in sorted(k for k in tensors if k.startswith("optimizer/")):
        _, name, entry = key.split("/")
        parameter = parameters[name]
        # AdamW counts its steps on the CPU wherever its parameters live
        value = tensors[key] if entry == "step" else tensors[key].to(parameter.device)
        owners[id(parameter)].state[parameter][entry] = value
    return progress


def _kept(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().cpu().contiguous().clone()


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors in files of at most ``SHARD`` bytes; a larger tensor has a file of its own."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        if shards[-1] and size + value.nbytes > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += value.nbytes
    return shards
