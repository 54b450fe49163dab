"""A layer that is to guide a picture: what a person chose of it, and whether it can."""

from dataclasses import dataclass, replace
from typing import Dict, List, Optional

from qgis.core import (
    QgsCoordinateTransformContext,
    QgsFeatureRequest,
    QgsMapLayer,
    QgsRaster,
    QgsRasterLayer,
    QgsVectorLayer,
    QgsWkbTypes,
)

from ...engine.contract import CONTENT, ErrorCode, GeoBox, ModelCard
from ..report import Problem, tr
from .content import content_grid
from .heights import heights_window
from .palette import Match, match
from .reach import reaches

#: What each kind can be made from where a raster does not show it yet.
DERIVED = {"lines": "lines", "edges": "edges", "depth": "depth"}
#: Metres: a road of two lanes with its shoulders.
ROAD_WIDTH = 8.0
#: Most values of a field that are looked at.
VALUES_LIMIT = 2000
#: Shapes of a layer that are looked at for the field with the classes, and of one from a network for its values.
FIRST = 1000
#: Providers of vector layers that read files or memory of this computer.
_NEAR = ("ogr", "memory", "delimitedtext", "gpx", "spatialite")
_SHAPES = (QgsWkbTypes.GeometryType.LineGeometry, QgsWkbTypes.GeometryType.PolygonGeometry)


@dataclass(frozen=True)
class Guide:
    """What a person chose for one kind of control.

    Attributes:
        kind: one of ``CONTROLS``.
        layer: vector or raster.
        field: of a vector layer, says which class of the palette a shape is.
        width: of roads in metres on the ground.
        derive: as in ``Control``.
        strength: as in ``Control``.
        match: how the values of the field go with the model's classes, where that is known already.
    """

    kind: str
    layer: QgsMapLayer
    field: str = ""
    width: float = ROAD_WIDTH
    derive: str = ""
    strength: float = 1.0
    match: Optional[Match] = None


def kind_name(kind: str) -> str:
    """What a person calls a kind of control."""
    names = {
        "roads": tr("roads"),
        "land_use": tr("land use"),
        "lines": tr("lines"),
        "edges": tr("edges"),
        "sketch": tr("sketch"),
        "depth": tr("heights"),
        "map": tr("map"),
        "content": tr("content"),
    }
    return names.get(kind, kind)  # a card of a later version may have more


def usual_derive(kind: str, layer: QgsMapLayer) -> str:
    """How a layer most likely becomes a control: a picture is searched for lines and edges, one band holds heights."""
    if kind not in DERIVED or not isinstance(layer, QgsRasterLayer):
        return ""
    is_picture = _colours(layer) >= 3
    return DERIVED[kind] if is_picture == (kind != "depth") else ""


def required_missing(card: ModelCard, kinds: List[str]) -> List[str]:
    """Kinds that a model must be given and is not."""
    return [kind for kind in card.required if kind not in kinds]


def require_controls(card: ModelCard, kinds: List[str]) -> None:
    """Refuse controls that a model does not take, or the lack of one that it needs.

    Raises:
        Problem: INVALID_REQUEST.
    """
    for kind in kinds:
        if kind not in card.controls:
            taken = ", ".join(kind_name(found) for found in card.controls)
            raise Problem(
                ErrorCode.INVALID_REQUEST,
                tr("The model '{model}' is not guided by {kind}.").format(model=card.name, kind=kind_name(kind)),
                tr("Leave that layer out; this model takes: {}.").format(taken)
                if taken
                else tr("Leave that layer out, or choose a model that takes layers."),
            )
    for kind in required_missing(card, kinds):
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The model '{model}' needs a layer for: {kind}.").format(model=card.name, kind=kind_name(kind)),
            tr("Choose one, or another model."),
        )


def has_classes(kind: str, layer: QgsMapLayer, card: ModelCard) -> bool:
    """Whether a field of the layer says the colours: the model has some of its own for what the layer's shapes are."""
    return kind == "land_use" and isinstance(layer, QgsVectorLayer) and bool(card.palettes.get(kind))


def classes(layer: QgsVectorLayer, field: str, palette: Dict[str, str]) -> Match:
    """How the values of a field go with the classes of a palette; of a layer from a network, those of the first shapes.

    Raises:
        Problem: INVALID_REQUEST without such a field.
    """
    index = layer.fields().lookupField(field)
    if index < 0:
        names = ", ".join(layer.fields().names()[:12])
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The layer '{layer}' has no field '{field}'.").format(layer=layer.name(), field=field[:60])
            if field
            else tr("It is not said which field of the layer '{}' holds the land use.").format(layer.name()),
            tr("Choose one of: {}.").format(names) if names else tr("Choose a layer with such a field."),
        )
    if is_near(layer):
        return match(palette, layer.uniqueValues(index, VALUES_LIMIT))
    request = QgsFeatureRequest().setFlags(QgsFeatureRequest.Flag.NoGeometry).setSubsetOfAttributes([index])
    shapes = list(layer.getFeatures(request.setLimit(FIRST)))
    found = match(palette, {str(shape.attribute(index)): shape.attribute(index) for shape in shapes}.values())
    return replace(found, is_part=len(shapes) == FIRST)


def is_near(layer: QgsVectorLayer) -> bool:
    """Whether all values of a field can be asked for on the main thread: they come over no network."""
    source = layer.source()
    return layer.providerType() in _NEAR and "://" not in source and not source.startswith("/vsi")


