"""The jobs, newest first, with what can be done with them."""

from typing import Dict, Optional

from qgis.PyQt.QtCore import Qt, QUrl, pyqtSignal
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from ..report import Problem, tr
from .jobrow import JobRow
from .quiet import QuietLabel

#: Jobs that are shown before somebody asks for earlier ones.
FIRST = 20
#: Qt's own largest height.
_UNLIMITED = 16777215


class JobList(QWidget):
    """What the session's jobs are doing.

    Signals:
        show_asked(str): add the result of this job to the map.
        copy_asked(str): copy this job as a Processing command.
        refused(object): something could not be done; the ``Failure``.
    """

    show_asked = pyqtSignal(str)
    copy_asked = pyqtSignal(str)
    refused = pyqtSignal(object)

    def __init__(self, session: object, parent: Optional[QWidget] = None) -> None:
        """Show the jobs of a session, and follow them."""
        super().__init__(parent)
        self._session = session
        self._rows: Dict[str, JobRow] = {}
        self._limit = FIRST
        title = QLabel(tr("Jobs"), self)
        font = title.font()
        font.setBold(True)
        title.setFont(font)
        self.cancel_all_button = QPushButton(tr("Cancel &all"), self)
        self.cancel_all_button.setObjectName("cancel_all")
        self.cancel_all_button.setToolTip(tr("Cancel the running job and all that wait"))
        self.cancel_all_button.setFlat(True)
        self.empty = QuietLabel(tr("What you run is listed here, and stays from one session to the next."), self)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.earlier_button = QPushButton(self)
        self.earlier_button.setFlat(True)
        body = QWidget(self)
        self._column = QVBoxLayout(body)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self._column.addWidget(self.earlier_button)
        self._column.addStretch(1)
        self.scroll = QScrollArea(self)
        self.scroll.setFrameShape(QFrame.Shape.StyledPanel)
        self.scroll.setWidgetResizable(True)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setWidget(body)
        self.scroll.setAccessibleName(tr("Jobs"))
        head = QHBoxLayout()
        head.addWidget(title)
        head.addStretch(1)
        head.addWidget(self.cancel_all_button)
        column = QVBoxLayout(self)
        column.setSpacing(3)
        column.addLayout(head)
        column.addWidget(self.empty, 1)
        column.addWidget(self.scroll, 1)
        self.cancel_all_button.clicked.connect(lambda *_: session.cancel_all())
        self.earlier_button.clicked.connect(self._show_earlier)
        session.job_added.connect(self._fill)
        session.job_removed.connect(self._fill)
        session.job_changed.connect(self._refresh)
        self._fill()

    def row(self, job: str) -> Optional[JobRow]:
        """The row of a job, None where it is not shown."""
        return self._rows.get(job)

    def _fill(self, *_: object) -> None:
        records = self._session.jobs
        shown = {record.id for record in records[: self._limit]}
        for job in [job for job in self._rows if job not in shown]:
            row = self._rows.pop(job)
            self._column.removeWidget(row)
            row.deleteLater()
        for place, record in enumerate(records[: self._limit]):
            if record.id not in self._rows:
                row = JobRow(record, self)
                row.asked.connect(self._do)
                self._column.insertWidget(place, row)
                self._rows[record.id] = row
        hidden = len(records) - len(shown)
        self.earlier_button.setText(tr("Show {number} earlier jobs").format(number=hidden))
        self.earlier_button.setVisible(hidden > 0)
        self.empty.setVisible(not records)
        self.scroll.setVisible(bool(records))
        lines = self.fontMetrics().lineSpacing()
        self.setMinimumHeight(lines * (8 if records else 5))
        self.setMaximumHeight(_UNLIMITED if records else lines * 5)
        self._show_cancel_all()

    def _refresh(self, job: str) -> None:
        row = self._rows.get(job)
        record = next((record for record in self._session.jobs if record.id == job), None)
        if row is not None and record is not None:
            row.show_record(record)
        self._show_cancel_all()

    def _show_cancel_all(self) -> None:
        self.cancel_all_button.setVisible(any(not record.is_over for record in self._session.jobs))

    def _show_earlier(self) -> None:
        self._limit = len(self._session.jobs)
        self._fill()

    def _do(self, what: str, job: str) -> None:
        try:
            self._act(what, job)
        except Problem as problem:
            self.refused.emit(problem.failure)

    def _act(self, what: str, job: str) -> None:
        if what == "cancel":
            self._session.cancel(job)
        elif what == "retry":
            self._session.retry(job)
        elif what == "again":
            self._session.again(job, False)
        elif what == "new_seed":
            self._session.again(job, True)
        elif what == "remove":
            self._session.remove(job)
        elif what == "show":
            self.show_asked.emit(job)
        elif what == "copy":
            self.copy_asked.emit(job)
        elif what == "folder":
            record = next((record for record in self._session.jobs if record.id == job), None)
            if record is not None:
                QDesktopServices.openUrl(QUrl.fromLocalFile(record.folder))
