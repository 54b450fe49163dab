"""A layer that guides a picture: what the model is to see of it, and how that gets into a job folder."""

import math
import os
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple, Union

import numpy as np
from qgis.core import (
    QgsCoordinateTransformContext,
    QgsMapLayer,
    QgsProviderRegistry,
    QgsRaster,
    QgsRasterBandStats,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
    QgsWkbTypes,
)

from ...engine.contract import Control, ErrorCode, GeoBox, ModelCard, Source, Window
from ..report import Problem, tr
from .burning import Burning, Legend
from .crs import crs_of
from .drawing import Drawing
from .geotiff import write_colours
from .outline import extent_in
from .palette import BACKGROUND, Match, match, rgb
from .reach import reaches
from .sources import Export, describe, prepare

#: What each kind can be made from where a raster does not show it yet.
DERIVED = {"lines": "lines", "edges": "edges", "depth": "depth"}
#: Kinds that are drawn as lines: of areas, the outlines.
_LINED = ("lines", "edges", "sketch")
#: Metres: a road of two lanes with its shoulders.
ROAD_WIDTH = 8.0
#: Most pixels of a raster of heights that are copied.
HEIGHTS_LIMIT = 400_000_000
#: Pixels of a raster of heights beyond the extent, for resampling.
_AROUND = 4
#: Most values of a field that are looked at.
VALUES_LIMIT = 500
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SHAPES = (QgsWkbTypes.GeometryType.LineGeometry, QgsWkbTypes.GeometryType.PolygonGeometry)
Painter = Union[Burning, Drawing]


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
    """

    kind: str
    layer: QgsMapLayer
    field: str = ""
    width: float = ROAD_WIDTH
    derive: str = ""
    strength: float = 1.0


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
    }
    return names[kind]


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


def classes(layer: QgsVectorLayer, field: str, palette: Dict[str, str]) -> Match:
    """How the values of a field go with the classes of a palette.

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
    return match(palette, layer.uniqueValues(index, VALUES_LIMIT))


def likely_field(layer: QgsVectorLayer, palette: Dict[str, str]) -> str:
    """The field most of whose values are classes of a palette, "" where none has any."""
    counts = {name: len(classes(layer, name, palette).classes) for name in layer.fields().names()}
    return max(counts, key=counts.get) if any(counts.values()) else ""


def prepare_control(
    guide: Guide, card: ModelCard, lattice: GeoBox, gsd: float, context: QgsCoordinateTransformContext
) -> "ControlExport":
    """Get a layer ready to guide a picture; call it on the main thread.

    Args:
        guide: the layer, and what it shows.
        card: of the model that is guided.
        lattice: that the model draws on.
        gsd: metres on the ground of one pixel of it.
        context: how QGIS goes from one CRS to another in this project.

    Raises:
        Problem: INVALID_REQUEST, UNKNOWN_CRS, SOURCE_EMPTY or UNSUPPORTED_RASTER, or as ``sources.prepare``.
    """
    _require_layer(guide, card)
    _require_overlap(guide.layer, lattice, context)
    # a model that goes over the extent in windows looks at what lies around it, too
    seen = lattice.pad(card.window + card.halo)
    if guide.derive == "depth":
        heights = _heights(guide.layer, seen, context)
        painter = Drawing(guide.layer, context, stretch=_range(guide.layer, lattice, context))
        return ControlExport(guide, seen, gsd, painter, heights)
    return ControlExport(guide, seen, gsd, _painter(guide, card, context))


class ControlExport:
    """A layer on its way into a job folder, as what the model is to see of it.

    Attributes:
        control: as it stands in the request.
        files: that a raster's pixels come from.
    """

    def __init__(
        self, guide: Guide, grid: GeoBox, gsd: float, painter: Painter, heights: Optional[Export] = None
    ) -> None:
        """Take note of what is read later; use ``prepare_control`` to get one."""
        path = f"inputs/control_{guide.kind}.tif"
        source = Source(path, guide.layer.name()) if heights is None else heights.source
        self.control = Control(guide.kind, source, guide.derive, guide.strength)
        self.files: Tuple[str, ...] = _files(guide.layer) if heights is None else heights.files
        self._grid = grid
        self._gsd = gsd
        self._painter = painter
        self._heights = heights
        self._name = guide.layer.name()

    def write(self, folder: str, cancelled: Callable[[], bool]) -> None:
        """Write it into the job folder, on any one thread; returns early, without a file, once cancelled.

        Raises:
            Problem: SOURCE_EMPTY where the layer shows nothing there, or as ``geotiff.write_source``.
        """
        if self._heights is not None:
            self._heights.write(folder, cancelled)
            return
        is_anywhere = False

        def paint(grid: GeoBox) -> np.ndarray:
            nonlocal is_anywhere
            colours, is_here = self._painter.paint(grid, self._gsd, cancelled)
            is_anywhere |= is_here
            return colours

        write_colours(paint, self._grid, folder, self.control.source.path, cancelled)
        if not is_anywhere and not cancelled():
            os.remove(os.path.join(folder, *self.control.source.path.split("/")))
            raise _nothing(self._name)

    def picture(self, grid: GeoBox, gsd: float, cancelled: Callable[[], bool]) -> Tuple[np.ndarray, bool]:
        """A small picture of it on a coarser grid, on any one thread.

        Args:
            grid: of the picture.
            gsd: metres on the ground of one of its pixels.
            cancelled: whether to stop.

        Returns:
            8-bit colours, shape (3, height, width), and whether the layer shows anything there.
        """
        return self._painter.paint(grid, gsd, cancelled)


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
    if guide.strength != 1 and "control_strength" not in card.uses:
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