def likely_field(layer: QgsVectorLayer, palette: Dict[str, str]) -> str:
    """The field that names most classes of a palette in the layer's first shapes, "" where none names any."""
    request = QgsFeatureRequest().setFlags(QgsFeatureRequest.Flag.NoGeometry).setLimit(FIRST)
    rows = [feature.attributes() for feature in layer.getFeatures(request)]
    counts = {
        name: len(set(match(palette, {str(value) for value in values}).classes.values()))
        for name, values in zip(layer.fields().names(), zip(*rows))
    }
    return max(counts, key=counts.get) if any(counts.values()) else ""


def check_control(guide: Guide, card: ModelCard, lattice: GeoBox, context: QgsCoordinateTransformContext) -> None:
    """Refuse a layer that cannot guide a picture; cheap, but for reading the values of its field.

    Args:
        guide: the layer, and what it shows.
        card: of the model that is guided.
        lattice: that the model draws on.
        context: how QGIS goes from one CRS to another in this project.

    Raises:
        Problem: INVALID_REQUEST, UNKNOWN_CRS, SOURCE_UNREADABLE, SOURCE_EMPTY or UNSUPPORTED_RASTER, or as
            ``sources.describe``.
    """
    _require_layer(guide, card)
    if guide.kind == CONTENT:
        content_grid(guide.layer, lattice, context)  # it may show any place
        return
    _require_overlap(guide.layer, lattice, context)
    if guide.derive == "depth":
        heights_window(guide.layer, seen_grid(lattice, card), context)
    elif has_classes(guide.kind, guide.layer, card):
        require_classes(guide, card)


def require_classes(guide: Guide, card: ModelCard) -> Match:
    """How the values of the field go with the model's classes.

    Raises:
        Problem: INVALID_REQUEST without such a field, or where no value is a class.
    """
    palette = card.palettes[guide.kind]
    found = guide.match or classes(guide.layer, guide.field, palette)
    if not found.classes and not found.is_part:
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("No value of the field '{field}' is a class of the model '{model}'.").format(
                field=guide.field, model=card.name
            ),
            tr("Choose another field, or name the land use by: {}.").format(", ".join(palette)),
        )
    return found


def seen_grid(lattice: GeoBox, card: ModelCard) -> GeoBox:
    """What a model that goes over the extent in windows looks at: beyond the extent, too."""
    return lattice.pad(card.window + card.halo)


def _require_layer(guide: Guide, card: ModelCard) -> None:
    layer = guide.layer
    kind = kind_name(guide.kind)
    is_raster = isinstance(layer, QgsRasterLayer)
    if (not is_raster and not isinstance(layer, QgsVectorLayer)) or not layer.isValid():
        raise Problem(
            ErrorCode.SOURCE_UNREADABLE,
            tr("The layer '{}' cannot guide a picture.").format(layer.name()),
            tr("Choose a vector or a raster layer that can be read."),
        )
    if not layer.crs().isValid():
        raise Problem(
            ErrorCode.UNKNOWN_CRS,
            tr("The layer '{}' has no coordinate reference system.").format(layer.name()),
            tr("Assign one in the layer's properties."),
        )
    if guide.kind == CONTENT and not is_raster:
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The layer '{}' holds shapes and is no picture.").format(layer.name()),
            tr("Choose a raster, such as an image of a place that looks alike."),
        )
    if guide.kind == "depth" and not is_raster:
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The layer '{}' holds shapes and no heights.").format(layer.name()),
            tr("Choose a raster, such as an elevation model."),
        )
    if not is_raster and guide.kind != "map" and layer.geometryType() not in _SHAPES:
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The layer '{layer}' has neither lines nor areas to show {kind} with.").format(
                layer=layer.name(), kind=kind
            ),
            tr("Choose a layer of lines or polygons, or a raster."),
        )
    if guide.derive and not (is_raster and DERIVED.get(guide.kind) == guide.derive):
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The layer '{layer}' cannot be made into {kind} that way.").format(layer=layer.name(), kind=kind),
            tr("Take it as it is, or choose a raster that shows the ground."),
        )
    if guide.strength != 1 and not card.knows_strength(guide.kind):
        raise Problem(
            ErrorCode.INVALID_REQUEST,
            tr("The model '{}' knows no strength of its controls.").format(card.name),
            tr("Leave the strength at 1."),
        )


def _require_overlap(layer: QgsMapLayer, lattice: GeoBox, context: QgsCoordinateTransformContext) -> None:
    extent = layer.extent()
    if not any(reach.intersects(extent) for reach in reaches(lattice, layer.crs(), context, 0.0)):
        raise Problem(
            ErrorCode.SOURCE_EMPTY,
            tr("The layer '{}' does not lie in the extent.").format(layer.name()),
            tr("Choose another layer or another extent, and check the layer's coordinate reference system."),
        )


def _colours(layer: QgsRasterLayer) -> int:
    """How many bands of colour a raster has; map services draw three."""
    provider = layer.dataProvider()
    if provider is None or (provider.name() != "gdal" and provider.xSize() < 1):
        return 3
    alpha = QgsRaster.ColorInterpretation.AlphaBand
    return sum(provider.colorInterpretation(band) != alpha for band in range(1, layer.bandCount() + 1))
