import gc
import os
import time
import weakref
from pathlib import Path

import pytest
from afterimage.engine.contract import ErrorCode, Failure, JobState
from afterimage.plugin import jobs, settings
from afterimage.plugin.link.channel import ProcessChannel
from afterimage.plugin.report import Problem
from afterimage.plugin.session import Session, engine_channel
from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QThread, QThreadPool


@pytest.fixture
def session(qgis_app, fake_python, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "write", lambda key, value: None)
    session = Session(root=str(tmp_path / "jobs"), open_channel=lambda: ProcessChannel(fake_python))
    session.problems = []
    session.problem.connect(session.problems.append)
    yield session
    session.stop()


def over(session, job):
    return lambda: session.job(job).is_over


def test_a_draft_becomes_a_result(session, qtbot, draft):
    added, changed = [], []
    session.job_added.connect(added.append)
    session.job_changed.connect(changed.append)
    with qtbot.waitSignals([session.preview_ready, session.result_ready], timeout=20000, order="strict") as got:
        job = session.submit(draft("plain"))
    assert got.all_signals_and_args[1].args[0] == job
    assert got.all_signals_and_args[1].args[1].outputs[0].path == "/nowhere/result.tif"
    assert added == [job] and set(changed) == {job}
    assert session.job(job).state is JobState.SUCCEEDED
    assert session.engine_state == "ready" and session.problems == []


def test_the_cards_come_from_the_engine_and_only_those_to_pick(session, qtbot):
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        session.start_engine()
    assert [card.id for card in session.cards] == ["m"]
    assert session.card("m").name == "M" and session.card("h") is None


class Export:
    """Writes a source, slowly if asked, and notes where it ran."""

    def __init__(self, seconds=0.0, error=None):
        self.seconds, self.error, self.thread, self.stopped = seconds, error, None, False

    def write(self, folder, cancelled):
        self.thread = QThread.currentThread()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            if cancelled():
                self.stopped = True
                return
            time.sleep(0.01)
        if self.error:
            raise self.error
        open(os.path.join(folder, "source.tif"), "w").close()


def test_exports_are_written_on_a_worker_thread_before_the_engine_sees_the_job(session, qtbot, draft):
    export = Export()
    job = session.submit(draft("plain", exports=(export,)))
    qtbot.waitUntil(over(session, job), timeout=20000)
    assert export.thread is not None and export.thread != QgsApplication.instance().thread()
    assert os.path.exists(os.path.join(session.job(job).folder, "source.tif"))
    assert session.job(job).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Problem(ErrorCode.SOURCE_EMPTY, "Nothing there."), ErrorCode.SOURCE_EMPTY),
        (OSError("disk"), ErrorCode.SOURCE_UNREADABLE),
    ],
)
def test_an_export_that_fails_fails_the_job_and_can_be_retried(session, qtbot, draft, error, code):
    export = Export(error=error)
    job = session.submit(draft("plain", exports=(export,)))
    qtbot.waitUntil(over(session, job), timeout=20000)
    assert session.job(job).failure.code is code and session.problems == [session.job(job).failure]
    export.error = None
    session.retry(job)
    qtbot.waitUntil(over(session, job), timeout=20000)
    assert session.job(job).state is JobState.SUCCEEDED


def test_a_cancel_while_a_source_is_written(session, qtbot, draft):
    export = Export(seconds=20)
    job = session.submit(draft("plain", exports=(export,)))
    qtbot.waitUntil(lambda: export.thread is not None, timeout=5000)
    session.cancel(job)
    assert session.job(job).state is JobState.CANCELLED
    qtbot.waitUntil(lambda: export.stopped, timeout=2000)
    assert session.problems == []


def test_a_retry_outlives_the_writer_that_was_cancelled_before_it(session, qtbot, draft):
    asked = []

    class Slow:
        def write(self, folder, cancelled):
            asked.append(folder)
            while len(asked) == 1 and not cancelled():
                time.sleep(0.01)
            time.sleep(0.3)  # at its last block

    job = session.submit(draft("plain", exports=(Slow(),)))
    qtbot.waitUntil(lambda: asked != [], timeout=5000)
    session.cancel(job)
    session.retry(job)
    qtbot.waitUntil(over(session, job), timeout=20000)
    assert session.job(job).state is JobState.SUCCEEDED and len(asked) == 2