def _nothing(name: str) -> Problem:
    return Problem(
        ErrorCode.SOURCE_EMPTY,
        tr("The layer '{}' shows nothing in the extent.").format(name),
        tr("Choose another layer or another extent, and see whether the layer's filter or symbols hide it."),
    )


def _painter(guide: Guide, card: ModelCard, context: QgsCoordinateTransformContext) -> Painter:
    """What draws a control that is not made of heights."""
    layer = guide.layer
    palette = card.palettes.get(guide.kind, {})
    ground = rgb(palette[BACKGROUND]) if BACKGROUND in palette else _BLACK
    if guide.kind == "map":
        return Drawing(layer, context, _WHITE)  # as paper
    if isinstance(layer, QgsRasterLayer):
        return Drawing(layer, context, ground, as_stored=True)
    if guide.kind == "land_use":
        if not palette:
            return Drawing(layer, context)
        found = classes(layer, guide.field, palette)
        if not found.classes:
            raise Problem(
                ErrorCode.INVALID_REQUEST,
                tr("No value of the field '{field}' is a class of the model '{model}'.").format(
                    field=guide.field, model=card.name
                ),
                tr("Choose another field, or name the land use by: {}.").format(", ".join(palette)),
            )
        colours = tuple((value, rgb(palette[name])) for value, name in found.classes.items())
        return Burning(layer, Legend(ground, field=guide.field, colours=colours), context)
    ink = next((rgb(colour) for name, colour in palette.items() if name != BACKGROUND), _WHITE)
    is_lined = guide.kind in _LINED
    legend = Legend(ground, ink, width=0.0 if is_lined else guide.width, outlined=is_lined)
    return Burning(layer, legend, context)


def _heights(layer: QgsRasterLayer, grid: GeoBox, context: QgsCoordinateTransformContext) -> Export:
    """The first band of a raster around a grid, as it is stored.

    Raises:
        Problem: as ``describe``, or UNSUPPORTED_RASTER for one that is far too fine.
    """
    info = describe(layer)
    there = (_window(info.grid, reach) for reach in reaches(grid, layer.crs(), context))
    window = next((found for found in there if found is not None), None)
    if window is None:
        raise _nothing(layer.name())
    if window.height * window.width > HEIGHTS_LIMIT:
        raise Problem(
            ErrorCode.UNSUPPORTED_RASTER,
            tr("The layer '{}' is too fine for this extent: {} x {} pixels of it would be read.").format(
                layer.name(), window.width, window.height
            ),
            tr("Warp it to a coarser resolution first (Raster, Projections, Warp), or choose a smaller extent."),
        )
    return prepare(layer, info.data_bands[:1], "inputs/control_depth.tif", window)


def _window(grid: GeoBox, reach: QgsRectangle) -> Optional[Window]:
    """The pixels of a north-up grid in a rectangle and around it, None where there are none."""
    corners = [
        grid.to_pixel(x, y) for x in (reach.xMinimum(), reach.xMaximum()) for y in (reach.yMinimum(), reach.yMaximum())
    ]
    cols, rows = zip(*corners)
    if max(cols) <= 0 or max(rows) <= 0 or min(cols) >= grid.width or min(rows) >= grid.height:
        return None
    col, row = max(0, math.floor(min(cols)) - _AROUND), max(0, math.floor(min(rows)) - _AROUND)
    col_end = min(grid.width, math.ceil(max(cols)) + _AROUND)
    row_end = min(grid.height, math.ceil(max(rows)) + _AROUND)
    return Window(row, col, row_end - row, col_end - col)


def _range(layer: QgsRasterLayer, lattice: GeoBox, context: QgsCoordinateTransformContext) -> Tuple[float, float]:
    """Lowest and highest value in an extent, about, from a decimated read."""
    there = extent_in(QgsRectangle(*lattice.bounds), crs_of(lattice.crs), layer.crs(), context)
    kinds = QgsRasterBandStats.Stats.Min | QgsRasterBandStats.Stats.Max
    found = layer.dataProvider().bandStatistics(1, kinds, there.intersect(layer.extent()), 10_000)
    low, high = found.minimumValue, found.maximumValue
    return (low, high) if math.isfinite(low) and math.isfinite(high) and high > low else (0.0, 1.0)


def _colours(layer: QgsRasterLayer) -> int:
    """How many bands of colour a raster has; map services draw three."""
    provider = layer.dataProvider()
    if provider is None or (provider.name() != "gdal" and provider.xSize() < 1):
        return 3
    alpha = QgsRaster.ColorInterpretation.AlphaBand
    return sum(provider.colorInterpretation(band) != alpha for band in range(1, layer.bandCount() + 1))


def _files(layer: QgsMapLayer) -> Tuple[str, ...]:
    if layer.dataProvider() is None:
        return ()
    parts = QgsProviderRegistry.instance().decodeUri(layer.dataProvider().name(), layer.source())
    return (parts["path"],) if parts.get("path") else ()
