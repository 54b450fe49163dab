"""Ways to run one network: a function of tensors each, with the same numbers but for rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        """See ``Way``.

        Raises:
            RuntimeError: where onnxruntime cannot run the network.
        """
        feed = {name: each.contiguous().numpy() for name, each in zip(names(len(inputs)), inputs)}
        session = self._session(inputs)
        with _plain_errors("run"):
            return torch.from_numpy(session.run([OUTPUT], feed)[0])

    def prepare(self, *inputs: Tensor) -> None:
        """Have the session for inputs of such shapes, and call nothing.

        Raises:
            RuntimeError: where the network cannot be exported, or onnxruntime does not take it.
        """
        self._session(inputs)

    def _session(self, inputs: tuple[Tensor, ...]) -> Any:
        key = tuple((each.dtype, each.shape[:2] if self._varies else each.shape) for each in inputs)
        if key not in self._sessions:
            self._sessions[key] = _open(onnx_of(self._module, inputs, self._varies, self._cache))
        return self._sessions[key]


def make_way(name: str, module: nn.Module, varies: bool, cache: Cache) -> Way:
    """A way by the name of its backend.

    Raises:
        ValueError: where it is none of ``names.NAMES``.
    """
    if name == "onnxruntime":
        return OnnxRuntime(module, varies, cache)
    if name == "channels_last":
        return ChannelsLast(module)
    if name == "eager":
        return module
    raise ValueError(f"there is no backend {name!r}")


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _open(content: bytes) -> Any:
    """A session that gives the same bytes for the same input whenever it is asked.

    Raises:
        RuntimeError: where onnxruntime does not take the file.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # of its builds for Windows
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as OMP_WAIT_POLICY: idle threads sleep
    with _plain_errors("take"):
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@contextmanager
def _plain_errors(what: str) -> Iterator[None]:
    """Around what onnxruntime does: its own errors share no class with each other.

    Args:
        what: it should do with the network, a verb.

    Raises:
        RuntimeError: in place of any of them.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    errors = tuple(each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))
    try:
        yield
    except errors as error:
        raise RuntimeError(f"onnxruntime does not {what} the exported network: {error}") from error
