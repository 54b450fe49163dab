"""A layer that guides a picture: what the model is to see of it, and how that gets into a job folder."""

import os
from typing import Callable, Optional, Tuple, Union

import numpy as np
from qgis.core import QgsCoordinateTransformContext, QgsMapLayer, QgsProviderRegistry, QgsRasterLayer

from ...engine.contract import CONTENT, Control, GeoBox, ModelCard, Source
from ..report import tr
from .burning import Burning, Legend
from .content import coarse, content_grid, covers
from .drawing import Drawing
from .geotiff import write_colours
from .guide import Guide, check_control, has_classes, require_classes, seen_grid
from .heights import height_range, heights_window, nothing_shown
from .palette import BACKGROUND, rgb
from .sources import Export, prepare

#: Kinds that are drawn as lines: of areas, the outlines.
_LINED = ("lines", "edges", "sketch")
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
Painter = Union[Burning, Drawing]


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
        Problem: as ``check_control`` and ``sources.prepare``.
    """
    check_control(guide, card, lattice, context)
    layer = guide.layer
    if guide.kind == CONTENT:
        return ContentExport(guide, lattice, gsd, context)
    seen = seen_grid(lattice, card)
    if guide.derive != "depth":
        return ControlExport(guide, seen, gsd, _painter(guide, card, context))
    info, window = heights_window(layer, seen, context)
    heights = prepare(layer, info.data_bands[:1], control_path(guide.kind), window)
    painter = Drawing(layer, context, stretch=lambda copy: height_range(copy, lattice, context))
    return ControlExport(guide, seen, gsd, painter, heights)


def control_path(kind: str) -> str:
    """Where the engine finds a control, relative to the job folder."""
    return f"inputs/control_{kind}.tif"


class ControlExport:
    """A layer on its way into a job folder, as what the model is to see of it.

    Attributes:
        control: as it stands in the request.
        files: that a raster's pixels come from.
        remark: what a person should know who looks at its picture, "" for nothing.
    """

    remark = ""

    def __init__(
        self, guide: Guide, grid: GeoBox, gsd: float, painter: Painter, heights: Optional[Export] = None
    ) -> None:
        """Take note of what is read later; use ``prepare_control`` to get one."""
        source = Source(control_path(guide.kind), guide.layer.name()) if heights is None else heights.source
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
            raise nothing_shown(self._name)

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


class ContentExport(ControlExport):
    """A picture whose content is told, on its way into a job folder: a square of its own, wherever that lies."""

    def __init__(self, guide: Guide, lattice: GeoBox, gsd: float, context: QgsCoordinateTransformContext) -> None:
        """Take note of what is read later; arguments and errors as of ``content_grid``."""
        layer = guide.layer
        super().__init__(guide, content_grid(layer, lattice, context), gsd, Drawing(layer, context, as_stored=True))
        where = (
            tr("The middle square of the extent.")
            if covers(layer, lattice, context)
            else tr("The layer does not cover the extent: the middle square of the layer.")
        )
        self.remark = where + " " + tr("The model is told what it shows as a whole, not where.")

    def picture(self, grid: GeoBox, gsd: float, cancelled: Callable[[], bool]) -> Tuple[np.ndarray, bool]:
        """See ``ControlExport``; the grid only says how large the picture shall be."""
        return self._painter.paint(coarse(self._grid, max(grid.shape)), gsd, cancelled)


def _painter(guide: Guide, card: ModelCard, context: QgsCoordinateTransformContext) -> Painter:
    """What draws a control that is not made of heights."""
    layer = guide.layer
    palette = card.palettes.get(guide.kind, {})
    ground = rgb(palette[BACKGROUND]) if BACKGROUND in palette else _BLACK
    if guide.kind == "map":
        return Drawing(layer, context, _WHITE, as_stored=_is_copy(layer, guide.kind))  # as paper
    if isinstance(layer, QgsRasterLayer):
        return Drawing(layer, context, ground, as_stored=True)
    if guide.kind == "land_use":
        if not has_classes(guide.kind, layer, card):
            return Drawing(layer, context)
        require_classes(guide, card)
        colours = tuple((name, rgb(colour)) for name, colour in palette.items())
        return Burning(layer, Legend(ground, field=guide.field, colours=colours), context)
    ink = next((rgb(colour) for name, colour in palette.items() if name != BACKGROUND), _WHITE)
    is_lined = guide.kind in _LINED
    legend = Legend(ground, ink, width=0.0 if is_lined else guide.width, outlined=is_lined)
    return Burning(layer, legend, context)


def _is_copy(layer: QgsMapLayer, kind: str) -> bool:
    """Whether it is a control as some job was given it, which a copied command names: what was drawn once."""
    return any(path.replace(os.sep, "/").endswith("/" + control_path(kind)) for path in _files(layer))


def _files(layer: QgsMapLayer) -> Tuple[str, ...]:
    if layer.dataProvider() is None:
        return ()
    parts = QgsProviderRegistry.instance().decodeUri(layer.dataProvider().name(), layer.source())
    return (parts["path"],) if parts.get("path") else ()
