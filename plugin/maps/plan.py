"""A plan: polygons, and what says the text of each, as a person chose them."""

from dataclasses import dataclass
from typing import Callable, List

from qgis.core import (
    NULL,
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsFeature,
    QgsFieldModel,
    QgsFieldProxyModel,
    QgsFields,
    QgsProcessingFeatureSource,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime

from ...engine.contract import PROMPT_LIMIT, ErrorCode, clean_prompt
from ..report import Problem, tr
from .polygons import Polygons, layer_polygons

#: The property of a polygon that the engine draws from; the field that is taken where nobody says another.
TEXT = "prompt"
#: Functions that read other features, layers or files, which no other thread may do, or hide which they read.
_BEYOND = frozenset(
    "display_expression eval get_feature get_feature_by_id layer_property load_layer maptip raster_statistic "
    "raster_value represent_attributes represent_value sqlite_fetch_and_increment is_selected num_selected".split()
)


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


def _looks_beyond(function: str) -> bool:
    """Whether a function of an expression needs more than the feature that it is asked about."""
    if function in _BEYOND or function.startswith("overlay_"):
        return True
    return any(each.name() == function and "Aggregates" in each.groups() for each in QgsExpression.Functions())
