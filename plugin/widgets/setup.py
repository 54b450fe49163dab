"""The engine's Python, before it is there: what will be downloaded, where to, and a button."""

import sys
from typing import Optional

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QGroupBox, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from ..report import tr
from ..settings import engine_folder
from .elided import ElidedLabel


def explanation() -> str:
    """What installing the engine means, for the person who is asked to do it."""
    is_linux = sys.platform.startswith("linux")
    text = tr("Afterimage draws in a Python of its own. Installing it downloads about {size} from pypi.org.")
    parts = [text.format(size=tr("2.9 GB") if is_linux else tr("0.4 GB"))]
    if is_linux:
        parts.append(tr("On Linux, with NVIDIA\u2019s libraries, it takes up to 9 GB on the disk."))
    parts.append(tr("QGIS itself is not changed."))
    return " ".join(parts)


class SetupBox(QGroupBox):
    """Offers to install the engine, and shows how far that is.

    Signals:
        install_asked(): the person clicked.
        cancel_asked(): the person wants it to stop.
    """

    install_asked = pyqtSignal()
    cancel_asked = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make a box that offers."""
        super().__init__(parent)
        self.setObjectName("setup")
        self.text = QLabel(explanation(), self)
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.folder = ElidedLabel(tr("Into {folder}").format(folder=engine_folder()), self)
        self.problem = QLabel(self)
        self.problem.setObjectName("setup_problem")
        self.problem.setWordWrap(True)
        self.problem.setTextFormat(Qt.TextFormat.PlainText)
        self.progress = QProgressBar(self)
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(max(4, self.fontMetrics().height() // 2))
        self.progress.setAccessibleName(tr("Progress of the installation"))
        self.line = ElidedLabel(parent=self)
        self.line.setObjectName("setup_line")
        self.install_button = QPushButton(self)
        self.install_button.setObjectName("install")
        self.cancel_button = QPushButton(tr("Cancel installation"), self)
        self.cancel_button.setObjectName("cancel_install")
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.cancel_button)
        row.addWidget(self.install_button)
        column = QVBoxLayout(self)
        for widget in (self.text, self.folder, self.problem, self.progress, self.line):
            column.addWidget(widget)
        column.addLayout(row)
        self.install_button.clicked.connect(lambda *_: self.install_asked.emit())
        self.cancel_button.clicked.connect(lambda *_: self.cancel_asked.emit())
        self.show_problem("")
        self.show_state(False, False)

    def show_state(self, is_installing: bool, is_update: bool) -> None:
        """Offer, or show that it runs.

        Args:
            is_installing: whether it runs.
            is_update: whether an engine of another version is there already.
        """
        if is_installing:
            self.setTitle(tr("Installing the engine"))
        else:
            self.setTitle(tr("The engine needs an update") if is_update else tr("One more step: the engine"))
        self.install_button.setText(tr("Update engine") if is_update else tr("Install engine"))
        self.install_button.setVisible(not is_installing)
        self.text.setVisible(not is_installing)
        if is_installing:
            self.show_problem("")
        for widget in (self.progress, self.line, self.cancel_button):
            widget.setVisible(is_installing)

    def show_problem(self, text: str) -> None:
        """Show why the last attempt ended."""
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def show_line(self, text: str) -> None:
        """Show a line from the installation."""
        self.line.setText(text)
