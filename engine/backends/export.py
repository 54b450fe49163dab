"""A network of torch as an ONNX file, made once and kept."""

from __future__ import annotations

import hashlib
import importlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..device import libraries
from ..version import engine_version
from .cache import Cache

#: Version of the operators. 17 has all that our networks need; later ones are written by the other exporter alone.
OPSET = 17
OUTPUT = "output"


def onnx_of(module: nn.Module, inputs: tuple[Tensor, ...], varies: bool, cache: Cache) -> bytes:
    """The network as ONNX, its weights in it, for inputs of given shapes.

    Args:
        module: on the CPU; takes tensors and returns one.
        inputs: of the shapes and types that it will be given; their values do not count.
        varies: whether the last two sides of the first input may be others each time.
        cache: where it may lie already.
    """
    name = f"{_key(module, inputs, varies)}.onnx"
    found = cache.read(name)
    if found is None:
        found = _exported(module, inputs, varies)
        cache.write(name, found)
    return found


def names(count: int) -> list[str]:
    """Names of so many inputs."""
    return [f"input{place}" for place in range(count)]


def digest(module: nn.Module) -> str:
    """A hash of what a network is and of its weights, the same in every process.

    What diffusers notes for itself in a network's settings begins with an underscore. It decides no pixel, and one such
    note, the settings that were left at their defaults, is in the order of a set: another one in each process.
    """
    configs = [_settings(part.config) for part in module.modules() if hasattr(part, "config")]
    found = hashlib.sha256(repr((str(module), configs)).encode())
    for name, tensor in module.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    for name, buffer in module.named_buffers():  # those that are in no file decide pixels too
        found.update(name.encode())
        found.update(buffer.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()


def _settings(config: Any) -> list[tuple[str, str]] | str:
    """What decides pixels of the settings of a network: diffusers' are a mapping, others tell theirs as a text."""
    if not isinstance(config, Mapping):
        return str(config)
    return sorted((name, str(value)) for name, value in config.items() if not name.startswith("_"))


def _key(module: nn.Module, inputs: tuple[Tensor, ...], varies: bool) -> str:
    """What decides an export: the network, the shapes, and the versions of whoever writes and reads it.

    The code of our own networks is no weight and no setting of theirs: the engine's version stands for it.
    """
    versions = libraries()
    parts = [
        digest(module),
        [(str(each.dtype), list(each.shape)) for each in inputs],
        varies,
        OPSET,
        [versions[name] for name in ("torch", "diffusers", "onnxruntime")],
        engine_version(),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _exported(module: nn.Module, inputs: tuple[Tensor, ...], varies: bool) -> bytes:
    file = io.BytesIO()
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        warnings.catch_warnings(),
        _without_onnx_package(),
    ):
        warnings.simplefilter("ignore")  # of the tracer, about Python numbers that our fixed shapes make constants
        examples = tuple(torch.zeros(each.shape, dtype=each.dtype) for each in inputs)
        torch.onnx.export(
            module,
            examples,
            file,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=names(len(inputs)),
            output_names=[OUTPUT],
            dynamic_axes={names(1)[0]: {2: "height", 3: "width"}} if varies else None,
        )
    return file.getvalue()


@contextmanager
def _without_onnx_package() -> Iterator[None]:
    """Have torch's exporter skip the one step that needs the onnx package, which adds functions that we have none of.

    Its other exporter needs onnx and onnxscript as a whole, 80 MB for a file that torch's own C++ code writes. torch is
    pinned to one version; a test exports with it.
    """
    module: Any = importlib.import_module("torch.onnx._internal.torchscript_exporter.onnx_proto_utils")
    kept: Callable[[bytes, Any], bytes] = module._add_onnxscript_fn
    module._add_onnxscript_fn = lambda proto, opsets: proto
    try:
        yield
    finally:
        module._add_onnxscript_fn = kept
