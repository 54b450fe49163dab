"""The blocking way that Processing takes, over the real engine."""

from __future__ import annotations

import os
import threading
import time

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import ErrorCode, Generate, GeoBox, Sampling
from afterimage.plugin import jobs, settings
from afterimage.plugin.link.run import RunCancelled, run_job
from afterimage.plugin.report import Problem
from qgis.core import QgsProcessingFeedback

ENGINE = os.environ.get(settings.PYTHON_VARIABLE) or os.path.expanduser("~/.venvs/engine/bin/python")

if not os.path.isfile(ENGINE):
    if os.environ.get("CI") == "true":
        pytest.fail("the engine's Python is not there", pytrace=False)
    pytest.skip("the engine's Python is not there", allow_module_level=True)


@pytest.fixture
def folder(qgis_app, tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERIMAGE_THREADS", "1")
    monkeypatch.setenv("AFTERIMAGE_DEVICE", "cpu")

    def make(side=256, steps=2, model="tiny-generate", output=""):
        grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (side, side))
        request = Generate(model, grid, grid, 10.0, "forest", Sampling(7, steps, "DDIM"))
        return jobs.create_folder(str(tmp_path / "jobs"), jobs.Draft(request, "x", output=output))[1]

    return make


def test_a_job_runs_on_the_calling_thread(folder, tmp_path):
    feedback, fractions = QgsProcessingFeedback(False), []
    feedback.progressChanged.connect(fractions.append)
    path = str(tmp_path / "forest.tif")
    result = run_job(folder(output=path), feedback, ENGINE)
    assert [output.path for output in result.outputs] == [path] and os.path.getsize(path) > 1000
    assert fractions == sorted(fractions) and fractions[-1] > 90


def test_a_cancel_keeps_the_folder_and_a_second_run_finishes_it(folder):
    place, feedback, said = folder(768, 6), QgsProcessingFeedback(False), []

    def on_progress(fraction):
        if fraction > 20 and not said:
            said.append(time.monotonic())
            feedback.cancel()

    feedback.progressChanged.connect(on_progress)
    with pytest.raises(RunCancelled):
        run_job(place, feedback, ENGINE)
    assert time.monotonic() - said[0] < 6
    assert os.listdir(os.path.join(place, "tiles"))
    assert run_job(place, QgsProcessingFeedback(False), ENGINE).outputs


def test_a_failure_carries_its_code_and_a_next_step(folder):
    with pytest.raises(Problem) as caught:
        run_job(folder(model="no-such-model"), QgsProcessingFeedback(False), ENGINE)
    assert caught.value.failure.code is ErrorCode.UNKNOWN_MODEL and caught.value.failure.hint


def test_two_threads_run_two_jobs(folder):
    results, places = [], [folder(64), folder(64)]
    threads = [
        threading.Thread(
            target=lambda place=place: results.append(run_job(place, QgsProcessingFeedback(False), ENGINE))
        )
        for place in places
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(results) == 2
