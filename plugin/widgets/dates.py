"""When: a date, or none."""

from typing import Optional

from qgis.gui import QgsDateEdit
from qgis.PyQt.QtCore import QDate, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QHBoxLayout, QWidget

from ..report import tr


class DateInput(QWidget):
    """A date with a calendar; empty means unknown.

    Signals:
        changed: the date is another.
    """

    changed = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an input that says "unknown"."""
        super().__init__(parent)
        self.edit = QgsDateEdit(self)
        self.edit.setObjectName("date")
        self.edit.setAllowNull(True)
        self.edit.setNullRepresentation(tr("unknown"))
        self.edit.setCalendarPopup(True)
        self.edit.setDisplayFormat("yyyy-MM-dd")
        self.edit.setMinimumDate(QDate(1, 1, 1))
        self.edit.setMaximumDate(QDate(9999, 12, 31))
        self.edit.clear()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.edit)
        self.setFocusProxy(self.edit)
        self.edit.dateValueChanged.connect(self._announce)

    def value(self) -> Optional[str]:
        """The date as YYYY-MM-DD, or None where it is unknown."""
        if self.edit.isNull():
            return None
        return self.edit.date().toString(Qt.DateFormat.ISODate)

    def set_value(self, date: Optional[str]) -> None:
        """Show a date written YYYY-MM-DD; anything else is unknown."""
        parsed = QDate.fromString(date or "", Qt.DateFormat.ISODate)
        if parsed.isValid():
            self.edit.setDate(parsed)
        else:
            self.edit.clear()

    def _announce(self, *_: object) -> None:
        self.changed.emit()
