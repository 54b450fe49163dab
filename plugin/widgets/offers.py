"""The models that there are, by task: those that are here, and those that can be fetched."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

from ...engine.contract import ModelCard, Offer
from ..report import tr
from .about import gsd_range
from .numbers import megabytes, size

_ID = Qt.ItemDataRole.UserRole
_ICONS = {
    "shipped": "/mIconSuccess.svg",
    "yours": "/mIconSuccess.svg",
    "installed": "/mIconSuccess.svg",
    "partial": "/mActionHistory.svg",
    "fetching": "/downloading_svg.svg",
    "waiting": "/mActionHistory.svg",
}


@dataclass(frozen=True)
class Row:
    """A model in the list.

    Attributes:
        card: what it can do.
        state: "shipped", "yours" (in a folder that the person named), "installed", "partial", "available", "fetching"
            or "waiting".
        offer: where it can be fetched from, None for one that cannot be.
        size: bytes on the disk, or to fetch where it is not here; 0 where that is not known.
        done: bytes that become free when it is removed; of one that is not complete, what was fetched so far.
        percent: of the fetch that runs, None while it cannot be told.
    """

    card: ModelCard
    state: str
    offer: Optional[Offer] = None
    size: int = 0
    done: int = 0
    percent: Optional[int] = None

    @property
    def id(self) -> str:
        """Of the model."""
        return self.card.id


def task_title(task: str) -> str:
    """Name of a task, as the dock's tabs say it."""
    known = {
        "Generate": tr("Generate"),
        "SuperResolve": tr("Super-resolve"),
        "Forecast": tr("Forecast"),
        "Edit": tr("Edit"),
    }
    return known.get(task, task)


def state_text(row: Row) -> str:
    """Where a model stands, in a few words."""
    if row.state == "fetching":
        return tr("On its way") if row.percent is None else tr("On its way, {percent} %").format(percent=row.percent)
    return {
        "shipped": tr("Built in"),
        "yours": tr("In a folder of yours"),
        "installed": tr("Installed"),
        "partial": tr("Partly fetched"),
        "waiting": tr("Waiting"),
    }.get(row.state, tr("Can be fetched"))


def size_text(row: Row) -> str:
    """How large a model is, and how much of it is here where it is not complete."""
    total = size(row.size) if row.size else tr("unknown")
    if row.state != "partial":
        return total
    if not row.size:
        return tr("{done} so far").format(done=size(row.done))
    return tr("{done} of {total}").format(done=size(row.done), total=total)


class OfferTree(QTreeWidget):
    """A list with a heading for each task; a model that can do two stands below both.

    Signals:
        picked(): another model is chosen, or none.
    """

    picked = pyqtSignal()
    TASKS = ("Generate", "SuperResolve", "Forecast", "Edit")

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an empty list."""
        super().__init__(parent)
        self.setObjectName("models_list")
        self.setAccessibleName(tr("Models by task"))
        self._rows: Tuple[Row, ...] = ()
        self.setHeaderLabels(
            [tr("Model"), tr("State"), tr("Size"), tr("Ground resolution"), tr("Memory"), tr("Licence")]
        )
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setUniformRowHeights(True)
        self.setAllColumnsShowFocus(True)
        self.setIndentation(self.fontMetrics().height() // 2)
        self.setRootIsDecorated(False)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setItemsExpandable(False)
        head = self.header()
        head.setStretchLastSection(True)
        for column in range(5):
            head.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.itemSelectionChanged.connect(self.picked)

    @property
    def row(self) -> Optional[Row]:
        """The model that is chosen, None where none is."""
        items = self.selectedItems()
        chosen = items[0].data(0, _ID) if items else None
        return next((row for row in self._rows if row.id == chosen), None)

    def set_rows(self, rows: Tuple[Row, ...]) -> None:
        """Show these; the one that is chosen stays so, where it is still there."""
        if rows == self._rows:
            return
        if [self._shape(row) for row in rows] == [self._shape(row) for row in self._rows]:
            self._rows = rows
            for item in self._items():
                self._write(item, next(row for row in rows if row.id == item.data(0, _ID)))
            return
        chosen = self._place()
        self.blockSignals(True)
        self._rows = rows
        self.clear()
        for task in self._tasks():
            heading = QTreeWidgetItem(self, [task_title(task)])
            heading.setFlags(Qt.ItemFlag.ItemIsEnabled)
            heading.setData(0, _ID + 1, task)
            heading.setFirstColumnSpanned(True)
            font = heading.font(0)
            font.setBold(True)
            heading.setFont(0, font)
            for row in rows:
                if task in row.card.tasks:
                    self._write(QTreeWidgetItem(heading), row)
        self.expandAll()
        self._choose(*chosen)
        self.blockSignals(False)
        self.picked.emit()

    def show_task(self, task: str) -> None:
        """Choose the first model that can do a task and could be fetched, or else the first one."""
        items = [item for item in self._items() if not task or item.parent().data(0, _ID + 1) == task]
        states = {row.id: row.state for row in self._rows}
        fetchable = [item for item in items if states[item.data(0, _ID)] in ("available", "partial")]
        for item in (fetchable or items)[:1]:
            self.setCurrentItem(item)
            self.scrollToItem(item.parent(), QAbstractItemView.ScrollHint.PositionAtTop)

    @staticmethod
    def titles(tasks: Tuple[str, ...]) -> List[str]:
        """Names of tasks, as the dock's tabs say them."""
        return [task_title(task) for task in tasks]

    def sizeHint(self) -> QSize:  # noqa: N802  (Qt's name)
        """Room for every column."""
        metrics = self.fontMetrics()
        return QSize(metrics.averageCharWidth() * 100, metrics.lineSpacing() * 14)

    def _tasks(self) -> List[str]:
        """Those that some model can do, the known ones first."""
        found = [task for row in self._rows for task in row.card.tasks]
        return [task for task in dict.fromkeys([*self.TASKS, *found]) if task in found]

    def _items(self) -> List[QTreeWidgetItem]:
        heads = [self.topLevelItem(index) for index in range(self.topLevelItemCount())]
        return [head.child(index) for head in heads for index in range(head.childCount())]

    def _place(self) -> Tuple[str, str]:
        items = self.selectedItems()
        return (items[0].parent().data(0, _ID + 1), items[0].data(0, _ID)) if items else ("", "")

    def _choose(self, task: str, id: str) -> None:
        same = [item for item in self._items() if item.data(0, _ID) == id]
        best = [item for item in same if item.parent().data(0, _ID + 1) == task]
        for item in (best or same)[:1]:
            self.setCurrentItem(item)

    @staticmethod
    def _shape(row: Row) -> Tuple[str, Tuple[str, ...]]:
        return row.id, row.card.tasks

    def _write(self, item: QTreeWidgetItem, row: Row) -> None:
        card = row.card
        texts = (
            card.name,
            state_text(row),
            size_text(row),
            gsd_range(card),
            megabytes(card.memory_mb) if card.memory_mb else "",
            card.licence,
        )
        item.setData(0, _ID, row.id)
        for column, text in enumerate(texts):
            item.setText(column, text)
            item.setToolTip(column, text if column else card.summary)
        icon = _ICONS.get(row.state)
        item.setIcon(1, QIcon() if icon is None else QgsApplication.getThemeIcon(icon))
        spoken = tr("{name}: {state}. {summary}").format(name=card.name, state=texts[1], summary=card.summary)
        item.setData(0, Qt.ItemDataRole.AccessibleTextRole, spoken)
