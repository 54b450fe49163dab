"""A raster with the ground inside polygons drawn anew, or changed as a whole: what is around holds it, and stays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import JobContext
from ..contract import CHUNK, PIXELS_LIMIT, Edit, Input, ModelCard, Window
from ..diffusion import constraints
from ..diffusion.cache import TileCache
from ..diffusion.guidance import Predict
from ..diffusion.windows import Index, Lattice, blend, squares
from ..errors import ExtentTooLarge, MaskEmpty, UnsupportedRaster
from ..journal import JobFolder
from ..models.base import EditModel, Given, Scene
from ..radiometry import Radiometry, fitted, measure
from ..raster import Polygons, Raster, SourceRaster, check_grid, lonlat
from . import gaps
from .base import Work
from .canvas import Canvas
from .chunks import absolute, chunks, relative
from .denoising import REMEMBERED, check_steps, denoise, noise_of
from .knowledge import told_gsd, trained_gsd, unused_notices

#: Side in pixels of the squares that are decoded at once, on absolute multiples of it.
BLOCK = CHUNK // 2

#: A window of the latents: sample from 1, index in the lattice.
Key = tuple[int, Index]


def plan(request: Edit, folder: JobFolder, model: EditModel, ctx: JobContext) -> Work:
    """Check a request against its source and its mask, and prepare its work.

    Raises:
        UnsupportedResolution: for a ground resolution that is further than a factor of 2 from the model's.
        UnsupportedRaster: for another number of bands than the model draws.
        ExtentTooLarge: for more pixels than a job may have.
        UnsupportedGrid: for a raster that does not lie on the ground.
        SourceEmpty: for a raster without data.
        MaskUnreadable: for polygons that cannot be read.
        MaskEmpty: for polygons that hold no pixel with data.
        PromptNotUnderstood: for a text that names nothing that the model knows.
        UnknownScheduler: for a scheduler that the model does not have.
        InvalidRequest: for steps that the scheduler cannot do. What ``SourceRaster`` raises, besides.
    """
    card = model.card
    gsd = trained_gsd(
        request.gsd,
        card,
        lambda drawn, widest: (
            f"The layer has {request.gsd:.4g} m per pixel, and the model {card.name} draws {drawn}.",
            f"Warp the layer to {widest} first, or choose another model.",
        ),
    )
    check_steps(model.scheduler(request.sampling.scheduler), request.sampling)
    ctx.tell("reading")
    with SourceRaster(folder.path, request.source) as source:
        check_grid(source.grid)
        _check_bands(source, card)
        if source.grid.pixels > PIXELS_LIMIT:
            raise ExtentTooLarge(f"The raster has {source.grid.pixels:,} pixels.", "Cut out the part that you need.")
        sampled = source.sample(ctx.check)
        own = measure(sampled, source.profile)
        colors = model.colors()
        radiometry = own
        if colors is not None:
            usual, covariance = (statistic.cpu().numpy() for statistic in colors)
            radiometry = fitted(own, _mean(sampled, own), usual, covariance)
        polygons = None if request.mask is None else Polygons(folder.path, request.mask, source.grid)
        drawing = _Drawing(
            request, folder, model, source, _Scene(radiometry, _mean(sampled, radiometry), polygons), gsd
        )
        cut = chunks(source.grid, source.grid.anchor())
        if not any(drawing.changes(chunk) for chunk, _ in ctx.track(cut, "reading")):
            raise MaskEmpty("No pixel of the layer with data in it lies inside the polygons.")
        inputs = [Input(request.source.name or request.source.path, source.sha256(ctx.check), source.grid)]
        if request.mask is not None and polygons is not None:
            inputs.append(Input(request.mask.name or request.mask.path, polygons.sha256, source.grid))
        return Work(
            card=card,
            drawn=source.grid,
            result=source.grid,
            chunks=cut,
            profile=source.profile,
            draw=drawing.draw,
            inputs=tuple(inputs),
            date=request.date or request.source.date,
            notices=_notices(request, card, gsd, is_fitted=radiometry != own),
        )


@dataclass(frozen=True)
class _Scene:
    """What is known about the whole source.

    Attributes:
        radiometry: its numbers <-> what the model sees, about 0..1.
        mean: of each band, about 0..1.
        polygons: where to change; None for everywhere.
    """

    radiometry: Radiometry
    mean: NDArray[np.float32]
    polygons: Polygons | None


@dataclass(frozen=True)
class _Patch:
    """The source in a window.

    Attributes:
        raster: its own numbers.
        unit: (bands, h, w) as the model sees them, about 0..1, gaps filled.
        repaint: (h, w) bool, where the result is drawn; only where there is data.
        known: (h, w) bool, where the source holds what is drawn: data outside the polygons.
    """

    raster: Raster
    unit: Tensor
    repaint: NDArray[np.bool_]
    known: NDArray[np.bool_]


class _Drawing:
    """The work of one request, and what neighbouring chunks share."""

    def __init__(
        self,
        request: Edit,
        folder: JobFolder,
        model: EditModel,
        source: SourceRaster,
        scene: _Scene,
        gsd: float,
    ) -> None:
        self._source, self._folder, self._model, self._scene = request.source, folder, model, scene
        self._grid, self._origin = source.grid, source.grid.anchor()
        self._sampling, self._strength = request.sampling, request.strength
        self._lattice = Lattice(model.window, model.stride)
        self._cache = TileCache(REMEMBERED)
        self._canvas = Canvas(self._grid, len(source.profile.bands), source.profile.dtype)
        self._levels = model.scheduler(request.sampling.scheduler)
        self._predict: Predict = model.predictor(
            model.told(_scene(request, source, gsd)), request.sampling.guidance_scale, Given()
        )

    def changes(self, window: Window) -> bool:
        """Whether any pixel of a window of the grid is drawn."""
        inside = self._inside(window)
        if not inside.any():
            return False
        with SourceRaster(self._folder.path, self._source) as source:
            return bool((source.read(window).valid & inside).any())

    def draw(self, chunk: Window, sample: int, ctx: JobContext) -> Raster:
        """The pixels of a chunk (bands, height, width) in the source's own type: drawn, or as they were."""
        with SourceRaster(self._folder.path, self._source) as source:
            given = source.read(chunk)
        pixels = given.pixels.copy()
        repaint = self._inside(chunk) & given.valid
        area = absolute(chunk, self._origin)
        wanted = []
        for block in squares(area, BLOCK):
            if repaint[block.relative_to(area).slices()].any():
                region = self._region(block)
                wanted.append((block, region, self._patch(region)))
        keys = sorted({(sample, index) for _, region, patch in wanted for index in self._needed(region, patch)})
        tiles = self._cache.get(keys, lambda missing: self._denoise(missing, ctx))
        for block, region, patch in wanted:
            ctx.check()
            rows, cols = block.relative_to(area).slices()
            drawn = self._decode(
                block, region, patch, {index: tiles[(sample, index)] for index in self._needed(region, patch)}
            )
            pixels[:, rows, cols] = np.where(repaint[rows, cols], drawn, pixels[:, rows, cols])
        self._canvas.paint(pixels, given.valid, chunk)
        self._canvas.show(ctx)
        return Raster(pixels, given.valid, given.grid)

    def _inside(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window of the grid are to change."""
        polygons = self._scene.polygons
        return np.ones((window.height, window.width), np.bool_) if polygons is None else polygons.inside(window)

    def _patch(self, window: Window) -> _Patch:
        """The source in a window of absolute pixels."""
        place = relative(window, self._origin)
        with SourceRaster(self._folder.path, self._source) as source:
            around = source.read(place.pad(gaps.REACH))
        unit = gaps.filled(self._scene.radiometry.to_unit(_known(around)), around.valid, self._scene.mean)
        inner = slice(gaps.REACH, -gaps.REACH)
        valid, inside = around.valid[inner, inner], self._inside(place)
        raster = Raster(around.pixels[:, inner, inner], valid, self._grid.crop(place))
        return _Patch(raster, torch.from_numpy(unit[:, inner, inner].copy()), inside & valid, ~inside & valid)

    def _region(self, block: Window) -> Window:
        """The absolute pixels that decide those of the square that a block is part of: always the same number."""
        model = self._model
        halo = (model.decode_halo or 0) * model.scale + _up(constraints.JOIN_REACH, model.scale)
        return Window(block.row // BLOCK * BLOCK, block.col // BLOCK * BLOCK, BLOCK, BLOCK).pad(halo)

    def _latents(self, window: Window) -> Window:
        """The latents of a window of absolute pixels whose edges lie on theirs."""
        scale = self._model.scale
        return Window(window.row // scale, window.col // scale, window.height // scale, window.width // scale)

    def _needed(self, region: Window, patch: _Patch) -> list[Index]:
        """The windows that hold a latent of the region which is not known wholly: the others draw nothing."""
        latents, scale = self._latents(region), self._model.scale
        blocks = patch.known.reshape(latents.height, scale, latents.width, scale)
        is_known: NDArray[np.bool_] = np.all(blocks, axis=(1, 3))
        found = []
        for index in self._lattice.touching(latents):
            shared = self._lattice.window(index).intersection(latents).relative_to(latents)
            if not is_known[shared.slices()].all():
                found.append(index)
        return found

    def _denoise(self, keys: list[Key], ctx: JobContext) -> list[Tensor]:
        model = self._model
        patches: dict[Index, _Patch] = {}

        def patch_of(key: Key) -> _Patch:
            if key[1] not in patches:
                patches[key[1]] = self._patch(self._pixels(key[1]))
            return patches[key[1]]

        def stacked(batch: list[Key]) -> tuple[Tensor, Tensor]:
            held = [patch_of(key) for key in batch]
            known = torch.from_numpy(np.stack([patch.known for patch in held]))[:, None]
            return torch.stack([patch.unit for patch in held]).to(model.device), known.to(model.device)

        def predict(batch: list[Key]) -> Predict:
            pixels, known = stacked(batch)
            return constraints.with_known(self._predict, self._levels, model.holder(pixels, known))

        return denoise(
            keys,
            model.batch,
            ctx,
            self._sampling,
            lambda: model.scheduler(self._sampling.scheduler),
            predict,
            self._noise,
            lambda shown, denoised: self._show(shown, denoised, patches, ctx),
            None if self._strength == 1 else lambda batch: model.encode(stacked(batch)[0]),
            self._strength,
        )

    def _pixels(self, index: Index) -> Window:
        """The absolute pixels of a window."""
        window, scale = self._lattice.window(index), self._model.scale
        return Window(window.row * scale, window.col * scale, window.height * scale, window.width * scale)

    def _noise(self, keys: list[Key], stream: int) -> Tensor:
        return noise_of(keys, stream, self._sampling.seed, self._lattice, self._model.channels).to(self._model.device)

    def _decode(self, block: Window, region: Window, patch: _Patch, tiles: dict[Index, Tensor]) -> NDArray[np.generic]:
        """The pixels of a block in the source's numbers, right where they are to be drawn."""
        model = self._model
        z = blend(self._lattice, tiles, self._latents(region), model.channels)[None].to(model.device)
        given = patch.unit[None].to(model.device)
        known = torch.from_numpy(patch.known)[None, None].to(model.device)
        with torch.inference_mode():
            decoded = model.decode(model.holder(given, known)(z))
            edge = (model.decode_halo or 0) * model.scale  # whose pixels depend on latents beyond
            inner = slice(edge, -edge)
            drawn, around, outside = (part[..., inner, inner] for part in (decoded, given, known))
            joined = constraints.join(drawn, around, outside)[0].clamp(0, 1)
        rows, cols = block.relative_to(region.pad(-edge)).slices()
        return self._scene.radiometry.from_unit(joined[:, rows, cols].float().cpu().numpy())

    def _show(self, keys: list[Key], denoised: Tensor, patches: dict[Index, _Patch], ctx: JobContext) -> None:
        """Paint windows that are still forming."""
        if not self._canvas.is_due():
            return
        for (_, index), picture in zip(keys, self._model.decode(denoised)):
            patch = patches[index]
            drawn = self._scene.radiometry.from_unit(picture.float().cpu().numpy())
            pixels = np.where(patch.repaint, drawn, patch.raster.pixels)
            self._canvas.paint(pixels, patch.raster.valid, relative(self._pixels(index), self._origin))
        self._canvas.show(ctx)


def _up(pixels: int, scale: int) -> int:
    """The next multiple of ``scale``."""
    return math.ceil(pixels / scale) * scale


def _known(raster: Raster) -> NDArray[np.generic]:
    """The pixels, 0 where there is no data: what stands there may be too large for any arithmetic."""
    return np.where(raster.valid, raster.pixels, raster.pixels.dtype.type(0))


def _mean(sampled: Raster, radiometry: Radiometry) -> NDArray[np.float32]:
    """Mean of each band over the pixels with data, about 0..1."""
    unit = radiometry.to_unit(_known(sampled))
    return np.array([band[sampled.valid].mean(dtype=np.float64) for band in unit], np.float32)


def _scene(request: Edit, source: SourceRaster, gsd: float) -> Scene:
    """What the model is told: imagery of this place, on the date that is asked for or else that of the source."""
    longitude, latitude = lonlat(source.grid)
    return Scene(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        gsd=told_gsd(request.told_gsd, gsd),
        longitude=longitude,
        latitude=latitude,
        date=request.date or request.source.date,
        cloud_cover=request.cloud_cover,
        image_guidance_scale=request.image_guidance_scale,
    )


def _check_bands(source: SourceRaster, card: ModelCard) -> None:
    if len(source.bands) != len(card.bands):
        names = ", ".join(card.bands)
        raise UnsupportedRaster(
            f"The model {card.name} draws {len(card.bands)} bands ({names}), and {len(source.bands)} are given.",
            f"Choose {len(card.bands)} bands of the layer, in the order {names}.",
        )


def _notices(request: Edit, card: ModelCard, gsd: float, is_fitted: bool) -> tuple[str, ...]:
    """What the person should know about the request and this model."""
    given = {
        "prompt": bool(request.prompt),
        "negative prompt": bool(request.negative_prompt),
        "date": request.date is not None,
    }
    notices = unused_notices(given, card)
    if gsd != request.gsd:
        notices.append(
            f"The layer has {request.gsd:.4g} m per pixel and is not resampled: the model draws as if it were "
            f"{gsd:.4g} m, so that things come out larger or smaller by that ratio."
        )
    if is_fitted:
        notices.append("The layer's colours are not like those that the model was trained on: it draws in the layer's.")
    return tuple(notices)
