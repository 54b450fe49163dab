"""How the noise is turned into a picture: steps, scheduler, guidance."""

from typing import Optional, Tuple

from qgis.gui import QgsDoubleSpinBox, QgsSpinBox
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QVBoxLayout, QWidget

from ...engine.contract import SAMPLES_LIMIT, STEPS_LIMIT, ModelCard, Sampling
from ..report import tr
from .fields import Fields


class SamplesInput(QgsSpinBox):
    """How many pictures to draw from the same request."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that says 1."""
        super().__init__(parent)
        self.setObjectName("samples")
        self.setRange(1, SAMPLES_LIMIT)
        self.setClearValue(1)

    def hold(self, value: object) -> None:
        """Show what an earlier session kept."""
        if isinstance(value, int) and 1 <= value <= SAMPLES_LIMIT:
            self.setValue(value)


class SamplingInput(QWidget):
    """Steps, scheduler and guidance, each beginning with what the model's card recommends.

    Signals:
        changed: one of them is another.
    """

    changed = pyqtSignal()

    def __init__(self, guided: bool, parent: Optional[QWidget] = None) -> None:
        """Make the inputs.

        Args:
            guided: whether the task has guidance at all.
            parent: as usual.
        """
        super().__init__(parent)
        self._card: Optional[ModelCard] = None
        self.steps = QgsSpinBox(self)
        self.steps.setObjectName("steps")
        self.steps.setRange(1, STEPS_LIMIT)
        self.scheduler = QComboBox(self)
        self.scheduler.setObjectName("scheduler")
        self.scheduler.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.scheduler.setMinimumContentsLength(5)
        self.guidance = QgsDoubleSpinBox(self)  # stays hidden where the task has no guidance
        self.guidance.setObjectName("guidance")
        self.guidance.setRange(0.0, 50.0)
        self.guidance.setDecimals(1)
        self.guidance.setSingleStep(0.5)
        self.fields = Fields()
        self.fields.add(
            tr("S&teps"), self.steps, tip=tr("Denoising steps. More take longer and, up to a point, show finer detail.")
        )
        self.fields.add(
            tr("Sche&duler"), self.scheduler, tip=tr("How the noise goes down. The first is the model's own choice.")
        )
        if guided:
            label, tip = _guidance_label(is_shown_a_picture=False)
            self.fields.add(label, self.guidance, tip=tip)
        else:
            self.guidance.hide()
        self._guided = guided
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(self.fields)
        self.steps.valueChanged.connect(self._announce)
        self.guidance.valueChanged.connect(self._announce)
        self.scheduler.currentIndexChanged.connect(self._announce)

    def set_card(self, card: Optional[ModelCard]) -> None:
        """Begin with what this model's card recommends; a card that is the same changes nothing."""
        if card is None or card == self._card:
            return
        self._card = card
        self.scheduler.blockSignals(True)
        self.scheduler.clear()
        self.scheduler.addItems(list(card.schedulers))
        self.scheduler.blockSignals(False)
        self.steps.setClearValue(card.steps)
        self.steps.setValue(card.steps)
        self.guidance.setClearValue(card.guidance_scale)
        self.guidance.setValue(card.guidance_scale)
        if self._guided:
            self.fields.rename(self.guidance, *_guidance_label("image_guidance" in card.uses))
            has_guidance = card.guidance_scale != 1 or "negative_prompt" in card.uses  # which is drawn away from
            self.fields.set_used(self.guidance, has_guidance, tr("Not used by this model."))
        self._announce()

    def value(self, seed: int, samples: int) -> Sampling:
        """The whole of how, with a seed and a number of samples."""
        used = self._guided and self.guidance.isEnabledTo(self)
        return Sampling(
            seed=seed,
            steps=self.steps.value(),
            scheduler=self.scheduler.currentText(),
            guidance_scale=self.guidance.value() if used else 1.0,
            samples=samples,
        )

    def _announce(self, *_: object) -> None:
        self.changed.emit()


def _guidance_label(is_shown_a_picture: bool) -> Tuple[str, str]:
    """(label, explanation) of the guidance by the text; beside that by a picture it needs another name."""
    tip = tr("How strongly the picture follows the prompt. 1 leaves it free; high values exaggerate.")
    return (tr("Te&xt strength") if is_shown_a_picture else tr("&Guidance")), tip
