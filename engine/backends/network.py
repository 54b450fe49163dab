"""The networks of a model behind one door, whoever runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..contract import ModelCard
from .cache import Cache
from .export import digest
from .ways import OnnxRuntime, Way, make_way


class Network:
    """A network that one of several backends runs; eager until it is told another.

    Args:
        module: takes tensors and returns one.
        varies: whether the last two sides of its first input change from call to call; else each set of shapes is
            prepared by itself.
    """

    def __init__(self, module: nn.Module, varies: bool = False) -> None:
        self.module, self.varies = module.eval(), varies
        self._way: Way = self.module

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the module returns, but for rounding."""
        return self._way(*inputs)

    def prepare(self, *inputs: Tensor) -> None:
        """Have ready what calls with inputs of such shapes need, and call nothing. Raises what making it raises."""
        if isinstance(self._way, OnnxRuntime):
            self._way.prepare(*inputs)

    def take(self, way: Way) -> None:
        """Be run in this way from here on."""
        self._way = way


class Networks:
    """The networks of a model: one backend runs them all.

    Args:
        parts: name -> network, the one that denoises first.
    """

    def __init__(self, parts: Mapping[str, Network]) -> None:
        self.parts = dict(parts)
        self.backend = "eager"

    @property
    def denoiser(self) -> Network:
        """The one that nearly all of the time goes to."""
        return next(iter(self.parts.values()))

    def take(self, backend: str, cache: Cache) -> None:
        """Be run by this backend from here on; ``names.check_backend`` says whether it is there."""
        for part in self.parts.values():
            part.take(make_way(backend, part.module, part.varies, cache))
        self.backend = backend

    def digest(self) -> str:
        """A hash of all that they are."""
        return " ".join(digest(part.module) for part in self.parts.values())


@runtime_checkable
class Backed(Protocol):
    """A model whose networks several backends can run.

    Attributes:
        card: what it can do.
        device: where the networks live.
        networks: all that take time.
    """

    card: ModelCard
    device: torch.device
    networks: Networks

    def example(self, side: int | None = None) -> tuple[Tensor, ...]:
        """What the denoiser is given for one batch of windows, seeded.

        Args:
            side: of a window in output pixels, of ``card.windows``; None for ``card.window``.
        """

    def picture(self, side: int | None = None) -> Tensor:
        """A batch of pictures, about 0..1, of a short seeded run through all of the networks; ``side`` likewise."""

    def prepare(self) -> None:
        """Have all ready that drawing will ask the networks for, whatever way they are run in."""
