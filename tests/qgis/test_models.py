"""Weights become a model that an engine which runs already draws with: QGIS's Python and the real engine."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import ErrorCode, Generate, GeoBox, JobState, Sampling
from afterimage.plugin import settings
from afterimage.plugin.jobs import Draft
from afterimage.plugin.session import Session

ENGINE = os.environ.get(settings.PYTHON_VARIABLE) or os.path.expanduser("~/.venvs/engine/bin/python")
if not os.path.isfile(ENGINE):
    if os.environ.get("CI") == "true":
        pytest.fail("the engine's Python is not there", pytrace=False)
    pytest.skip("the engine's Python is not there", allow_module_level=True)


@pytest.fixture
def session(qgis_app, tmp_path, monkeypatch):
    monkeypatch.setenv(settings.PYTHON_VARIABLE, ENGINE)
    monkeypatch.setenv("AFTERIMAGE_THREADS", "1")
    monkeypatch.setenv("AFTERIMAGE_DEVICE", "cpu")
    monkeypatch.setenv(settings.MODELS_VARIABLE, str(tmp_path / "models"))
    session = Session(root=str(tmp_path / "jobs"))
    session.failures = []
    session.store.failed.connect(lambda _, failure: session.failures.append(failure))
    yield session
    session.stop()


@pytest.mark.slow
def test_imported_weights_are_drawn_with_by_the_engine_that_runs(session, qtbot, parity):
    session.start_engine()
    qtbot.waitUntil(lambda: session.engine_state == "ready", timeout=60000)
    with qtbot.waitSignal(session.cards_changed, timeout=250000):
        session.store.import_model(str(parity / "text2earth"), "mine", "Mine", ("--window", "64"))
    assert session.failures == [] and session.card("mine").tasks == ("Generate", "Edit")
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (64, 64))
    sampling = Sampling(seed=7, steps=2, scheduler=session.card("mine").schedulers[0])
    job = session.submit(Draft(Generate("mine", grid, grid, 10.0, "a harbour", sampling), "a picture"))
    qtbot.waitUntil(lambda: session.job(job).is_over, timeout=250000)
    record = session.job(job)
    assert record.state is JobState.SUCCEEDED, record.failure
    assert record.result.provenance.model == "mine" and record.result.provenance.weights
    with qtbot.waitSignal(session.store.removed, timeout=60000):
        session.remove_model("mine")
    assert session.card("mine") is None


@pytest.mark.slow
def test_what_holds_no_model_is_refused_by_the_engine_in_a_sentence(session, qtbot, tmp_path):
    with qtbot.waitSignal(session.store.failed, timeout=250000) as failed:
        session.store.import_model(str(tmp_path), "mine", "Mine")
    assert failed.args[1].code is not ErrorCode.INTERNAL and failed.args[1].message and failed.args[1].hint


def test_a_host_that_cannot_be_reached_is_said(session, qtbot, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there, and nothing else is asked
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with qtbot.waitSignal(session.store.listed, timeout=250000) as listed:
        session.store.list_files("text2earth")
    id, files, failure = listed.args
    assert (id, files) == ("text2earth", None) and failure.code is ErrorCode.DOWNLOAD_FAILED
