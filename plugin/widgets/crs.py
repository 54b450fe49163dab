"""In which CRS the result lies."""

from typing import Optional

from qgis.core import QgsCoordinateReferenceSystem
from qgis.gui import QgsProjectionSelectionWidget
from qgis.PyQt.QtWidgets import QComboBox, QToolButton, QWidget

from ..report import tr


class CrsInput(QgsProjectionSelectionWidget):
    """QGIS's choice of a CRS, with one more: none, and the CRS that fits the place is taken."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that says "automatic"."""
        super().__init__(parent)
        self.setObjectName("crs")
        self.setOptionVisible(QgsProjectionSelectionWidget.CrsOption.CrsNotSet, True)
        self.setNotSetText(tr("Automatic, in metres"))
        self.setCrs(QgsCoordinateReferenceSystem())
        names, browse = self.findChild(QComboBox), self.findChild(QToolButton)
        if names is not None:
            names.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            names.setMinimumContentsLength(5)  # else it is as wide as the longest name
            self.setFocusProxy(names)
        if browse is not None:
            browse.setAccessibleName(tr("Choose a CRS"))
