"""Polygons with texts of their own: a land-use plan, a scenario, on its way into a job folder."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, Iterator, List, Optional, Tuple

from qgis.core import (
    NULL,
    QgsCoordinateTransform,
    QgsCsException,
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsFeature,
    QgsFeatureRequest,
    QgsFieldModel,
    QgsFieldProxyModel,
    QgsFields,
    QgsGeometry,
    QgsProcessingFeatureSource,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime

from ...engine.contract import PROMPT_LIMIT, TEXTS_LIMIT, ErrorCode, GeoBox, ModelCard, Regions, Window, clean_prompt
from ..report import Problem, tr
from .collection import write_collection
from .crs import crs_of
from .polygons import Polygons, around, cut, layer_polygons, placed, require_polygons

#: Where the engine finds the polygons, relative to the job folder.
REGIONS_PATH = "inputs/regions.geojson"
#: The property of a polygon that the engine draws from; the field that is taken where nobody says another.
TEXT = "prompt"
#: Most polygons that are looked at before a job starts: the job looks at all of them.
FIRST = 5000
#: Seconds after which that stops: of work, of work where all of a layer is read, and of waiting for a network.
_WORK, _SCAN, _WAIT = 0.1, 0.4, 1.0
#: Pixels around a picture of one window that its soft borders may look at.
_SOFT = 64
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
        if not self.expression.strip():
            raise Problem(
                ErrorCode.INVALID_REQUEST,
                tr("No field of the layer '{}' is chosen for the texts of its polygons.").format(self.polygons.name),
                self._choose(),
            )
        if expression.hasParserError():
            raise self._wrong(expression.parserErrorString())
        beyond = sorted(name for name in expression.referencedFunctions() if _looks_beyond(name))
        if beyond:
            raise Problem(
                ErrorCode.INVALID_REQUEST,
                tr("The texts of the layer '{layer}' depend on other features or layers ('{function}').").format(
                    layer=self.polygons.name, function=beyond[0]
                ),
                tr("Work them out into a field first, with the field calculator, and choose that field."),
            )
        if not expression.prepare(scope):
            raise self._wrong(expression.evalErrorString())

        def text(feature: QgsFeature) -> str:
            scope.setFeature(feature)
            value = expression.evaluate(scope)
            if expression.hasEvalError():
                raise self._wrong(expression.evalErrorString())
            found = self._written(value)
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

    def _written(self, value: object) -> str:
        """A value as text, "" for none.

        Raises:
            Problem: INVALID_REQUEST for one that nobody would write as text: a geometry, a list.
        """
        if isinstance(value, (str, bool, int)):
            return str(value)
        if isinstance(value, float):
            return f"{value:.15g}"
        if isinstance(value, (QDate, QTime, QDateTime)):
            return str(value.toString(Qt.DateFormat.ISODate))
        if value is None or value == NULL:
            return ""
        raise self._wrong(tr("what they are is neither text, nor a number, nor a date"))

    def _wrong(self, said: str) -> Problem:
        return Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The texts of the layer '{layer}' cannot be worked out: {error}.").format(
                layer=self.polygons.name, error=said.strip().rstrip(".")[:200]
            ),
            self._choose(),
        )

    def _choose(self) -> str:
        names = ", ".join(text_fields(self.scope.fields())[:12])
        return (
            tr("Choose one of its fields: {}.").format(names) if names else tr("Choose a layer with a field of text.")
        )


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


def text_fields(fields: QgsFields) -> List[str]:
    """The fields that hold texts."""
    kinds = QgsFieldModel()
    kinds.setFields(fields)
    offered = QgsFieldProxyModel()
    offered.setSourceModel(kinds)
    offered.setFilters(QgsFieldProxyModel.Filter.String)
    rows = (offered.mapToSource(offered.index(row, 0)).row() for row in range(offered.rowCount()))
    return [fields[row].name() for row in rows]


def usual_field(fields: QgsFields) -> str:
    """The field that most likely holds the texts: ``TEXT``, else the first of text, "" where there is none."""
    written = text_fields(fields)
    return next(iter([*(name for name in written if name.lower() == TEXT), *written]), "")


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
    return Plan(layer_polygons(layer, selected_only, tight=False), expression, scope, only)


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


def survey(plan: Plan, lattice: GeoBox, card: Optional[ModelCard] = None) -> Survey:
    """What of a plan lies in an extent; looks at the first polygons only, so it is cheap enough for the main thread.

    Args:
        plan: the polygons and their texts.
        lattice: that the model draws on.
        card: of the model, for what lies just outside, too.

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
            found.append((_height(feature), words, shape))
        elif words:
            beyond.add(words)
        elif is_inside:
            empty.add(feature.id())
        if looked >= FIRST or time.thread_time() > worked or time.monotonic() > waited:
            is_part = True
            break
    found.sort(key=lambda each: each[0])
    named = Counter(words for words, _ in {(words, height) for height, words, _ in found})
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
    _require_few(name, len(found.texts), len(found.beyond))
    if found.texts or found.is_part:
        return
    raise _wordless(name) if found.empty else _apart(name)


