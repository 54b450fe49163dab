"""How far to leave what is there: a slider and a number, in percent."""

from typing import Optional

from qgis.gui import QgsSpinBox
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QHBoxLayout, QSlider, QWidget

from ..report import tr


class StrengthInput(QWidget):
    """From 1 % (nearly what is there) to 100 % (drawn anew).

    Signals:
        changed: another strength.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that says 100 %."""
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setObjectName("strength_slider")
        self.slider.setAccessibleName(tr("Strength in percent"))
        self.slider.setRange(1, 100)
        self.slider.setPageStep(10)
        self.number = QgsSpinBox(self)
        self.number.setObjectName("strength")
        self.number.setRange(1, 100)
        self.number.setSuffix(tr(" %"))
        self.number.setShowClearButton(False)
        for part in (self.slider, self.number):
            part.setValue(100)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        self.setFocusProxy(self.number)
        self.slider.valueChanged.connect(self.number.setValue)
        self.number.valueChanged.connect(self.slider.setValue)
        self.number.valueChanged.connect(self._announce)

    def value(self) -> float:
        """As it stands in a request: above 0, at most 1."""
        return self.number.value() / 100

    def hold(self, value: object) -> None:
        """Show what an earlier session kept."""
        if isinstance(value, float) and 0.01 <= value <= 1:
            self.number.setValue(round(100 * value))

    def remark(self) -> str:
        """What this strength does, in words."""
        if self.number.value() == 100:
            return tr("Drawn anew from the text.")
        return tr("Starts from what is there: the less, the more of its layout stays.")

    def _announce(self, *_: object) -> None:
        self.changed.emit()
