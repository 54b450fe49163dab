import dataclasses
import gc
import weakref

import pytest
from afterimage.engine.contract import ErrorCode, JobState
from afterimage.plugin.jobs import JobRecord, is_prepared
from afterimage.plugin.qgis_task import JobTask
from qgis.core import QgsApplication


class Export:
    def __init__(self, error=None):
        self.error = error

    def write(self, folder, cancelled):
        if self.error:
            raise self.error


@pytest.fixture
def start(qgis_app, qtbot, tmp_path):
    tasks = []

    def make(*exports):
        record = JobRecord("a", "Forest near Vienna", "Generate", str(tmp_path))
        task = JobTask(record, exports)
        task.said = []
        task.prepared.connect(lambda job: task.said.append(("prepared", job)))
        task.unprepared.connect(lambda job, failure: task.said.append(("unprepared", failure)))
        task.ends = []
        task.taskCompleted.connect(lambda: task.ends.append("completed"))
        task.taskTerminated.connect(lambda: task.ends.append("terminated"))
        QgsApplication.taskManager().addTask(task)
        tasks.append(task)
        return task, record

    yield make
    for task in tasks:
        task.release()
    # what it says is heard before the listeners above are taken apart, in the midst of which Python would crash
    qtbot.waitUntil(lambda: all(task.ends for task in tasks), timeout=5000)


def ended(qtbot, task, word):
    qtbot.waitUntil(lambda: task.ends == [word], timeout=5000)


def test_it_is_called_what_the_job_is_called_and_can_be_cancelled(start):
    task, _ = start()
    assert task.description() == "Forest near Vienna" and task.canCancel()


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (JobState.SUCCEEDED, "completed"),
        (JobState.FAILED, "terminated"),
        (JobState.CANCELLED, "terminated"),
    ],
)
def test_it_ends_as_the_job_ends(start, qtbot, state, word):
    task, record = start()
    task.follow(dataclasses.replace(record, state=JobState.RUNNING, fraction=0.5))
    qtbot.waitUntil(lambda: task.progress() == 50.0, timeout=5000)
    task.follow(dataclasses.replace(record, state=state))
    ended(qtbot, task, word)


def test_sources_come_first(start, qtbot, tmp_path):
    task, _ = start(Export())
    qtbot.waitUntil(lambda: task.said == [("prepared", "a")], timeout=5000)
    assert is_prepared(str(tmp_path))


def test_a_source_that_cannot_be_written_ends_it(start, qtbot, tmp_path):
    task, _ = start(Export(OSError("no")))
    ended(qtbot, task, "terminated")
    qtbot.waitUntil(lambda: bool(task.said), timeout=5000)
    assert task.said[0][1].code is ErrorCode.SOURCE_UNREADABLE
    assert not is_prepared(str(tmp_path))


def kept(export):
    """Asks whether anybody keeps an export of which the caller knows no more."""
    here = weakref.ref(export)
    del export

    def ask():
        gc.collect()
        return here() is not None

    return ask


@pytest.mark.parametrize("error", [None, OSError])
def test_it_keeps_no_source_once_it_is_written_or_cannot_be(start, qtbot, error):
    exports = [Export(error)]
    task, _ = start(exports[0])
    is_kept = kept(exports.pop())
    qtbot.waitUntil(lambda: bool(task.said), timeout=5000)
    qtbot.waitUntil(lambda: not is_kept(), timeout=5000)


def test_it_keeps_no_source_of_a_job_that_never_runs(qgis_app, tmp_path):
    exports = [Export()]
    task = JobTask(JobRecord("a", "Forest", "Generate", str(tmp_path)), (exports[0],))
    is_kept = kept(exports.pop())
    assert is_kept()
    task.release()
    assert not is_kept()
    assert task.run() is False  # as a thread that was about to
    assert not is_prepared(str(tmp_path))


def test_it_lets_go_when_qgis_ends(start, qtbot):
    task, _ = start()
    task.release()
    ended(qtbot, task, "terminated")
