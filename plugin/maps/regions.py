"""Polygons with texts of their own: a land-use plan, a scenario, on its way into a job folder."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Tuple

from qgis.core import (
    NULL,
    QgsCoordinateTransform,
    QgsCsException,
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsFeature,
    QgsFeatureRequest,
    QgsFields,
    QgsGeometry,
    QgsProcessingFeatureSource,
    QgsRectangle,
    QgsVectorLayer,
)

from ...engine.contract import PROMPT_LIMIT, TEXTS_LIMIT, ErrorCode, GeoBox, ModelCard, Regions, clean_prompt
from ..report import Problem, tr
from .collection import write_collection
from .crs import crs_of
from .polygons import Polygons, cut, layer_polygons, placed, require_polygons
from .reach import reaches

#: Where the engine finds the polygons, relative to the job folder.
REGIONS_PATH = "inputs/regions.geojson"
#: The property of a polygon that the engine draws from; the field that is taken where nobody says another.
TEXT = "prompt"
#: Most polygons that are looked at before a job starts: the job looks at all of them.
FIRST = 5000
#: Seconds after which that stops: of work, and of waiting for a layer that comes over a network.
_WORK, _WAIT = 0.1, 2.0
#: Parts of the extent's longer side into which long edges are cut before they are bent into another CRS.
_PIECES = 32


@dataclass(frozen=True)
class Plan:
    """Polygons with texts, as a person chose them.

    Attributes:
        polygons: where.
        expression: what says the text of a polygon: a field, or anything that QGIS can work out.
        scope: what the expression may refer to.
        only: draw nothing outside the polygons.
    """

    polygons: Polygons
    expression: str
    scope: QgsExpressionContext
    only: bool = False

    def reader(self) -> Callable[[QgsFeature], str]:
        """A function from a polygon to its text, "" for none; of use on the thread that asked for it alone.

        Raises:
            Problem: INVALID_REQUEST for what is no expression, or names a field that is not there.
        """
        expression, scope = QgsExpression(self.expression), QgsExpressionContext(self.scope)
        if expression.hasParserError() or not expression.prepare(scope):
            said = (expression.parserErrorString() or expression.evalErrorString()).strip().rstrip(".")
            names = ", ".join(self.scope.fields().names()[:12])
            raise Problem(
                ErrorCode.INVALID_REQUEST,
                tr("The texts of the layer '{layer}' cannot be worked out: {error}.").format(
                    layer=self.polygons.name, error=said[:200]
                ),
                tr("Choose one of its fields: {}.").format(names) if names else tr("Choose a layer with such a field."),
            )

        def text(feature: QgsFeature) -> str:
            scope.setFeature(feature)
            value = expression.evaluate(scope)
            found = "" if value is None or value == NULL else str(value)
            if len(found) > PROMPT_LIMIT:
                raise Problem(
                    ErrorCode.PROMPT_TOO_LONG,
                    tr("A text of the layer '{}' has {} characters, at most {} are read.").format(
                        self.polygons.name, len(found), PROMPT_LIMIT
                    ),
                    tr("Shorten it: a sentence or two say more to a model than a page."),
                )
            return clean_prompt(found)

        return text


@dataclass(frozen=True)
class Survey:
    """What of a plan lies in an extent.

    Attributes:
        shapes: (text, its ground in the CRS of the lattice) of each polygon with a text, those below first.
        texts: text -> how many polygons have it, the most frequent first.
        empty: how many polygons have no text; they are left out.
        looked: how many polygons around the extent were looked at.
        is_part: whether there may be more.
    """

    shapes: Tuple[Tuple[str, QgsGeometry], ...]
    texts: Dict[str, int]
    empty: int = 0
    looked: int = 0
    is_part: bool = False


def usual_field(fields: QgsFields) -> str:
    """The field that most likely holds the texts: ``TEXT``, else the first of text, "" where there is none."""
    named = [name for name in fields.names() if name.lower() == TEXT]
    written = [field.name() for field in fields if not (field.isNumeric() or field.isDateOrTime())]
    return next(iter([*named, *written]), "")


def field_expression(field: str) -> str:
    """An expression for the value of a field; "" for none."""
    return QgsExpression.quotedColumnRef(field) if field else ""


def layer_plan(layer: QgsVectorLayer, expression: str, selected_only: bool = False, only: bool = False) -> Plan:
    """The polygons of a layer as it is now; call it on the main thread.

    Args:
        layer: of polygons.
        expression: as in ``Plan``.
        selected_only: whether only selected ones count.
        only: as in ``Plan``.

    Raises:
        Problem: MASK_EMPTY where only selected ones are asked for and none is selected.
    """
    scope = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    scope.setFields(layer.fields())
    return Plan(layer_polygons(layer, selected_only), expression, scope, only)


def source_plan(source: QgsProcessingFeatureSource, polygons: Polygons, field: str, only: bool) -> Plan:
    """The polygons that a parameter of an algorithm names.

    Args:
        source: what the parameter names.
        polygons: of it, with their attributes.
        field: with the texts.
        only: as in ``Plan``.
    """
    scope = QgsExpressionContext()
    scope.setFields(source.fields())
    return Plan(polygons, field_expression(field), scope, only)


def survey(plan: Plan, lattice: GeoBox) -> Survey:
    """What of a plan lies in an extent; looks at the first polygons only, so it is cheap enough for the main thread.

    Args:
        plan: the polygons and their texts.
        lattice: that the model draws on.

    Raises:
        Problem: as ``Plan.reader`` and ``require_polygons``.
    """
    require_polygons(plan.polygons)
    text, empty, looked, is_part = plan.reader(), set(), 0, False
    found: List[Tuple[Tuple[bool, int], str, QgsGeometry]] = []
    worked, waited = time.thread_time() + _WORK, time.monotonic() + _WAIT
    for looked, (feature, shape) in enumerate(_near(plan.polygons, lattice), 1):
        words = "" if shape.isEmpty() else text(feature)
        if words:
            found.append((_height(feature), words, shape))
        elif not shape.isEmpty():
            empty.add(feature.id())
        if looked >= FIRST or time.thread_time() > worked or time.monotonic() > waited:
            is_part = True
            break
    found.sort(key=lambda each: each[0])
    named = Counter(words for words, _ in {(words, height) for height, words, _ in found})
    shapes = tuple((words, shape) for _, words, shape in found)
    return Survey(shapes, dict(named.most_common()), len(empty), looked, is_part)


def require_regions(plan: Plan, found: Survey, card: ModelCard) -> None:
    """Refuse polygons that nothing can be drawn from.

    Args:
        plan: the polygons and their texts.
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
    _require_few(plan.polygons, len(found.texts))
    if found.texts or found.is_part:
        return
    raise _wordless(plan.polygons) if found.empty else _apart(plan.polygons)


