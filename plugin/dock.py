"""The dock: a tab for each task, its form, what it will take, and the jobs."""

from typing import List, Optional

from qgis.core import QgsApplication
from qgis.gui import QgsDockWidget, QgsMapCanvas
from qgis.PyQt.QtCore import Qt, QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from ..engine.contract import ErrorCode, Failure, fit
from . import settings
from .models import ModelsDialog
from .panels import PANELS, Panel
from .report import Problem, sentence, tr
from .session import Session
from .widgets.engine import EngineLine
from .widgets.estimate import EstimateLine
from .widgets.joblist import JobList
from .widgets.setup import SetupBox

#: Milliseconds without a change after which the estimate is made anew.
_PAUSE = 150


class Dock(QgsDockWidget):
    """What a person sees of Afterimage.

    Signals:
        refused(object): a job could not be started; the ``Failure``.
        show_asked(str): add the result of this job to the map.
        copy_asked(str): copy this job as a Processing command.
    """

    refused = pyqtSignal(object)
    show_asked = pyqtSignal(str)
    copy_asked = pyqtSignal(str)

    def __init__(
        self, session: Session, canvas: Optional[QgsMapCanvas] = None, parent: Optional[QWidget] = None
    ) -> None:
        """Make the dock over a session; starts nothing.

        Args:
            session: what the dock shows and asks.
            canvas: map for extents.
            parent: QGIS's main window.
        """
        super().__init__(tr("Afterimage"), parent)
        self.setObjectName("AfterimageDock")
        self._session = session
        self._can_run = False
        self.models: Optional[ModelsDialog] = None
        self.panels = [make(canvas) for make in PANELS]
        self.tabs = QTabWidget(self)
        self.tabs.setObjectName("tasks")
        self.tabs.setDocumentMode(True)
        self.tabs.setAccessibleName(tr("Task"))
        for panel in self.panels:
            self.tabs.addTab(_scrolled(panel), panel.title())
        self.setup = SetupBox(self)
        self.estimate = EstimateLine(self)
        self.problem = QLabel(self)
        self.problem.setObjectName("problem")
        self.problem.setWordWrap(True)
        self.problem.setTextFormat(Qt.TextFormat.PlainText)
        self.run_button = QPushButton(tr("&Run"), self)
        self.run_button.setObjectName("run")
        self.run_button.setIcon(QgsApplication.getThemeIcon("/mActionStart.svg"))
        self.run_button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.jobs = JobList(session, self)
        self.engine = EngineLine(self)
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self.refresh)
        self._connect()
        self._follow_cards()
        for panel in self.panels:
            panel.recall()
        names = [panel.task for panel in self.panels]
        if settings.read("dock/task") in names:
            self.tabs.setCurrentIndex(names.index(settings.read("dock/task")))
        self._follow_engine()

    @property
    def panel(self) -> Panel:
        """The panel that is shown."""
        return self.panels[self.tabs.currentIndex()]

    def show_task(self, task: str) -> None:
        """Show the panel of a task."""
        for index, panel in enumerate(self.panels):
            if panel.task == task:
                self.tabs.setCurrentIndex(index)

    def show_models(self, task: str = "") -> None:
        """Open the window of the public models, at those that can do a task."""
        if self.models is None:
            self.models = ModelsDialog(self._session, self)
            self.models.finished.connect(self._forget_models)
        self.models.show_task(task)
        self.models.show()
        self.models.raise_()
        self.models.activateWindow()

    def refresh(self) -> None:
        """Show what the form's job would take, or why it cannot start."""
        self._timer.stop()
        found = [*self._engine_problems(), *self.panel.problems()]
        self._can_run = not found
        self.run_button.setEnabled(self._can_run)
        self.problem.setText(sentence(found[0]) if found else "")
        self.problem.setToolTip(found[0].code.value if found else "")
        self.problem.setVisible(bool(found))
        self.run_button.setToolTip(sentence(found[0]) if found else tr("Start this job, after those that wait"))
        self.run_button.setAccessibleDescription(self.run_button.toolTip())
        found, card = self.panel.estimate(self._session.gflops), self.panel.model.card
        room = fit(card, found, *self._session.free_memory) if found is not None and card is not None else None
        self.estimate.show_estimate(found, room, found is not None and self.panel.is_least)

    def run(self) -> None:
        """Start a job from the form that is shown."""
        self.refresh()
        if not self._can_run:
            return
        try:
            self._session.submit(self.panel.draft())
        except Problem as problem:
            self.refused.emit(problem.failure)
            return
        self.panel.submitted()

    def _lay_out(self) -> None:
        foot = QVBoxLayout()
        foot.setContentsMargins(9, 4, 9, 6)
        foot.setSpacing(4)
        foot.addWidget(self.estimate)
        row = QHBoxLayout()
        row.addWidget(self.problem, 1)
        row.addStretch(0)
        row.addWidget(self.run_button, 0, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignBottom)
        foot.addLayout(row)
        form = QWidget(self)
        upper = QVBoxLayout(form)
        upper.setContentsMargins(0, 0, 0, 0)
        upper.setSpacing(0)
        upper.addWidget(self.tabs, 1)
        upper.addWidget(_line())
        upper.addLayout(foot)
        self.splitter = QSplitter(Qt.Orientation.Vertical, self)
        self.splitter.addWidget(form)
        self.splitter.addWidget(self.jobs)
        self.splitter.setStretchFactor(0, 3)
        self.splitter.setStretchFactor(1, 1)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.setSizes([600, 240])
        body = QWidget(self)
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        top = QVBoxLayout()
        top.setContentsMargins(6, 4, 6, 4)
        top.addWidget(self.setup)
        column.addLayout(top)
        column.addWidget(self.splitter, 1)
        column.addWidget(_line())
        column.addWidget(self.engine)
        self.setWidget(body)

    def _connect(self) -> None:
        session = self._session
        for panel in self.panels:
            panel.changed.connect(self._timer.start)
            panel.model.models_asked.connect(lambda task=panel.task: self.show_models(task))
        self.tabs.currentChanged.connect(self._follow_task)
        self.run_button.clicked.connect(lambda *_: self.run())
        self.setup.install_asked.connect(lambda: session.install_engine())
        self.setup.cancel_asked.connect(lambda: session.cancel_install())
        self.engine.start_asked.connect(lambda: session.start_engine())
        self.jobs.show_asked.connect(self.show_asked)
        self.jobs.copy_asked.connect(self.copy_asked)
        self.jobs.refused.connect(self.refused)
        session.install_progressed.connect(self.setup.show_line)
        session.cards_changed.connect(self._follow_cards)
        session.engine_changed.connect(self._follow_engine)
        session.problem.connect(self._follow_problem)
        session.store.failed.connect(self._follow_transfer_failure)

    def _follow_cards(self) -> None:
        for panel in self.panels:
            panel.set_cards(self._session.cards)

    def _forget_models(self, *_: object) -> None:
        models, self.models = self.models, None
        if models is not None:
            models.deleteLater()

    def _follow_task(self, *_: object) -> None:
        settings.write("dock/task", self.panel.task)
        self.refresh()

    def _follow_engine(self, *_: object) -> None:
        state, failure = self._session.engine_state, self._session.engine_problem
        self.setup.setVisible(state in ("missing", "installing"))
        self.setup.show_state(state == "installing", settings.engine_python() is not None)
        self.engine.show_state(state, failure)
        self.refresh()

    def _follow_problem(self, failure: Failure) -> None:
        if self.setup.isVisible() and failure.resumable:
            self.setup.show_problem(sentence(failure))

    def _follow_transfer_failure(self, _: str, failure: Failure) -> None:
        if self.models is None:  # its window says so
            self.refused.emit(failure)

    def _engine_problems(self) -> List[Failure]:
        state, failure = self._session.engine_state, self._session.engine_problem
        if state == "installing":
            message, hint = tr("The engine is being installed."), tr("You can go on when that is done.")
            return [Failure(ErrorCode.ENGINE_MISSING, message, hint)]
        return [failure] if state == "missing" and failure is not None else []


def _scrolled(panel: Panel) -> QScrollArea:
    area = QScrollArea()
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(panel)
    return area


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    return line
