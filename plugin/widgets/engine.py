"""The line at the dock's foot: how the engine is."""

from typing import Optional

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from ...engine.contract import Failure
from ..report import sentence, tr
from .elided import ElidedLabel

_ICONS = {
    "ready": "/mIconSuccess.svg",
    "missing": "/mIconWarning.svg",
    "crashed": "/mIconWarning.svg",
}


class EngineLine(QWidget):
    """What the engine does, in a few words, and a button where it must be started by hand.

    Signals:
        start_asked(): start it again.
    """

    start_asked = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make a line for an engine that has not been needed yet."""
        super().__init__(parent)
        self.icon = QLabel(self)
        self.text = ElidedLabel(parent=self)
        self.text.setObjectName("engine_state")
        self.start_button = QPushButton(tr("Start again"), self)
        self.start_button.setFlat(True)
        row = QHBoxLayout(self)
        row.setContentsMargins(9, 2, 9, 4)
        row.setSpacing(4)
        row.addWidget(self.icon)
        row.addWidget(self.text, 1)
        row.addWidget(self.start_button)
        self.start_button.clicked.connect(lambda *_: self.start_asked.emit())
        self.show_state("stopped")

    def show_state(self, state: str, problem: Optional[Failure] = None) -> None:
        """Show one of the session's engine states."""
        texts = {
            "stopped": tr("Engine off; it starts with the first job"),
            "starting": tr("Engine starts\u2026"),
            "ready": tr("Engine ready"),
            "missing": tr("Engine not installed"),
            "crashed": tr("Engine stopped by itself"),
            "installing": tr("Engine is being installed"),
        }
        self.text.setText(texts.get(state, state))
        self.text.setAccessibleName(self.text.text())
        if problem is not None:
            self.text.setToolTip(sentence(problem))
        side = self.fontMetrics().height()
        icon = _ICONS.get(state)
        self.icon.setVisible(icon is not None)
        if icon is not None:
            self.icon.setPixmap(QgsApplication.getThemeIcon(icon).pixmap(side, side))
        self.start_button.setVisible(state == "crashed")
