"""Where to change a raster: a polygon drawn on the map, the polygons of a layer, or all of it."""

from typing import List, Optional

from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsGeometry,
    QgsMapLayerProxyModel,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas, QgsMapLayerComboBox, QgsRubberBand
from qgis.PyQt.QtCore import QEvent, Qt, QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from ...engine.contract import ErrorCode, Failure
from ..maps.polygons import Polygons, drawn_polygon, layer_polygons
from ..report import Problem, tr
from .fields import Note
from .polygontool import PolygonTool, polygon_band

DRAWN, LAYER, WHOLE = "drawn", "layer", "whole"
#: Milliseconds for which a layer has to rest before its polygons are read again. A layer says each feature that is
#: added or deleted, and reading them all each time would take seconds for some thousand.
_REST = 200


class MaskInput(QWidget):
    """A choice of the three, with what each needs below it.

    Signals:
        changed: another place, or the polygons of the chosen layer are others.
    """

    changed = pyqtSignal()

    def __init__(self, canvas: Optional[QgsMapCanvas] = None, parent: Optional[QWidget] = None) -> None:
        """Make an input that waits for a polygon to be drawn; without a map, for a layer.

        Args:
            canvas: map to draw on.
            parent: as usual.
        """
        super().__init__(parent)
        self._canvas = canvas
        self._geometry = QgsGeometry()
        self._crs = QgsCoordinateReferenceSystem()
        self._band: Optional[QgsRubberBand] = None
        self._tool: Optional[PolygonTool] = None
        self._followed: Optional[QgsVectorLayer] = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST)
        self._rest.timeout.connect(self._announce)
        self.kind = QComboBox(self)
        self.kind.setObjectName("mask")
        if canvas is not None:
            self.kind.addItem(tr("A polygon drawn on the map"), DRAWN)
        self.kind.addItem(tr("The polygons of a layer"), LAYER)
        self.kind.addItem(tr("The whole raster"), WHOLE)
        self.kind.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.kind.setMinimumContentsLength(5)
        self._make_drawing()
        self._make_layers()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        for part in (self.kind, self.drawing, self.layers):
            column.addWidget(part)
        self.setFocusProxy(self.kind)
        self.kind.currentIndexChanged.connect(self._follow_kind)
        self._follow_kind()

    def _make_drawing(self) -> None:
        self.draw_button = QToolButton(self)
        self.draw_button.setObjectName("draw_mask")
        self.draw_button.setIcon(QgsApplication.getThemeIcon("/mActionCapturePolygon.svg"))
        self.draw_button.setToolTip(tr("Draw a polygon on the map"))
        self.draw_button.setCheckable(True)
        self.clear_button = QToolButton(self)
        self.clear_button.setObjectName("clear_mask")
        self.clear_button.setIcon(QgsApplication.getThemeIcon("/mActionDeleteSelected.svg"))
        self.clear_button.setText(tr("Clear"))
        self.clear_button.setToolTip(tr("Take the polygon off the map"))
        self.how = Note()
        self.how.setText(tr("Click the corners. A right click or Enter ends, Backspace takes one back, Esc gives up."))
        self.drawing = QWidget(self)
        row = QHBoxLayout()
        row.setSpacing(4)
        for button in (self.draw_button, self.clear_button):
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            button.setAutoRaise(True)
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            row.addWidget(button)
        row.addStretch(1)
        column = QVBoxLayout(self.drawing)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        column.addLayout(row)
        column.addWidget(self.how)
        self.draw_button.clicked.connect(self._draw)
        self.clear_button.clicked.connect(lambda *_: self.clear())
        if self._canvas is not None:
            self._canvas.destinationCrsChanged.connect(self._show_polygon)

    def _make_layers(self) -> None:
        self.layer = QgsMapLayerComboBox(self)
        self.layer.setObjectName("mask_layer")
        self.layer.setFilters(QgsMapLayerProxyModel.Filter.PolygonLayer)
        self.layer.setAccessibleName(tr("Polygon layer"))
        self.layer.setToolTip(tr("The layer whose polygons say where; it is not changed"))
        self.layer.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.layer.setMinimumContentsLength(5)
        self.selected_only = QCheckBox(tr("Selected onl&y"), self)
        self.selected_only.setToolTip(tr("Use the selected features of the layer alone"))
        self.selected_only.setObjectName("selected_only")
        self.layers = QWidget(self)
        column = QVBoxLayout(self.layers)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(self.layer)
        column.addWidget(self.selected_only)
        self.layer.layerChanged.connect(self._follow_layer)
        self.selected_only.toggled.connect(self._announce)

    def choose(self, kind: str) -> None:
        """Show one of the three; one that is not offered changes nothing."""
        index = self.kind.findData(kind)
        if index >= 0:
            self.kind.setCurrentIndex(index)

    def follow_margin(self, has_margin: bool) -> None:
        """Say what is changed without polygons: all of the raster, or with a margin beyond it only that."""
        text = tr("Nothing but the margin") if has_margin else tr("The whole raster")
        self.kind.setItemText(self.kind.findData(WHOLE), text)

    def set_polygon(self, geometry: QgsGeometry, crs: QgsCoordinateReferenceSystem) -> None:
        """Take a polygon as if it had been drawn. It is kept in its own CRS."""
        self._geometry, self._crs = QgsGeometry(geometry), crs
        self.choose(DRAWN)
        self._show_polygon()
        self._announce()

    def clear(self) -> None:
        """Forget what was drawn."""
        self._geometry = QgsGeometry()
        self._show_polygon()
        self._announce()

    def polygons(self) -> Optional[Polygons]:
        """Where, None for the whole raster.

        Raises:
            Problem: MASK_EMPTY where nothing was drawn, chosen or selected.
        """
        kind = self.kind.currentData()
        if kind == WHOLE:
            return None
        if kind == DRAWN:
            if self._geometry.isNull():
                message, hint = tr("Draw where to change the raster."), tr("Or choose a layer, or the whole raster.")
                raise Problem(ErrorCode.MASK_EMPTY, message, hint)
            return drawn_polygon(self._geometry, self._crs)
        layer = self.layer.currentLayer()
        if layer is None:
            message = tr("The project has no polygon layer.")
            raise Problem(ErrorCode.MASK_EMPTY, message, tr("Add one, draw a polygon, or change the whole raster."))
        return layer_polygons(layer, self.selected_only.isChecked())

    def problems(self) -> List[Failure]:
        """Why no job can start with this."""
        try:
            self.polygons()
        except Problem as problem:
            return [problem.failure]
        return []

    def showEvent(self, event: QEvent) -> None:  # noqa: N802  (Qt's names, here and below)
        """The polygon is on the map as long as the form is open."""
        super().showEvent(event)
        self._show_polygon()

    def hideEvent(self, event: QEvent) -> None:  # noqa: N802
        """Nothing stays on the map."""
        super().hideEvent(event)
        self._stop_drawing()
        self._show_polygon()

    def _draw(self, is_on: bool) -> None:
        if not is_on:
            self._stop_drawing()
            return
        if self._tool is None:
            self._tool = PolygonTool(self._canvas)
            self._tool.finished.connect(self._drawn)
            self._tool.left.connect(self._follow_tool)
            self.destroyed.connect(self._tool.discard)
        self._canvas.setMapTool(self._tool)
        self._follow_tool()

    def _drawn(self, geometry: QgsGeometry) -> None:
        self.set_polygon(geometry, self._canvas.mapSettings().destinationCrs())

    def _stop_drawing(self) -> None:
        if self._tool is not None and self._canvas.mapTool() is self._tool:
            self._canvas.unsetMapTool(self._tool)

    def _follow_tool(self) -> None:
        is_drawing = self._canvas.mapTool() is self._tool
        self.draw_button.setChecked(is_drawing)
        self.how.setVisible(is_drawing)

    def _follow_kind(self, *_: object) -> None:
        kind = self.kind.currentData()
        if kind != DRAWN:
            self._stop_drawing()
        self.drawing.setVisible(kind == DRAWN)
        self.layers.setVisible(kind == LAYER)
        self._follow_layer()
        self._show_polygon()

    def _follow_layer(self, *_: object) -> None:
        layer = self.layer.currentLayer() if self.kind.currentData() == LAYER else None
        if layer is not self._followed:
            if self._followed is not None:
                self._followed.willBeDeleted.disconnect(self._forget_layer)
                for signal in _edits(self._followed):
                    signal.disconnect(self._wait)
            self._followed = layer if isinstance(layer, QgsVectorLayer) else None
            if self._followed is not None:
                self._followed.willBeDeleted.connect(self._forget_layer)
                for signal in _edits(self._followed):
                    signal.connect(self._wait)
        self._announce()

    def _forget_layer(self) -> None:
        """The layer that was followed ends, and its connections with it."""
        self._followed = None

    def _wait(self, *_: object) -> None:
        """Announce once for all that happens to the layer until it rests."""
        self._rest.start()

    def _show_polygon(self, *_: object) -> None:
        """Put the drawn polygon on the map, or take it off."""
        has_polygon = not self._geometry.isNull()
        self.draw_button.setText(tr("Redraw") if has_polygon else tr("Draw"))
        self.clear_button.setEnabled(has_polygon)
        self.how.setVisible(self.draw_button.isChecked())
        if self._band is not None:
            self._canvas.scene().removeItem(self._band)
            self._band = None
        if has_polygon and self.isVisible() and self.kind.currentData() == DRAWN:
            self._band = polygon_band(self._canvas, filled=False)
            self._band.setToGeometry(self._geometry, self._crs)

    def _announce(self, *_: object) -> None:
        self._rest.stop()
        self.changed.emit()


def _edits(layer: QgsVectorLayer) -> tuple:
    """The signals after which the polygons of a layer may be others."""
    features = (layer.selectionChanged, layer.geometryChanged, layer.featureAdded, layer.featureDeleted)
    return (*features, layer.crsChanged, layer.dataSourceChanged)
