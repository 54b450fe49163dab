"""How much of a picture is under clouds: percent, or not known."""

from typing import Optional

from qgis.gui import QgsSpinBox
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QAbstractSpinBox, QHBoxLayout, QWidget

from ..report import tr

#: What the box holds while nothing is known.
_UNKNOWN = -1


class CloudCoverInput(QWidget):
    """Whole percents from 0 to 100; one step below 0, and the clear button, mean unknown.

    Signals:
        changed: the cloud cover is another.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that says "unknown"."""
        super().__init__(parent)
        self.number = QgsSpinBox(self)
        self.number.setObjectName("cloud_cover")
        self.number.setRange(_UNKNOWN, 100)
        self.number.setSuffix(tr(" %"))
        self.number.setClearValue(_UNKNOWN)
        # Qt's own: where QGIS's box knows of the text, clearing it leaves nothing but the suffix
        QAbstractSpinBox.setSpecialValueText(self.number, tr("unknown"))
        self.number.setValue(_UNKNOWN)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.number)
        self.setFocusProxy(self.number)
        self.number.valueChanged.connect(self._announce)
        self.number.lineEdit().cursorPositionChanged.connect(self._select_word)

    def value(self) -> Optional[float]:
        """Percent as it stands in a request, None where it is unknown."""
        return None if self.number.value() == _UNKNOWN else float(self.number.value())

    def set_value(self, percent: Optional[float]) -> None:
        """Show so many percent; None, and what is no percentage, is unknown."""
        is_known = isinstance(percent, (int, float)) and not isinstance(percent, bool) and 0 <= percent <= 100
        self.number.setValue(round(percent) if is_known else _UNKNOWN)

    def _select_word(self, *_: object) -> None:
        """What is typed replaces the word as a whole, wherever it was clicked."""
        line = self.number.lineEdit()
        if line.text() == self.number.specialValueText() != line.selectedText():
            line.selectAll()

    def _announce(self, *_: object) -> None:
        self.changed.emit()
