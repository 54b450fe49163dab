"""A form of labelled inputs, each with a line of remarks below it."""

from typing import Dict, Optional

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QFormLayout, QLabel, QLineEdit, QSizePolicy, QVBoxLayout, QWidget

from .quiet import QuietLabel


class Note(QuietLabel):
    """A quiet remark below an input; takes no room while it is empty."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an empty note."""
        super().__init__(parent=parent)
        font = self.font()
        font.setPointSizeF(font.pointSizeF() * 0.92)
        self.setFont(font)
        self.setIndent(2)
        self.setMinimumWidth(1)
        self.setVisible(False)

    def setText(self, text: str) -> None:  # noqa: N802  (Qt's name)
        """Show a text, or nothing."""
        super().setText(text)
        self.setVisible(bool(text))


class Fields(QFormLayout):
    """Labels on the left, inputs on the right, notes below the inputs.

    Each input gets its label as accessible name and as buddy, so that a screen reader and the keyboard find it.
    """

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an empty form."""
        super().__init__(parent)
        self.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        self.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.setFormAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.setContentsMargins(0, 0, 0, 0)
        self.setVerticalSpacing(6)
        self._line_height = QLineEdit().sizeHint().height()
        self._notes: Dict[QWidget, Note] = {}
        self._labels: Dict[QWidget, QLabel] = {}

    def add(self, label: str, field: QWidget, buddy: Optional[QWidget] = None, tip: str = "") -> QWidget:
        """Add an input.

        Args:
            label: with an ampersand before the letter that reaches it.
            field: the input.
            buddy: what takes the focus, where that is a part of the input.
            tip: explanation, also read by screen readers.
        """
        head = QLabel(label)
        focus = field if buddy is None else buddy  # an empty list is falsy
        head.setBuddy(focus)
        head.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        head.setContentsMargins(0, max(0, (self._line_height - head.sizeHint().height()) // 2), 0, 0)
        name = label.replace("&", "").replace("\n", " ")
        focus.setAccessibleName(name)
        if tip:
            head.setToolTip(tip)
            field.setToolTip(field.toolTip() or tip)
            focus.setAccessibleDescription(tip)
        note = Note()
        cell = QWidget()
        cell.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        column = QVBoxLayout(cell)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        column.addWidget(field)
        column.addWidget(note)
        self.addRow(head, cell)
        self._notes[field] = note
        self._labels[field] = head
        return field

    def note(self, field: QWidget, text: str) -> None:
        """Write a remark below an input; an empty text takes it away."""
        self._notes[field].setText(text)

    def note_text(self, field: QWidget) -> str:
        """The remark below an input."""
        return self._notes[field].text()

    def set_used(self, field: QWidget, used: bool, note: str = "", enabled: Optional[bool] = None) -> None:
        """Mark whether the model uses an input.

        Args:
            field: the input.
            used: whether it changes the picture.
            note: what to say where it does not.
            enabled: whether it can be edited all the same; by default only what is used can.
        """
        can_edit = used if enabled is None else enabled
        field.setEnabled(can_edit)
        self._labels[field].setEnabled(can_edit)
        self.note(field, "" if used else note)

    def rename(self, field: QWidget, label: str, tip: str, buddy: Optional[QWidget] = None) -> None:
        """Give an input another label and explanation, as ``add`` does."""
        focus = field if buddy is None else buddy
        self._labels[field].setText(label)
        self._labels[field].setToolTip(tip)
        focus.setAccessibleName(label.replace("&", ""))
        focus.setAccessibleDescription(tip)
        field.setToolTip(tip)

    def set_shown(self, field: QWidget, is_shown: bool) -> None:
        """Show an input with its label and remark, or take all of it away."""
        self._labels[field].setVisible(is_shown)
        self._notes[field].parentWidget().setVisible(is_shown)
