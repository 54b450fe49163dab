"""A raster with the ground inside polygons drawn anew, or changed as a whole, or drawn on beyond its edge."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import JobContext
from ..contract import PIXELS_LIMIT, Edit, Input, ModelCard, Window, is_one_window, steps_done
from ..diffusion import constraints
from ..diffusion.cache import TileCache
from ..diffusion.guidance import Predict
from ..diffusion.loop import START
from ..diffusion.phases import can_pause, count, cut, noised, remembers
from ..diffusion.windows import Index, Lattice, blend, shifted, squares
from ..errors import ExtentTooLarge, InvalidRequest, MaskEmpty
from ..journal import JobFolder
from ..models.base import EditModel, Given, Scene
from ..models.schedulers import check_steps
from ..radiometry import Radiometry, fitted, measure
from ..raster import Polygons, Profile, Raster, SourceRaster, check_grid, lonlat
from .base import Work
from .canvas import Canvas
from .chunks import absolute, chunks, relative
from .denoising import REMEMBERED, denoise, lattices_of, noise_of
from .ground import Ground, Patch, known_numbers
from .held import BLOCK, make_held
from .knowledge import require_bands, told_gsd, trained_gsd, unguided_notices, unused_notices

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
        InvalidRequest: for steps that the scheduler cannot do, or a strength or a margin that the model cannot. What
            ``SourceRaster`` raises, besides.
    """
    card = model.card
    _check_abilities(request, card)
    gsd = trained_gsd(
        request.gsd,
        card,
        lambda drawn, widest: (
            f"The layer has {request.gsd:.4g} m per pixel, and the model {card.name} draws {drawn}.",
            f"Warp the layer to {widest} first, or choose another model.",
        ),
    )
    check_steps(model.scheduler(request.sampling.scheduler), request.sampling.steps, request.sampling.scheduler)
    ctx.tell("reading")
    with SourceRaster(folder.path, request.source) as source:
        drawn = source.grid.pad(request.margin)
        check_grid(drawn)
        require_bands(source.bands, card)
        if drawn.pixels > PIXELS_LIMIT:
            pixels = f"{drawn.pixels:,} pixels"
            if request.margin:
                raise ExtentTooLarge(f"The raster and the margin have {pixels}.", "Choose a smaller margin.")
            raise ExtentTooLarge(f"The raster has {pixels}.", "Cut out the part that you need.")
        sampled = source.sample(ctx.check)
        own = measure(sampled, source.profile)
        colors = model.colors()
        radiometry = own
        if colors is not None:
            usual, covariance = (statistic.cpu().numpy() for statistic in colors)
            radiometry = fitted(own, _mean(sampled, own), usual, covariance)
        polygons = None if request.mask is None else Polygons(folder.path, request.mask, source.grid)
        mean = _mean(sampled, radiometry)
        ground = Ground(folder.path, request.source, source.grid, request.margin, radiometry, mean, polygons)
        scene = _scene(request, source, gsd)
        drawing = _Drawing(request, model, ground, source.profile, scene)
        parts = chunks(ground.grid, ground.anchor)
        if not any(ground.changes(chunk) for chunk, _ in ctx.track(parts, "reading")):
            raise MaskEmpty("No pixel of the layer with data in it lies inside the polygons.")
        inputs = [Input(request.source.name or request.source.path, source.sha256(ctx.check), source.grid)]
        if request.mask is not None and polygons is not None:
            inputs.append(Input(request.mask.name or request.mask.path, polygons.sha256, source.grid))
        return Work(
            card=card,
            drawn=ground.grid,
            result=ground.grid,
            chunks=parts,
            profile=source.profile,
            draw=drawing.draw,
            inputs=tuple(inputs),
            date=request.date or request.source.date,
            notices=(*_notices(request, card, gsd, is_fitted=radiometry != own), *model.remarks(scene)),
        )


