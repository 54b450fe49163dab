"""A place on another date, before or after: drawn from dated rasters of it, on the grid of the first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import JobContext
from ..contract import PIXELS_LIMIT, Forecast, GeoBox, ModelCard, Window
from ..errors import ExtentTooLarge, InvalidRequest
from ..journal import JobFolder
from ..models.base import GenerateModel, Given, Scene
from ..models.schedulers import check_steps
from ..raster import Raster, SourceRaster, check_grid, lonlat
from . import gaps
from .base import Work
from .chunks import chunks
from .knowledge import trained_gsd, unguided_notices, unused_notices
from .picture import Picture
from .series import Frame, naming

#: Share of the first source's ground below which it is said how little of it another one covers.
COVERED = 0.9


def plan(request: Forecast, folder: JobFolder, model: GenerateModel, ctx: JobContext) -> Work:
    """Check a request against its sources, and prepare its work.

    The result lies on the grid of the first source, in its pixel type and its numbers. It is valid where any of the
    sources holds data, and in gaps that all of them share as long as they are narrow enough to be drawn across.

    Raises:
        InvalidRequest: for more sources than the model starts from, one that does not overlap the first, or steps that
            the scheduler cannot do.
        UnsupportedResolution: for a ground resolution that is further than a factor of 2 from the model's.
        UnsupportedRaster: for another number of bands than the model draws.
        ExtentTooLarge: for more pixels than a job may have.
        UnsupportedGrid: for a raster that does not lie on the ground, or cannot be related to the first.
        SourceEmpty: for a raster without data.
        UnknownScheduler: for a scheduler that the model does not have. What ``SourceRaster`` raises, besides.
    """
    card = model.card
    gsd = trained_gsd(
        request.gsd,
        card,
        lambda drawn, widest: (
            f"The first layer has {request.gsd:.4g} m per pixel, and the model {card.name} draws {drawn}.",
            f"Put a layer with {widest} first, or warp it to that.",
        ),
    )
    _check_count(request, card)
    check_steps(model.scheduler(request.sampling.scheduler), request.sampling.steps, request.sampling.scheduler)
    ctx.tell("reading")
    with naming(1, request.sources[0]), SourceRaster(folder.path, request.sources[0]) as first:
        grid = first.grid
        check_grid(grid)
    if grid.pixels > PIXELS_LIMIT:
        raise ExtentTooLarge(f"The first layer has {grid.pixels:,} pixels.", "Cut out the part that you need.")
    frames = []
    for number, source in enumerate(request.sources, 1):
        with naming(number, source):
            frames.append(Frame(folder.path, source, grid, card, ctx.check))
    scene = _scene(request, grid, gsd, card.frames)
    drawing = _Drawing(request, model, scene, grid, frames)
    cut = chunks(grid, grid.anchor())
    coverage = _coverage(request, frames, cut, ctx)
    return Work(
        card=card,
        drawn=grid,
        result=grid,
        chunks=cut,
        profile=frames[0].profile,
        draw=drawing.draw,
        inputs=tuple(frame.given for frame in frames),
        date=request.date,
        notices=(*_notices(request, card, gsd), *coverage, *model.remarks(scene)),
    )


class _Drawing:
    """The work of one request.

    Args:
        request: what is asked.
        model: that draws.
        scene: what it is told, with as many ``hints`` as it is shown frames.
        grid: of the first source.
        frames: the sources on it; where there are fewer than hints, the first stands in for the others.
    """

    def __init__(
        self, request: Forecast, model: GenerateModel, scene: Scene, grid: GeoBox, frames: Sequence[Frame]
    ) -> None:
        self._grid, self._frames, self._count = grid, frames, len(scene.hints)
        dtype = frames[0].profile.dtype
        self._picture = Picture(grid, model, request.sampling, scene, self._given, finish=self._finish, dtype=dtype)

    def draw(self, chunk: Window, sample: int, ctx: JobContext) -> Raster:
        """The pixels of a chunk (bands, height, width) in the first source's own type."""
        if self._valid(chunk).any():
            return self._picture.draw(chunk, sample, ctx)
        return self._finish(torch.zeros(len(self._frames[0].profile.bands), chunk.height, chunk.width), chunk)

    def _given(self, windows: Sequence[Window]) -> Given:
        """The frames (B, bands, T, H, W) in windows of the grid."""
        return Given(frames=torch.stack([self._shown(window) for window in windows]))

    def _shown(self, window: Window) -> Tensor:
        read = [frame.read(window) for frame in self._frames]
        return torch.stack(read + read[:1] * (self._count - len(read)), dim=1)

    def _finish(self, pixels: Tensor, window: Window) -> Raster:
        """Pixels in 0..1 in the first source's numbers."""
        valid = self._valid(window)
        numbers = self._frames[0].radiometry.from_unit(pixels.numpy())
        numbers[:, ~valid] = 0
        return Raster(numbers, valid, self._grid.crop(window))

    def _valid(self, window: Window) -> NDArray[np.bool_]:
        """(height, width): where any source holds data, gaps closed that are wholly filled from their rims."""
        around = window.pad(2 * gaps.REACH)
        valid: NDArray[np.bool_] = np.logical_or.reduce([frame.valid(around) for frame in self._frames])
        return gaps.closed(valid)


