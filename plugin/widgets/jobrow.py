"""One job: what it is, how far it is, and what can be done with it."""

from typing import Optional

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QDateTime, QLocale, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QFrame, QHBoxLayout, QLabel, QMenu, QProgressBar, QToolButton, QVBoxLayout, QWidget

from ...engine.contract import JobState
from ..jobs import JobRecord
from ..report import sentence, tr
from .elided import ElidedLabel
from .numbers import duration

_ICONS = {
    JobState.QUEUED: "/mActionHistory.svg",
    JobState.RUNNING: "/mActionPlay.svg",
    JobState.SUCCEEDED: "/mIconSuccess.svg",
    JobState.FAILED: "/mIconWarning.svg",
    JobState.CANCELLED: "/mTaskCancel.svg",
}


def stage_name(stage: str) -> str:
    """The engine's word for what it does, in the person's language where that is known."""
    known = {
        "loading model": tr("Loading the model"),
        "measuring": tr("Measuring what is fastest here"),
        "tiles": tr("Drawing tiles"),
        "drawing": tr("Drawing"),
        "denoising": tr("Denoising"),
        "writing": tr("Writing the result"),
    }
    return known.get(stage, stage[:1].upper() + stage[1:]) or tr("Running")


def status(record: JobRecord) -> str:
    """Where the job stands, in a few words."""
    if record.state is JobState.QUEUED:
        return tr("Waiting")
    if record.state is JobState.RUNNING:
        text = stage_name(record.stage)
        if record.seconds_left is not None:
            text += ", " + tr("about {time} left").format(time=duration(record.seconds_left))
        return text
    if record.state is JobState.SUCCEEDED:
        took = duration(record.result.seconds) if record.result is not None else ""
        return tr("Finished in {time}").format(time=took) if took else tr("Finished")
    if record.state is JobState.FAILED:
        return sentence(record.failure) if record.failure is not None else tr("Failed")
    return tr("Cancelled; finished tiles are kept")


class JobRow(QFrame):
    """A job in the list.

    Signals:
        asked(str, str): what to do ("cancel", "retry", "show", "again", "new_seed", "copy", "folder", "remove"), and
            the job's id.
    """

    asked = pyqtSignal(str, str)

    def __init__(self, record: JobRecord, parent: Optional[QWidget] = None) -> None:
        """Show a job."""
        super().__init__(parent)
        self.id = record.id
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.icon = QLabel(self)
        self.title = ElidedLabel(parent=self)
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.cancel_button = self._button("cancel", "/mTaskCancel.svg", tr("Cancel"))
        self.retry_button = self._button("retry", "/mActionReload.svg", tr("Retry"))
        self.show_button = self._button("show", "/mActionAddRasterLayer.svg", tr("Add the result to the map"))
        self.more_button = QToolButton(self)
        self.more_button.setAutoRaise(True)
        self.more_button.setText("\u22ef")
        self.more_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.more_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.more_button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self.menu = QMenu(self.more_button)
        self.more_button.setMenu(self.menu)
        self.again_action = self._action("again", tr("Run again"))
        self.new_seed_action = self._action("new_seed", tr("Run again with a new seed"))
        self.menu.addSeparator()
        self.copy_action = self._action("copy", tr("Copy as Processing command"))
        self.folder_action = self._action("folder", tr("Show folder"))
        self.menu.addSeparator()
        self.remove_action = self._action("remove", tr("Remove from list"))
        self.progress = QProgressBar(self)
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(max(4, self.fontMetrics().height() // 2))
        self.state = QLabel(self)
        self.state.setWordWrap(True)
        self.state.setTextFormat(Qt.TextFormat.PlainText)
        self._lay_out()
        self.show_record(record)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(4)
        head.addWidget(self.icon)
        head.addWidget(self.title, 1)
        for button in (self.cancel_button, self.retry_button, self.show_button, self.more_button):
            head.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 3, 3, 5)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(self.progress)
        column.addWidget(self.state)

    def show_record(self, record: JobRecord) -> None:
        """Show where the job stands now."""
        side = self.fontMetrics().height()
        self.icon.setPixmap(QgsApplication.getThemeIcon(_ICONS[record.state]).pixmap(side, side))
        self.title.setText(record.title or record.id)
        created = QDateTime.fromString(record.created, Qt.DateFormat.ISODate).toLocalTime()
        if created.isValid():
            self.title.setToolTip(
                self.title.text() + "\n" + QLocale().toString(created, QLocale.FormatType.ShortFormat)
            )
        is_failed = record.state in (JobState.FAILED, JobState.CANCELLED)
        self.cancel_button.setVisible(not record.is_over)
        self.retry_button.setVisible(is_failed)
        self.show_button.setVisible(record.state is JobState.SUCCEEDED)
        self.progress.setVisible(record.state is JobState.RUNNING)
        if record.fraction is None:
            self.progress.setRange(0, 0)
        else:
            self.progress.setRange(0, 1000)
            self.progress.setValue(int(record.fraction * 1000))
        text = status(record)
        self.state.setText(text)
        notices = record.result.notices if record.result is not None else ()
        self.state.setToolTip(record.failure.code.value if record.failure is not None else "\n".join(notices))
        self.setAccessibleName(self.title.text() + ", " + text)
        for button, what in (
            (self.cancel_button, tr("Cancel {title}")),
            (self.retry_button, tr("Retry {title}")),
            (self.show_button, tr("Add the result of {title} to the map")),
            (self.more_button, tr("More for {title}")),
            (self.progress, tr("Progress of {title}")),
        ):
            button.setAccessibleName(what.format(title=self.title.text()))
        self.more_button.setToolTip(tr("More"))

    def _button(self, what: str, icon: str, tip: str) -> QToolButton:
        button = QToolButton(self)
        button.setIcon(QgsApplication.getThemeIcon(icon))
        button.setToolTip(tip)
        button.setAutoRaise(True)
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        button.clicked.connect(lambda *_: self.asked.emit(what, self.id))
        return button

    def _action(self, what: str, text: str):
        action = self.menu.addAction(text)
        action.triggered.connect(lambda *_: self.asked.emit(what, self.id))
        return action
