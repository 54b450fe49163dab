"""The fetch or import that runs: how far it is, how fast, how long it will take, and a way to stop it."""

from typing import Optional, Tuple

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QGroupBox, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from ...engine.contract import Failure
from ..report import sentence, tr
from ..transfer import Transfer
from .elided import ElidedLabel
from .numbers import duration, size


def stage_text(transfer: Transfer) -> str:
    """What is being done, in a few words."""
    return {
        "waiting": tr("Waiting"),
        "starting": tr("Starting"),
        "stopping": tr("Stopping"),
        "fetching": tr("Fetching"),
        "checking": tr("Checking the files"),
        "converting": tr("Converting the weights"),
        "installing": tr("Putting the model in place"),
    }.get(transfer.stage, transfer.stage)


def progress_text(transfer: Transfer) -> str:
    """How far it is: "1.2 GB of 4.9 GB, 11 MB/s, about 5 min left"."""
    if not transfer.total:
        return ""
    parts = [tr("{done} of {total}").format(done=size(transfer.done), total=size(transfer.total))]
    if transfer.stage == "fetching" and transfer.rate is not None:
        if transfer.rate < 1:
            parts.append(tr("nothing arrives at the moment"))
        else:
            parts.append(tr("{rate} a second").format(rate=size(transfer.rate)))
            parts.append(tr("about {time} left").format(time=duration(transfer.seconds_left or 0)))
    return ", ".join(parts)


class TransferBox(QGroupBox):
    """Shows one transfer, or why the last one ended.

    Signals:
        cancel_asked(): stop it.
    """

    cancel_asked = pyqtSignal()

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make a box that shows nothing."""
        super().__init__(parent)
        self.setObjectName("transfer")
        self.bar = QProgressBar(self)
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(max(6, self.fontMetrics().height() // 2))
        self.text = QLabel(self)
        self.text.setObjectName("transfer_text")
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.file = ElidedLabel(parent=self)
        self.cancel_button = QPushButton(tr("Cancel"), self)
        self.cancel_button.setObjectName("cancel_transfer")
        self.cancel_button.setAutoDefault(False)  # Enter in the list must not stop it
        self.problem = QLabel(self)
        self.problem.setObjectName("transfer_problem")
        self.problem.setWordWrap(True)
        self.problem.setTextFormat(Qt.TextFormat.PlainText)
        self.problem.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        inner = QVBoxLayout()
        for widget in (self.bar, self.text, self.file):
            inner.addWidget(widget)
        row = QHBoxLayout()
        row.addLayout(inner, 1)
        row.addWidget(self.cancel_button, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout(self)
        column.addLayout(row)
        column.addWidget(self.problem)
        self.cancel_button.clicked.connect(lambda *_: self.cancel_asked.emit())
        self.show_transfer(None)

    def show_transfer(self, transfer: Optional[Transfer], waiting: Tuple[Transfer, ...] = ()) -> None:
        """Show a transfer and those that wait for it; None hides all but a problem."""
        for widget in (self.bar, self.text, self.file, self.cancel_button):
            widget.setVisible(transfer is not None)
        if transfer is not None:
            self.show_problem(None)
            self._write(transfer, waiting)
        self.setVisible(transfer is not None or bool(self.problem.text()))

    def show_problem(self, failure: Optional[Failure], name: str = "") -> None:
        """Show why the last transfer ended, with its code; None takes that away."""
        self.problem.setText("" if failure is None else f"{failure.code.value}: {sentence(failure)}")
        self.problem.setAccessibleName(self.problem.text())
        self.problem.setVisible(failure is not None)
        if failure is not None:
            self.setTitle(name)
        self.setVisible(failure is not None or self.cancel_button.isVisibleTo(self))

    def _write(self, transfer: Transfer, waiting: Tuple[Transfer, ...]) -> None:
        title = tr("Import of {name}") if transfer.is_import else tr("Fetch of {name}")
        self.setTitle(title.format(name=transfer.name))
        self.bar.setAccessibleName(tr("Progress: {what}").format(what=self.title()))
        if transfer.total:
            self.bar.setRange(0, 1000)
            self.bar.setValue(int(1000 * min(1.0, transfer.done / transfer.total)))
        else:
            self.bar.setRange(0, 0)
        parts = [stage_text(transfer), progress_text(transfer)]
        text = ": ".join(part for part in parts if part)
        if waiting:
            text += ". " + tr("Then: {names}").format(names=", ".join(each.name for each in waiting))
        self.text.setText(text)
        self.file.setText(transfer.file)
        self.file.setVisible(bool(transfer.file))
        self.cancel_button.setEnabled(transfer.stage != "stopping")
        self.cancel_button.setToolTip(
            tr("Stop; the model on the disk is not changed")
            if transfer.is_import
            else tr("Stop; what was fetched is kept, and can be gone on with later")
        )
        self.cancel_button.setAccessibleName(tr("Cancel: {what}").format(what=self.title()))