def prepare_regions(plan: Plan, card: ModelCard, lattice: GeoBox) -> "RegionsExport":
    """Get polygons ready to be written into a job folder from another thread; call it on the main thread.

    Args:
        plan: the polygons and their texts.
        card: of the model that is to draw.
        lattice: that it draws on.

    Raises:
        Problem: as ``survey`` and ``require_regions``.
    """
    require_regions(plan.polygons.name, survey(plan, lattice, card), card)
    return RegionsExport(plan, seen_from(lattice, card))


def seen_from(lattice: GeoBox, card: ModelCard) -> GeoBox:
    """What windows of a model look at: windows of an earlier phase reach further than those of a later one.

    Overlapping extents then are told the same of all that their common ground depends on.
    """
    if not card.draws_whole(lattice.shape):
        return lattice.pad(card.reach)
    side = card.window  # it lies in the middle of its window, and no other one looks anywhere
    row, col = ((length - side) // 2 for length in lattice.shape)
    return lattice.crop(Window(row, col, side, side)).pad(_SOFT)


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
            raise _wordless(polygons.name) if is_near else _apart(polygons.name)
        _require_few(polygons.name, len({words for _, words, _ in found}), 0)
        found.sort(key=lambda each: each[0])
        shapes = (({TEXT: words}, geometry) for _, words, geometry in found)
        write_collection(folder, REGIONS_PATH, self._seen.crs, shapes, cancelled)


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
        if not feature.geometry().boundingBoxIntersects(reach):
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


def _asked(polygons: Polygons, seen: GeoBox) -> Iterator[Tuple[QgsFeature, QgsRectangle]]:
    """Each polygon that may be seen, with the reach that it may be in; of a layer that is scanned, each at once."""
    found = around(polygons, seen)
    if polygons.is_scanned:
        yield from ((feature, reach) for feature in polygons.features(QgsFeatureRequest()) for reach in found)
        return
    for reach in found:
        yield from ((feature, reach) for feature in polygons.features(QgsFeatureRequest().setFilterRect(reach)))


def _height(feature: QgsFeature) -> Tuple[bool, int]:
    """Where a polygon lies in the pile: a greater feature id above a smaller, what is not saved yet on top."""
    return feature.id() < 0, abs(feature.id())


#: Functions that read other features, layers or files, which no other thread may do, or hide which they read.
_BEYOND = frozenset(
    "display_expression eval get_feature get_feature_by_id layer_property load_layer maptip raster_statistic "
    "raster_value represent_attributes represent_value sqlite_fetch_and_increment is_selected num_selected".split()
)


def _looks_beyond(function: str) -> bool:
    """Whether a function of an expression needs more than the feature that it is asked about."""
    if function in _BEYOND or function.startswith("overlay_"):
        return True
    return any(each.name() == function and "Aggregates" in each.groups() for each in QgsExpression.Functions())


def _require_few(name: str, texts: int, beyond: int) -> None:
    """Refuse too many texts, of which some lie just outside of the extent."""
    if texts + beyond <= TEXTS_LIMIT:
        return
    message = tr("The polygons of the layer '{layer}' have {count} different texts, at most {limit} are read.")
    message = message.format(layer=name, count=texts + beyond, limit=TEXTS_LIMIT)
    if beyond:
        message += " " + tr("{} of them lie just outside the extent, where the model looks too.").format(beyond)
    hint = tr("Give polygons of one kind the same text, or choose a smaller extent.")
    raise Problem(ErrorCode.INVALID_REQUEST, message, hint)


def _apart(name: str) -> Problem:
    return Problem(
        ErrorCode.MASK_EMPTY,
        tr("No polygon of the layer '{}' lies in the extent.").format(name),
        tr("Choose another layer or another extent, and check the layer's coordinate reference system."),
    )


def _wordless(name: str) -> Problem:
    return Problem(
        ErrorCode.PROMPT_NOT_UNDERSTOOD,
        tr("No polygon of the layer '{}' in the extent has a text.").format(name),
        tr("Choose the field that says what is there, or fill it in."),
    )