class _Drawing:
    """The work of one request, and what neighbouring chunks share."""

    def __init__(self, request: Edit, model: EditModel, ground: Ground, profile: Profile, scene: Scene) -> None:
        self._model, self._ground = model, ground
        self._sampling, self._strength = request.sampling, request.strength
        # What starts from the source, or comes from a network that was trained to see it, goes on from it by itself:
        # a mirrored rim would only double what lies there.
        self._is_new = model.holds and request.strength == 1
        self._levels = model.scheduler(request.sampling.scheduler)
        lattices, self._origin = _place_windows(ground, model, can_pause(self._levels))
        steps = count(model.scheduler(request.sampling.scheduler), request.sampling.steps)
        #: Steps of each phase, between which windows are blended, so that they agree on what covers more ground.
        self._phases = cut(steps, len(lattices), steps - steps_done(steps, request.strength))
        self._remembers = remembers(self._levels) and len(self._phases) > 1
        self._lattices = shifted(lattices[slice(-len(self._phases), None)])
        self._caches = [TileCache(REMEMBERED // len(self._phases)) for _ in self._phases]
        self._decoding = make_held(model, self._lattices[-1], self._patch)
        self._canvas = Canvas(ground.grid, len(profile.bands), profile.dtype)
        self._told: Any = model.told(scene)

    def draw(self, chunk: Window, sample: int, ctx: JobContext) -> Raster:
        """The pixels of a chunk (bands, height, width) in the source's own type: drawn, or as they were."""
        given = self._ground.read(chunk)
        pixels = given.pixels.copy()
        repaint, beyond = self._ground.where(chunk, given.valid)
        area = absolute(chunk, self._origin)
        wanted = []
        for block in squares(area, BLOCK):
            if repaint[block.relative_to(area).slices()].any():
                region = self._decoding.region(block)
                wanted.append((block, region, self._decoding.needed(region)))
        keys = sorted({(sample, index) for _, _, needed in wanted for index in needed})
        tiles = self._tiles(len(self._phases) - 1, keys, ctx)
        for block, region, needed in wanted:
            ctx.check()
            rows, cols = block.relative_to(area).slices()
            held = {index: tiles[(sample, index)] for index in needed}
            drawn = self._join(block, region, self._decoding.pixels(region, sample, held, ctx.check))
            pixels[:, rows, cols] = np.where(repaint[rows, cols], drawn, pixels[:, rows, cols])
        valid = given.valid | beyond
        self._canvas.paint(pixels, valid, chunk)
        self._canvas.show(ctx)
        return Raster(pixels, valid, given.grid)

    def _patch(self, window: Window) -> Patch:
        """The ground in a window of absolute pixels."""
        return self._ground.patch(relative(window, self._origin))

    def _tiles(self, phase: int, keys: list[Key], ctx: JobContext) -> dict[Key, Tensor]:
        """Windows after a phase: (channels, h, w) of the state, or at last the sample."""
        return self._caches[phase].get(keys, lambda missing: self._denoise(phase, missing, ctx))

    def _denoise(self, phase: int, keys: list[Key], ctx: JobContext) -> list[Tensor]:
        model, steps = self._model, self._phases[phase]
        patches: dict[Index, Patch] = {}
        shares = ctx.track(range(2 if phase else 1), "denoising")
        below = self._below(phase, keys, next(shares)[1]) if phase else {}
        _, share = next(shares)

        def patch_of(key: Key) -> Patch:
            if key[1] not in patches:
                patches[key[1]] = self._patch(self._pixels(phase, key[1]))
            return patches[key[1]]

        def stacked(batch: list[Key]) -> tuple[Tensor, Tensor]:
            held = [patch_of(key) for key in batch]
            known = torch.from_numpy(np.stack([patch.known for patch in held]))[:, None]
            return torch.stack([patch.unit for patch in held]).to(model.device), known.to(model.device)

        def predict(batch: list[Key]) -> Predict:
            pixels, known = stacked(batch)
            # what is not known is drawn anew, gaps and what lies beyond the source too: a network that was shown their
            # filling as ground would go on from it
            given = Given(picture=pixels.clamp(0, 1), repaint=(~known).to(pixels.dtype))
            guided = model.predictor(self._told, self._sampling.guidance_scale, given)
            if not model.holds:
                return guided
            return constraints.with_known(guided, self._levels, model.holder(pixels, known))

        def start(batch: list[Key]) -> Tensor:
            if phase:
                return torch.stack([below[key] for key in batch]).to(model.device)
            clean = model.encode(stacked(batch)[0])
            if len(self._phases) == 1:
                return clean
            return self._noised(phase, clean, self._noise(phase, batch, START))

        is_only = len(self._phases) == 1
        return denoise(
            keys,
            model.batch,
            share,
            self._sampling,
            lambda: model.scheduler(self._sampling.scheduler),
            predict,
            lambda batch, stream: self._noise(phase, batch, stream),
            lambda shown, denoised: self._show(phase, shown, denoised, patches, ctx),
            start if phase or (self._strength < 1 and (is_only or steps.start)) else None,
            self._strength if is_only else 1.0,
            None if is_only else steps,
            self._remembers and phase > 0,
        )

    def _below(self, phase: int, keys: list[Key], ctx: JobContext) -> dict[Key, Tensor]:
        """What windows of a phase start from: blends of the noisy states (channels, h, w) of the one before.

        Below each lies the blend of the solver's estimates, (2 channels, h, w), where it remembers them. Where no
        window of the one before draws, all is known: there it stands under the noise that the sample started from.
        """
        lattice, earlier = self._lattices[phase], self._lattices[phase - 1]
        channels, near = self._model.channels * (1 + self._remembers), {}
        for sample, index in keys:
            touching = earlier.touching(lattice.window(index))
            near[sample, index] = [(sample, other) for other in touching if self._draws(phase - 1, other)]
        tiles = self._tiles(phase - 1, sorted({key for found in near.values() for key in found}), ctx)
        states = {}
        for key, found in near.items():
            window, covered = lattice.window(key[1]), torch.zeros(lattice.size, lattice.size, dtype=torch.bool)
            for _, other in found:
                covered[earlier.window(other).intersection(window).relative_to(window).slices()] = True
            state = blend(earlier, {other: tiles[sample, other] for sample, other in found}, window, channels)
            states[key] = state if covered.all() else torch.where(covered, state, self._known(phase, key))
        return states

    def _draws(self, phase: int, index: Index) -> bool:
        """Whether a window holds a latent that is not known wholly."""
        return not self._patch(self._pixels(phase, index)).known.all()

    def _known(self, phase: int, key: Key) -> Tensor:
        """A window as it is known, in the form of a state before a phase."""
        pixels = self._patch(self._pixels(phase, key[1])).unit[None].to(self._model.device)
        clean = self._model.encode(pixels)
        state = self._noised(phase, clean, self._noise(phase, [key], START))
        return torch.cat([state, clean], dim=1)[0, : self._model.channels * (1 + self._remembers)].float().cpu()

    def _noised(self, phase: int, clean: Tensor, noise: Tensor) -> Tensor:
        scheduler = self._model.scheduler(self._sampling.scheduler)
        return noised(scheduler, self._sampling.steps, self._phases[phase].start, clean, noise)

    def _pixels(self, phase: int, index: Index) -> Window:
        """The absolute pixels of a window of a phase."""
        return self._lattices[phase].times(self._model.scale).window(index)

    def _noise(self, phase: int, keys: list[Key], stream: int) -> Tensor:
        model, lattice = self._model, self._lattices[phase]
        return noise_of(keys, stream, self._sampling.seed, lattice, model.channels).to(model.device)

    def _join(self, block: Window, region: Window, drawn: Tensor) -> NDArray[np.generic]:
        """The pixels of a block in the source's numbers, right where they are to be drawn.

        Args:
            block: any.
            region: that decides it.
            drawn: (bands, h, w) of the region without its edge.
        """
        edge, device = self._decoding.edge, self._model.device
        inner = slice(edge, -edge) if edge else slice(None)
        patch = self._patch(region)
        with torch.inference_mode():
            around = patch.unit[None, :, inner, inner].to(device)
            known = torch.from_numpy(patch.known)[None, None, inner, inner].to(device)
            joined = constraints.join(drawn[None], around, known)
            if self._is_new:
                joined = constraints.dissolve(joined, around, known)
        rows, cols = block.relative_to(region.pad(-edge)).slices()
        return self._ground.radiometry.from_unit(joined[0, :, rows, cols].clamp(0, 1).float().cpu().numpy())

    def _show(
        self, phase: int, keys: list[Key], denoised: Tensor, patches: dict[Index, Patch], ctx: JobContext
    ) -> None:
        """Paint windows that are still forming."""
        if not self._canvas.is_due():
            return
        for (_, index), code in zip(keys, denoised):
            picture = self._model.decode(code[None])[0]  # one by one: how many count differs from batch to batch
            patch = patches[index]
            drawn = self._ground.radiometry.from_unit(picture.float().cpu().numpy())
            pixels = np.where(patch.repaint, drawn, patch.raster.pixels)
            place = relative(self._pixels(phase, index), self._origin)
            self._canvas.paint(pixels, patch.raster.valid | patch.repaint, place)
        self._canvas.show(ctx)


def _place_windows(ground: Ground, model: EditModel, pauses: bool) -> tuple[tuple[Lattice, ...], tuple[int, int]]:
    """(the lattice of each phase in latents, where the ground's first pixel lies in the pixels that they count).

    Where one window is enough, it lies around what is drawn, and within the ground as far as that is possible.
    """
    bounds, shape, side = ground.bounds, ground.grid.shape, model.window * model.scale
    if is_one_window(shape, (bounds.height, bounds.width), model.card):
        row = _start(bounds.row, bounds.height, shape[0], side)
        col = _start(bounds.col, bounds.width, shape[1], side)
        return (Lattice(model.window, model.window),), (-row, -col)
    return lattices_of(model, pauses), ground.anchor


def _start(first: int, length: int, total: int, side: int) -> int:
    """Where a window of ``side`` pixels begins, along one axis of ``total``, so that a stretch is in its middle."""
    if total <= side:
        return -((side - total) // 2)
    return min(max(first - (side - length) // 2, 0), total - side)


def _check_abilities(request: Edit, card: ModelCard) -> None:
    """See whether a model can do what is asked. Raises InvalidRequest."""
    if request.strength < 1 and "strength" not in card.uses:
        raise InvalidRequest(
            f"The model {card.name} cannot start from what is there: it knows no strength below 1.",
            "Set the strength to 1, or choose another model.",
        )
    if request.margin and "margin" not in card.uses:
        raise InvalidRequest(
            f"The model {card.name} cannot draw beyond a raster.", "Set the margin to 0, or choose another model."
        )
    if request.margin and request.strength < 1:
        raise InvalidRequest(
            "Beyond the raster there is nothing to start from, as a strength below 1 does.",
            "Set the strength to 1, or the margin to 0.",
        )


def _mean(sampled: Raster, radiometry: Radiometry) -> NDArray[np.float32]:
    """Mean of each band over the pixels with data, about 0..1."""
    unit = radiometry.to_unit(known_numbers(sampled))
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


def _notices(request: Edit, card: ModelCard, gsd: float, is_fitted: bool) -> tuple[str, ...]:
    """What the person should know about the request and this model."""
    has_image_guidance = request.image_guidance_scale != Edit.image_guidance_scale
    given = {
        "prompt": bool(request.prompt),
        "negative prompt": bool(request.negative_prompt),
        "date": request.date is not None,
        "cloud cover": request.cloud_cover is not None,
        "resolution told": request.told_gsd is not None,
        "image strength": has_image_guidance,
    }
    notices = [
        *unused_notices(given, card),
        *unguided_notices(request.negative_prompt, request.sampling, card, has_image_guidance),
    ]
    if gsd != request.gsd:
        notices.append(
            f"The layer has {request.gsd:.4g} m per pixel and is not resampled: the model draws as if it were "
            f"{gsd:.4g} m, so that things come out larger or smaller by that ratio."
        )
    if is_fitted:
        notices.append("The layer's colours are not like those that the model was trained on: it draws in the layer's.")
    return tuple(notices)
