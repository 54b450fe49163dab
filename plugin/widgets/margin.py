"""How far a picture is drawn on beyond the edge of its raster."""

from typing import Optional

from qgis.gui import QgsSpinBox
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import MARGIN_LIMIT, GeoBox
from ..report import tr
from .numbers import count, metres


class MarginInput(QgsSpinBox):
    """So many pixels on each side; 0 for none."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that says "none"."""
        super().__init__(parent)
        self.setObjectName("margin")
        self.setRange(0, MARGIN_LIMIT)
        self.setSingleStep(16)
        self.setSuffix(tr(" px"))
        self.setSpecialValueText(tr("none"))
        self.setClearValue(0)

    def hold(self, value: object) -> None:
        """Show what an earlier session kept."""
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MARGIN_LIMIT:
            self.setValue(value)

    def remark(self, grid: GeoBox, gsd: float) -> str:
        """What comes of it, in words; empty for none.

        Args:
            grid: of the raster.
            gsd: metres on the ground of one of its pixels.
        """
        if not self.value():
            return ""
        height, width = grid.pad(self.value()).shape
        text = tr("{size} on each side: {width} \u00d7 {height} px in all.")
        return text.format(size=metres(self.value() * gsd), width=count(width), height=count(height))
