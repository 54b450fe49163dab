"""Drawing a polygon on the map, corner by corner."""

from typing import List

from qgis.core import QgsGeometry, QgsPointXY, QgsWkbTypes
from qgis.gui import QgsMapCanvas, QgsMapMouseEvent, QgsMapTool, QgsRubberBand
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QKeyEvent

#: Colours of a polygon on the map: seen on dark woods and on bright sand.
_LINE, _FILL, _CLEAR = QColor(227, 26, 28), QColor(227, 26, 28, 40), QColor(227, 26, 28, 0)
_LEFT = Qt.MouseButton.LeftButton


def polygon_band(canvas: QgsMapCanvas, filled: bool) -> QgsRubberBand:
    """A polygon over the map, without corners yet; one that is not filled leaves the colours of the map as they are."""
    band = QgsRubberBand(canvas, QgsWkbTypes.GeometryType.PolygonGeometry)
    band.setStrokeColor(_LINE)
    band.setFillColor(_FILL if filled else _CLEAR)
    band.setWidth(2)
    return band


class PolygonTool(QgsMapTool):
    """A left click sets a corner, a right click, a double click or Enter ends, Backspace takes the last corner back,
    Escape gives up.

    Signals:
        finished(QgsGeometry): a polygon in the CRS of the map.
        left: the drawing ended, with or without a polygon.
    """

    finished = pyqtSignal(QgsGeometry)
    left = pyqtSignal()

    def __init__(self, canvas: QgsMapCanvas) -> None:
        """Make a tool that draws when the canvas takes it."""
        super().__init__(canvas)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self._corners: List[QgsPointXY] = []
        self._band = polygon_band(canvas, filled=True)

    def discard(self) -> None:
        """Leave the map for good: the map owns the tool and what it draws, and would keep both as long as it lives."""
        self.blockSignals(True)  # whoever listens may be gone already
        self.canvas().unsetMapTool(self)
        self.canvas().scene().removeItem(self._band)
        self._band = None
        self.deleteLater()

    def activate(self) -> None:
        """Begin a new polygon."""
        super().activate()
        self._forget()
        self.canvas().setFocus()

    def deactivate(self) -> None:
        """Give up what is not finished."""
        self._forget()
        super().deactivate()
        self.left.emit()

    def canvasPressEvent(self, event: QgsMapMouseEvent) -> None:  # noqa: N802  (QGIS's names, here and below)
        """Set a corner, or end."""
        if event.button() == _LEFT:
            self._corners.append(event.mapPoint())
            self._show(event.mapPoint())
        elif event.button() == Qt.MouseButton.RightButton:
            self._finish()

    def canvasMoveEvent(self, event: QgsMapMouseEvent) -> None:  # noqa: N802
        """Show where the next corner would be."""
        if self._corners:
            self._show(event.mapPoint())

    def canvasDoubleClickEvent(self, event: QgsMapMouseEvent) -> None:  # noqa: N802
        """End; the first of the two clicks has set the last corner."""
        if event.button() == _LEFT:
            self._finish()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """End, take a corner back, or give up."""
        key = event.key()
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._finish()
        elif key in (Qt.Key.Key_Backspace, Qt.Key.Key_Delete) and self._corners:
            self._corners.pop()
            self._show(self._corners[-1] if self._corners else None)
        elif key == Qt.Key.Key_Escape:
            self.canvas().unsetMapTool(self)
        else:
            event.ignore()
            return
        event.accept()

    def _finish(self) -> None:
        """Hand over the polygon; fewer than three different corners are none yet."""
        corners = [point for i, point in enumerate(self._corners) if i == 0 or point != self._corners[i - 1]]
        geometry = QgsGeometry.fromPolygonXY([corners])
        if len(corners) < 3 or geometry.area() <= 0:
            return
        self.finished.emit(geometry)
        self.canvas().unsetMapTool(self)

    def _show(self, pointer: object) -> None:
        corners = [*self._corners, pointer] if pointer is not None else []
        if corners:
            self._band.setToGeometry(QgsGeometry.fromPolygonXY([corners]))
        else:
            self._band.reset(QgsWkbTypes.GeometryType.PolygonGeometry)

    def _forget(self) -> None:
        self._corners = []
        self._band.reset(QgsWkbTypes.GeometryType.PolygonGeometry)
