"""Colour imagery, finer than Sentinel-2, drawn from its bands: SuperResolve with a model that is shown them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import JobContext
from ..contract import PIXELS_LIMIT, Input, ModelCard, SuperResolve, Window
from ..errors import ExtentTooLarge, InvalidRequest
from ..journal import JobFolder
from ..models.base import Given, MultispectralModel, Scene
from ..models.schedulers import check_steps
from ..models.sentinel2 import HINT, hint_bands
from ..radiometry import require_data
from ..raster import Profile, Raster, SourceRaster, check_grid, lonlat
from . import gaps
from .base import Work
from .chunks import chunks
from .knowledge import trained_gsd, unguided_notices, unused_notices
from .picture import Picture, to_bytes
from .sentinel2 import Numbers, Product, numbers, recognise

#: Metres per pixel of the layers that the model was trained on, and how far one may be off before it is said.
TRAINED, OFF = 10.0, 0.1


def plan(request: SuperResolve, folder: JobFolder, model: MultispectralModel, ctx: JobContext) -> Work:
    """Check a request against its source, and prepare its work.

    The result lies on the source's own grid, refined by the factor; red, green and blue of 8 bits.

    Raises:
        InvalidRequest: for a factor that the model does not have, or steps that the scheduler cannot do.
        UnsupportedResolution: for pixels of the result that are further than a factor of 2 from the model's.
        UnsupportedRaster: for a raster without the bands of Sentinel-2 that are needed.
        UnknownScheduler: for a scheduler that the model does not have.
        ExtentTooLarge: for more pixels than a job may have.
        UnsupportedGrid: for a raster that does not lie on the ground.
        SourceEmpty: for a raster without data. What ``SourceRaster`` raises, besides.
    """
    card, factor = model.card, request.factor
    if factor not in card.factors:
        known = " or ".join(str(known) for known in sorted(card.factors))
        raise InvalidRequest(f"The model {card.name} does not refine by {factor}.", f"Choose a factor of {known}.")
    gsd = trained_gsd(
        request.gsd / factor,
        card,
        lambda drawn, widest: (
            f"Pixels of {request.gsd:.4g} m become pixels of {request.gsd / factor:.4g} m, and the model {card.name} "
            f"draws {drawn}.",
            f"Choose a factor that makes them {widest}.",
        ),
    )
    check_steps(model.scheduler(request.sampling.scheduler), request.sampling.steps, request.sampling.scheduler)
    ctx.tell("reading")
    with SourceRaster(folder.path, request.source) as source:
        check_grid(source.grid)
        grid = source.grid.zoom(factor)
        if grid.pixels > PIXELS_LIMIT:
            raise ExtentTooLarge(f"The result would have {grid.pixels:,} pixels.", "Cut out the part that you need.")
        product = recognise(request.source, source.bands, source.profile, source.tags)
    used = replace(request, source=replace(request.source, bands=product.bands))
    with SourceRaster(folder.path, used.source) as source:
        sampled = source.sample(ctx.check)
        require_data(sampled)
        read = numbers(product, request.source, source.profile, source.tags, sampled)
        bands = _Bands(used, folder, read, _mean(read, sampled))
        given = Input(request.source.name or request.source.path, source.sha256(ctx.check), source.grid)
        longitude, latitude = lonlat(source.grid)
    scene = Scene(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        gsd=gsd,
        longitude=longitude,
        latitude=latitude,
        date=request.source.date,
        cloud_cover=request.source.cloud_cover,
    )
    scene = replace(scene, hints=(replace(scene, gsd=request.gsd),))

    def valid(window: Window) -> NDArray[np.bool_]:
        return bands.valid(window)

    def finish(pixels: Tensor, window: Window) -> Raster:
        held, made = valid(window), to_bytes(pixels)
        made[:, ~held] = 0
        return Raster(made, held, grid.crop(window))

    def shown(windows: Sequence[Window]) -> Given:
        return Given(picture=torch.stack([bands.shown(window, model.shown_side) for window in windows]))

    picture = Picture(grid, model, request.sampling, scene, shown, finish=finish)

    def draw(chunk: Window, sample: int, part: JobContext) -> Raster:
        if valid(chunk).any():
            return picture.draw(chunk, sample, part)
        return finish(torch.zeros(len(card.bands), chunk.height, chunk.width), chunk)

    colors = tuple(name if name in ("red", "green", "blue") else "undefined" for name in card.bands)
    return Work(
        card=card,
        drawn=grid,
        result=grid,
        chunks=chunks(grid, grid.anchor()),
        profile=Profile("uint8", card.bands, colors=colors),
        draw=draw,
        inputs=(given,),
        date=request.source.date,
        spread=request.spread,
        notices=(*_notices(request, card, gsd, product), *read.notices, *model.remarks(scene)),
    )


class _Bands:
    """The bands that the model is shown.

    Args:
        request: what is asked, its source with the bands of ``HINT`` in their order.
        folder: the job folder.
        read: how to read its numbers.
        mean: of each band, in 0..1.
    """

    def __init__(self, request: SuperResolve, folder: JobFolder, read: Numbers, mean: NDArray[np.float32]) -> None:
        self._source, self._factor = request.source, request.factor
        self._folder, self._read, self._mean = folder, read, mean

    def shown(self, window: Window, side: int) -> Tensor:
        """(bands, side, side) float32 in 0..1 over exactly a square window of the finer grid, gaps filled.

        Numbers are brought to steps of 1/255 first and resampled then, as in training.
        """
        step = window.height / self._factor / side  # source pixels a pixel
        reach = max(1.0, step)
        rows = _span(window.row / self._factor, window.height / self._factor, reach)
        cols = _span(window.col / self._factor, window.width / self._factor, reach)
        below = Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0])
        with SourceRaster(self._folder.path, self._source) as source:
            raster = source.read(below.pad(gaps.REACH))
        unit = hint_bands(torch.from_numpy(self._read.of(raster.known)), HINT)
        inner = slice(gaps.REACH, -gaps.REACH)
        pixels = torch.from_numpy(gaps.filled(unit.numpy(), raster.valid, self._mean)[:, inner, inner].copy())
        down = shares(window.row / self._factor, step, side, *rows)
        across = shares(window.col / self._factor, step, side, *cols)
        return torch.einsum("rh,bhw,cw->brc", down, pixels.double(), across).float()

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """(height, width): where the source holds data, in a window of the finer grid."""
        factor = self._factor
        row, col = window.row // factor, window.col // factor
        end_row, end_col = -(-window.row_end // factor), -(-window.col_end // factor)
        with SourceRaster(self._folder.path, self._source) as source:
            coarse = source.read(Window(row, col, end_row - row, end_col - col)).valid
        rows = np.arange(window.row, window.row_end) // factor - row
        cols = np.arange(window.col, window.col_end) // factor - col
        return coarse[np.ix_(rows, cols)]


def shares(start: float, step: float, count: int, first: int, last: int) -> Tensor:
    """How much source pixels count for each of a row of pixels: bilinear, over a wider area where those are larger.

    It is what Pillow and torch call bilinear with antialiasing, at any place.

    Args:
        start: where the row begins, in source pixels.
        step: size of one of its pixels, in source pixels.
        count: how many there are.
        first: number of the first source pixel.
        last: one past the last.

    Returns:
        (count, last - first) float64; the shares of each pixel add up to 1.
    """
    centres = start + (torch.arange(count, dtype=torch.float64) + 0.5) * step
    pixels = torch.arange(first, last, dtype=torch.float64) + 0.5
    weight = (1 - (centres[:, None] - pixels[None]).abs() / max(1.0, step)).clamp_min(0)
    return weight / weight.sum(dim=1, keepdim=True)


def _span(start: float, length: float, reach: float) -> tuple[int, int]:
    """(first, one past the last) source pixel that a stretch of them, in source pixels, is resampled from."""
    return math.floor(start - reach), math.ceil(start + length + reach)


def _mean(read: Numbers, sampled: Raster) -> NDArray[np.float32]:
    """Mean of each band over the pixels with data, in 0..1 as the model sees it."""
    unit = hint_bands(torch.from_numpy(read.of(sampled.known)), HINT).numpy()
    return np.array([band[sampled.valid].mean(dtype=np.float64) for band in unit], np.float32)


def _notices(request: SuperResolve, card: ModelCard, gsd: float, product: Product) -> tuple[str, ...]:
    """What the person should know about the request, the source and this model."""
    given = {
        "prompt": bool(request.prompt),
        "negative prompt": bool(request.negative_prompt),
        "cloud cover": request.source.cloud_cover is not None,
    }
    notices = [
        "The detail is drawn, not measured: nothing that is smaller than the layer's own pixels was seen there.",
        *unused_notices(given, card),
        *unguided_notices(request.negative_prompt, request.sampling, card),
    ]
    if not math.isclose(gsd, request.gsd / request.factor, rel_tol=1e-3):
        notices.append(
            f"Pixels of {request.gsd / request.factor:.4g} m are asked for and the model draws as if they were "
            f"{gsd:.4g} m, so that things come out larger or smaller by that ratio."
        )
    if abs(request.gsd / TRAINED - 1) > OFF:
        notices.append(
            f"The layer has {request.gsd:.4g} m per pixel; the model was trained on {TRAINED:.4g} m and may do less "
            "well."
        )
    if product.is_ordered:
        order = "B1 to B12 with B8A and B10" if product.level == "L1C" else "B1 to B12 with B8A, without B10"
        notices.append(f"The layer's bands have no names: they are taken in the order of Sentinel-2's, {order}.")
    if product.level != "L1C":
        what = "of level 2A, surface reflectances" if product.level else "of a level that nothing tells"
        notices.append(
            f"The layer is {what}; the model was trained on level 1C, reflectances above the atmosphere, and may show "
            "other colours."
        )
    return tuple(notices)