def prepare_regions(plan: Plan, card: ModelCard, lattice: GeoBox) -> "RegionsExport":
    """Get polygons ready to be written into a job folder from another thread; call it on the main thread.

    Args:
        plan: the polygons and their texts.
        card: of the model that is to draw.
        lattice: that it draws on.

    Raises:
        Problem: as ``survey`` and ``require_regions``.
    """
    require_regions(plan, survey(plan, lattice), card)
    return RegionsExport(plan, seen_from(lattice, card))


def seen_from(lattice: GeoBox, card: ModelCard) -> GeoBox:
    """What windows of a model look at: windows of an earlier phase reach further than those of a later one.

    Overlapping extents then are told the same of all that their common ground depends on.
    """
    return lattice.pad(card.reach)


class RegionsExport:
    """Polygons with texts on their way into a job folder.

    Attributes:
        regions: as they stand in the request.
        files: none: no result has the name of a file with polygons.
    """

    files: Tuple[str, ...] = ()

    def __init__(self, plan: Plan, seen: GeoBox) -> None:
        """Take note of what is read later; use ``prepare_regions`` to get one.

        Args:
            plan: the polygons and their texts.
            seen: pixels that windows of the model look at: those of the lattice, and around it.
        """
        self.regions = Regions(REGIONS_PATH, plan.polygons.name, plan.only)
        self._plan = plan
        self._seen = seen

    def write(self, folder: str, cancelled: Callable[[], bool]) -> None:
        """Write the polygons into the job folder, on any one thread; returns early, without a file, once cancelled.

        Those without a text are left out. A polygon with a greater feature id lies above one with a smaller.

        Raises:
            Problem: MASK_EMPTY or PROMPT_NOT_UNDERSTOOD where there is nothing to write, MASK_UNREADABLE for a polygon
                without a place in the CRS of the lattice, PROMPT_TOO_LONG, or INVALID_REQUEST for too many texts.
            OSError: where the file cannot be written.
        """
        text, polygons = self._plan.reader(), self._plan.polygons
        found: List[Tuple[Tuple[bool, int], str, dict]] = []
        is_near = False
        for feature, geometry in placed(polygons, self._seen, QgsFeatureRequest(), whole=True):
            if cancelled():
                return
            is_near, words = True, text(feature)
            if words:
                found.append((_height(feature), words, geometry))
        if not found:
            raise _wordless(polygons) if is_near else _apart(polygons)
        _require_few(polygons, len({words for _, words, _ in found}))
        found.sort(key=lambda each: each[0])
        shapes = (({TEXT: words}, geometry) for _, words, geometry in found)
        write_collection(folder, REGIONS_PATH, self._seen.crs, shapes, cancelled)


