"""Dated raster layers of one place: which of them gives the grid, whether they go together, and their way to a job."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import List, Optional, Sequence, Tuple

from qgis.core import QgsRasterLayer, QgsRectangle

from ...engine.contract import SOURCES_LIMIT, ErrorCode, Failure, GeoBox, ModelCard, Source, Window, is_seen
from ..report import Problem, tr
from .crs import crs_of
from .outline import extent_in
from .sources import Export, SourceInfo, colours, prepare, require_colours

#: Pixels that are written around what overlaps, for the resampling kernel.
_MARGIN = 16
#: Pixels whose sizes differ by less than this share count as equally fine.
_ALIKE = 0.01


@dataclass(frozen=True)
class Member:
    """A layer of a series.

    Attributes:
        layer: it.
        info: what it is.
        date: ISO 8601 date of the picture, None as long as it is not known.
        cloud_cover: percent of it that is clouded, None where it is not known.
        bands: numbers of its red, green and blue band; empty for those that it shows so.
    """

    layer: QgsRasterLayer
    info: SourceInfo
    date: Optional[str]
    cloud_cover: Optional[float] = None
    bands: Tuple[int, ...] = ()


def is_finer(member: Member, other: Member) -> bool:
    """Whether a layer has smaller pixels than another, and not only by a little."""
    return member.info.gsd * (1 + _ALIKE) < other.info.gsd


def finest(members: Sequence[Member]) -> Member:
    """The layer with the smallest pixels: the first of those that are about equally fine."""
    least = min(member.info.gsd for member in members)
    return next(member for member in members if member.info.gsd <= least * (1 + _ALIKE))


def finest_first(members: Sequence[Member]) -> Tuple[Member, ...]:
    """The same with the finest at the front, the others in their order."""
    front = finest(members) if members else None
    return tuple(sorted(members, key=lambda member: member is not front))


def series_problems(members: Sequence[Member], date: Optional[str], card: ModelCard) -> List[Failure]:
    """Why a model cannot start from a series, the first to solve first; empty where it can.

    Args:
        members: the one that gives the grid first.
        date: ISO 8601 date that the result should show, None as long as there is none.
        card: of the model.
    """
    if not members:
        message = tr("There is no layer to start from.")
        return [_invalid(message, tr("Add raster layers of the place, each with its date."))]
    found = [*_number_problems(members, card), *_member_problems(members)]
    first = members[0].info.gsd
    if not card.reaches(first):
        limits = tr("{:g} m to {:g} m").format(card.gsd[0] / card.GSD_REACH, card.gsd[1] * card.GSD_REACH)
        found.append(
            Failure(
                ErrorCode.UNSUPPORTED_RESOLUTION,
                tr("The model '{}' cannot draw pixels of {:g} m, which are those of the layer '{}'.").format(
                    card.id, float(f"{first:.3g}"), members[0].layer.name()
                ),
                tr("Put a layer with {} first, or warp it to that: Raster, Projections, Warp.").format(limits),
            )
        )
    return [*found, *_date_problems(members, date)]


def _number_problems(members: Sequence[Member], card: ModelCard) -> List[Failure]:
    limit = min(card.frames, SOURCES_LIMIT)
    if len(members) <= limit:
        return []
    message = tr("The model '{}' starts from at most {} layers; there are {}.").format(card.id, limit, len(members))
    return [_invalid(message, tr("Take out those that say least about the place on that date."))]


def _member_problems(members: Sequence[Member]) -> List[Failure]:
    """What is wrong with a layer by itself, or beside the first."""
    found = []
    for member in members:
        try:
            require_colours(member.layer, member.info.data_bands)
            shared_window(member, members[0])
        except Problem as problem:
            found.append(problem.failure)
    return found


def _date_problems(members: Sequence[Member], date: Optional[str]) -> List[Failure]:
    found = []
    for member in members:
        if member.date is None:
            message = tr("The layer '{}' has no date.").format(member.layer.name())
            found.append(_invalid(message, tr("Say when its picture was taken.")))
    if date is None:
        found.append(_invalid(tr("There is no date for the result."), tr("Say which date it should show.")))
    for member in members:
        if date is None or member.date != date:
            continue
        if is_seen(Source("", date=date, gsd=member.info.gsd), members[0].info.gsd, date):
            message = tr("The result should show {}, and the layer '{}' is of that date.").format(
                date, member.layer.name()
            )
            found.append(_invalid(message, tr("Choose another date for the result, or take that layer out.")))
    return found


def shared_window(member: Member, first: Member) -> Window:
    """The pixels of a layer that lie on the first layer's ground, and some around them.

    Raises:
        Problem: INVALID_REQUEST where there are none, and as ``extent_in``.
    """
    if member.layer is first.layer:
        return member.info.grid.window
    window = _overlap(member.info.grid, first.info.grid)
    if window is None:
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The layers '{}' and '{}' do not overlap.").format(member.layer.name(), first.layer.name()),
            tr("Choose layers of one place."),
        )
    grown = window.pad(_MARGIN)
    return grown.intersection(member.info.grid.window)


def share(member: Member, first: Member) -> float:
    """How much of the first layer's extent another layer reaches over, 0 to 1.

    Raises:
        Problem: as ``extent_in``.
    """
    if member.layer is first.layer:
        return 1.0
    asked, window = _extent_on(member.info.grid, first.info.grid), _overlap(member.info.grid, first.info.grid)
    if window is None:
        return 0.0
    left, bottom, right, top = member.info.grid.bounds
    width = min(right, asked.xMaximum()) - max(left, asked.xMinimum())
    height = min(top, asked.yMaximum()) - max(bottom, asked.yMinimum())
    return min(1.0, width * height / (asked.width() * asked.height()))


def prepare_series(members: Sequence[Member]) -> Tuple[Export, ...]:
    """Get a series ready to be written into a job folder; call it on the main thread.

    Each layer is written in its red, green and blue band, the first as a whole, the others as far as they lie on its
    ground.

    Args:
        members: the one that gives the grid first; ``series_problems`` has nothing to say about them.

    Raises:
        Problem: as ``prepare``.
    """
    return tuple(_prepare(member, members[0], number) for number, member in enumerate(members, 1))


def _prepare(member: Member, first: Member, number: int) -> Export:
    info, bands = member.info, member.bands or colours(member.layer, member.info)
    kept = () if bands == info.data_bands else bands
    export = prepare(member.layer, kept, f"inputs/source_{number}.tif", shared_window(member, first))
    # the middle of what overlaps is where the pixels' size on the ground counts
    export.source = replace(export.source, date=member.date, gsd=export.gsd, cloud_cover=member.cloud_cover)
    return export


def _overlap(grid: GeoBox, reference: GeoBox) -> Optional[Window]:
    """The pixels of a grid that lie on the ground of another, None where there are none."""
    asked = _extent_on(grid, reference)
    left, top = grid.to_pixel(asked.xMinimum(), asked.yMaximum())
    right, bottom = grid.to_pixel(asked.xMaximum(), asked.yMinimum())
    slack = 1e-6  # an edge that lies on the other up to rounding shares nothing with it
    rows = max(0, math.floor(top + slack)), min(grid.height, math.ceil(bottom - slack))
    cols = max(0, math.floor(left + slack)), min(grid.width, math.ceil(right - slack))
    if rows[0] >= rows[1] or cols[0] >= cols[1]:
        return None
    return Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0])


@lru_cache(maxsize=64)
def _extent_on(grid: GeoBox, reference: GeoBox) -> QgsRectangle:
    """The extent of a reference in the CRS of a grid, whole turns around the earth away from it at most half one."""
    crs = crs_of(grid.crs)
    extent = extent_in(QgsRectangle(*reference.bounds), crs_of(reference.crs), crs)
    if not crs.isGeographic():
        return extent
    left, _, right, _ = grid.bounds
    turns = round(((left + right) / 2 - extent.center().x()) / 360.0)
    return QgsRectangle(
        extent.xMinimum() + 360.0 * turns, extent.yMinimum(), extent.xMaximum() + 360.0 * turns, extent.yMaximum()
    )


def _invalid(message: str, hint: str) -> Failure:
    return Failure(ErrorCode.INVALID_REQUEST, message, hint)
