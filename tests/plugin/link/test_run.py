import os
import threading
import time

import pytest
from afterimage.engine.contract import ErrorCode
from afterimage.plugin import jobs, settings
from afterimage.plugin.link import run
from afterimage.plugin.report import Problem
from qgis.core import QgsProcessingFeedback


class Feedback(QgsProcessingFeedback):
    def __init__(self):
        super().__init__(False)
        self.said = []
        self.fractions = []
        self.progressChanged.connect(self.fractions.append)

    def pushInfo(self, text):
        self.said.append(text)

    def pushWarning(self, text):
        self.said.append(text)

    def pushDebugInfo(self, text):
        pass


@pytest.fixture
def folder(tmp_path, draft):
    return lambda title: jobs.create_folder(str(tmp_path / "jobs"), draft(title))[1]


def test_a_job_runs_to_its_end(qgis_app, folder, fake_python):
    feedback = Feedback()
    result = run.run_job(folder("plain"), feedback, fake_python)
    assert result.outputs[0].path == "/nowhere/result.tif"
    assert feedback.said == ["tiles", "a notice"]
    assert feedback.fractions == sorted(feedback.fractions) and len(feedback.fractions) >= 2


def test_a_job_runs_on_another_thread_without_an_event_loop(qgis_app, folder, fake_python):
    results = []
    path = folder("plain")
    thread = threading.Thread(
        target=lambda: results.append(run.run_job(path, QgsProcessingFeedback(False), fake_python))
    )
    thread.start()
    thread.join(20)
    assert results


def test_a_failure_is_a_problem(qgis_app, folder, fake_python):
    with pytest.raises(Problem) as caught:
        run.run_job(folder("fail"), QgsProcessingFeedback(False), fake_python)
    assert caught.value.failure.code is ErrorCode.OUT_OF_MEMORY


def test_an_engine_that_crashes_is_a_problem_with_its_last_words(qgis_app, folder, fake_python):
    with pytest.raises(Problem) as caught:
        run.run_job(folder("crash"), QgsProcessingFeedback(False), fake_python)
    assert (caught.value.failure.code, caught.value.failure.resumable) == (ErrorCode.ENGINE_LOST, True)
    assert "about to crash" in caught.value.failure.detail


@pytest.mark.parametrize(("title", "longest"), [("slow", 3.0), ("slow stubborn", 4.0)])
def test_a_cancel_ends_the_process(qgis_app, folder, fake_python, monkeypatch, title, longest):
    monkeypatch.setattr(run, "GRACE", 0.5)
    feedback = Feedback()
    feedback.progressChanged.connect(lambda fraction: feedback.cancel())
    began = time.monotonic()
    with pytest.raises(run.RunCancelled):
        run.run_job(folder(title), feedback, fake_python)
    assert time.monotonic() - began < longest


def test_no_engine_says_what_to_do(qgis_app, folder, monkeypatch, tmp_path):
    monkeypatch.delenv(settings.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(settings, "engine_folder", lambda: str(tmp_path))
    with pytest.raises(Problem) as caught:
        run.run_job(folder("plain"), QgsProcessingFeedback(False))
    assert caught.value.failure.code is ErrorCode.ENGINE_MISSING
    assert "Install engine" in caught.value.failure.hint


def test_an_interpreter_that_is_gone_is_a_missing_engine(qgis_app, folder):
    with pytest.raises(Problem) as caught:
        run.run_job(folder("plain"), QgsProcessingFeedback(False), os.path.join(os.sep, "nowhere", "python"))
    assert caught.value.failure.code is ErrorCode.ENGINE_MISSING
