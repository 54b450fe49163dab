"""Whether a coarser level is drawn first, and how much coarser."""

from typing import Optional, Tuple

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QVBoxLayout, QWidget

from ...engine.contract import COARSE_FACTORS
from ..report import tr


class CoarseInput(QWidget):
    """A choice of none and of the factors that a model can take. Another model brings back what was chosen before.

    Signals:
        changed: another choice.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that says "Off" and offers nothing else."""
        super().__init__(parent)
        self._wanted = 1
        self._factors: Tuple[int, ...] = ()
        self.choice = QComboBox(self)
        self.choice.setObjectName("coarse")
        self.choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.choice.setMinimumContentsLength(5)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.choice)
        self.setFocusProxy(self.choice)
        self._offer()
        self.choice.activated.connect(self._follow)

    @property
    def factors(self) -> Tuple[int, ...]:
        """What is offered beside none."""
        return self._factors

    def set_factors(self, factors: Tuple[int, ...]) -> None:
        """Offer these beside none. Says nothing: whoever sets them knows."""
        if factors != self._factors:
            self._factors = factors
            self._offer()

    def value(self) -> int:
        """As it stands in a request: 1 for none, and for what cannot be chosen now."""
        return self.choice.currentData() if self.isEnabled() else 1

    def held(self) -> int:
        """What was chosen, whether it can be had now or not."""
        return self._wanted

    def hold(self, factor: object) -> None:
        """Show what an earlier session kept."""
        if factor in (1, *COARSE_FACTORS) and isinstance(factor, int):
            self._wanted = factor
            self._offer()
            self.changed.emit()

    def _offer(self) -> None:
        self.choice.clear()
        self.choice.addItem(tr("Off"), 1)
        for factor in self._factors:
            self.choice.addItem(tr("{} times coarser").format(factor), factor)
        self.choice.setCurrentIndex(max(0, self.choice.findData(self._wanted)))

    def _follow(self, *_: object) -> None:
        self._wanted = self.choice.currentData()
        self.changed.emit()
