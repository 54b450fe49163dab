"""How much of the picture before is kept by a model that is shown it."""

from typing import Optional

from qgis.gui import QgsDoubleSpinBox
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import ModelCard
from ..report import tr


class ImageGuidanceInput(QgsDoubleSpinBox):
    """From 1 (the picture before counts as little as it can) to 20, beginning with what the model's card recommends."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that says 1.5, until a card says otherwise."""
        super().__init__(parent)
        self.setObjectName("image_guidance")
        self._card: Optional[ModelCard] = None
        self.setRange(1.0, 20.0)
        self.setDecimals(1)
        self.setSingleStep(0.1)
        self._begin(1.5)

    def set_card(self, card: ModelCard) -> None:
        """Begin with what this model's card recommends; a card that is the same changes nothing."""
        if card != self._card:
            self._card = card
            self._begin(card.image_guidance_scale)

    def hold(self, value: object) -> None:
        """Show what an earlier session kept."""
        if isinstance(value, float) and 1 <= value <= 20:
            self.setValue(value)

    def remark(self) -> str:
        """What the number does, in words."""
        return tr("The higher, the more of the picture before is kept; the text strength pulls the other way.")

    def _begin(self, scale: float) -> None:
        self.setClearValue(scale)
        self.setValue(scale)
