"""What a model is told of the ground resolution: the pixels' own, nothing, or another one."""

import math
from typing import Optional

from qgis.gui import QgsDoubleSpinBox
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QVBoxLayout, QWidget

from ..report import tr

AUTOMATIC, UNKNOWN, CHOSEN = "automatic", "unknown", "chosen"


class ToldGsdInput(QWidget):
    """A choice of the three, with a number of metres below the last.

    Signals:
        changed: the model would be told something else.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that says "automatic"."""
        super().__init__(parent)
        self.kind = QComboBox(self)
        self.kind.setObjectName("told_gsd_kind")
        self.kind.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.kind.setMinimumContentsLength(5)
        self.kind.addItem(tr("Automatic"), AUTOMATIC)
        self.kind.addItem(tr("Unknown"), UNKNOWN)
        self.kind.addItem(tr("Another"), CHOSEN)
        self.number = QgsDoubleSpinBox(self)
        self.number.setObjectName("told_gsd")
        self.number.setAccessibleName(tr("Metres on the ground of one pixel, as the model is told"))
        self.number.setDecimals(2)
        self.number.setRange(0.01, 1e5)
        self.number.setSuffix(tr(" m"))
        self.number.setShowClearButton(False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(self.kind)
        column.addWidget(self.number)
        self.setFocusProxy(self.kind)
        self.kind.currentIndexChanged.connect(self._follow_kind)
        self.number.valueChanged.connect(self._announce)
        self.set_value(None)

    def value(self) -> Optional[float]:
        """As it stands in a request: metres per pixel, 0 for unknown, None for the pixels' own."""
        kind = self.kind.currentData()
        return {AUTOMATIC: None, UNKNOWN: 0.0}.get(kind, self.number.value())

    def set_value(self, gsd: object) -> None:
        """Show what a request holds; what is neither 0 nor a size of pixels is automatic."""
        is_number = isinstance(gsd, (int, float)) and not isinstance(gsd, bool) and math.isfinite(gsd) and gsd >= 0
        kind = AUTOMATIC if not is_number else CHOSEN if gsd else UNKNOWN
        self.kind.setCurrentIndex(self.kind.findData(kind))
        if kind == CHOSEN:  # not before: as long as nothing is chosen, a suggestion takes its place
            self.number.setValue(gsd)
        self.number.setVisible(kind == CHOSEN)

    def suggest(self, gsd: float) -> None:
        """Begin another one with this size, as long as none is chosen."""
        if self.kind.currentData() != CHOSEN:
            self.number.blockSignals(True)
            self.number.setValue(gsd)
            self.number.blockSignals(False)

    def _follow_kind(self, *_: object) -> None:
        self.number.setVisible(self.kind.currentData() == CHOSEN)
        self._announce()

    def _announce(self, *_: object) -> None:
        self.changed.emit()
