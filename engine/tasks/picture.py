"""A picture over an extent: windows are denoised on a lattice of latents, blended there, and decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import JobContext
from ..contract import FRAMES_MEMORY, GeoBox, Sampling, Window
from ..diffusion.cache import TileCache
from ..diffusion.guidance import Predict
from ..diffusion.windows import Index, Lattice
from ..models.base import GenerateModel, Given, Scene
from ..raster import Raster
from .canvas import Canvas
from .chunks import absolute, relative
from .decoding import make_decoding
from .denoising import REMEMBERED, denoise, noise_of
from .trajectory import Recorder, kept_states

#: A window of the latents: sample from 1, index in the lattice.
Key = tuple[int, Index]
#: Pixels (bands, h, w) float32 in 0..1 of a window of the grid, which may reach beyond it -> as they are published.
Finish = Callable[[Tensor, Window], Raster]


class Picture:
    """The picture that one request asks for, and what neighbouring chunks of it share.

    Windows lie on a lattice without end that is counted from the origin of the grid's CRS, so that two extents of one
    seed share their pixels. A card that says ``whole`` has an extent of at most one window drawn as one window in its
    middle: what the model was made for, and a quarter of the work.

    Args:
        grid: what is drawn.
        model: that draws.
        sampling: how.
        scene: what the model is told.
        given: windows, in pixels of ``grid`` counted from its first -> what they are drawn from.
        trajectory: pictures to keep of each sample on its way, itself among them; 0 for none.
        finish: makes what is published of pixels; None for 8 bits a band, all valid.
        dtype: numpy name of the pixel type that ``finish`` makes.

    Raises:
        PromptNotUnderstood: see ``GenerateModel.told``.
        InvalidRequest: likewise.
    """

    def __init__(
        self,
        grid: GeoBox,
        model: GenerateModel,
        sampling: Sampling,
        scene: Scene,
        given: Callable[[Sequence[Window]], Given] = lambda windows: Given(),
        trajectory: int = 0,
        finish: Finish | None = None,
        dtype: str = "uint8",
    ) -> None:
        self._grid, self._model, self._sampling, self._given = grid, model, sampling, given
        self._finish = finish or self._in_bytes
        self._lattice, self._origin = place_windows(grid, model)
        # windows are larger by the pictures of their way: neighbours still find those that they share
        self._cache = TileCache(FRAMES_MEMORY if trajectory else REMEMBERED)
        self._frames = max(1, trajectory)
        self._canvas = Canvas(grid, len(model.card.bands), dtype)
        self._decoding = make_decoding(model, self._lattice)
        self._told: Any = model.told(scene)

    def draw(self, chunk: Window, sample: int, ctx: JobContext) -> Raster:
        """The pixels of a chunk (bands, height, width)."""
        for raster in self.draw_frames(chunk, sample, ctx):
            last = raster
        return last

    def draw_frames(self, chunk: Window, sample: int, ctx: JobContext) -> Iterator[Raster]:
        """The pixels of a chunk on their way from noise, and at last those of ``draw``; without a trajectory only they.

        A picture on the way is what the network is shown: noisy pixels, or noisy latents, decoded like clean ones.
        """
        area = absolute(chunk, self._origin)
        parts = self._decoding.latents(area)
        keys = sorted({(sample, index) for part in parts for index in self._lattice.touching(part)})
        tiles = self._cache.get(keys, lambda missing: self._denoise(missing, ctx))
        for frame in range(self._frames):
            first, last = frame * self._model.channels, (frame + 1) * self._model.channels
            by_index = {index: tile[first:last] for (_, index), tile in tiles.items()}
            pixels = self._decoding.pixels(area, sample * self._frames + frame, by_index, ctx.check)
            raster = self._finish(pixels, chunk)
            if frame + 1 == self._frames:
                self._canvas.paint(raster.pixels, raster.valid, chunk)
                self._canvas.show(ctx)
            yield raster

    def _denoise(self, keys: list[Key], ctx: JobContext) -> list[Tensor]:
        """The windows, (frames * channels, h, w): the states that are kept, then the clean sample."""
        model, states = self._model, kept_states(self._sampling.steps, self._frames)
        recorders: list[Recorder] = []

        def predict(batch: list[Key]) -> Predict:
            given = self._given([relative(self._pixels(index), self._origin) for _, index in batch])
            guided = model.predictor(self._told, self._sampling.guidance_scale, given)
            if not states:
                return guided
            recorders.append(Recorder(guided, states))
            return recorders[-1]

        clean = denoise(
            keys,
            model.batch,
            ctx,
            self._sampling,
            lambda: model.scheduler(self._sampling.scheduler),
            predict,
            self._noise,
            lambda shown, denoised: self._show(shown, denoised, ctx),
        )
        if not states:
            return clean
        return [
            torch.cat([*recorders[place // model.batch].states(place % model.batch), tile])
            for place, tile in enumerate(clean)
        ]

    def _noise(self, keys: list[Key], stream: int) -> Tensor:
        return noise_of(keys, stream, self._sampling.seed, self._lattice, self._model.channels).to(self._model.device)

    def _pixels(self, index: Index) -> Window:
        """The absolute pixels of a window."""
        window, scale = self._lattice.window(index), self._model.scale
        return Window(window.row * scale, window.col * scale, window.height * scale, window.width * scale)

    def _show(self, keys: list[Key], denoised: Tensor, ctx: JobContext) -> None:
        """Paint windows that are still forming."""
        if not self._canvas.is_due():
            return
        for (_, index), picture in zip(keys, self._model.decode(denoised)):
            place = relative(self._pixels(index), self._origin)
            raster = self._finish(picture.float().cpu(), place)
            self._canvas.paint(raster.pixels, raster.valid, place)
        self._canvas.show(ctx)

    def _in_bytes(self, pixels: Tensor, window: Window) -> Raster:
        return Raster(to_bytes(pixels), np.ones((window.height, window.width), np.bool_), self._grid.crop(window))


def place_windows(grid: GeoBox, model: GenerateModel) -> tuple[Lattice, tuple[int, int]]:
    """(the lattice of windows in latents, where the grid's first pixel lies in the pixels that it counts)."""
    side = model.window * model.scale
    if not model.card.draws_whole(grid.shape):
        return Lattice(model.window, model.stride), grid.anchor()
    return Lattice(model.window, model.window), ((side - grid.height) // 2, (side - grid.width) // 2)


def to_bytes(picture: Tensor) -> NDArray[np.uint8]:
    """(bands, h, w) float32 in 0..1 -> uint8."""
    return (picture.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
