"""The layers that guide a picture, as parameters of an algorithm."""

from typing import Any, Dict, List, Tuple

from qgis.core import (
    QgsMapLayer,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterField,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
    QgsRasterLayer,
    QgsVectorLayer,
)

from ...engine.contract import CONTROLS, Control, ErrorCode, ModelCard
from ..maps.control import ControlExport, prepare_control
from ..maps.grid import Place
from ..maps.guide import DERIVED, ROAD_WIDTH, Guide, has_classes, likely_field, require_controls, usual_derive
from ..report import Problem, tr
from . import values

#: How a raster becomes a control.
AUTOMATIC, READY, MADE = "automatic", "ready", "made"


def add_guides(algorithm: QgsProcessingAlgorithm) -> None:
    """Add a layer parameter for each kind of control, and how they are taken; all optional and advanced."""
    kinds = QgsProcessing.SourceType
    lines = [kinds.TypeVectorLine, kinds.TypeVectorPolygon, kinds.TypeRaster]
    layers = {
        "roads": (tr("Roads that guide the picture"), lines),
        "land_use": (tr("Land use that guides the picture"), [kinds.TypeVectorPolygon, kinds.TypeRaster]),
        "lines": (tr("Straight lines that guide the picture, or a picture to find them in"), lines),
        "edges": (tr("Edges that guide the picture, or a picture to find them in"), lines),
        "sketch": (tr("Sketch that guides the picture"), lines),
        "depth": (tr("Heights that guide the picture"), [kinds.TypeRaster]),
        "map": (tr("Map that guides the picture, as QGIS draws it"), [kinds.TypeVectorAnyGeometry, kinds.TypeRaster]),
        "content": (tr("Picture of any place whose content the picture shall have"), [kinds.TypeRaster]),
    }
    found: List[QgsProcessingParameterDefinition] = []
    for kind in CONTROLS:
        label, types = layers[kind]
        found.append(QgsProcessingParameterMapLayer(kind.upper(), label, None, True, types))
        if kind == "roads":
            double = QgsProcessingParameterNumber.Type.Double
            label = tr("Width of roads in metres")
            found.append(QgsProcessingParameterNumber("ROAD_WIDTH", label, double, ROAD_WIDTH, True, 0, 500))
        if kind == "land_use":
            label = tr("Field with the land use (empty: the one that fits the model best)")
            found.append(QgsProcessingParameterField("LAND_USE_FIELD", label, None, "LAND_USE", optional=True))
        if kind in DERIVED:
            label = {
                "lines": tr("Whether a raster of lines shows them already (ready), or they are found in it (made)"),
                "edges": tr("Whether a raster of edges shows them already (ready), or they are found in it (made)"),
                "depth": tr("Whether a raster of heights shows nearness (ready), or holds metres (made)"),
            }[kind]
            how = QgsProcessingParameterEnum(
                f"{kind.upper()}_FROM",
                label,
                options=[AUTOMATIC, READY, MADE],
                defaultValue=AUTOMATIC,
                optional=True,
                usesStaticStrings=True,
            )
            found.append(how)
    label = tr("Strength of the layers, from 0 to 2: one number, or as in ROADS=0.8;DEPTH=1.2")
    found.append(QgsProcessingParameterString("CONTROL_STRENGTH", label, None, False, True))
    for parameter in found:
        parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
        algorithm.addParameter(parameter)


def read_guides(
    algorithm: QgsProcessingAlgorithm,
    parameters: Dict[str, Any],
    context: QgsProcessingContext,
    card: ModelCard,
    where: Place,
) -> Tuple[ControlExport, ...]:
    """The layers that were given, ready to be written.

    Raises:
        Problem: INVALID_REQUEST, SOURCE_UNREADABLE, or as ``prepare_control``.
    """
    given = [kind for kind in CONTROLS if values.is_given(parameters, kind.upper())]
    require_controls(card, given)
    strengths = _strengths(algorithm.parameterAsString(parameters, "CONTROL_STRENGTH", context), given)
    exports = []
    for kind in given:
        layer = _layer(algorithm, parameters, context, kind)
        width = values.number(algorithm, parameters, "ROAD_WIDTH", context)
        field = ""
        if has_classes(kind, layer, card):
            named = algorithm.parameterAsFields(parameters, "LAND_USE_FIELD", context)
            field = named[0] if named else likely_field(layer, card.palettes[kind])
        derive = _derive(algorithm, parameters, context, kind, layer)
        guide = Guide(kind, layer, field, ROAD_WIDTH if width is None else float(width), derive, strengths[kind])
        exports.append(prepare_control(guide, card, where.lattice, where.gsd, context.transformContext()))
    return tuple(exports)


