"""What most runs leave as it is."""

from typing import Optional

from qgis.gui import QgsCollapsibleGroupBoxBasic
from qgis.PyQt.QtWidgets import QToolButton, QWidget

from ..report import tr


class AdvancedBox(QgsCollapsibleGroupBoxBasic):
    """A group of inputs that begins closed."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make a closed group."""
        super().__init__(tr("Advanced"), parent)
        self.setObjectName("advanced")
        self.setCollapsed(True)
        button = self.findChild(QToolButton, "collapseButton")
        if button is not None:
            button.setAccessibleName(tr("Show or hide advanced inputs"))
