"""What of a plan lies in an extent, before a job starts."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, Iterator, List, Optional, Tuple

from qgis.core import (
    QgsCoordinateTransform,
    QgsCsException,
    QgsFeature,
    QgsFeatureRequest,
    QgsGeometry,
    QgsRectangle,
)

from ...engine.contract import TEXTS_LIMIT, ErrorCode, GeoBox, ModelCard, Window
from ..report import Problem, tr
from .crs import crs_of
from .plan import Plan
from .polygons import Polygons, around, cut, require_any, require_polygons

#: Most polygons that are looked at before a job starts: the job looks at all of them.
FIRST = 5000
#: Seconds after which that stops: of work, of work where all of a layer is read, and of waiting for a network.
_WORK, _SCAN, _WAIT = 0.5, 5.0, 10.0
#: Pixels around a picture of one window that its soft borders may look at.
_SOFT = 64
#: Parts of the extent's longer side into which long edges are cut before they are bent into another CRS.
_PIECES = 32


@dataclass(frozen=True)
class Survey:
    """What of a plan lies in an extent.

    Attributes:
        shapes: (text, its ground in the CRS of the lattice) of each polygon with a text, those below first.
        texts: text -> how many polygons have it, the most frequent first.
        empty: how many polygons have no text; they are left out.
        looked: how many polygons around the extent were looked at.
        is_part: whether there may be more.
        beyond: texts that lie outside of the extent alone, where the model looks too.
    """

    shapes: Tuple[Tuple[str, QgsGeometry], ...]
    texts: Dict[str, int]
    empty: int = 0
    looked: int = 0
    is_part: bool = False
    beyond: FrozenSet[str] = frozenset()


def survey(
    plan: Plan,
    lattice: GeoBox,
    card: Optional[ModelCard] = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Survey:
    """What of a plan lies in an extent, by its first polygons; may take seconds, on any one thread.

    Args:
        plan: the polygons and their texts.
        lattice: that the model draws on.
        card: of the model, for what lies just outside, too.
        cancelled: whether to stop; what is found by then is of no use.

    Raises:
        Problem: as ``Plan.reader`` and ``require_polygons``.
    """
    require_polygons(plan.polygons)
    text, empty, beyond, looked, is_part = plan.reader(), set(), set(), 0, False
    found: List[Tuple[Tuple[bool, int], str, QgsGeometry]] = []
    seen = lattice if card is None else seen_from(lattice, card)
    worked = time.thread_time() + (_SCAN if plan.polygons.is_scanned else _WORK)
    waited = time.monotonic() + _WAIT
    for feature, shape, is_inside in _near(plan.polygons, lattice, seen):
        looked += not shape.isNull()
        words = "" if shape.isEmpty() else text(feature)
        if words and is_inside:
            found.append((height(feature), words, shape))
        elif words:
            beyond.add(words)
        elif is_inside:
            empty.add(feature.id())
        if looked >= FIRST or time.thread_time() > worked or time.monotonic() > waited or cancelled():
            is_part = True
            break
    if not (looked or is_part):
        require_any(plan.polygons)
    found.sort(key=lambda each: each[0])
    named = Counter(words for words, _ in {(words, where) for where, words, _ in found})
    shapes = tuple((words, shape) for _, words, shape in found)
    return Survey(shapes, dict(named.most_common()), len(empty), looked, is_part, frozenset(beyond - set(named)))


def require_regions(name: str, found: Survey, card: ModelCard) -> None:
    """Refuse polygons that nothing can be drawn from.

    Args:
        name: of the layer.
        found: what of it lies in the extent.
        card: of the model that is to draw.

    Raises:
        Problem: INVALID_REQUEST for a model that reads no text or for too many texts, MASK_EMPTY without a polygon in
            the extent, PROMPT_NOT_UNDERSTOOD where none there has a text.
    """
    if "prompt" not in card.uses:
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The model '{}' reads no text, so polygons cannot tell it what is where.").format(card.name),
            tr("Leave the regions out, or choose a model that reads a prompt."),
        )
    require_few(name, len(found.texts), len(found.beyond))
    if found.texts or found.is_part:
        return
    raise wordless(name) if found.empty else apart(name)


def seen_from(lattice: GeoBox, card: ModelCard) -> GeoBox:
    """What windows of a model look at: windows of an earlier phase reach further than those of a later one.

    Overlapping extents then are told the same of all that their common ground depends on.
    """
    if not card.draws_whole(lattice.shape):
        return lattice.pad(card.reach)
    side = card.window  # it lies in the middle of its window, and no other one looks anywhere
    row, col = ((length - side) // 2 for length in lattice.shape)
    return lattice.crop(Window(row, col, side, side)).pad(_SOFT)


def _near(polygons: Polygons, lattice: GeoBox, seen: GeoBox) -> Iterator[Tuple[QgsFeature, QgsGeometry, bool]]:
    """Each polygon near what the model sees, its ground in the lattice's CRS, and whether any of it is on the lattice.

    The ground is empty where none of it is seen, and null where it is far away: a layer that is scanned comes whole.
    """
    target = crs_of(lattice.crs)
    is_same = polygons.crs == target
    way = QgsCoordinateTransform(polygons.crs, target, polygons.context)
    frame = QgsGeometry.fromRect(QgsRectangle(*lattice.bounds))
    ground = QgsGeometry.createGeometryEngine(frame.constGet())  # it looks at the frame as long as it is asked
    ground.prepareGeometry()
    for feature, reach in _asked(polygons, seen):
        if reach is None:
            yield feature, QgsGeometry(), False
            continue
        shape = cut(feature.geometry(), reach)
        if not (is_same or shape.isNull() or shape.isEmpty()):
            shape = shape.densifyByDistance(max(reach.width(), reach.height()) / _PIECES)
            try:
                shape.transform(way)
            except QgsCsException:  # beyond the edge of the other map: not on the lattice
                shape = QgsGeometry()
        part = shape.constGet()
        if part is None or shape.isEmpty():
            yield feature, QgsGeometry.fromWkt("Polygon EMPTY"), False
        else:
            yield feature, shape, ground.intersects(part) and not ground.touches(part)


def _asked(polygons: Polygons, seen: GeoBox) -> Iterator[Tuple[QgsFeature, Optional[QgsRectangle]]]:
    """Each polygon that may be seen, with the reach that it is in; None where it is far away, or is none."""
    found = around(polygons, seen)
    if polygons.is_scanned:  # each comes out, so that who asks can stop on the way to those in reach
        for feature in polygons.features(QgsFeatureRequest()):
            shape = feature.geometry()
            within = [reach for reach in found if shape.boundingBoxIntersects(reach)]
            yield from ((feature, reach) for reach in within or (None,))
        return
    for reach in found:
        for feature in polygons.features(QgsFeatureRequest().setFilterRect(reach)):
            yield feature, reach if feature.geometry().boundingBoxIntersects(reach) else None


def height(feature: QgsFeature) -> Tuple[bool, int]:
    """Where a polygon lies in the pile: a greater feature id above a smaller, what is not saved yet on top."""
    return feature.id() < 0, abs(feature.id())


def require_few(name: str, texts: int, beyond: int) -> None:
    """Refuse too many texts, of which some lie just outside of the extent."""
    if texts + beyond <= TEXTS_LIMIT:
        return
    message = tr("The polygons of the layer '{layer}' have {count} different texts, at most {limit} are read.")
    message = message.format(layer=name, count=texts + beyond, limit=TEXTS_LIMIT)
    if beyond:
        message += " " + tr("{} of them lie just outside the extent, where the model looks too.").format(beyond)
    hint = tr("Give polygons of one kind the same text, or choose a smaller extent.")
    raise Problem(ErrorCode.INVALID_REQUEST, message, hint)


def apart(name: str) -> Problem:
    """No polygon of the layer with this name lies in the extent."""
    return Problem(
        ErrorCode.MASK_EMPTY,
        tr("No polygon of the layer '{}' lies in the extent.").format(name),
        tr("Choose another layer or another extent, and check the layer's coordinate reference system."),
    )


def wordless(name: str) -> Problem:
    """No polygon of the layer with this name that lies in the extent has a text."""
    return Problem(
        ErrorCode.PROMPT_NOT_UNDERSTOOD,
        tr("No polygon of the layer '{}' in the extent has a text.").format(name),
        tr("Choose the field that says what is there, or fill it in."),
    )
