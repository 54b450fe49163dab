"""Which of the many pictures: a seed, drawn anew for each run or kept."""

import os
import secrets
from typing import Dict, Optional

from qgis.gui import QgsSpinBox
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QCheckBox, QHBoxLayout, QToolButton, QWidget

from ..report import tr

#: Largest seed of the form; requests take up to 2**63 - 1.
LARGEST = 2**31 - 1
_ICON = os.path.join(os.path.dirname(__file__), "..", "..", "resources", "icons", "seed.svg")


class SeedInput(QWidget):
    """A number, a button that draws another, and whether to keep it from run to run.

    Signals:
        changed: the number is another.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input with a random seed."""
        super().__init__(parent)
        self.number = QgsSpinBox(self)
        self.number.setObjectName("seed")
        self.number.setRange(0, LARGEST)
        self.number.setShowClearButton(False)
        self.number.setValue(secrets.randbelow(LARGEST))
        self.random_button = QToolButton(self)
        self.random_button.setObjectName("random_seed")
        self.random_button.setIcon(QIcon(_ICON))
        self.random_button.setAutoRaise(True)
        self.random_button.setToolTip(tr("Draw another seed"))
        self.random_button.setAccessibleName(tr("Draw another seed"))
        self.random_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.keep = QCheckBox(tr("Kee&p"), self)
        self.keep.setObjectName("keep_seed")
        self.keep.setToolTip(tr("Use the same seed for each run: the same inputs then give the same picture"))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        row.addWidget(self.number, 1)
        row.addWidget(self.random_button)
        row.addWidget(self.keep)
        self.setFocusProxy(self.number)
        self.number.valueChanged.connect(self._announce)
        self.random_button.clicked.connect(self.draw)

    def draw(self) -> None:
        """Show another seed."""
        self.number.setValue(secrets.randbelow(LARGEST))

    def value(self) -> int:
        """The seed as it is shown."""
        return self.number.value()

    def next(self) -> int:
        """The seed for a run that starts now: the one that is shown if it is kept, else a new one, shown from now."""
        if not self.keep.isChecked():
            self.draw()
        return self.value()

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        return {"seed": self.value(), "keep_seed": self.keep.isChecked()}

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept, where the seed was to be kept at all."""
        seed = values.get("seed")
        if values.get("keep_seed") is True and isinstance(seed, int) and 0 <= seed <= LARGEST:
            self.keep.setChecked(True)
            self.number.setValue(seed)

    def _announce(self, *_: object) -> None:
        self.changed.emit()
