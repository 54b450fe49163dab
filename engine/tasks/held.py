"""Latents to pixels where the ground around is known: what a model can be held to is held when it is decoded, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..contract import CHUNK, Window
from ..diffusion import constraints
from ..diffusion.cache import TileCache
from ..diffusion.windows import Index, Lattice, blend
from ..models.base import EditModel
from .decoding import REMEMBERED
from .ground import Patch

#: Side in pixels of the squares that are joined to the ground at once, on absolute multiples of it.
BLOCK = CHUNK // 2


class HeldDecoding(Protocol):
    """From windows of latents to the pixels of a region that is joined to the ground around it.

    Attributes:
        edge: pixels at the rim of a region whose neighbours decide them, too: they are not returned.
    """

    edge: int

    def region(self, block: Window) -> Window:
        """The absolute pixels that decide those of the square that a block is part of: always the same number."""

    def needed(self, region: Window) -> list[Index]:
        """The windows that decide what is drawn there."""

    def pixels(self, region: Window, sample: int, tiles: Mapping[Index, Tensor], check: Callable[[], None]) -> Tensor:
        """Pixels (bands, h, w) in 0..1 of a region without its edge, on the device; right where they are drawn.

        Args:
            region: of ``region``.
            sample: number of the sample: what is remembered is its own.
            tiles: those of ``needed``.
            check: called before each piece of work; may raise to end it.
        """


class HeldBlocks:
    """Squares with the halo that they depend on, for decoders whose reach is known.

    Args:
        model: whose ``decode_halo`` is known.
        lattice: of its windows.
        patch: absolute pixels -> the ground there.
    """

    def __init__(self, model: EditModel, lattice: Lattice, patch: Callable[[Window], Patch]) -> None:
        self._model, self._lattice, self._patch = model, lattice, patch
        self.edge = (model.decode_halo or 0) * model.scale

    def region(self, block: Window) -> Window:
        """See ``HeldDecoding``."""
        scale = self._model.scale
        return _square(block).pad(self.edge + math.ceil(constraints.JOIN_REACH / scale) * scale)

    def needed(self, region: Window) -> list[Index]:
        """See ``HeldDecoding``: those that hold a latent which is not known wholly; the others draw nothing."""
        latents, scale = _latents(region, self._model.scale), self._model.scale
        blocks = self._patch(region).known.reshape(latents.height, scale, latents.width, scale)
        is_known: NDArray[np.bool_] = np.all(blocks, axis=(1, 3))
        found = []
        for index in self._lattice.touching(latents):
            shared = self._lattice.window(index).intersection(latents).relative_to(latents)
            if not is_known[shared.slices()].all():
                found.append(index)
        return found

    def pixels(self, region: Window, sample: int, tiles: Mapping[Index, Tensor], check: Callable[[], None]) -> Tensor:
        """See ``HeldDecoding``."""
        check()
        latents = _latents(region, self._model.scale)
        z = blend(self._lattice, tiles, latents, self._model.channels)
        inner = slice(self.edge, -self.edge) if self.edge else slice(None)
        return _decode(self._model, z, self._patch(region))[:, inner, inner]


class HeldWindows:
    """Whole windows, decoded and blended: for decoders that see all of a picture, and so know no halo.

    Only windows with something to draw in them are decoded. What such a window shows of the ground is its own, held or
    redrawn; of its neighbours it takes what they draw in the part that they share.

    Args:
        model: draws windows.
        lattice: of its windows.
        patch: absolute pixels -> the ground there.
    """

    edge = 0

    def __init__(self, model: EditModel, lattice: Lattice, patch: Callable[[Window], Patch]) -> None:
        self._model, self._lattice, self._patch = model, lattice, patch
        self._pixels = lattice.times(model.scale)
        self._cache = TileCache(REMEMBERED)

    def region(self, block: Window) -> Window:
        """See ``HeldDecoding``."""
        return _square(block).pad(constraints.JOIN_REACH)

    def needed(self, region: Window) -> list[Index]:
        """See ``HeldDecoding``."""
        return sorted({index for window in self._drawn(region) for index in self._parts(window)})

    def pixels(self, region: Window, sample: int, tiles: Mapping[Index, Tensor], check: Callable[[], None]) -> Tensor:
        """See ``HeldDecoding``; the ground itself where no window draws."""

        def decode(keys: list[tuple[int, Index]]) -> list[Tensor]:
            return [self._decode(index, tiles, check) for _, index in keys]

        keys = [(sample, index) for index in self._drawn(region)]
        decoded = {index: picture for (_, index), picture in self._cache.get(keys, decode).items()}
        covered = torch.zeros(region.height, region.width, dtype=torch.bool)
        for index in decoded:
            covered[self._pixels.window(index).intersection(region).relative_to(region).slices()] = True
        drawn = blend(self._pixels, decoded, region, len(self._model.card.bands))
        return torch.where(covered, drawn, self._patch(region).unit).to(self._model.device)

    def _drawn(self, region: Window) -> list[Index]:
        """The windows of a region that draw anything, there or elsewhere."""
        found = self._pixels.touching(region)
        return [index for index in found if self._patch(self._pixels.window(index)).repaint.any()]

    def _parts(self, index: Index) -> list[Index]:
        """The windows that share with this one something to draw; itself among them."""
        own = self._pixels.window(index)
        repaint = self._patch(own).repaint
        return [
            other
            for other in self._pixels.touching(own)
            if repaint[self._pixels.window(other).intersection(own).relative_to(own).slices()].any()
        ]

    def _decode(self, index: Index, tiles: Mapping[Index, Tensor], check: Callable[[], None]) -> Tensor:
        check()
        parts = {other: tiles[other] for other in self._parts(index)}
        z = blend(self._lattice, parts, self._lattice.window(index), self._model.channels)
        return _decode(self._model, z, self._patch(self._pixels.window(index))).float().cpu()


def make_held(model: EditModel, lattice: Lattice, patch: Callable[[Window], Patch]) -> HeldDecoding:
    """The way that fits a model's decoder."""
    if model.decode_halo is None:
        return HeldWindows(model, lattice, patch)
    return HeldBlocks(model, lattice, patch)


@torch.inference_mode()
def _decode(model: EditModel, z: Tensor, patch: Patch) -> Tensor:
    """Latents (channels, h, w) to pixels (bands, H, W), those of the ground held where a model does not see it."""
    z = z[None].to(model.device)
    if model.holds:
        known = torch.from_numpy(patch.known)[None, None].to(model.device)
        z = model.holder(patch.unit[None].to(model.device), known)(z)
    return model.decode(z)[0]


def _square(block: Window) -> Window:
    return Window(block.row // BLOCK * BLOCK, block.col // BLOCK * BLOCK, BLOCK, BLOCK)


def _latents(window: Window, scale: int) -> Window:
    """The latents of a window of absolute pixels whose edges lie on theirs."""
    return Window(window.row // scale, window.col // scale, window.height // scale, window.width // scale)
