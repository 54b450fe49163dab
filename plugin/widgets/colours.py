"""Which bands of a raster are red, green and blue."""

from typing import List, Optional, Sequence, Tuple

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QHBoxLayout, QWidget

from ...engine.contract import ErrorCode, Failure
from ..report import tr


class ColoursInput(QWidget):
    """Three lists of bands.

    Signals:
        changed: another choice.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make three empty lists."""
        super().__init__(parent)
        self.lists: Tuple[QComboBox, ...] = tuple(QComboBox(self) for _ in range(3))
        names = (tr("Red band"), tr("Green band"), tr("Blue band"))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        for part, key, name in zip(self.lists, ("red", "green", "blue"), names):
            part.setObjectName(key)
            part.setAccessibleName(name)
            part.setToolTip(name)
            part.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            part.setMinimumContentsLength(1)
            part.setMinimumWidth(48)
            part.currentIndexChanged.connect(self._announce)
            row.addWidget(part, 1)
        self.setFocusProxy(self.lists[0])

    def set_bands(self, numbers: Sequence[int], names: Sequence[str], shown: Sequence[int]) -> None:
        """Offer bands.

        Args:
            numbers: 1-based, in the order of the raster.
            names: one for each.
            shown: numbers of those that begin as red, green and blue.
        """
        for index, part in enumerate(self.lists):
            part.blockSignals(True)
            part.clear()
            for number, name in zip(numbers, names):
                part.addItem(name or tr("Band {number}").format(number=number), number)
            if index < len(shown):
                part.setCurrentIndex(part.findData(shown[index]))
            part.blockSignals(False)
        self.setEnabled(len(tuple(numbers)) >= 3)
        self._announce()

    def value(self) -> Tuple[int, ...]:
        """1-based numbers of red, green and blue; empty where there are no bands."""
        return tuple(part.currentData() for part in self.lists if part.currentData() is not None)

    def problems(self) -> List[Failure]:
        """Why no job can start with this."""
        if len(set(self.value())) == len(self.value()):
            return []
        message = tr("A band is chosen for two colours.")
        return [Failure(ErrorCode.INVALID_REQUEST, message, tr("Choose three different bands."))]

    def _announce(self, *_: object) -> None:
        self.changed.emit()
