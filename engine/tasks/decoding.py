"""Latents of an endless lattice to pixels: a pixel is the same whichever part of an extent it is asked for in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..contract import CHUNK, Window
from ..diffusion.cache import TileCache
from ..diffusion.windows import Index, Lattice, blend, squares
from ..models.base import GenerateModel

#: Side in output pixels of the squares that are decoded at once where a decoder's reach is known.
BLOCK = CHUNK // 2
#: Bytes of decoded windows that are remembered for the chunks beside and below.
REMEMBERED = 128 * 1024 * 1024


class BlockDecoding:
    """Squares with the halo that they depend on, each decoded by itself: the same as if all were decoded at once.

    Args:
        model: whose ``decode_halo`` is known.
        lattice: of its windows.
        halo: latents around a block that its decoding depends on.
        is_drawn: whether anything in a window of absolute pixels is wanted; where not, pixels are 0.
    """

    def __init__(self, model: GenerateModel, lattice: Lattice, halo: int, is_drawn: Callable[[Window], bool]) -> None:
        self._model, self._lattice, self._halo, self._is_drawn = model, lattice, halo, is_drawn

    def latents(self, area: Window) -> list[Window]:
        """The latents that decide the pixels of an area of absolute pixels."""
        return [self._square(block) for block in squares(area, BLOCK) if self._is_drawn(block)]

    def pixels(self, area: Window, sample: int, tiles: Mapping[Index, Tensor], check: Callable[[], None]) -> Tensor:
        """Pixels (bands, height, width) in 0..1 of an area of absolute pixels, on the CPU.

        Args:
            area: any.
            sample: number of the sample, or of the frame on its way: what is remembered is its own.
            tiles: windows that touch ``latents(area)``.
            check: called before each piece of work; may raise to end it.
        """
        model = self._model
        out = torch.zeros(len(model.card.bands), area.height, area.width)
        for block in squares(area, BLOCK):
            if not self._is_drawn(block):
                continue
            check()
            latents = self._square(block)  # always the same number of them: one shape, one rounding
            z = blend(self._lattice, tiles, latents, model.channels)
            with torch.inference_mode():
                decoded = model.decode(z[None].to(model.device))[0].float().cpu()
            whole = Window(latents.row * model.scale, latents.col * model.scale, *decoded.shape[1:])
            rows, cols = block.relative_to(area).slices()
            inner_rows, inner_cols = block.relative_to(whole).slices()
            out[:, rows, cols] = decoded[:, inner_rows, inner_cols]
        return out

    def _square(self, block: Window) -> Window:
        side = BLOCK // self._model.scale
        return Window(block.row // BLOCK * side, block.col // BLOCK * side, side, side).pad(self._halo)


class WindowDecoding:
    """Whole windows, decoded and blended: for decoders that see all of a picture, and so know no halo.

    Args:
        model: draws windows.
        lattice: of its windows.
        is_drawn: whether anything in a window of absolute pixels is wanted; where not, pixels are 0.
    """

    def __init__(self, model: GenerateModel, lattice: Lattice, is_drawn: Callable[[Window], bool]) -> None:
        self._model, self._lattice, self._is_drawn = model, lattice, is_drawn
        scale = model.scale
        self._pixels = lattice.times(scale)
        self._cache = TileCache(REMEMBERED)

    def latents(self, area: Window) -> list[Window]:
        """See ``BlockDecoding``."""
        return [self._lattice.window(index) for index in self._touching(area)]

    def pixels(self, area: Window, sample: int, tiles: Mapping[Index, Tensor], check: Callable[[], None]) -> Tensor:
        """See ``BlockDecoding``."""
        keys = [(sample, index) for index in self._touching(area)]
        decoded = self._cache.get(keys, lambda missing: [self._decode(index, tiles, check) for _, index in missing])
        return blend(self._pixels, {key[1]: decoded[key] for key in keys}, area, self._bands)

    def _touching(self, area: Window) -> list[Index]:
        return [index for index in self._pixels.touching(area) if self._is_drawn(self._pixels.window(index))]

    @property
    def _bands(self) -> int:
        return len(self._model.card.bands)

    def _decode(self, index: Index, tiles: Mapping[Index, Tensor], check: Callable[[], None]) -> Tensor:
        check()
        z = blend(self._lattice, tiles, self._lattice.window(index), self._model.channels)
        with torch.inference_mode():
            return self._model.decode(z[None].to(self._model.device))[0].float().cpu()


def make_decoding(
    model: GenerateModel, lattice: Lattice, is_drawn: Callable[[Window], bool] = lambda window: True
) -> BlockDecoding | WindowDecoding:
    """The way that fits a model's decoder."""
    if model.decode_halo is None:
        return WindowDecoding(model, lattice, is_drawn)
    return BlockDecoding(model, lattice, model.decode_halo, is_drawn)
