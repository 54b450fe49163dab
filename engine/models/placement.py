"""Where the networks of a model lie while it draws, and in which type: one rung of ``memory``, made true by hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .memory import Rung

#: Layers that are kept in half precision; whatever comes to them is rounded to it. Lone numbers stay as they are.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)
#: Modules of a U-Net or a ControlNet that stay in float32. What is made of numbers would be rounded with them (a
#: longitude to 0.2 degrees, in float16), and what comes out last would lose digits that the scheduler counts with.
#: diffusers takes the type of its time embedding from the sample, and a ControlNet's from its first layer: with that
#: layer in float32 both are.
EXACT = ("conv_in", "conv_out", "time_embedding", "class_embedding", "add_embedding")
_HOST = torch.device("cpu")


class Placement:
    """The networks of a model, placed.

    Args:
        parts: name of ``memory.PARTS`` -> networks; under any other name those that are always on the device and in
            float32.
        rung: how.
        device: where the networks run.
        half: the type of two bytes a weight.

    Raises:
        torch.OutOfMemoryError: they do not fit; ``release`` puts them back.
    """

    def __init__(
        self, parts: Mapping[str, Sequence[nn.Module]], rung: Rung, device: torch.device, half: torch.dtype
    ) -> None:
        self._networks = [network for networks in parts.values() for network in networks]
        self._device = device
        self._hooks: list[Any] = []
        self._guests: list[_Guest] = []
        self._turns = "unet" in rung.waiting
        self._codec: _Guest | None = None
        for part, networks in parts.items():
            for network in networks:
                if rung.half and part in ("text", "unet", "control"):
                    self._hooks += to_half(network, half)
                if part in rung.waiting:
                    self._invite(part, network)

    def settle(self) -> None:
        """Move what is always there to the device. Raises like the class."""
        guests = {id(guest.network) for guest in self._guests}
        for network in self._networks:
            if id(network) not in guests:
                network.to(self._device)

    def release(self) -> None:
        """Put every network into main memory, and let go of them; their type stays."""
        for hook in self._hooks:
            hook.remove()
        for guest in self._guests:
            guest.leave()
        for network in self._networks:
            network.to(_HOST)

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """Around a call of the autoencoder, which has several doors."""
        if self._codec is None:
            yield
            return
        self._bring(self._codec)
        try:
            yield
        finally:
            self._codec.leave()

    def _invite(self, part: str, network: nn.Module) -> None:
        guest = _Guest(network, self._device)
        self._guests.append(guest)
        if part == "codec":
            self._codec = guest
            return

        def arrive(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            self._bring(guest)
            return _moved(args, self._device), _moved(kwargs, self._device)

        self._hooks.append(network.register_forward_pre_hook(arrive, with_kwargs=True))
        if part == "text":  # once for each text; the others go when somebody else needs the room
            leave = network.register_forward_hook(lambda *_: guest.leave(), always_call=True)
            self._hooks.append(leave)

    def _bring(self, guest: _Guest) -> None:
        for other in self._guests if self._turns else ():
            if other is not guest:
                other.leave()
        guest.bring()


class _Guest:
    """A network whose weights lie in main memory, and on the device while it is at work."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self._device = network, device
        self._is_here = False
        self._weights: list[tuple[dict[str, Any], str, Tensor]] = [
            (names, name, tensor)
            for module in network.modules()
            for names in (module._parameters, module._buffers)
            for name, tensor in names.items()
            if tensor is not None
        ]

    def bring(self) -> None:
        """Copy the weights to the device."""
        if self._is_here:
            return
        self._is_here = True
        for names, name, tensor in self._weights:
            copy = tensor.to(self._device)
            names[name] = nn.Parameter(copy, requires_grad=False) if isinstance(tensor, nn.Parameter) else copy

    def leave(self) -> None:
        """Drop the copies. Nothing is copied back, because nothing changes weights."""
        for names, name, tensor in self._weights if self._is_here else ():
            names[name] = tensor
        self._is_here = False


def to_half(network: nn.Module, half: torch.dtype) -> list[Any]:
    """Keep a network's layers in a type of two bytes, but ``EXACT``; gives the hooks that round what reaches them."""
    hooks = []
    for name, module in network.named_modules():
        first = name.removeprefix("trunk.").split(".")[0]
        if not isinstance(module, LAYERS) or next(module.parameters(), None) is None:
            continue
        if first in EXACT:
            if first == "conv_in":
                hooks.append(module.register_forward_hook(lambda _, args, output: output.to(half)))
            elif first == "conv_out":
                hooks.append(module.register_forward_pre_hook(lambda _, args: (args[0].float(),)))
            continue
        module.to(half)
        hooks.append(module.register_forward_pre_hook(lambda _, args: _rounded(args, half)))
    return hooks


def _rounded(args: tuple[Any, ...], half: torch.dtype) -> tuple[Any, ...]:
    return tuple(each.to(half) if isinstance(each, Tensor) and each.is_floating_point() else each for each in args)


def _moved(value: Any, device: torch.device) -> Any:
    """A value with every tensor in it on the device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(each, device) for each in value)
    if isinstance(value, dict):
        return {name: _moved(each, device) for name, each in value.items()}
    return value
