"""Whether the way from noise is kept, and in how many pictures."""

from typing import Optional

from qgis.gui import QgsSpinBox
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import FRAMES_LIMIT, TRAJECTORY_LIMIT
from ..report import tr


class TrajectoryInput(QgsSpinBox):
    """How many pictures of each sample to keep on its way from noise; 0 for none, never more than there are steps, and
    never more over all samples than a job may keep.
    """

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that keeps none."""
        super().__init__(parent)
        self.setObjectName("trajectory")
        self._steps, self._samples = TRAJECTORY_LIMIT, 1
        self.setRange(0, TRAJECTORY_LIMIT)
        self.setClearValue(0)
        self.setSpecialValueText(tr("none"))

    def follow_steps(self, steps: int) -> None:
        """There are so many steps now."""
        self._steps = steps
        self._bound()

    def follow_samples(self, samples: int) -> None:
        """There are so many samples now, and pictures are kept of each."""
        self._samples = samples
        self._bound()

    def is_bound_by_samples(self) -> bool:
        """Whether more could be kept of fewer samples, and as many are kept as there can be."""
        return self.value() == FRAMES_LIMIT // self._samples < min(self._steps, TRAJECTORY_LIMIT)

    def _bound(self) -> None:
        self.setMaximum(min(self._steps, TRAJECTORY_LIMIT, FRAMES_LIMIT // self._samples))

    def hold(self, value: object) -> None:
        """Show what an earlier session kept."""
        if isinstance(value, int) and 0 <= value <= self.maximum():
            self.setValue(value)
