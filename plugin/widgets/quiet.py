"""Text that stands back: remarks and explanations."""

from typing import Optional

from qgis.PyQt.QtCore import QEvent, Qt
from qgis.PyQt.QtGui import QColor, QPalette
from qgis.PyQt.QtWidgets import QApplication, QLabel, QWidget

#: Share of the text's colour in the blend with the background: readable (above 4.5:1 on black and white), yet quiet.
_STRENGTH = 0.62


class QuietLabel(QLabel):
    """A wrapped text in a colour between the theme's text and its background."""

    def __init__(self, text: str = "", parent: Optional[QWidget] = None) -> None:
        """Show a text."""
        super().__init__(text, parent)
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._blend()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802  (Qt's name)
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.ParentChange):
            self._blend()

    def _blend(self) -> None:
        theme = QApplication.palette(self)
        text, ground = theme.color(QPalette.ColorRole.WindowText), theme.color(QPalette.ColorRole.Window)
        mixed = [
            round(_STRENGTH * above + (1 - _STRENGTH) * below)
            for above, below in zip(text.getRgb()[:3], ground.getRgb()[:3])
        ]
        palette = self.palette()
        if palette.color(QPalette.ColorRole.WindowText) != QColor(*mixed):
            palette.setColor(QPalette.ColorRole.WindowText, QColor(*mixed))
            self.setPalette(palette)
