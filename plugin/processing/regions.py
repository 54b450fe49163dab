"""Polygons with texts of their own, as parameters of an algorithm."""

from typing import Any, Callable, Dict, Optional

from qgis.core import (
    QgsFeatureRequest,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
)

from ...engine.contract import ErrorCode, ModelCard
from ..maps.grid import Place
from ..maps.plan import TEXT, source_plan
from ..maps.polygons import source_polygons
from ..maps.regions import RegionsExport, prepare_regions
from ..maps.survey import seen_from
from ..report import Problem, tr
from . import values


def add_regions(algorithm: QgsProcessingAlgorithm) -> None:
    """Add the polygons, the field with their texts, and whether nothing is drawn outside; all optional."""
    polygons = [QgsProcessing.SourceType.TypeVectorPolygon]
    label = tr("Regions: polygons that are drawn each from a text of its own")
    algorithm.addParameter(QgsProcessingParameterFeatureSource("REGIONS", label, polygons, None, True))
    label = tr("Field with the texts of the regions (empty: '{}')").format(TEXT)
    any_type = QgsProcessingParameterField.DataType.Any
    field = QgsProcessingParameterField("REGIONS_FIELD", label, None, "REGIONS", any_type, False, True)
    algorithm.addParameter(field)
    label = tr("Draw only inside the regions (elsewhere: no data, else the prompt)")
    algorithm.addParameter(QgsProcessingParameterBoolean("REGIONS_ONLY", label, False, True))


def read_regions(
    algorithm: QgsProcessingAlgorithm,
    parameters: Dict[str, Any],
    context: QgsProcessingContext,
    card: ModelCard,
    where: Place,
    cancelled: Callable[[], bool] = lambda: False,
) -> Optional[RegionsExport]:
    """The polygons that were given, ready to be written; None for none.

    Args:
        algorithm: with the parameters.
        parameters: of the run.
        context: of the run.
        card: of the model.
        where: something is drawn.
        cancelled: whether the run was, so that reading stops, and the answer is of no use.

    Raises:
        Problem: INVALID_REQUEST without a field of texts, MASK_UNREADABLE for no polygon layer, or as
            ``prepare_regions``.
    """
    if not values.is_given(parameters, "REGIONS"):
        return None
    source = algorithm.parameterAsSource(parameters, "REGIONS", context)
    if source is None:
        raise Problem(
            ErrorCode.MASK_UNREADABLE,
            tr("'{}' cannot be opened as a polygon layer.").format(str(parameters["REGIONS"])[-120:]),
            tr("Check the path, and that the file is complete."),
        )
    named = algorithm.parameterAsFields(parameters, "REGIONS_FIELD", context)
    field = _field(source, named[0] if named else "")
    only = algorithm.parameterAsBool(parameters, "REGIONS_ONLY", context)
    seen = seen_from(where.lattice, card)
    request = QgsFeatureRequest().setSubsetOfAttributes([field], source.fields())
    polygons = source_polygons(source, context.transformContext(), seen, request, cancelled)
    return prepare_regions(source_plan(source, polygons, field, only), card, where.lattice)


def _field(source: QgsProcessingFeatureSource, asked: str) -> str:
    """The field with the texts, by default the one that is called so.

    Raises:
        Problem: INVALID_REQUEST where there is no such field.
    """
    names = source.fields().names()
    field = next((name for name in names if name.lower() == (asked or TEXT).lower()), "")
    if field:
        return field
    raise values.invalid(
        tr("The layer '{layer}' has no field '{field}'.").format(layer=source.sourceName(), field=(asked or TEXT)[:60]),
        tr("Write one of its fields into REGIONS_FIELD: {}.").format(", ".join(names[:12]))
        if names
        else tr("Choose a layer with such a field."),
    )
