"""A raster, finer: the missing detail is denoised in windows, blended, and made to agree with what was given."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import JobContext
from ..contract import CHUNK, PIXELS_LIMIT, Input, ModelCard, Sampling, SuperResolve, Window
from ..diffusion import constraints
from ..diffusion.balance import WAYS, in_turn, over_ways, paired_field
from ..diffusion.cache import TileCache
from ..diffusion.guidance import Predict
from ..diffusion.windows import Index, Lattice, blend
from ..errors import ExtentTooLarge, InvalidRequest
from ..journal import JobFolder
from ..models.base import MultispectralModel, SuperResolveModel
from ..models.schedulers import check_steps
from ..radiometry import Radiometry, measure
from ..raster import Raster, SourceRaster, check_grid
from . import multispectral
from .base import MEAN, Work
from .canvas import Canvas
from .chunks import absolute, chunks, relative
from .denoising import REMEMBERED, denoise
from .knowledge import unused_notices
from .underlay import Patch, Underlay

#: Source pixels around a region that its enlargement looks at, with room to spare: bicubic looks at two.
ENLARGE_HALO = 4

#: How many of the chunks that come next may fill the places that one leaves over in the network's batches.
AHEAD = 32

#: How a part of the mean is drawn, whatever the person chose: one step of the ancestral sampler ends on the estimate of
#: the clean residual at the noisiest level, which holds no signal, so that this is the mean of all samples.
ONCE = Sampling(seed=0, steps=1, scheduler="DDPM")

#: A window of the residual: sample from 1 or ``MEAN``, group of bands, index in the lattice.
Key = tuple[int, int, Index]
#: The same from one seed's noise, in that seed's orientation.
Seeded = tuple[int, int, Index]


def plan(
    request: SuperResolve, folder: JobFolder, model: SuperResolveModel | MultispectralModel, ctx: JobContext
) -> Work:
    """Check a request against its source, and prepare its work: as ``multispectral`` for models of given bands.

    Raises:
        InvalidRequest: for a factor, a mean or a spread that the model does not have, or steps that the scheduler
            cannot do.
        UnknownScheduler: for a scheduler that the model does not have.
        ExtentTooLarge: for more pixels than a job may have.
        UnsupportedGrid: for a raster that does not lie on the ground.
        SourceEmpty: for a raster without data. What ``SourceRaster`` raises, besides.
    """
    if request.mean and (model.card.source_bands or not model.card.gives_mean):
        raise InvalidRequest(
            f"The model {model.card.name} gives samples, and not their mean.",
            "Ask for samples and no mean, or choose another model.",
        )
    if request.spread and request.sampling.samples < 2 and not model.card.gives_mean:
        raise InvalidRequest(
            f"The model {model.card.name} needs at least 2 samples for a spread.",
            "Ask for more samples, or leave out the spread.",
        )
    if model.card.source_bands:
        return multispectral.plan(request, folder, cast(MultispectralModel, model), ctx)
    return _plan(request, folder, cast(SuperResolveModel, model), ctx)


def _plan(request: SuperResolve, folder: JobFolder, model: SuperResolveModel, ctx: JobContext) -> Work:
    card = model.card
    notices = _check(request, model)
    ctx.tell("reading")
    with SourceRaster(folder.path, request.source) as source:
        check_grid(source.grid)
        drawn = source.grid.zoom(request.factor)
        if drawn.pixels > PIXELS_LIMIT:
            raise ExtentTooLarge(f"The result would have {drawn.pixels:,} pixels.", "Cut out the part that you need.")
        sampled = source.sample(ctx.check)
        radiometry = measure(sampled, source.profile)
        unit = radiometry.to_unit(sampled.known)
        scene = _Scene(
            radiometry=radiometry,
            mean=np.array([band[sampled.valid].mean(dtype=np.float64) for band in unit], np.float32),
            least=np.array([band[sampled.valid].min() for band in unit], np.float32),
        )
        given = Input(request.source.name or request.source.path, source.sha256(ctx.check), source.grid)
        row, col = source.grid.anchor()
        origin = (row * request.factor, col * request.factor)
        drawing = _Drawing(request, folder, model, source, scene, origin)
        return Work(
            card=card,
            drawn=drawn,
            result=drawn,
            chunks=chunks(drawn, origin),
            profile=source.profile,
            draw=drawing.draw,
            inputs=(given,),
            date=request.source.date,
            mean=request.mean,
            spread=request.spread,
            told=drawing.told if card.gives_mean else None,
            notices=notices,
        )


@dataclass(frozen=True)
class _Scene:
    """What is known about the whole source.

    Attributes:
        radiometry: its numbers <-> 0..1.
        mean: of each band, about 0..1.
        least: of each band, about 0..1, as far as a decimated read tells.
    """

    radiometry: Radiometry
    mean: NDArray[np.float32]
    least: NDArray[np.float32]

    def limits(self) -> tuple[Tensor, Tensor]:
        """Least and greatest number that a result may hold, (bands, 1, 1), about 0..1.

        They are those of the pixel type, but a raster without negative numbers gets none.
        """
        low, high = np.array(self.radiometry.low), np.array(self.radiometry.high)
        kind = np.dtype(self.radiometry.dtype)
        bounds = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
        zero = (0.0 - low) / (high - low)
        least = np.where(self.least >= zero - 1e-6, zero, (float(bounds.min) - low) / (high - low))
        greatest = (float(bounds.max) - low) / (high - low)
        low_high = np.clip(np.stack([least, greatest]), -1e30, 1e30).astype(np.float32)
        return torch.from_numpy(low_high[0])[:, None, None], torch.from_numpy(low_high[1])[:, None, None]


class _Drawing:
    """The work of one request, and what neighbouring chunks share."""

    def __init__(
        self,
        request: SuperResolve,
        folder: JobFolder,
        model: SuperResolveModel,
        source: SourceRaster,
        scene: _Scene,
        origin: tuple[int, int],
    ) -> None:
        self._model, self._scene = model, scene
        self._factor, self._sampling, self._origin = request.factor, request.sampling, origin
        self._grid = source.grid.zoom(request.factor)
        self._bands = len(source.profile.bands)
        self._lattice = Lattice(model.window, model.stride)
        self._cache = TileCache(REMEMBERED)
        self._canvas = Canvas(self._grid, self._bands, source.profile.dtype)
        self._low, self._high = scene.limits()
        below = (origin[0] // request.factor, origin[1] // request.factor)
        self._underlay = Underlay(folder.path, request.source, scene.radiometry, scene.mean, below)
        # never stepped: copies of it take a twentieth of the time of new ones, whose levels are computed one by one
        self._scheduler = model.scheduler(self._sampling.scheduler)
        self._once = model.scheduler(ONCE.scheduler) if model.card.gives_mean else None
        self._groups = range(math.ceil(self._bands / model.bands))
        self._next = dict(pairwise(chunks(self._grid, origin)))

    def draw(self, chunk: Window, sample: int, ctx: JobContext) -> Raster:
        """The pixels of a chunk (bands, height, width) in the source's own type, valid where the source is."""
        return self._drawn(chunk, sample, ctx)[0]

    def told(self, chunk: Window, ctx: JobContext) -> tuple[Raster, Raster]:
        """The mean of a chunk, and how far the truth lies from it: its standard deviation, as the network tells it."""
        mean, deviation = self._drawn(chunk, MEAN, ctx)
        radiometry = self._scene.radiometry
        unit = np.array(radiometry.high, np.float32) - np.array(radiometry.low, np.float32)
        return mean, Raster(deviation.numpy() * unit[:, None, None], mean.valid, mean.grid)

    def _drawn(self, chunk: Window, sample: int, ctx: JobContext) -> tuple[Raster, Tensor]:
        """What ``draw`` returns; of ``MEAN`` the deviation (bands, height, width), of 0..1, too, of samples zeros."""
        factor, area = self._factor, absolute(chunk, self._origin)
        # Everything around the network is done on the whole absolute square, whatever part of it lies in the raster:
        # one shape, one rounding.
        square = Window(area.row // CHUNK * CHUNK, area.col // CHUNK * CHUNK, CHUNK, CHUNK)
        region = square.pad(constraints.HALO * factor)
        around = self._underlay.read(_coarse(region, factor).pad(ENLARGE_HALO))
        rows, cols = area.relative_to(region).slices()
        inside = around.crop(_coarse(region, factor))
        valid = constraints.enlarge_nearest(inside.valid, factor)[rows, cols].numpy()
        if valid.any():
            later = self._following(chunk, sample)
            residual, variance = self._residual(self._touching(area, sample), later, region, ctx)
            fine = self._agreeing(around, residual, inside)
            pixels = self._scene.radiometry.from_unit(fine[:, rows, cols].numpy())
            pixels[:, ~valid] = 0
            deviation = variance[:, rows, cols].sqrt()
        else:
            deviation = torch.zeros(self._bands, chunk.height, chunk.width)
            pixels = np.zeros((self._bands, chunk.height, chunk.width), self._scene.radiometry.dtype)
        self._canvas.paint(pixels, valid, chunk)
        self._canvas.show(ctx)
        return Raster(pixels, valid, self._grid.crop(chunk)), deviation

    def _touching(self, area: Window, sample: int) -> list[Key]:
        """The windows that decide an area of absolute pixels, of one sample; those without data are left out."""
        return [
            (sample, group, index)
            for index in self._lattice.touching(area.pad(constraints.HALO * self._factor))
            if self._underlay.holds_data(_coarse(self._lattice.window(index), self._factor))
            for group in self._groups
        ]

    def _following(self, chunk: Window, sample: int) -> Iterator[Key]:
        """The windows that the chunks after one will ask for, in that order."""
        for _ in range(AHEAD):
            following = self._next.get(chunk)
            if following is None:
                return
            chunk = following
            yield from self._touching(absolute(chunk, self._origin), sample)

    def _residual(
        self, keys: list[Key], later: Iterable[Key], region: Window, ctx: JobContext
    ) -> tuple[Tensor, Tensor]:
        """What the model adds to the enlargement over a region, right where all its windows are: (bands, h, w).

        And the variance of its error, like it, of ``MEAN``; zeros of samples.
        """
        tiles = self._cache.get(
            keys,
            lambda missing: self._denoise(missing, ctx),
            self._model.batch,
            later,
            lambda key: WAYS if key[0] == MEAN else 1,
        )
        parts, bands = [], self._model.bands
        for group in self._groups:
            ctx.check()
            found = {index: tile for (_, of, index), tile in tiles.items() if of == group}
            channels = next((len(tile) for tile in found.values()), bands)
            parts.append(blend(self._lattice, found, region, channels))
        residual = torch.cat([part[:bands] for part in parts])[: self._bands]
        told = [part[bands:] if len(part) > bands else torch.zeros_like(part) for part in parts]
        return residual, torch.cat(told)[: self._bands]

    def _agreeing(self, around: Patch, residual: Tensor, inside: Patch) -> Tensor:
        """Enlargement plus residual, made to agree with the source: (bands, h, w) about 0..1.

        Args:
            around: the source under the region and ``ENLARGE_HALO``.
            residual: over the region.
            inside: the source under the region.
        """
        y = self._enlarge(around) + residual
        lr = inside.lr[None]
        y = constraints.match_low_resolution(y[None], lr, inside.valid, self._factor)
        return constraints.fit_range(y, lr, self._low, self._high, self._factor)[0]

    def _enlarge(self, around: Patch) -> Tensor:
        """The enlargement of all bands over what lies ``ENLARGE_HALO`` inside: (bands, h * factor, w * factor)."""
        halo = ENLARGE_HALO * self._factor
        parts = []
        for first in range(0, self._bands, self._model.bands):
            group = _triple(around.lr, first, self._model.bands)
            enlarged = self._model.enlarge(group[None].to(self._model.device), self._factor)[0].float().cpu()
            parts.append(enlarged[:, halo:-halo, halo:-halo])
        return torch.cat(parts)[: self._bands]

    def _denoise(self, keys: list[Key], ctx: JobContext) -> list[Tensor]:
        """Residuals of windows, all of one sample, or all of the mean, with the variance of their error below."""
        conditions: dict[tuple[int, Index], Tensor] = {}
        drawn = []
        if keys[0][0] == MEAN:
            for key, part in ctx.track(keys, "denoising"):
                ways = [(seed, *key[1:]) for seed in range(WAYS)]
                told: list[Tensor] = []
                clean = self._sampled(ways, ONCE, self._once, conditions, part, told)
                variances, scale = [variance.exp() for variance in told], self._scale(conditions[key[1:]])
                mean, variance = over_ways(clean.__getitem__), over_ways(variances.__getitem__)
                drawn.append(torch.cat([mean * scale, variance * scale.square()]))
            return drawn
        seeded = [(self._seed(key[0]), *key[1:]) for key in keys]
        sampled = self._sampled(seeded, self._sampling, self._scheduler, conditions, ctx, [])
        return [tile * self._scale(conditions[key[1:]]) for tile, key in zip(sampled, keys)]

    def _sampled(
        self,
        keys: list[Seeded],
        sampling: Sampling,
        scheduler: Any,
        conditions: dict[tuple[int, Index], Tensor],
        ctx: JobContext,
        told: list[Tensor],
    ) -> list[Tensor]:
        """Diffused residuals of windows.

        ``conditions`` gets what the network is given for each, and ``told`` at each call the logarithm of the variance
        of the velocities' errors, window by window: at the noisiest level, that of the clean residual.
        """
        model = self._model

        def predict(batch: list[Seeded]) -> Predict:
            for _, group, index in batch:
                if (group, index) not in conditions:
                    conditions[group, index] = self._condition(group, index)
            enlarged = torch.stack([conditions[key[1:]] for key in batch])
            seeds = [seed for seed, _, _ in batch]
            turned = in_turn(lambda x, t, told: model.predict(x, t, told, self._factor), seeds)

            def predicted(x: Tensor, t: Tensor) -> Tensor:
                output = turned(x, t, enlarged)
                if sampling is ONCE:
                    _, variances = output.split(model.bands, dim=1)
                    told.extend(variances.float().cpu())
                return output

            return predicted

        return denoise(
            keys,
            model.batch,
            ctx,
            sampling,
            lambda: copy.deepcopy(scheduler),
            predict,
            self._noise,
            lambda shown, denoised: self._show(shown, denoised, conditions, ctx),
        )

    def _scale(self, condition: Tensor) -> Tensor:
        """What a diffused residual of a window is multiplied by: like the window, on the CPU."""
        return self._model.scale(condition[None], self._factor)[0].float().cpu()

    def _seed(self, sample: int) -> int:
        return self._sampling.seed + sample - 1

    def _condition(self, group: int, index: Index) -> Tensor:
        """What the network is given for a window: (bands of the model, window, window) in 0..1, on its device."""
        around = self._underlay.read(_coarse(self._lattice.window(index), self._factor).pad(ENLARGE_HALO)).lr
        lr = _triple(around, group * self._model.bands, self._model.bands).clamp(0, 1)
        halo = ENLARGE_HALO * self._factor
        enlarged = self._model.enlarge(lr[None].to(self._model.device), self._factor)[0]
        return enlarged[:, halo:-halo, halo:-halo].clamp(0, 1)

    def _noise(self, keys: list[Seeded], stream: int) -> Tensor:
        bands = self._model.bands
        fields = [
            paired_field(seed, stream, self._lattice.window(index), bands, group * bands) for seed, group, index in keys
        ]
        return torch.stack(fields).to(self._model.device)

    def _show(
        self, keys: list[Seeded], denoised: Tensor, conditions: Mapping[tuple[int, Index], Tensor], ctx: JobContext
    ) -> None:
        """Paint windows that are still forming, where one window holds all bands."""
        if self._bands > self._model.bands or not self._canvas.is_due():
            return
        for key, residual in zip(keys, denoised):
            window = self._lattice.window(key[2])
            given = conditions[key[1:]]
            picture = given.float().cpu() + residual.float().cpu() * self._scale(given)
            valid = self._underlay.read(_coarse(window, self._factor)).valid
            pixels = self._scene.radiometry.from_unit(picture[: self._bands].clamp(0, 1).numpy())
            shown = constraints.enlarge_nearest(valid, self._factor).numpy()
            self._canvas.paint(pixels, shown, relative(window, self._origin))
        self._canvas.show(ctx)


def _coarse(window: Window, factor: int) -> Window:
    """The source pixels under a window whose edges lie on multiples of the factor."""
    return Window(window.row // factor, window.col // factor, window.height // factor, window.width // factor)


def _triple(pixels: Tensor, first: int, count: int) -> Tensor:
    """So many bands from a first one on; where there are fewer, the last is repeated."""
    last = first + count
    group = pixels[first:last]
    return torch.cat([group, group[-1:].expand(count - len(group), *group.shape[1:])])


def _check(request: SuperResolve, model: SuperResolveModel) -> tuple[str, ...]:
    """See whether the model can do it; what the person should know about the request and this model."""
    card, factor = model.card, request.factor
    if factor not in card.factors:
        known = " or ".join(str(known) for known in card.factors)
        raise InvalidRequest(f"The model {card.name} does not refine by {factor}.", f"Choose a factor of {known}.")
    if model.stride % factor or model.stride % model.multiple or model.window % factor or CHUNK % factor:
        raise ValueError(f"windows of {model.window} at {model.stride} do not lie on pixels of the source")
    check_steps(model.scheduler(request.sampling.scheduler), request.sampling.steps, request.sampling.scheduler)
    given = {
        "prompt": bool(request.prompt),
        "negative prompt": bool(request.negative_prompt),
        "cloud cover": request.source.cloud_cover is not None,
    }
    return (*unused_notices(given, card), *_resolution(request.gsd, factor, card))


def _resolution(gsd: float, factor: int, card: ModelCard) -> tuple[str, ...]:
    """What to say about a ground resolution that the model was not trained on.

    Nothing is refused: a source is never resampled, so there is no resolution to resample to, and the result agrees
    with it whatever the model knows.
    """
    finest, coarsest = (edge * factor for edge in card.gsd)
    if finest * 0.999 <= gsd <= coarsest * 1.001:
        return ()
    known = f"{finest:.4g} m" if finest == coarsest else f"{finest:.4g} to {coarsest:.4g} m"
    worth = "may do less well" if card.reaches(gsd / factor) else "knows nothing of such detail: do not rely on it"
    return (f"The layer has {gsd:.4g} m per pixel; the model was trained on {known} and {worth}.",)
