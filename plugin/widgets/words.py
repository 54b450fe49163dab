"""A closed list of words to choose from, flowing like text."""

from typing import Optional, Tuple

from qgis.PyQt.QtCore import QModelIndex, QRectF, QSize, Qt
from qgis.PyQt.QtGui import QColor, QPainter, QPalette, QPen
from qgis.PyQt.QtWidgets import (
    QFrame,
    QListView,
    QListWidget,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from ..compat import number


class _Chip(QStyledItemDelegate):
    """Draws a word in a rounded frame, in the theme's own colours."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802  (Qt's name)
        """Room for the word and its frame."""
        metrics = option.fontMetrics
        return QSize(metrics.horizontalAdvance(index.data()) + metrics.height(), metrics.height() + 8)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw the word."""
        is_on = bool(option.state & (QStyle.StateFlag.State_MouseOver | QStyle.StateFlag.State_HasFocus))
        palette = option.palette
        text = palette.color(QPalette.ColorRole.Text)
        frame = QColor(palette.color(QPalette.ColorRole.Highlight) if is_on else text)
        frame.setAlphaF(1.0 if is_on else 0.35)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(frame, 1.0))
        area = QRectF(option.rect).adjusted(1.5, 1.5, -1.5, -1.5)
        painter.drawRoundedRect(area, area.height() / 3, area.height() / 3)
        painter.setPen(text)
        painter.drawText(area, number(Qt.AlignmentFlag.AlignCenter), index.data())
        painter.restore()


class Words(QListWidget):
    """Words in a flow: one Tab stop, arrow keys inside; Enter, Space or a click takes a word.

    ``itemActivated`` and ``itemClicked`` tell which.
    """

    #: Rows that are shown before the list scrolls.
    ROWS = 3

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an empty list."""
        super().__init__(parent)
        self.setItemDelegate(_Chip(self))
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMouseTracking(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.viewport().setAutoFillBackground(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFixedHeight((self.fontMetrics().height() + 8) * self.ROWS + 4)
        self.setMinimumWidth(1)

    def set_words(self, words: Tuple[str, ...]) -> None:
        """Show these."""
        self.clear()
        self.addItems(list(words))
        self.setVisible(bool(words))
