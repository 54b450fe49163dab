"""What becomes of a job on the map: previews while it runs, layers when it is done, a sentence either way."""

from typing import Optional

from qgis.core import Qgis, QgsProject
from qgis.gui import QgsMessageBar
from qgis.PyQt.QtCore import QObject

from ..engine.contract import Failure, JobState, ModelCard, Result
from .maps import layers
from .report import TAG, Problem, log_failure, show, tr
from .session import Session


class Delivery(QObject):
    """Brings what the session's jobs make into the project, whether the dock is open or not."""

    def __init__(self, session: Session, bar: Optional[QgsMessageBar] = None, parent: Optional[QObject] = None) -> None:
        """Follow a session.

        Args:
            session: whose jobs.
            bar: where to say what happened; None for the log alone.
            parent: as usual.
        """
        super().__init__(parent)
        self._session = session
        self._bar = bar
        session.preview_ready.connect(self._preview)
        session.job_changed.connect(self._forget_preview)
        session.job_removed.connect(self._remove_preview)
        session.result_ready.connect(self.deliver)
        session.problem.connect(self.refuse)
        session.store.installed.connect(self._say_installed)

    def deliver(self, job: str, result: Result) -> None:
        """Add the layers of a result to the project, and say so."""
        record = self._session.job(job)
        title = record.title if record is not None else job
        try:
            added = layers.add_result(result, title, QgsProject.instance())
        except Problem as problem:
            self.refuse(problem.failure)
            return
        if len(added) == 1:
            text = tr("{title}: the AI-generated layer is on the map.").format(title=title)
        else:
            text = tr("{title}: {number} AI-generated layers are on the map.").format(title=title, number=len(added))
        self._say(" ".join([text, *result.notices]), Qgis.MessageLevel.Success)

    def show_again(self, job: str) -> None:
        """Add the result of a job that ended well to the project once more."""
        record = self._session.job(job)
        if record is not None and record.result is not None:
            self.deliver(job, record.result)

    def refuse(self, failure: Failure) -> None:
        """Say what could not be done, why, and what to do."""
        if self._bar is None:
            log_failure(failure)
        else:
            show(self._bar, failure)

    def _say(self, text: str, level: Qgis.MessageLevel) -> None:
        if self._bar is not None:
            self._bar.pushMessage(TAG, text, level, 8)

    def _say_installed(self, card: ModelCard) -> None:
        self._say(tr("{name} is installed, and can be picked now.").format(name=card.name), Qgis.MessageLevel.Success)

    def _preview(self, job: str, path: str) -> None:
        record = self._session.job(job)
        if record is not None and record.state is JobState.RUNNING:
            layers.show_preview(job, path, QgsProject.instance())

    def _forget_preview(self, job: str) -> None:
        record = self._session.job(job)
        if record is None or record.is_over:
            self._remove_preview(job)

    def _remove_preview(self, job: str) -> None:
        layers.remove_preview(job, QgsProject.instance())
