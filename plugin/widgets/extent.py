"""Where: a rectangle from the map, drawn, typed, or taken from a layer."""

from typing import List, Optional

from qgis.core import QgsApplication, QgsCoordinateReferenceSystem, QgsRectangle
from qgis.gui import QgsExtentWidget, QgsMapCanvas
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QHBoxLayout, QLineEdit, QToolButton, QVBoxLayout, QWidget

from ...engine.contract import ErrorCode, Failure
from ..report import tr


class ExtentInput(QWidget):
    """QGIS's extent input with the two ways that are used most as buttons of their own.

    Signals:
        changed: the rectangle or its CRS is another.
    """

    changed = pyqtSignal()

    def __init__(self, canvas: Optional[QgsMapCanvas] = None, parent: Optional[QWidget] = None) -> None:
        """Make an empty input.

        Args:
            canvas: map to take the view from and to draw on.
            parent: as usual.
        """
        super().__init__(parent)
        self._canvas = canvas
        self.rectangle = QgsExtentWidget(self, QgsExtentWidget.WidgetStyle.CondensedStyle)
        self.rectangle.setNullValueAllowed(True, tr("not chosen yet"))
        self.rectangle.setObjectName("extent")
        self.view_button = self._button("/mActionZoomToArea.svg", tr("View"), self.take_view)
        self.view_button.setToolTip(tr("Take what the map shows now"))
        self.draw_button = self._button("/mActionAddBasicRectangle.svg", tr("Draw"), self._draw)
        self.draw_button.setToolTip(tr("Draw a rectangle on the map"))
        more = self.rectangle.findChild(QToolButton, "mCondensedToolButton")
        if more is not None:
            more.setAccessibleName(tr("More ways to choose an extent"))
        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.setSpacing(4)
        buttons.addWidget(self.view_button)
        buttons.addWidget(self.draw_button)
        buttons.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(self.rectangle)
        column.addLayout(buttons)
        if canvas is not None:
            self.rectangle.setMapCanvas(canvas, True)
            self.rectangle.setOutputCrs(canvas.mapSettings().destinationCrs())
            canvas.destinationCrsChanged.connect(self._follow_crs)
        self.view_button.setEnabled(canvas is not None)
        self.draw_button.setEnabled(canvas is not None)
        self.setFocusProxy(self.edit)
        self.rectangle.clear()
        self.rectangle.extentChanged.connect(self._announce)
        self.rectangle.validationChanged.connect(self._announce)

    @property
    def edit(self) -> QWidget:
        """The line that takes the focus."""
        line = self.rectangle.findChild(QLineEdit, "mCondensedLineEdit")
        return self.rectangle if line is None else line

    def extent(self) -> QgsRectangle:
        """The rectangle, in the units of ``crs``; null where none is chosen."""
        return self.rectangle.outputExtent() if self.rectangle.isValid() else QgsRectangle()

    def crs(self) -> QgsCoordinateReferenceSystem:
        """The CRS of the rectangle."""
        return self.rectangle.outputCrs()

    def set_extent(self, extent: QgsRectangle, crs: QgsCoordinateReferenceSystem) -> None:
        """Choose a rectangle. It is kept in its own CRS, not warped into another."""
        self.rectangle.setOutputCrs(crs)
        self.rectangle.setOutputExtentFromUser(extent, crs)

    def take_view(self) -> None:
        """Choose what the map shows: all of it, where the map is rotated."""
        if self._canvas is None:
            return
        settings = self._canvas.mapSettings()
        if settings.visibleExtent().isEmpty() or not settings.visibleExtent().isFinite():
            self.rectangle.clear()  # a map that never showed anything
            return
        self.set_extent(settings.visibleExtent(), settings.destinationCrs())

    def problems(self) -> List[Failure]:
        """Why no job can start with this."""
        if self.extent().isNull():
            return [
                Failure(
                    ErrorCode.EMPTY_EXTENT,
                    tr("Choose where the picture should be."),
                    tr("Use the map view, draw a rectangle, or take the extent of a layer."),
                )
            ]
        return []

    def _draw(self) -> None:
        self.rectangle.setOutputCrs(self._canvas.mapSettings().destinationCrs())
        self.rectangle.setOutputExtentFromDrawOnCanvas()

    def _follow_crs(self) -> None:
        if self.extent().isNull():
            self.rectangle.setOutputCrs(self._canvas.mapSettings().destinationCrs())
            self.rectangle.clear()  # setting a CRS writes zeros

    def _announce(self, *_: object) -> None:
        self.changed.emit()
        if isinstance(self.edit, QLineEdit) and not self.edit.hasFocus():
            self.edit.setCursorPosition(0)

    def _button(self, icon: str, text: str, action: object) -> QToolButton:
        button = QToolButton(self)
        button.setIcon(QgsApplication.getThemeIcon(icon))
        button.setText(text)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setAutoRaise(True)
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        button.clicked.connect(action)
        return button
