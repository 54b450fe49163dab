"""The layers that guide a picture: a row for each kind that the chosen model takes."""

from typing import Dict, List, Optional, Tuple

from qgis.core import QgsProject
from qgis.gui import QgsCollapsibleGroupBoxBasic
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtGui import QImage
from qgis.PyQt.QtWidgets import QToolButton, QVBoxLayout, QWidget

from ...engine.contract import CONTROLS, ErrorCode, Failure, ModelCard
from ..maps.control import ControlExport, prepare_control
from ..maps.grid import Place
from ..maps.guide import Guide, check_control, kind_name, require_controls
from ..report import Problem, tr
from .controlrow import ControlRow
from .fields import Fields
from .pictures import Pictures


class ControlsInput(QgsCollapsibleGroupBoxBasic):
    """A group of rows; hidden for models that no layer guides.

    Signals:
        changed: some layer, or how it is taken, is another.

    Attributes:
        rows: kind -> its row, of the kinds that the model takes.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make a group without rows."""
        super().__init__(tr("Guided by layers"), parent)
        self.setObjectName("controls")
        button = self.findChild(QToolButton, "collapseButton")
        if button is not None:
            button.setAccessibleName(tr("Show or hide the layers that guide the picture"))
        self.rows: Dict[str, ControlRow] = {}
        self._card: Optional[ModelCard] = None
        self._fields: Optional[Fields] = None
        self._body: Optional[QWidget] = None
        self._held: Dict[str, object] = {}
        self._checked: Tuple[object, List[Failure]] = (None, [])
        self._edition = 0
        self._column = QVBoxLayout(self)
        self._pictures = Pictures(self)
        self._pictures.painted.connect(self._show_picture)
        self.collapsedStateChanged.connect(lambda *_: self._pictures.ask_again())
        self.setVisible(False)

    def set_card(self, card: ModelCard) -> None:
        """Offer what a model takes; layers that were chosen stay chosen."""
        before, self._card = self._card, card
        if before is None or before.controls != card.controls:
            self._held = {**self._held, **self.held()}
            self._build()
        for row in self.rows.values():
            row.set_card(card)
        self._edition += 1
        self.setVisible(bool(self.rows))

    def _build(self) -> None:
        if self._body is not None:
            self._column.removeWidget(self._body)
            self._body.deleteLater()
        self._body, self.rows, self._fields = QWidget(self), {}, Fields()
        self._body.setLayout(self._fields)
        self._fields.setContentsMargins(0, 0, 0, 0)
        for kind in (kind for kind in CONTROLS if kind in self._card.controls):
            row = self.rows[kind] = ControlRow(kind, self._body)
            name = kind_name(kind)
            self._fields.add(
                name[:1].upper() + name[1:], row, row.layer, tr("Layer that shows the model: {}").format(name)
            )
            row.set_card(self._card)
            row.hold(self._held.get(kind))
            row.changed.connect(self._announce)
        self._column.addWidget(self._body)

    def guides(self) -> List[Guide]:
        """What was chosen, in the order of ``CONTROLS``."""
        return [guide for guide in (row.guide() for row in self.rows.values()) if guide is not None]

    def problems(self, where: Place) -> List[Failure]:
        """Why no job can start with these layers there."""
        guides = self.guides()
        asked = (self._edition, where.lattice, tuple(_key(guide) for guide in guides))
        if self._checked[0] != asked:
            self._checked = (asked, self._check(guides, where))
        return list(self._checked[1])

    def _check(self, guides: List[Guide], where: Place) -> List[Failure]:
        context = QgsProject.instance().transformContext()
        kinds = [guide.kind for guide in guides]
        found = [_missing(self._card, kind) for kind in self._card.required if kind not in kinds] if self._card else []
        for guide in guides:
            try:
                check_control(guide, self._card, where.lattice, context)
            except Problem as problem:
                found.append(problem.failure)
        return found

    def exports(self, where: Place) -> Tuple[ControlExport, ...]:
        """The layers on their way into a job folder.

        Raises:
            Problem: where ``problems`` would not be empty.
        """
        context, guides = QgsProject.instance().transformContext(), self.guides()
        if self._card is not None:
            require_controls(self._card, [guide.kind for guide in guides])
        return tuple(prepare_control(guide, self._card, where.lattice, where.gsd, context) for guide in guides)

    def show_pictures(self, where: Optional[Place]) -> None:
        """Show what the model will see there; nothing, where that cannot be told."""
        if self._card is None or not self.rows:
            return
        for row in self.rows.values():
            self._fields.note(row, row.remark())
        self._pictures.ask(self._card, self.guides() if where is not None else [], where, self._edition)

    def remark(self, kind: str) -> str:
        """What is said below a row."""
        return self._fields.note_text(self.rows[kind])

    def _show_picture(self, kind: str, image: Optional[QImage], remark: str) -> None:
        row = self.rows.get(kind)
        if row is None or row.guide() is None:
            return
        row.picture.show_image(image)
        self._fields.note(row, f"{row.remark()} {remark}".strip())

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        return {**self._held, **{kind: row.held() for kind, row in self.rows.items()}}

    def hold(self, values: object) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        self._held = dict(values) if isinstance(values, dict) else {}
        for kind, row in self.rows.items():
            row.hold(self._held.get(kind))

    def _announce(self) -> None:
        self._edition += 1
        self.changed.emit()


def _key(guide: Guide) -> tuple:
    return (guide.kind, guide.layer.id(), guide.field, guide.width, guide.derive, guide.strength)


def _missing(card: ModelCard, kind: str) -> Failure:
    return Failure(
        ErrorCode.INVALID_REQUEST,
        tr("The model '{model}' needs a layer for: {kind}.").format(model=card.name, kind=kind_name(kind)),
        tr("Choose one under Guided by layers."),
    )
