"""Which model: a choice out of the cards that can do a task."""

from typing import Optional, Tuple

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from ...engine.contract import ModelCard
from ..report import tr
from .about import AboutModel, tooltip


class ModelInput(QWidget):
    """A list of models, filled from cards, with a button that tells all about the one that is picked.

    Signals:
        changed: another model is picked, or its card is another.
        models_asked: somebody wants to see which models there are, or to fetch one.
    """

    changed = pyqtSignal()
    models_asked = pyqtSignal()

    def __init__(self, task: str, parent: Optional[QWidget] = None) -> None:
        """Make an empty list for a task ("Generate", "SuperResolve")."""
        super().__init__(parent)
        self._task = task
        self._cards: Tuple[ModelCard, ...] = ()
        self.combo = QComboBox(self)
        self.combo.setObjectName("model")
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(5)
        self.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.about_button = QToolButton(self)
        self.about_button.setObjectName("about_model")
        self.about_button.setIcon(QgsApplication.getThemeIcon("/mActionPropertiesWidget.svg"))
        self.about_button.setToolTip(tr("About this model"))
        self.about_button.setAccessibleName(tr("About this model"))
        self.about_button.setAutoRaise(True)
        self.about_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.about_button.setEnabled(False)
        self.models_button = QToolButton(self)
        self.models_button.setObjectName("models")
        self.models_button.setIcon(QgsApplication.getThemeIcon("/downloading_svg.svg"))
        self.models_button.setText(tr("Models\u2026"))
        self.models_button.setToolTip(tr("Models: fetch, import or remove"))
        self.models_button.setAccessibleName(tr("Models: fetch, import or remove"))
        self.models_button.setAutoRaise(True)
        self.models_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        row.addWidget(self.combo, 1)
        row.addWidget(self.about_button)
        row.addWidget(self.models_button)
        self.setFocusProxy(self.combo)
        self.combo.currentIndexChanged.connect(self._announce)
        self.about_button.clicked.connect(self.about)
        self.models_button.clicked.connect(lambda *_: self.models_asked.emit())

    @property
    def card(self) -> Optional[ModelCard]:
        """The card of the model that is picked, None where there is none."""
        index = self.combo.currentIndex()
        return self._cards[index] if 0 <= index < len(self._cards) else None

    def set_cards(self, cards: Tuple[ModelCard, ...]) -> None:
        """Offer those that can do the task; the one that is picked stays picked where it is still there."""
        offered = tuple(card for card in cards if card.pickable and self._task in card.tasks)
        if offered == self._cards:
            self._show_way()
            return
        picked = self.card
        self.combo.blockSignals(True)
        self.combo.clear()
        self._cards = offered
        for index, card in enumerate(offered):
            self.combo.addItem(card.name, card.id)
            self.combo.setItemData(index, tooltip(card), Qt.ItemDataRole.ToolTipRole)
        if picked is not None:
            self.pick(picked.id)
        self.combo.blockSignals(False)
        self.combo.setEnabled(bool(offered))
        self._show_way()
        self._announce()

    def pick(self, model: str) -> bool:
        """Pick a model by its id; False, and no change, where it is not offered."""
        index = self.combo.findData(model)
        if index >= 0:
            self.combo.setCurrentIndex(index)
        return index >= 0

    def about(self) -> None:
        """Show the card of the model that is picked."""
        if self.card is not None:
            AboutModel(self.card, self.window()).show()

    def _show_way(self) -> None:
        """Say in words where a model is to be had, as long as there is none."""
        style = Qt.ToolButtonStyle.ToolButtonIconOnly if self._cards else Qt.ToolButtonStyle.ToolButtonTextOnly
        self.models_button.setToolButtonStyle(style)
        self.models_button.setAutoRaise(bool(self._cards))
        self.about_button.setVisible(bool(self._cards))
        self.combo.setMinimumContentsLength(5 if self._cards else 2)

    def _announce(self, *_: object) -> None:
        card = self.card
        self.combo.setToolTip("" if card is None else tooltip(card))
        self.about_button.setEnabled(card is not None)
        self.changed.emit()
