"""Which bands of a raster: a list with a check mark each."""

from typing import List, Optional, Sequence, Tuple

from qgis.gui import QgsCheckableComboBox
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QWidget

from ...engine.contract import ErrorCode, Failure
from ..report import tr


class BandsInput(QgsCheckableComboBox):
    """Bands by name; checked are those to use.

    Signals:
        changed: another choice.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an empty list."""
        super().__init__(parent)
        self.setObjectName("bands")
        self.setDefaultText(tr("no band"))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(5)
        self._filling = False
        self.checkedItemsChanged.connect(self._announce)

    def set_bands(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """Offer bands, all of them checked.

        Args:
            numbers: 1-based, in the order of the raster.
            names: one for each.
        """
        self._filling = True
        self.clear()
        for number, name in zip(numbers, names):
            text = name or tr("Band {number}").format(number=number)
            self.addItemWithCheckState(text, Qt.CheckState.Checked, number)
        self._filling = False
        self.setEnabled(bool(numbers))
        self._announce()

    def value(self) -> Tuple[int, ...]:
        """1-based numbers of the bands to use, in the order of the raster."""
        return tuple(int(number) for number in self.checkedItemsData())

    @property
    def is_all(self) -> bool:
        """Whether every band that is offered is checked."""
        return len(self.value()) == self.count()

    def problems(self) -> List[Failure]:
        """Why no job can start with this."""
        if self.count() and not self.value():
            return [
                Failure(
                    ErrorCode.INVALID_REQUEST, tr("No band is chosen."), tr("Check at least one band of the layer.")
                )
            ]
        return []

    def _announce(self, *_: object) -> None:
        if not self._filling:
            self.setToolTip(", ".join(self.checkedItems()))
            self.changed.emit()
