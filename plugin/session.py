"""Session: engine status, model cards and jobs. What the widgets watch; the only owner of the job list."""

import os
import secrets
from functools import partial
from typing import Callable, Dict, List, Optional, Set, Tuple

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject, pyqtSignal, pyqtSlot

from ..engine.contract import (
    Cancelled,
    ErrorCode,
    Event,
    Failed,
    Failure,
    JobState,
    ModelCard,
    Previewed,
    Ready,
    Succeeded,
    WireError,
    target_paths,
)
from . import errand, rate, rerun, settings
from . import jobs as folders
from .cards import installed
from .jobs import Draft, JobRecord
from .link.channel import Channel, ProcessChannel
from .link.client import EngineClient
from .link.environment import EngineInstaller, engine_failure
from .qgis_task import JobTask
from .report import Problem, log_failure, tr
from .store import Store


class Session(QObject):
    """What is happening, observable.

    Signals:
        cards_changed(): the models that can be picked are others now.
        engine_changed(str): "stopped", "starting", "ready", "missing", "crashed" or "installing".
        install_progressed(str): a line from the installation of the engine.
        job_added(str), job_changed(str), job_removed(str): ids.
        result_ready(str, object): a job of this session ended well, with its ``Result``.
        preview_ready(str, str): id, and path of a small georeferenced GeoTIFF.
        problem(object): a ``Failure`` to show; what shows it logs it.

    Attributes:
        store: the public models: which there are, and the one that is being fetched.
    """

    cards_changed = pyqtSignal()
    engine_changed = pyqtSignal(str)
    install_progressed = pyqtSignal(str)
    job_added = pyqtSignal(str)
    job_changed = pyqtSignal(str)
    job_removed = pyqtSignal(str)
    result_ready = pyqtSignal(str, object)
    preview_ready = pyqtSignal(str, str)
    problem = pyqtSignal(object)

    def __init__(
        self,
        parent: Optional[QObject] = None,
        root: Optional[str] = None,
        open_channel: Optional[Callable[[], Channel]] = None,
    ):
        """Read the history, oldest first; start nothing.

        Args:
            parent: owner.
            root: where job folders are, ``settings.jobs_folder()`` if None.
            open_channel: makes the way to the engine, a process of ours if None.
        """
        super().__init__(parent)
        self._root = root or settings.jobs_folder()
        self._records: Dict[str, JobRecord] = {record.id: record for record in folders.read_history(self._root)}
        self._tasks: Dict[str, JobTask] = {}
        self._exports: Dict[str, tuple] = {}  # of jobs whose sources are not complete
        self._resumed: Set[str] = set()  # whose time says nothing about speed
        self._leaving: Set[str] = set()  # removed as soon as they have ended
        self._installer: Optional[EngineInstaller] = None
        self._client = EngineClient(open_channel or engine_channel, self)
        self._client.event_received.connect(self._event)
        self._client.state_changed.connect(self._engine_state_changed)
        if open_channel is None:
            self._client.lack(engine_failure())
        self._ready: Optional[Ready] = None
        self._cards = installed()
        self.store = Store(self)
        self.store.installed.connect(self._read_cards)
        self.store.removed.connect(self._read_cards)

    # what widgets read

    @property
    def cards(self) -> Tuple[ModelCard, ...]:
        """The models that a person may pick."""
        return self._cards

    @property
    def free_memory(self) -> Tuple[str, Optional[int]]:
        """(the device, its free memory in MB of 10**6 bytes) when the engine started; ("none", None) before."""
        return ("none", None) if self._ready is None else (self._ready.device, self._ready.free_mb)

    def card(self, id: str) -> Optional[ModelCard]:
        """The card with this id, None where there is none."""
        return next((card for card in self._cards if card.id == id), None)

    @property
    def jobs(self) -> List[JobRecord]:
        """All jobs, newest first."""
        return list(reversed(list(self._records.values())))

    def job(self, id: str) -> Optional[JobRecord]:
        """The record of a job, None where there is none."""
        return self._records.get(id)

    @property
    def engine_state(self) -> str:
        """ "stopped", "starting", "ready", "missing", "crashed" or "installing"."""
        return "installing" if self._installer is not None else self._client.state

    @property
    def engine_problem(self) -> Optional[Failure]:
        """Why there is no engine, while the state is "missing" or "crashed"."""
        return None if self._installer is not None else self._client.problem

    @property
    def gflops(self) -> float:
        """Rate of this machine in GFLOP/s, learnt from finished jobs."""
        return settings.read("engine/gflops")

    # what widgets ask

    def submit(self, draft: Draft) -> str:
        """Make a job of a draft and queue it; starts the engine if need be.

        Returns:
            The job's id.

        Raises:
            Problem: when its folder cannot be made.
        """
        try:
            id, folder = folders.create_folder(self._root, draft)
        except OSError as error:
            message = tr("The job folder cannot be made in {}.").format(self._root)
            raise Problem(ErrorCode.DISK_FULL, message, tr("Check the disk's space and rights."), str(error)) from None
        record = JobRecord(id, draft.title, type(draft.request).__name__, folder, created=folders.created(id, folder))
        self._records[id] = record
        self.job_added.emit(id)
        self._run(record, draft.exports)
        return id

    def cancel(self, job: str) -> None:
        """Stop a job, waiting or running. Finished tiles are kept."""
        record = self._records.get(job)
        if record is None or record.is_over:
            return
        if job in self._client.unfinished:
            self._client.cancel(job)
        else:  # its sources are being written: the task stops by itself
            task = self._tasks.get(job)
            self._event(Cancelled(job))
            if task is not None:
                task.cancel()

    def cancel_all(self) -> None:
        """Stop every job, the newest first, so that none begins while others are stopped."""
        for record in self.jobs:
            self.cancel(record.id)

    def retry(self, job: str) -> None:
        """Run a job that failed or was cancelled once more, in its own folder: finished tiles are not drawn again.

        Raises:
            Problem: when its sources are not complete.
        """
        record = self._records[job]
        if not record.is_over:
            return
        exports = self._exports.get(job, ())
        if not exports and not folders.is_prepared(record.folder):
            message = tr("The source of this job was not written completely.")
            raise Problem(ErrorCode.JOB_FOLDER_DAMAGED, message, tr("Run it anew from the panel."))
        folders.forget_outcome(record.folder)
        self._records[job] = folders.queued(record)
        self._resumed.add(job)
        self.job_changed.emit(job)
        self._run(self._records[job], exports)

    def again(self, job: str, new_seed: bool) -> str:
        """Run the request of a job once more as a new job, with the same seed (same pixels) or a new one.

        Returns:
            The new job's id.

        Raises:
            Problem: when the old job's folder cannot be read.
        """
        seed = secrets.randbelow(2**31) if new_seed else None
        return self.submit(rerun.again(self._records[job], seed, self._exports.get(job, ()), self._awaited()))

    def _awaited(self) -> Set[str]:
        """Paths that jobs are still to write, those among them that a retry would."""
        paths: Set[str] = set()
        for record in self._records.values():
            if record.state is JobState.SUCCEEDED:
                continue
            try:
                job = folders.read_job(record.folder)
            except (OSError, WireError):  # it cannot be run either
                continue
            outputs = (job.output, job.spread_output, job.mean_output)
            paths.update((*outputs[1:], *target_paths(job.request, *outputs)))
        return paths

    def remove(self, job: str) -> None:
        """Take a job off the list and its working files off the disk. Results stay where they are."""
        record = self._records.get(job)
        if record is None:
            return
        if not record.is_over:
            self._leaving.add(job)
            self.cancel(job)
            return
        self._leaving.discard(job)
        self._exports.pop(job, None)
        del self._records[job]
        self.job_removed.emit(job)
        errand.send(partial(folders.remove_folder, record.folder))  # tiles can be many

    def start_engine(self) -> None:
        """Start the engine now, without a job."""
        if self._installer is None:
            self._client.start()

    def install_engine(self, anew: bool = False) -> None:
        """Make the engine's Python, or make it anew; only ever because the person clicked.

        "installing" follows, then "stopped", or "missing" with a ``problem``.
        """
        if self._installer is not None:
            return
        self._installer = EngineInstaller(parent=self)
        self._installer.progressed.connect(self.install_progressed)
        self._installer.finished.connect(self._installed)
        self.engine_changed.emit("installing")
        self._installer.start(anew)

    def cancel_install(self) -> None:
        """Stop the installation; a later one continues."""
        if self._installer is not None:
            self._installer.cancel()

    def remove_model(self, model: str) -> None:
        """Take a model that was fetched or imported off the disk; ``store.removed`` follows.

        Raises:
            Problem: while a job waits for it or draws with it.
        """
        for record in self.jobs:
            try:
                is_used = not record.is_over and folders.read_job(record.folder).request.model == model
            except (OSError, WireError):  # it cannot be run either
                continue
            if is_used:
                message = tr("The job '{}' needs this model.").format(record.title)
                raise Problem(ErrorCode.JOB_FOLDER_BUSY, message, tr("Wait for its end, or cancel it."))
        self.store.remove(model)

    def set_models_folder(self, folder: str) -> None:
        """Put models into another folder from now on; those in the old one stay there, and are no longer offered.

        A running engine is started anew, because it was told of the old one; its jobs go on there.
        """
        is_default = os.path.abspath(folder) == settings.default_models_folder()
        settings.write("models/folder", "" if is_default else folder)
        if self._client.state in ("starting", "ready"):
            self._client.renew()
        self._read_cards()
        self.store.refresh()

    def stop(self) -> None:
        """End everything because the plugin or QGIS ends. Unfinished jobs can be resumed later."""
        if self._installer is not None:
            self._installer.blockSignals(True)
            self._installer.cancel()
            self._installer = None
        for task in list(self._tasks.values()):
            task.release()
        self._tasks.clear()
        self._exports.clear()  # copies of layers must not outlive QGIS
        self.store.stop()
        self._client.stop()

    # the life of a job

    def _run(self, record: JobRecord, exports: tuple) -> None:
        """Queue a job: at once where its sources are complete, so that the order is that of the clicks."""
        if exports:
            self._exports[record.id] = exports
        task = JobTask(record, exports)
        task.prepared.connect(self._prepared)
        task.unprepared.connect(self._unprepared)
        task.cancel_requested.connect(self.cancel)
        self._tasks[record.id] = task
        QgsApplication.taskManager().addTask(task)
        if not exports:
            try:
                folders.mark_prepared(record.folder)
            except OSError as error:
                message = tr("The job folder cannot be written to.")
                hint = tr("Check the disk's space and rights.")
                self._event(Failed(record.id, Failure(ErrorCode.DISK_FULL, message, hint, str(error))))
                return
            self._prepared(record.id)

    @pyqtSlot(str)
    def _prepared(self, job: str) -> None:
        record = self._records.get(job)
        if record is None or record.is_over or job not in self._tasks:
            return
        self._exports.pop(job, None)
        self._client.submit(job, record.folder)

    @pyqtSlot(str, object)
    def _unprepared(self, job: str, failure: Optional[Failure]) -> None:
        if job in self._tasks and self.sender() is self._tasks[job]:  # not the task before a retry
            self._event(Cancelled(job) if failure is None else Failed(job, failure))

    @pyqtSlot(object)
    def _event(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._ready = event
            self._set_cards(tuple(card for card in event.models if card.pickable))
            return
        if not event.job:
            self.problem.emit(event.failure)
            return
        before = self._records.get(event.job)
        if before is None:
            return
        record = folders.apply(before, event)
        if record == before:
            return
        self._records[event.job] = record
        if record.is_over:
            self._over(record, event)
        elif event.job in self._tasks:
            self._tasks[event.job].follow(record)
        self.job_changed.emit(record.id)
        if isinstance(event, Previewed):
            self.preview_ready.emit(record.id, event.path)
        elif isinstance(event, Succeeded):
            self.result_ready.emit(record.id, event.result)
        elif isinstance(event, Failed) and event.failure == self.engine_problem:  # which is shown once, not per job
            log_failure(event.failure)
        elif isinstance(event, Failed):
            self.problem.emit(event.failure)
        if record.is_over and record.id in self._leaving:
            self.remove(record.id)

    def _over(self, record: JobRecord, event: Event) -> None:
        task = self._tasks.pop(record.id, None)
        if task is not None:
            task.follow(record)
        folders.record_outcome(record.folder, event)
        if record.state is JobState.SUCCEEDED and record.id not in self._resumed:
            self._learn_rate(record)
        self._resumed.discard(record.id)

    def _learn_rate(self, record: JobRecord) -> None:
        card = self.card(record.result.provenance.model)
        if card is not None:
            settings.write("engine/gflops", rate.learn(self.gflops, record.result, card))

    # the engine

    @pyqtSlot(str)
    def _engine_state_changed(self, state: str) -> None:
        if self._installer is None:
            self.engine_changed.emit(state)

    def _installed(self, failure: Optional[Failure]) -> None:
        installer, self._installer = self._installer, None
        installer.deleteLater()
        if failure is None:
            self._client.renew()
        elif not installer.is_cancelled:
            self.problem.emit(failure)
        self.engine_changed.emit(self.engine_state)

    def _read_cards(self, *_: object) -> None:
        self._set_cards(installed())

    def _set_cards(self, cards: Tuple[ModelCard, ...]) -> None:
        if cards and cards != self._cards:
            self._cards = cards
            self.cards_changed.emit()


def engine_channel() -> Channel:
    """A channel to a new engine process.

    Raises:
        Problem: where there is no engine to start.
    """
    failure = engine_failure()
    if failure is not None:
        raise Problem.of(failure)
    return ProcessChannel(settings.engine_python())
