"""Imagery over an extent, from a text and what is known of the place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from ..context import JobContext
from ..contract import (
    CONTENT,
    ONE_TEXTURE,
    OR_COARSER,
    PIXELS_LIMIT,
    Generate,
    GeoBox,
    Input,
    ModelCard,
    Window,
    coarse_factors,
    coarse_refusal,
    is_one_texture,
)
from ..diffusion.phases import can_pause
from ..errors import ExtentTooLarge, InvalidRequest
from ..journal import JobFolder
from ..models.base import EditModel, GenerateModel, Given, Scene
from ..models.schedulers import check_steps
from ..raster import Profile
from .base import Work
from .canvas import Canvas
from .chunks import chunks
from .coarse import CoarseLevel
from .controls import Controls
from .knowledge import told_gsd, trained_gsd, unguided_notices, unused_notices
from .picture import Picture
from .regions import RegionTexts, remarks

#: Pixels drawn beyond the extent where the picture is resampled afterwards.
MARGIN = 4


def plan(request: Generate, folder: JobFolder, model: GenerateModel, ctx: JobContext) -> Work:
    """Check a request and prepare its work.

    Raises:
        UnsupportedResolution: for a ground resolution that is further than a factor of 2 from the model's.
        ExtentTooLarge: for more pixels than a job may have.
        PromptNotUnderstood: for a text that names nothing that the model knows.
        UnknownScheduler: for a scheduler that the model does not have.
        InvalidRequest: for steps that the scheduler cannot do, or a coarser level that the model or the scheduler
            cannot. What ``RegionTexts`` raises, besides.
    """
    card = model.card
    drawn, gsd = drawn_grid(request, card)
    check_steps(model.scheduler(request.sampling.scheduler), request.sampling.steps, request.sampling.scheduler)
    _check_coarse(request, drawn, model)
    colors = tuple(name if name in ("red", "green", "blue") else "undefined" for name in card.bands)
    profile = Profile("uint8", card.bands, colors=colors)
    scene = _scene(request, gsd)
    controls = None
    if request.controls or card.required:
        controls = Controls(folder.path, request.controls, drawn, card, ctx.check)
        scene = replace(scene, content=controls.picture())
    regions = None if request.regions is None else RegionTexts(folder.path, request, drawn, card)
    inputs = list(controls.inputs) if controls is not None else []
    if request.regions is not None and regions is not None:
        inputs.append(Input(request.regions.name or request.regions.path, regions.sha256, drawn))
    canvas = Canvas(drawn, len(card.bands), profile.dtype)
    start = None
    if request.coarse > 1:
        start = CoarseLevel(
            drawn,
            cast(EditModel, model),
            request.sampling,
            scene,
            request.coarse,
            request.coarse_strength,
            canvas,
            regions,
        )
    picture = Picture(
        drawn,
        model,
        request.sampling,
        scene,
        lambda windows: Given() if controls is None else Given(controls=_batch(controls, windows)),
        request.trajectory,
        regions=regions,
        start=start,
        canvas=canvas,
    )
    said = model.remarks(scene) if regions is None else remarks(regions, model, scene)
    return Work(
        card=card,
        drawn=drawn,
        result=request.grid,
        chunks=chunks(drawn, drawn.anchor()),
        profile=profile,
        draw=picture.draw,
        inputs=tuple(inputs),
        date=request.date,
        notices=(*_notices(request, model, drawn, gsd), *said),
        frames=request.trajectory,
        draw_frames=picture.draw_frames if request.trajectory else None,
        share=picture.share,
    )


def drawn_grid(request: Generate, card: ModelCard) -> tuple[GeoBox, float]:
    """The grid that the model draws on, and its metres per pixel: those asked for, or the nearest that it knows.

    Raises:
        UnsupportedResolution: for a ground resolution that is further than a factor of 2 from the model's.
        ExtentTooLarge: for more pixels than a job may have.
    """
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
    return drawn, gsd


def _check_coarse(request: Generate, drawn: GeoBox, model: GenerateModel) -> None:
    """Raise InvalidRequest for a coarser level that this model cannot draw first, or this scheduler go on from."""
    refusal = coarse_refusal(request, drawn.shape, model.card)
    if refusal is not None:
        raise InvalidRequest(*refusal)
    if request.coarse > 1 and not can_pause(model.scheduler(request.sampling.scheduler)):
        raise InvalidRequest(
            f"The scheduler {request.sampling.scheduler} cannot start from a coarser level.",
            "Choose another scheduler, or no coarser level.",
        )


def _scene(request: Generate, gsd: float) -> Scene:
    """What the model is told, drawing at ``gsd`` metres per pixel."""
    return Scene(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        gsd=told_gsd(request.told_gsd, gsd),
        longitude=request.longitude,
        latitude=request.latitude,
        date=request.date,
        cloud_cover=request.cloud_cover,
        control_strengths={control.kind: control.strength for control in request.controls},
    )


def _batch(controls: Controls, windows: Sequence[Window]) -> dict[str, Tensor]:
    """Kind of control -> its pixels (B, 3, h, w) in windows of the grid."""
    read = [controls.read(window) for window in windows]
    return {kind: torch.stack([each[kind] for each in read]) for kind in read[0]}


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


def _notices(request: Generate, model: GenerateModel, drawn: GeoBox, gsd: float) -> tuple[str, ...]:
    """What the person should know about the request and this model, which draws on a grid at ``gsd`` metres."""
    card = model.card
    given = {
        "prompt": bool(request.prompt),
        "negative prompt": bool(request.negative_prompt),
        "date": request.date is not None,
        "place": request.longitude is not None and request.latitude is not None,
        "cloud cover": request.cloud_cover is not None,
        "resolution told": request.told_gsd is not None,
    }
    sampler = request.sampling.scheduler
    notices = [*unused_notices(given, card), *unguided_notices(request.negative_prompt, request.sampling, card)]
    if gsd != request.gsd:
        notices.append(
            f"Drawn at {gsd:.4g} m per pixel, the nearest that the model knows, and resampled to {request.gsd:.4g} m."
        )
    is_guided = request.regions is not None or any(control.kind != CONTENT for control in request.controls)
    if is_one_texture(request.lattice.shape, card, is_guided, request.coarse):  # content says what, and not where
        further = coarse_factors(request.told_gsd or gsd, drawn.shape, card)
        notices.append(f"{ONE_TEXTURE} {OR_COARSER}" if further and further[-1] > request.coarse else ONE_TEXTURE)
    if len(card.phases) > 1 and not card.draws_whole(drawn.shape) and not can_pause(model.scheduler(sampler)):
        notices.append(
            f"The scheduler {sampler} cannot pause, so windows are blended only when they are finished: with another "
            "one, structures go on across them."
        )
    return tuple(notices)
