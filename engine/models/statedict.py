"""Tensors of published networks: safetensors or plain tensors in a pickle, and every key accounted for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import EngineError, WeightsDamaged, WeightsMissing
from .filenames import FILES

#: Old name -> new name of the parts of an attention layer in autoencoders written before diffusers 0.18.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
#: Classes that Lightning before 1.5 names in its checkpoints, as keys of what its callbacks remember.
CALLBACKS = (
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)
N = TypeVar("N", bound=nn.Module)


class _Callback:
    """Stands for a callback's class while a checkpoint is read; nothing of Lightning is imported or run."""


def component_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of one network's folder, as stored.

    Raises:
        WeightsMissing: there is no file of weights in it.
        WeightsDamaged: it cannot be read, or holds more than tensors.
    """
    for name in FILES:
        if (folder / name).is_file():
            return read_tensors(folder / name)
    raise WeightsMissing(
        f"The folder {folder.name} has a configuration and no weights.", f"Put one of {', '.join(FILES)} into it."
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a file; of a training checkpoint, its ``state_dict``.

    A pickle is read with ``weights_only=True``: it can make tensors and plain containers and can call nothing else.

    Raises:
        WeightsMissing: there is no such file.
        WeightsDamaged: it cannot be read, or holds more than tensors.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([(_Callback, name) for name in CALLBACKS]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsMissing(f"The file {path.name} is not there.") from error
    except Exception as error:  # bytes that are no pickle may raise anything, from IndexError to struct.error
        raise WeightsDamaged(
            f"The file {path.name} cannot be read as weights.",
            "Get the file again. A pickle that holds more than tensors is refused, because opening it could run code.",
        ) from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(_is_named_tensor(*each) for each in tensors.items()):
        raise WeightsDamaged(f"The file {path.name} holds something else than named tensors.")
    return dict(tensors)


@contextmanager
def described(name: str, what: str = "network") -> Iterator[None]:
    """Around what is made from a configuration: whatever that raises is the configuration's fault.

    Args:
        name: of the component, for people.
        what: it should make.

    Raises:
        WeightsDamaged: it could not be made. Errors of ours pass.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # libraries say in many ways that a value is none of those they can take
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsDamaged(f"The configuration of the {name} does not make a {what}: {said}") from error


def build(kind: type[N], config: Mapping[str, Any], name: str, own: Iterable[str] = ()) -> N:
    """A network of diffusers from its configuration, without memory for its weights yet.

    Args:
        kind: the class.
        config: its ``config.json``.
        name: of the component, for people.
        own: keys that the caller has taken care of.

    Raises:
        WeightsDamaged: the configuration asks for what the class does not know, or does not fit together.
    """
    known = set(inspect.signature(kind.__init__).parameters)
    given = {key: value for key, value in config.items() if not key.startswith("_") and key not in set(own)}
    # A null option changes nothing; any other that is not known would be left out and change the picture.
    strange = sorted(key for key, value in given.items() if key not in known and value is not None)
    if strange:
        raise WeightsDamaged(f"The configuration of the {name} asks for {', '.join(strange)}, which is not known here.")
    with described(name), torch.device("meta"):
        kept = {key: value for key, value in given.items() if key in known}
        return kind.from_config(kept)  # type: ignore[attr-defined]


def fill(network: N, tensors: Mapping[str, Tensor], name: str) -> N:
    """The network with these weights in float32, for inference; every tensor of one is one of the other.

    Args:
        network: made by ``build``, or with memory of its own.
        tensors: name -> tensor of any float type.
        name: of the component, for people.

    Raises:
        WeightsDamaged: keys are missing or too many, or shapes differ.
    """
    expected = check_shapes(network, tensors, name)
    network.load_state_dict({key: tensors[key].to(torch.float32) for key in expected}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def check_shapes(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """See whether the tensors are those of a network, which may be without memory; the network's own.

    Raises:
        WeightsDamaged: keys are missing or too many, or shapes differ.
    """
    expected = network.state_dict()
    check_keys(expected, tensors, name)
    for key, value in expected.items():
        if value.shape != tensors[key].shape:
            raise WeightsDamaged(
                f"In the {name}, {key} has shape {_shape(tensors[key])}; its configuration asks for {_shape(value)}.",
                "The configuration and the weights belong to different models: get both from the same place.",
            )
    return expected


def check_keys(expected: Iterable[str], given: Iterable[str], name: str) -> None:
    """See whether two sets of names are one.

    Raises:
        WeightsDamaged: with how many are missing and too many, and the first of each.
    """
    missing, surplus = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    faults = [f"{len(missing)} tensors are missing ({_first(missing)})"] if missing else []
    faults += [f"{len(surplus)} are not part of the network ({_first(surplus)})"] if surplus else []
    if faults:
        raise WeightsDamaged(
            f"The weights of the {name} do not fit its network: {' and '.join(faults)}.",
            "The folder is incomplete, damaged or of a family that is not known here: get it again from its source.",
        )


def renamed(tensors: Mapping[str, Tensor], name_of: Callable[[str], str]) -> dict[str, Tensor]:
    """The tensors under other names."""
    return {name_of(key): value for key, value in tensors.items()}


def without(tensors: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(those without the prefix, those with it, the prefix taken off)."""
    rest = {key: value for key, value in tensors.items() if not key.startswith(prefix)}
    taken = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return rest, taken


def new_attention_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An autoencoder's tensors with the attention names of today; 1x1 convolutions of old become linear layers."""
    result = {}
    for key, value in tensors.items():
        parts = key.split(".")
        if "attentions" in parts:
            parts = [OLD_ATTENTION.get(part, part) for part in parts]
            if value.ndim == 4:
                value = value[:, :, 0, 0]
        result[".".join(parts)] = value
    return result


def _is_named_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided


def _first(keys: list[str]) -> str:
    return keys[0] + (", ..." if len(keys) > 1 else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "of a single number"