def test_a_cancel_in_mid_job_and_a_retry_in_the_same_folder(session, qtbot, draft):
    job = session.submit(draft("slow"))
    qtbot.waitUntil(lambda: session.job(job).fraction is not None, timeout=20000)
    session.cancel(job)
    qtbot.waitUntil(over(session, job), timeout=5000)
    assert session.job(job).state is JobState.CANCELLED
    folder = session.job(job).folder
    session.retry(job)
    assert session.job(job).state is JobState.QUEUED
    qtbot.waitUntil(lambda: session.job(job).state is JobState.RUNNING, timeout=20000)
    assert session.job(job).folder == folder
    qtbot.waitUntil(lambda: Path(folder, "runs").read_text() == "xx", timeout=20000)  # written after it says so
    session.cancel_all()
    qtbot.waitUntil(over(session, job), timeout=5000)


def test_the_task_manager_shows_and_cancels_a_job(session, qtbot, draft):
    manager = QgsApplication.taskManager()
    job = session.submit(draft("slow"))
    task = next(task for task in manager.activeTasks() if task.description() == "slow")
    qtbot.waitUntil(lambda: task.progress() > 1, timeout=20000)
    task.cancel()
    qtbot.waitUntil(over(session, job), timeout=5000)
    assert session.job(job).state is JobState.CANCELLED
    qtbot.waitUntil(lambda: manager.countActiveTasks() == 0, timeout=5000)


def test_jobs_run_in_the_order_of_the_clicks(session, qtbot, draft):
    asked = [session.submit(draft("plain")) for _ in range(4)]
    assert list(session._client.unfinished) == asked
    ended = []
    session.result_ready.connect(lambda job, result: ended.append(job))
    qtbot.waitUntil(lambda: len(ended) == 4, timeout=20000)
    assert ended == asked


def test_waiting_jobs_leave_the_thread_pool_to_others(session, qtbot, draft):
    for _ in range(QThreadPool.globalInstance().maxThreadCount() + 2):
        session.submit(draft("slow"))
    qtbot.waitUntil(lambda: len(session._client.unfinished) == len(session.jobs), timeout=20000)
    qtbot.wait(100)
    assert QThreadPool.globalInstance().activeThreadCount() <= 1
    session.cancel_all()
    qtbot.waitUntil(lambda: all(record.is_over for record in session.jobs), timeout=20000)
    qtbot.waitUntil(lambda: QgsApplication.taskManager().countActiveTasks() == 0, timeout=5000)


def test_a_lost_engine_is_told_once_and_the_job_resumes(session, qtbot, draft):
    job = session.submit(draft("crash"))
    qtbot.waitUntil(over(session, job), timeout=20000)
    assert session.job(job).failure.code is ErrorCode.ENGINE_LOST and session.job(job).failure.resumable
    assert len(session.problems) == 1


def test_no_engine_is_told_once_however_many_jobs_wait(qgis_app, qtbot, tmp_path, draft):
    def missing():
        raise Problem(ErrorCode.ENGINE_MISSING, "Not installed.", "Install it.")

    session, problems = Session(root=str(tmp_path), open_channel=missing), []
    session.problem.connect(problems.append)
    job = session.submit(draft())
    qtbot.waitUntil(over(session, job), timeout=5000)
    assert session.engine_state == "missing"
    assert problems == [Failure(ErrorCode.ENGINE_MISSING, "Not installed.", "Install it.")] == [session.engine_problem]
    session.stop()


def test_history_survives_a_restart_newest_first(session, qtbot, draft, tmp_path):
    done = session.submit(draft("plain"))
    qtbot.waitUntil(over(session, done), timeout=20000)
    time.sleep(1.1)  # ids are named by the second
    cut = session.submit(draft("slow"))
    qtbot.waitUntil(lambda: session.job(cut).state is JobState.RUNNING, timeout=20000)
    session.stop()
    (tmp_path / "jobs" / "not a job").mkdir()
    later = Session(root=str(tmp_path / "jobs"))
    assert [record.id for record in later.jobs] == [cut, done]
    assert later.job(done).result == session.job(done).result
    assert later.job(cut).state is JobState.FAILED and later.job(cut).failure.resumable


