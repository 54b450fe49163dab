"""A button that makes an extent one window of the model where it is hardly larger."""

from typing import Optional, Tuple

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ..report import tr
from .fields import Note
from .numbers import count


class ShrinkInput(QWidget):
    """What a smaller extent would save, and a button for it.

    Signals:
        asked: make the extent smaller.
    """

    asked = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make a button that says nothing yet."""
        super().__init__(parent)
        self.remark = Note()
        self.button = QPushButton(self)
        self.button.setObjectName("shrink")
        self.button.clicked.connect(lambda *_: self.asked.emit())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.remark)
        column.addWidget(self.button)

    def offer(self, shape: Tuple[int, int], windows: int) -> None:
        """Say what a smaller extent would save.

        Args:
            shape: (height, width) of it in pixels of the model.
            windows: of the model that the extent takes as it is.
        """
        size = tr("{width} \u00d7 {height}").format(width=shape[1], height=shape[0])
        said = tr("Slightly larger than one window of the model: {size} pixels are about {times} times faster.")
        self.remark.setText(said.format(size=size, times=count(windows)))
        self.button.setText(tr("Shrink to {} pixels").format(size))