def _near(polygons: Polygons, lattice: GeoBox) -> Iterator[Tuple[QgsFeature, QgsGeometry]]:
    """Each polygon near the lattice, and its ground in the lattice's CRS; empty where none of it is on the lattice."""
    target = crs_of(lattice.crs)
    is_same = polygons.crs == target
    way = QgsCoordinateTransform(polygons.crs, target, polygons.context)
    frame = QgsGeometry.fromRect(QgsRectangle(*lattice.bounds))
    ground = QgsGeometry.createGeometryEngine(frame.constGet())  # it looks at the frame as long as it is asked
    ground.prepareGeometry()
    for reach in reaches(lattice, polygons.crs, polygons.context):
        for feature in polygons.features(QgsFeatureRequest().setFilterRect(reach)):
            shape = cut(feature.geometry(), reach)
            if not (is_same or shape.isNull() or shape.isEmpty()):
                shape = shape.densifyByDistance(max(reach.width(), reach.height()) / _PIECES)
                try:
                    shape.transform(way)
                except QgsCsException:  # beyond the edge of the other map: not on the lattice
                    shape = QgsGeometry()
            part = shape.constGet()
            is_there = part is not None and ground.intersects(part) and not ground.touches(part)
            yield feature, shape if is_there else QgsGeometry()


def _height(feature: QgsFeature) -> Tuple[bool, int]:
    """Where a polygon lies in the pile: a greater feature id above a smaller, what is not saved yet on top."""
    return feature.id() < 0, abs(feature.id())


def _require_few(polygons: Polygons, texts: int) -> None:
    if texts > TEXTS_LIMIT:
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The polygons of the layer '{layer}' have {count} different texts, at most {limit} are read.").format(
                layer=polygons.name, count=texts, limit=TEXTS_LIMIT
            ),
            tr("Give polygons of one kind the same text, or choose a smaller extent."),
        )


def _apart(polygons: Polygons) -> Problem:
    return Problem(
        ErrorCode.MASK_EMPTY,
        tr("No polygon of the layer '{}' lies in the extent.").format(polygons.name),
        tr("Choose another layer or another extent, and check the layer's coordinate reference system."),
    )


def _wordless(polygons: Polygons) -> Problem:
    return Problem(
        ErrorCode.PROMPT_NOT_UNDERSTOOD,
        tr("No polygon of the layer '{}' in the extent has a text.").format(polygons.name),
        tr("Choose the field that says what is there, or fill it in."),
    )
