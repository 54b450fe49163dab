"""Which dated raster layers of the project, in which order."""

from typing import Dict, List, Optional, Tuple

from qgis.core import QgsApplication, QgsIconUtils, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QResizeEvent
from qgis.PyQt.QtWidgets import (
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...engine.contract import Failure
from ..maps.acquisition import Acquisition, acquisition
from ..maps.preview import is_preview
from ..maps.series import Member, finest
from ..maps.sources import SourceInfo, colours, describe
from ..report import Problem, sentence, tr
from .acquisition import show_known
from .cloudcover import CloudCoverInput
from .dates import DateInput
from .elided import ElidedLabel
from .fields import Note

#: Letters that the arrows and margins of a cloud cover are wide.
_FRAMES = 5


class SeriesInput(QWidget):
    """A list of layers, each with the date and the cloud cover of its picture; the first gives the grid.

    The finest layer comes first, until the person moves one.

    Signals:
        changed: another layer, order, date or cloud cover.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an empty list."""
        super().__init__(parent)
        self.rows: List[SeriesRow] = []
        self._limit = 0
        self._is_arranged = False
        self._menu = QMenu(self)
        self.add_button = QToolButton(self)
        self.add_button.setObjectName("add_layer")
        self.add_button.setIcon(QgsApplication.getThemeIcon("/mActionAdd.svg"))
        self.add_button.setText(tr("Add layer"))
        self.add_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.add_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.add_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.add_button.setMenu(self._menu)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._column.addWidget(self.add_button)
        self.setFocusProxy(self.add_button)
        self._menu.aboutToShow.connect(self.fill_menu)
        QgsProject.instance().layersWillBeRemoved.connect(self._forget)

    def set_limit(self, layers: int) -> None:
        """Take at most so many layers from now on; those that are there stay. 0 for any number."""
        self._limit = layers
        self._show_rows()

    def fill_menu(self) -> None:
        """Offer the raster layers of the project that are not in the list, as they stand in the layer tree."""
        self._menu.clear()
        listed = [row.layer for row in self.rows]
        for layer in QgsProject.instance().layerTreeRoot().layerOrder():
            if isinstance(layer, QgsRasterLayer) and layer not in listed and not is_preview(layer):
                action = self._menu.addAction(QgsIconUtils.iconForLayer(layer), layer.name().replace("&", "&&"))
                action.triggered.connect(lambda *_, layer=layer: self.add(layer))
        if self._menu.isEmpty():
            self._menu.addAction(tr("The project has no other raster layer")).setEnabled(False)

    def add(self, layer: QgsRasterLayer) -> None:
        """Add a layer at the end, or in front if it is the finest and the person moved none."""
        row = SeriesRow(layer, self)
        row.changed.connect(self._announce)
        row.asked.connect(lambda what: self._do(row, what))
        self.rows.append(row)
        self._column.insertWidget(len(self.rows) - 1, row)
        if not self._is_arranged:
            self._front_finest()
        self._show_rows()
        self._announce()

    def remove(self, row: "SeriesRow") -> None:
        """Take a layer out of the list."""
        self.rows.remove(row)
        self._column.removeWidget(row)
        row.blockSignals(True)
        row.hide()
        row.deleteLater()
        self._is_arranged = self._is_arranged and bool(self.rows)
        self._show_rows()
        self._announce()

    def move(self, row: "SeriesRow", steps: int) -> None:
        """Move a layer so many places towards the end; from now on the order is the person's."""
        self._is_arranged = True
        self._put(row, self.rows.index(row) + steps)
        self._show_rows()
        self._announce()

    def members(self) -> Tuple[Member, ...]:
        """The layers that can be read, in order."""
        found = ((row, row.info) for row in self.rows)
        return tuple(
            Member(row.layer, info, row.date.value(), row.clouds.value()) for row, info in found if info is not None
        )

    def problems(self) -> List[Failure]:
        """Why layers of the list cannot be read."""
        return [row.refusal for row in self.rows if row.refusal is not None]

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        rows = [
            {"layer": row.layer.id(), "date": row.date.value() or "", "cloud_cover": row.clouds.value()}
            for row in self.rows
        ]
        return {"layers": rows, "is_arranged": self._is_arranged}

    def hold(self, values: Dict[str, object]) -> None:
        """Show the layers of an earlier session that the project still has; takes no offence at other types."""
        for row in list(self.rows):
            self.remove(row)
        self._is_arranged = True  # they come in their order
        rows = values.get("layers")
        for kept in rows if isinstance(rows, list) else ():
            layer = QgsProject.instance().mapLayer(str(kept.get("layer", ""))) if isinstance(kept, dict) else None
            if not isinstance(layer, QgsRasterLayer) or is_preview(layer) or layer in [row.layer for row in self.rows]:
                continue
            self.add(layer)
            self.rows[-1].date.set_value(str(kept.get("date", "")))
            self.rows[-1].clouds.set_value(kept.get("cloud_cover"))
        self._is_arranged = values.get("is_arranged") is True and bool(self.rows)

    def note(self, layer: QgsRasterLayer, text: str) -> None:
        """Write a remark below a layer of the list."""
        for row in self.rows:
            if row.layer is layer:
                row.note.setText(text)

    def _front_finest(self) -> None:
        members = self.members()
        if members:
            best = finest(members).layer
            row = next(row for row in self.rows if row.layer is best)
            if row is not self.rows[0]:
                self._put(row, 0)

    def _put(self, row: "SeriesRow", place: int) -> None:
        self.rows.remove(row)
        self.rows.insert(place, row)
        self._column.removeWidget(row)
        self._column.insertWidget(place, row)
        before = [self.rows[place - 1].inputs()[-1]] if place else []
        chain = [*before, *(part for one in self.rows[place:] for part in one.inputs()), self.add_button]
        for first, second in zip(chain, chain[1:]):
            QWidget.setTabOrder(first, second)

    def _show_rows(self) -> None:
        for place, row in enumerate(self.rows):
            row.up_button.setEnabled(place > 0)
            row.down_button.setEnabled(place < len(self.rows) - 1)
        is_full = bool(self._limit) and len(self.rows) >= self._limit
        self.add_button.setEnabled(not is_full)
        full = tr("This model starts from at most {number} layers.").format(number=self._limit)
        self.add_button.setToolTip(full if is_full else tr("Add a raster layer of the project"))

    def _do(self, row: "SeriesRow", what: str) -> None:
        place = self.rows.index(row)
        if what == "remove":
            self.remove(row)
            heir = self.rows[min(place, len(self.rows) - 1)] if self.rows else None
            (self.add_button if heir is None else heir.remove_button).setFocus()
        else:
            self.move(row, -1 if what == "up" else 1)

    def _forget(self, removed: List[str]) -> None:
        for row in [row for row in self.rows if row.layer.id() in removed]:
            self.remove(row)

    def _announce(self, *_: object) -> None:
        self.changed.emit()


class SeriesRow(QFrame):
    """A layer, the date and the cloud cover of its picture.

    Signals:
        changed: something of it is another.
        asked(str): what to do with it, "up", "down" or "remove".

    Attributes:
        layer: it.
        info: what it is, None where it cannot be read.
        refusal: why it cannot, None where it can.
    """

    changed = pyqtSignal()
    asked = pyqtSignal(str)

    def __init__(self, layer: QgsRasterLayer, parent: Optional[QWidget] = None) -> None:
        """Show a layer with what is known of its picture."""
        super().__init__(parent)
        self.layer = layer
        self.info: Optional[SourceInfo] = None
        self.refusal: Optional[Failure] = None
        self._known = Acquisition()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.name = ElidedLabel(parent=self)
        font = self.name.font()
        font.setBold(True)
        self.name.setFont(font)
        self.up_button = self._button("up", "/mActionArrowUp.svg")
        self.down_button = self._button("down", "/mActionArrowDown.svg")
        self.remove_button = self._button("remove", "/mActionRemove.svg")
        self.date = DateInput(self)
        self.clouds = CloudCoverInput(self)
        self.note = Note(self)
        self._lay_out()
        self.date.changed.connect(self._announce)
        self.clouds.changed.connect(self._announce)
        for signal in (layer.crsChanged, layer.dataSourceChanged, layer.rendererChanged, layer.nameChanged):
            signal.connect(self._describe)
        layer.temporalProperties().changed.connect(self._describe)
        self._describe()

    def inputs(self) -> Tuple[QWidget, ...]:
        """What Tab goes through, in order."""
        return (self.up_button, self.down_button, self.remove_button, self.date.edit, self.clouds.number)

    def bands(self) -> Tuple[int, ...]:
        """Numbers of the bands that the layer shows as red, green and blue; empty where it cannot be read."""
        return () if self.info is None else colours(self.layer, self.info)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  (Qt's name)
        """Put the cloud cover below the date where both beside each other would be cut off."""
        super().resizeEvent(event)
        metrics = self.fontMetrics()
        half = metrics.horizontalAdvance(tr("clouds") + tr("unknown")) + _FRAMES * metrics.averageCharWidth()
        fits = self.width() >= 2 * half
        directions = QBoxLayout.Direction
        self._line.setDirection(directions.LeftToRight if fits else directions.TopToBottom)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(0)
        head.addWidget(self.name, 1)
        for button in (self.up_button, self.down_button, self.remove_button):
            head.addWidget(button)
        clouds = QHBoxLayout()
        clouds.setSpacing(4)
        clouds.addWidget(QLabel(tr("clouds"), self))
        clouds.addWidget(self.clouds, 1)
        self._line = QHBoxLayout()
        self._line.setSpacing(4)
        self._line.addWidget(self.date, 1)
        self._line.addLayout(clouds, 1)
        for narrow in (self.date.edit, self.clouds.number):
            narrow.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            narrow.setMinimumWidth(40)
        column = QVBoxLayout(self)
        column.setContentsMargins(5, 3, 3, 4)
        column.setSpacing(2)
        column.addLayout(head)
        column.addLayout(self._line)
        column.addWidget(self.note)

    def _button(self, what: str, icon: str) -> QToolButton:
        button = QToolButton(self)
        button.setObjectName(f"{what}_layer")
        button.setIcon(QgsApplication.getThemeIcon(icon))
        button.setAutoRaise(True)
        button.setIconSize(QSize(14, 14))
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        button.clicked.connect(lambda *_: self.asked.emit(what))
        return button

    def _name_parts(self) -> None:
        name = self.layer.name()
        self.name.setText(name)
        for part, text in (
            (self.up_button, tr("Move {layer} up: the first layer gives the pixels of the result")),
            (self.down_button, tr("Move {layer} down")),
            (self.remove_button, tr("Take {layer} out")),
        ):
            part.setToolTip(text.format(layer=name))
            part.setAccessibleName(text.format(layer=name))
        taken = tr("Date of {layer}").format(layer=name)
        self.date.edit.setAccessibleName(taken)
        self.date.edit.setToolTip(tr("When the picture was taken"))
        clouded = tr("Cloud cover of {layer}").format(layer=name)
        self.clouds.number.setAccessibleName(clouded)
        self.clouds.number.setToolTip(tr("How much of the picture is under clouds, if you know"))

    def _describe(self, *_: object) -> None:
        """Follow the layer; what the person wrote stays."""
        self._name_parts()
        self.info, self.refusal, known = None, None, Acquisition()
        try:
            self.info = describe(self.layer)
            known = acquisition(self.layer)
        except Problem as problem:
            self.refusal = problem.failure
            self.note.setText(sentence(problem.failure))
        self._known = show_known(self.date, self.clouds, known, self._known)
        self._announce()

    def _announce(self, *_: object) -> None:
        self.changed.emit()