def test_again_keeps_the_request_or_changes_the_seed_alone(session, qtbot, draft, tmp_path):
    (tmp_path / "out.tif").touch()
    job = session.submit(draft("plain", output=str(tmp_path / "out.tif")))
    qtbot.waitUntil(over(session, job), timeout=20000)
    first = jobs.read_job(session.job(job).folder)
    same = jobs.read_job(session.job(session.again(job, False)).folder)
    other = jobs.read_job(session.job(session.again(job, True)).folder)
    assert same.request == first.request and same.id != first.id
    assert other.request != first.request and other.request.prompt == first.request.prompt
    assert same.output == str(tmp_path / "out_2.tif")
    qtbot.waitUntil(lambda: all(record.is_over for record in session.jobs), timeout=20000)


def test_two_quick_runs_write_to_files_of_their_own(session, qtbot, draft, tmp_path):
    places = {name: str(tmp_path / f"{name}.tif") for name in ("output", "spread_output", "mean_output")}
    job = session.submit(draft("slow", **places))
    runs = [jobs.read_job(session.job(session.again(job, True)).folder) for _ in range(2)]
    assert [Path(run.output).name for run in runs] == ["output_2.tif", "output_3.tif"]
    assert [Path(run.spread_output).name for run in runs] == ["spread_output_2.tif", "spread_output_3.tif"]
    assert [Path(run.mean_output).name for run in runs] == ["mean_output_2.tif", "mean_output_3.tif"]
    session.cancel_all()
    qtbot.waitUntil(lambda: all(record.is_over for record in session.jobs), timeout=20000)
    third = jobs.read_job(session.job(session.again(job, True)).folder)  # a retry would write the other ones
    assert Path(third.output).name == "output_4.tif"
    session.cancel_all()
    qtbot.waitUntil(lambda: all(record.is_over for record in session.jobs), timeout=20000)


def test_a_removed_job_ends_first_and_leaves_no_folder(session, qtbot, draft):
    job = session.submit(draft("slow"))
    qtbot.waitUntil(lambda: session.job(job).state is JobState.RUNNING, timeout=20000)
    folder = session.job(job).folder
    with qtbot.waitSignal(session.job_removed, timeout=5000):
        session.remove(job)
    assert session.jobs == []
    qtbot.waitUntil(lambda: not os.path.exists(folder), timeout=5000)


def test_stop_ends_tasks_and_engine(session, qtbot, draft):
    session.submit(draft("slow"))
    qtbot.waitUntil(lambda: session.engine_state == "ready", timeout=20000)
    pid = session._client._channel.pid
    session.stop()
    assert not os.path.exists(f"/proc/{pid}")
    qtbot.waitUntil(lambda: QgsApplication.taskManager().countActiveTasks() == 0, timeout=3000)


@pytest.mark.parametrize("ends", ["failed", "cancelled", "still writing"])
def test_stop_keeps_no_source(session, qtbot, draft, ends):
    exports = [Export(error=OSError) if ends == "failed" else Export(seconds=20)]
    here, job = weakref.ref(exports[0]), session.submit(draft("plain", exports=(exports.pop(),)))
    if ends != "failed":
        qtbot.waitUntil(lambda: here().thread is not None, timeout=5000)
    if ends == "cancelled":
        session.cancel(job)
    if ends != "still writing":
        qtbot.waitUntil(over(session, job), timeout=20000)
    assert here() is not None  # for a retry
    session.stop()

    def is_gone():
        gc.collect()
        return here() is None

    qtbot.waitUntil(is_gone, timeout=5000)


def test_a_folder_that_cannot_be_made_is_a_problem(qgis_app, draft, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Problem):
        Session(root=str(tmp_path / "file")).submit(draft())


def test_without_a_python_the_engine_is_missing(qgis_app, monkeypatch, tmp_path):
    monkeypatch.delenv(settings.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(settings, "engine_folder", lambda: str(tmp_path))
    with pytest.raises(Problem) as caught:
        engine_channel()
    assert caught.value.failure.code is ErrorCode.ENGINE_MISSING
