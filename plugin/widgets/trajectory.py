"""Whether the way from noise is kept, and in how many pictures."""

from typing import Optional

from qgis.gui import QgsSpinBox
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import TRAJECTORY_LIMIT
from ..report import tr


class TrajectoryInput(QgsSpinBox):
    """How many pictures of each sample to keep on its way from noise; 0 for none, never more than there are steps."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that keeps none."""
        super().__init__(parent)
        self.setObjectName("trajectory")
        self.setRange(0, TRAJECTORY_LIMIT)
        self.setClearValue(0)
        self.setSpecialValueText(tr("none"))

    def follow_steps(self, steps: int) -> None:
        """There are so many steps now."""
        self.setMaximum(min(steps, TRAJECTORY_LIMIT))

    def hold(self, value: object) -> None:
        """Show what an earlier session kept."""
        if isinstance(value, int) and 0 <= value <= self.maximum():
            self.setValue(value)
