"""Ways to run one network: a function of tensors each, with the same numbers but for rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .cache import Cache
from .export import OUTPUT, names, onnx_of

Way = Callable[..., Tensor]


class ChannelsLast:
    """torch with the channels of a pixel side by side in memory.

    Args:
        module: copied.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = copy.deepcopy(module).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """See ``Way``."""
        found: Tensor = self._module(*(_channels_last(each) for each in inputs))
        return found.contiguous()


class Compiled:
    """torch.compile over channels_last in float16, for NVIDIA's GPUs. No GPU has run it yet: the guard decides.

    Args:
        module: copied.
    """

    def __init__(self, module: nn.Module) -> None:
        plain = copy.deepcopy(module).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._module = torch.compile(plain, dynamic=False)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """See ``Way``."""
        with torch.autocast("cuda", torch.float16):
            found: Tensor = self._module(*(_channels_last(each) for each in inputs))
        return found.float().contiguous()


class OnnxRuntime:
    """onnxruntime on the CPU, with as many threads as torch has; one session for each set of shapes.

    Args:
        module: on the CPU; exported for the shapes that it is called with, or found exported.
        varies: whether the last two sides of its first input change from call to call.
        cache: where exports are kept.
    """

    def __init__(self, module: nn.Module, varies: bool, cache: Cache) -> None:
        self._module, self._varies, self._cache = module, varies, cache
        self._sessions: dict[Any, Any] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """See ``Way``."""
        feed = {name: each.contiguous().numpy() for name, each in zip(names(len(inputs)), inputs)}
        return torch.from_numpy(self._session(inputs).run([OUTPUT], feed)[0])

    def _session(self, inputs: tuple[Tensor, ...]) -> Any:
        key = tuple((each.dtype, each.shape[:2] if self._varies else each.shape) for each in inputs)
        if key not in self._sessions:
            self._sessions[key] = _open(onnx_of(self._module, inputs, self._varies, self._cache))
        return self._sessions[key]


def make_way(name: str, module: nn.Module, varies: bool, cache: Cache) -> Way:
    """A way by the name of its backend, of ``names.NAMES``."""
    if name == "onnxruntime":
        return OnnxRuntime(module, varies, cache)
    if name == "channels_last":
        return ChannelsLast(module)
    if name == "compile":
        return Compiled(module)
    return module


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _open(content: bytes) -> Any:
    """A session that gives the same bytes for the same input whenever it is asked.

    Raises:
        RuntimeError: where onnxruntime does not take the file; its own errors share no class with each other.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    onnxruntime.disable_telemetry_events()  # of its builds for Windows
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as OMP_WAIT_POLICY: idle threads sleep
    errors = tuple(each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except errors as error:
        raise RuntimeError(f"onnxruntime does not take the exported network: {error}") from error