def guide_values(controls: Tuple[Control, ...], copy: Any) -> Dict[str, Any]:
    """What to write for the controls of a job, so that the same come out.

    Args:
        controls: of a request.
        copy: a control's source -> the job's own copy of it.
    """
    found: Dict[str, Any] = {}
    for control in controls:
        found[control.kind.upper()] = copy(control.source)
        if control.kind in DERIVED:
            found[f"{control.kind.upper()}_FROM"] = MADE if control.derive else READY
    strengths = [f"{control.kind.upper()}={control.strength!r}" for control in controls if control.strength != 1]
    found["CONTROL_STRENGTH"] = ";".join(strengths) or None
    return found


def _layer(
    algorithm: QgsProcessingAlgorithm, parameters: Dict[str, Any], context: QgsProcessingContext, kind: str
) -> QgsMapLayer:
    name = kind.upper()
    layer = algorithm.parameterAsLayer(parameters, name, context)
    if not isinstance(layer, (QgsRasterLayer, QgsVectorLayer)):
        raise Problem(
            ErrorCode.SOURCE_UNREADABLE,
            tr("{name}: '{value}' cannot be opened as a layer.").format(name=name, value=str(parameters[name])[-120:]),
            tr("Check the path, and that the file is complete."),
        )
    return layer


def _derive(
    algorithm: QgsProcessingAlgorithm,
    parameters: Dict[str, Any],
    context: QgsProcessingContext,
    kind: str,
    layer: QgsMapLayer,
) -> str:
    """How the engine makes the control of the layer."""
    if kind not in DERIVED or not isinstance(layer, QgsRasterLayer):
        return ""
    name = f"{kind.upper()}_FROM"
    how = parameters.get(name)
    if not isinstance(how, str):
        how = algorithm.parameterAsEnumString(parameters, name, context)
    how = how.strip() or AUTOMATIC
    if how not in (AUTOMATIC, READY, MADE):
        raise values.invalid(
            tr("{name} cannot be '{value}'.").format(name=name, value=how[:40]),
            tr("Write one of: {}.").format(", ".join((AUTOMATIC, READY, MADE))),
        )
    return {AUTOMATIC: usual_derive(kind, layer), READY: "", MADE: DERIVED[kind]}[how]


def _strengths(text: str, kinds: List[str]) -> Dict[str, float]:
    """Kind -> strength, 1 where none was given.

    Raises:
        Problem: INVALID_REQUEST for what is neither a number nor a list of them, and for layers that are not there.
    """
    found = dict.fromkeys(kinds, 1.0)
    hint = tr("Write for example 0.8, or ROADS=0.8;DEPTH=1.2.")
    for part in (part for part in text.split(";") if part.strip()):
        name, _, number = part.rpartition("=")
        kind = name.strip().lower()
        try:
            strength = float(number)
        except ValueError:
            raise values.invalid(
                tr("CONTROL_STRENGTH has no number in '{}'.").format(part.strip()[:40]), hint
            ) from None
        if kind and kind not in found:
            raise values.invalid(
                tr("CONTROL_STRENGTH names {}, for which there is no layer.").format(name.strip()[:40]), hint
            )
        if not 0 <= strength <= 2:
            raise values.invalid(tr("CONTROL_STRENGTH must be from 0 to 2."), hint)
        found.update({kind: strength} if kind else dict.fromkeys(kinds, strength))
    return found
