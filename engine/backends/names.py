"""The backends by their names, and which of them a machine has."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import InvalidRequest

#: torch as it is; with the channels of a pixel side by side; onnxruntime on a CPU.
NAMES = ("eager", "channels_last", "onnxruntime")
#: What ``Settings.backend`` may say besides: the fastest, as measured.
AUTO = "auto"
HINT = "Set AFTERIMAGE_BACKEND to auto or eager, and run again."


class BackendRefused(InvalidRequest):
    """A backend that this machine has and that cannot run this model, or draws other pictures with it than eager."""

    hint = HINT


def available(device: str) -> tuple[str, ...]:
    """The backends that this machine has for a device ("cpu", "cuda:1"); without importing torch."""
    kind = device.partition(":")[0]
    found = ["eager", "channels_last"]
    if kind == "cpu" and find_spec("onnxruntime") is not None:
        found.append("onnxruntime")
    return tuple(found)


def check_backend(name: str, device: str) -> None:
    """See whether there is such a backend here.

    Raises:
        InvalidRequest: where it is unknown, or not on this machine for this device.
    """
    if name == AUTO or name in available(device):
        return
    choices = f"Choose one of {', '.join((AUTO, *available(device)))}, in AFTERIMAGE_BACKEND."
    if name in NAMES:
        raise InvalidRequest(f"The backend {name} is not available on this machine for the device {device}.", choices)
    raise InvalidRequest(f"There is no backend {name[:40]!r}.", choices)


def check_name(name: str) -> None:
    """See whether there is such a backend anywhere, for those who draw on other machines.

    Raises:
        InvalidRequest: where it is unknown.
    """
    if name not in (AUTO, *NAMES):
        raise InvalidRequest(
            f"There is no backend {name[:40]!r}.",
            f"Choose one of {', '.join((AUTO, *NAMES))}, in AFTERIMAGE_BACKEND.",
        )


def check_eager(name: str, model: str) -> None:
    """See whether a backend runs a model that can only be run as torch has it.

    Args:
        name: of the backend.
        model: name of the model, for people.

    Raises:
        BackendRefused: where it does not.
    """
    if name not in (AUTO, "eager"):
        raise BackendRefused(f"The model {model} cannot be run by {name}.")
