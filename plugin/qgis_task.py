"""JobTask: one job in QGIS's own task manager."""

import threading
from typing import Optional

from qgis.core import QgsTask
from qgis.PyQt.QtCore import pyqtSignal

from ..engine.contract import Failure, JobState
from . import jobs
from .compat import task_thread_pool
from .report import Problem


class JobTask(QgsTask):
    """Writes a job's source rasters on a worker thread, then waits for the job's end and shows its progress.

    Signals:
        prepared(str): every source raster of this job is in its folder.
        unprepared(str, object): they could not be written, and why (a ``Failure``); None for a cancel.
        cancel_requested(str): somebody cancelled it in the task manager.
    """

    prepared = pyqtSignal(str)
    unprepared = pyqtSignal(str, object)
    cancel_requested = pyqtSignal(str)

    def __init__(self, record: jobs.JobRecord, exports: tuple = ()):
        """Show this job; where there are exports, write them first."""
        super().__init__(record.title, QgsTask.Flag.CanCancel)
        self.job = record.id
        self._folder = record.folder
        self._exports = exports
        self._over = threading.Event()
        self._fraction = 0.0
        self._succeeded = False

    def follow(self, record: jobs.JobRecord) -> None:
        """Take over where the job stands; ends ``run`` when the job is over. Any thread."""
        self._fraction = record.fraction or 0.0
        if record.is_over:
            self._succeeded = record.state is JobState.SUCCEEDED
            self._over.set()

    def release(self) -> None:
        """End ``run`` without an outcome, because QGIS ends, and let go of copies of layers: none may outlive it."""
        self._exports = ()
        self._over.set()

    def run(self) -> bool:
        """Write the exports, then wait; on a worker thread."""
        exports, self._exports = self._exports, ()  # once they are written, or cannot be, only a retry needs them
        if exports:
            failure = self._prepare(exports)
            del exports
            is_stopped = self.isCanceled() or self._over.is_set()
            if is_stopped or failure is not None:
                self.unprepared.emit(self.job, None if is_stopped else failure)
                return False
            self.prepared.emit(self.job)
        pool = task_thread_pool()
        pool.releaseThread()  # waiting costs no core: leave the place in the pool to map rendering and other tasks
        try:
            while not self._over.wait(0.2):
                self.setProgress(100.0 * self._fraction)
        finally:
            pool.reserveThread()
        return self._succeeded

    def cancel(self) -> None:
        """Cancel the job, from the task manager or the session."""
        super().cancel()
        self.cancel_requested.emit(self.job)

    def _prepare(self, exports: tuple) -> Optional[Failure]:
        try:
            jobs.prepare_sources(self._folder, exports, lambda: self.isCanceled() or self._over.is_set())
        except Problem as problem:
            return problem.failure
        return None