def _scene(request: Forecast, grid: GeoBox, gsd: float, count: int) -> Scene:
    """What the model is told of the result, and of each of ``count`` frames.

    The ground resolution of a frame is that of its pixels as the network is shown them, on the grid of the result: in
    training a picture's own was multiplied by its side over that of the network's input (DiffusionSat's data sets).
    """
    longitude, latitude = lonlat(grid)
    hints = [
        Scene(
            gsd=gsd,
            longitude=longitude,
            latitude=latitude,
            date=source.date,
            cloud_cover=source.cloud_cover,
        )
        for source in request.sources
    ]
    # residuals are added up over frames: fewer would be weaker than what the model was trained with
    hints += hints[:1] * (count - len(hints))
    return Scene(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        gsd=gsd,
        longitude=longitude,
        latitude=latitude,
        date=request.date,
        cloud_cover=request.cloud_cover,
        hints=tuple(hints),
    )


def _check_count(request: Forecast, card: ModelCard) -> None:
    if len(request.sources) > card.frames:
        raise InvalidRequest(
            f"The model {card.name} starts from at most {card.frames} layers, and {len(request.sources)} are given.",
            "Take out those that say least about the place on that date.",
        )


def _coverage(request: Forecast, frames: Sequence[Frame], cut: Sequence[Window], ctx: JobContext) -> tuple[str, ...]:
    """What to say of sources that hold data on a part of the first's ground only. Raises InvalidRequest for none."""
    if len(frames) == 1:
        return ()
    known = np.zeros(len(frames), np.int64)
    for chunk, part in ctx.track(cut, "reading"):
        ground = frames[0].valid(chunk, part.check)
        known += [(frame.valid(chunk, part.check) & ground).sum() for frame in frames]
    said = []
    for number, (source, count) in enumerate(zip(request.sources, known), 1):
        name = f"Layer {number} ({source.name})" if source.name else f"Layer {number}"
        if count == 0:
            raise InvalidRequest(f"{name} holds no data on the ground of the first.", "Choose layers of one place.")
        share = count / known[0]
        if share < COVERED:
            said.append(
                f"{name} holds data on {share:.1%} of the first's ground: elsewhere it is shown as its mean colour."
            )
    return tuple(said)


def _notices(request: Forecast, card: ModelCard, gsd: float) -> tuple[str, ...]:
    """What the person should know about the request and this model."""
    given = {
        "prompt": bool(request.prompt),
        "negative prompt": bool(request.negative_prompt),
        "date": True,
        "cloud cover": request.cloud_cover is not None,
    }
    notices = [*unused_notices(given, card), *unguided_notices(request.negative_prompt, request.sampling, card)]
    if gsd != request.gsd:
        notices.append(
            f"The first layer has {request.gsd:.4g} m per pixel and is not resampled: the model draws as if it were "
            f"{gsd:.4g} m, so that things come out larger or smaller by that ratio."
        )
    missing = card.frames - len(request.sources)
    if missing > 0:
        notices.append(
            f"The model starts from {card.frames} layers: the first stands in for the {missing} that "
            f"{'is' if missing == 1 else 'are'} missing."
        )
    return tuple(notices)
