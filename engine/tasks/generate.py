"""Imagery over an extent: windows are denoised on an absolute lattice of latents, blended there, and decoded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import JobContext
from ..contract import CHUNK, FRAMES_MEMORY, PIXELS_LIMIT, Generate, GeoBox, ModelCard, Window
from ..diffusion.cache import TileCache
from ..diffusion.guidance import Predict, classifier_free
from ..diffusion.windows import Index, Lattice, blend, squares
from ..errors import ExtentTooLarge
from ..journal import JobFolder
from ..models.base import GenerateModel
from ..raster import Profile, Raster
from .base import Work
from .canvas import Canvas
from .chunks import absolute, chunks, relative
from .denoising import REMEMBERED, check_steps, denoise, noise_of
from .knowledge import trained_gsd, unused_notices
from .trajectory import Recorder, kept_states

#: Side in output pixels of the squares that are decoded at once, on absolute multiples of it.
BLOCK = CHUNK // 2
#: Pixels drawn beyond the extent where the picture is resampled afterwards.
MARGIN = 4

#: A window of the latents: sample from 1, index in the lattice.
Key = tuple[int, Index]


def plan(request: Generate, folder: JobFolder, model: GenerateModel, ctx: JobContext) -> Work:
    """Check a request and prepare its work.

    Raises:
        UnsupportedResolution: for a ground resolution that is further than a factor of 2 from the model's.
        ExtentTooLarge: for more pixels than a job may have.
        PromptNotUnderstood: for a text that names nothing that the model knows.
        UnknownScheduler: for a scheduler that the model does not have.
        InvalidRequest: for steps that the scheduler cannot do.
    """
    card = model.card
    gsd = trained_gsd(
        request.gsd,
        card,
        lambda drawn, widest: (
            f"{request.gsd:.4g} m per pixel was asked for, and the model {card.name} draws {drawn}.",
            f"Choose {widest}, or another model.",
        ),
    )
    drawn = request.lattice if gsd == request.gsd else _resized(request.lattice, gsd / request.gsd)
    if max(drawn.pixels, request.grid.pixels) > PIXELS_LIMIT:
        raise ExtentTooLarge(f"The extent has {max(drawn.pixels, request.grid.pixels):,} pixels.")
    told = dataclasses.replace(request, gsd=gsd, lattice=drawn)
    check_steps(model.scheduler(request.sampling.scheduler), request.sampling)
    colors = tuple(name if name in ("red", "green", "blue") else "undefined" for name in card.bands)
    profile = Profile("uint8", card.bands, colors=colors)
    drawing = _Drawing(told, model)
    return Work(
        card=card,
        drawn=drawn,
        result=request.grid,
        chunks=chunks(drawn, drawn.anchor()),
        profile=profile,
        draw=drawing.draw,
        date=request.date,
        notices=_notices(request, card, gsd),
        frames=request.trajectory,
        draw_frames=drawing.draw_frames if request.trajectory else None,
    )


class _Drawing:
    """The work of one request, and what neighbouring chunks share."""

    def __init__(self, request: Generate, model: GenerateModel) -> None:
        self._model, self._grid, self._sampling = model, request.lattice, request.sampling
        self._origin = request.lattice.anchor()
        self._lattice = Lattice(model.window, model.stride)
        # windows are larger by the pictures of their way: neighbours still find those that they share
        self._cache = TileCache(REMEMBERED if not request.trajectory else FRAMES_MEMORY)
        self._frames = max(1, request.trajectory)
        self._canvas = Canvas(request.lattice, len(model.card.bands), "uint8")
        condition = model.condition(request)
        # without a text there is nothing to be guided by
        scale = request.sampling.guidance_scale if "prompt" in model.card.uses else 1.0
        null = model.unconditioned(request) if scale != 1 else condition
        self._predict: Predict = classifier_free(
            lambda x, t: model.predict(x, t, condition), lambda x, t: model.predict(x, t, null), scale
        )

    def draw(self, chunk: Window, sample: int, ctx: JobContext) -> Raster:
        """The pixels of a chunk (bands, height, width) uint8, all valid."""
        for raster in self.draw_frames(chunk, sample, ctx):
            last = raster
        return last

    def draw_frames(self, chunk: Window, sample: int, ctx: JobContext) -> Iterator[Raster]:
        """The pixels of a chunk on their way from noise, and at last those of ``draw``; without a trajectory only they.

        A picture on the way is what the network is shown: noisy pixels, or noisy latents, decoded like clean ones.
        """
        area = absolute(chunk, self._origin)
        blocks = squares(area, BLOCK)
        latents = {block: self._latents(block) for block in blocks}
        keys = sorted({(sample, index) for part in latents.values() for index in self._lattice.touching(part)})
        tiles = self._cache.get(keys, lambda missing: self._denoise(missing, ctx))
        valid = np.ones((chunk.height, chunk.width), np.bool_)
        for frame in range(self._frames):
            channels = slice(frame * self._model.channels, (frame + 1) * self._model.channels)
            by_index = {index: tile[channels] for (_, index), tile in tiles.items()}
            pixels = np.empty((len(self._model.card.bands), chunk.height, chunk.width), np.uint8)
            # Decoding a block costs about as much as one step of a window: too little for progress of its own.
            for block in blocks:
                ctx.check()
                rows, cols = block.relative_to(area).slices()
                pixels[:, rows, cols] = self._decode(block, latents[block], by_index)
            if frame + 1 == self._frames:
                self._canvas.paint(pixels, valid, chunk)
                self._canvas.show(ctx)
            yield Raster(pixels, valid, self._grid.crop(chunk))

    def _latents(self, block: Window) -> Window:
        """The latents that decide the pixels of the square that a block is part of: always the same number."""
        side, halo = BLOCK // self._model.scale, self._model.decode_halo
        return Window(block.row // BLOCK * side, block.col // BLOCK * side, side, side).pad(halo)

    def _denoise(self, keys: list[Key], ctx: JobContext) -> list[Tensor]:
        """The windows, (frames * channels, h, w): the states that are kept, then the clean sample."""
        model, states = self._model, kept_states(self._sampling.steps, self._frames)
        recorders: list[Recorder] = []

        def watched(batch: list[Key]) -> Predict:
            recorders.append(Recorder(self._predict, states))
            return recorders[-1]

        clean = denoise(
            keys,
            model.batch,
            ctx,
            self._sampling,
            lambda: model.scheduler(self._sampling.scheduler),
            watched if states else lambda batch: self._predict,
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

    def _decode(self, block: Window, latents: Window, tiles: Mapping[Index, Tensor]) -> NDArray[np.uint8]:
        """The pixels of one block, out of those of its whole square."""
        model = self._model
        z = blend(self._lattice, tiles, latents, model.channels)
        with torch.inference_mode():
            decoded = _to_bytes(model.decode(z[None].to(model.device))[0])
        whole = Window(latents.row * model.scale, latents.col * model.scale, *decoded.shape[1:])
        rows, cols = block.relative_to(whole).slices()
        return decoded[:, rows, cols]

    def _show(self, keys: list[Key], denoised: Tensor, ctx: JobContext) -> None:
        """Paint windows that are still forming."""
        if not self._canvas.is_due():
            return
        model = self._model
        for (_, index), picture in zip(keys, model.decode(denoised)):
            pixels, window = _to_bytes(picture), self._lattice.window(index)
            place = Window(window.row * model.scale, window.col * model.scale, *pixels.shape[1:])
            self._canvas.paint(pixels, np.ones(pixels.shape[1:], np.bool_), relative(place, self._origin))
        self._canvas.show(ctx)


def _to_bytes(picture: Tensor) -> NDArray[np.uint8]:
    """(bands, h, w) float32 in 0..1 -> uint8."""
    return (picture.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _resized(grid: GeoBox, ratio: float) -> GeoBox:
    """A grid over the same ground and a margin, with pixels ``ratio`` times as large; an upright one is anchored."""
    a, b, _, d, e, _ = grid.transform
    if grid.is_axis_aligned and a > 0 and math.isclose(a, -e, rel_tol=1e-9):
        left, bottom, right, top = grid.bounds
        beyond = MARGIN * a * ratio
        return GeoBox.from_bounds(
            grid.crs, (left - beyond, bottom - beyond, right + beyond, top + beyond), a * ratio, anchored=True
        )
    height, width = math.ceil(grid.height / ratio), math.ceil(grid.width / ratio)
    x, y = grid.to_map(0, 0)
    scaled = (a * ratio, b * ratio, x, d * ratio, e * ratio, y)
    return GeoBox(grid.crs, scaled, (height, width)).pad(MARGIN)


def _notices(request: Generate, card: ModelCard, gsd: float) -> tuple[str, ...]:
    """What the person should know about the request and this model."""
    given = {
        "prompt": bool(request.prompt),
        "negative prompt": bool(request.negative_prompt),
        "date": request.date is not None,
        "place": request.longitude is not None and request.latitude is not None,
    }
    notices = unused_notices(given, card)
    if gsd != request.gsd:
        notices.append(
            f"Drawn at {gsd:.4g} m per pixel, the nearest that the model knows, and resampled to {request.gsd:.4g} m."
        )
    return tuple(notices)
