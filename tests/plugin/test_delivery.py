from dataclasses import replace

import pytest
from afterimage.engine.contract import ErrorCode, Failure, JobState, Output, Role
from afterimage.plugin.delivery import Delivery
from afterimage.plugin.link.channel import ProcessChannel
from afterimage.plugin.maps import layers
from afterimage.plugin.maps.preview import is_preview
from afterimage.plugin.panels import SuperResolvePanel
from afterimage.plugin.session import Session
from qgis.core import QgsProject, QgsRasterLayer
from qgis.gui import QgsMessageBar

from .panels.conftest import sharpener, write_raster


@pytest.fixture
def session(qgis_new_project, fake_python, tmp_path):
    session = Session(root=str(tmp_path / "jobs"), open_channel=lambda: ProcessChannel(fake_python))
    yield session
    session.stop()


@pytest.fixture
def bar(qtbot):
    bar = QgsMessageBar()
    qtbot.addWidget(bar)
    return bar


@pytest.fixture
def delivery(session, bar):
    return Delivery(session, bar)


def finished(session, qtbot, draft, tmp_path):
    """The id of a job that ended well, and its result with a raster that is really there."""
    with qtbot.waitSignal(session.result_ready, timeout=20000) as ready:
        job = session.submit(draft("a river"))
    result = ready.args[1]
    first = result.outputs[0]
    path = write_raster(tmp_path / "result.tif")
    return job, replace(result, outputs=(Output(path, Role.SAMPLE, 1, first.grid, first.bands, "uint8", "2027-03-01"),))


def names():
    return [layer.name() for layer in QgsProject.instance().mapLayers().values()]


def test_a_result_becomes_a_layer_and_a_sentence(session, qtbot, draft, tmp_path, bar):
    job, result = finished(session, qtbot, draft, tmp_path)
    Delivery(session, bar).deliver(job, result)
    (name,) = names()
    assert "a river" in name and "AI" in name
    assert bar.currentItem().text() == "a river: the AI-generated layer is on the map. a notice"


def test_a_result_that_cannot_be_opened_is_told(session, qtbot, draft, delivery, bar):
    with qtbot.waitSignal(session.result_ready, timeout=20000):
        session.submit(draft("a river"))
    assert names() == []
    assert "cannot be opened" in bar.currentItem().text()


def test_a_failed_job_is_told_with_its_next_step(session, qtbot, draft, delivery, bar):
    with qtbot.waitSignal(session.problem, timeout=20000):
        session.submit(draft("fail"))
    assert bar.currentItem().text() == "Too little memory. Ask for less."


def test_without_a_message_bar_nothing_breaks(session):
    Delivery(session).refuse(Failure(ErrorCode.INTERNAL, "Something.", "Try again."))


def test_previews_are_shown_while_the_job_runs_and_go_when_it_ends(session, qtbot, draft, delivery, tmp_path):
    job = session.submit(draft("slow"))
    qtbot.waitUntil(lambda: session.job(job).state is JobState.RUNNING, timeout=20000)
    session.preview_ready.emit(job, write_raster(tmp_path / "preview.tif"))
    assert [is_preview(layer) for layer in QgsProject.instance().mapLayers().values()] == [True]
    session.cancel(job)
    qtbot.waitUntil(lambda: session.job(job).is_over, timeout=20000)
    assert names() == []
    session.preview_ready.emit(job, str(tmp_path / "preview.tif"))  # comes late: nobody would take it away again
    assert names() == []


def test_a_preview_cannot_be_picked_as_a_source(session, qtbot, draft, delivery, tmp_path):
    panel = SuperResolvePanel()
    qtbot.addWidget(panel)
    panel.set_cards((sharpener(),))
    job = session.submit(draft("slow"))
    qtbot.waitUntil(lambda: session.job(job).state is JobState.RUNNING, timeout=20000)
    session.preview_ready.emit(job, write_raster(tmp_path / "preview.tif"))
    assert len(names()) == 1
    assert panel.layer.count() == 0 and panel.layer.currentLayer() is None
    session.cancel(job)


def test_many_previews_come_and_go_under_the_list_of_layers(session, qtbot, draft, delivery, tmp_path):
    panel = SuperResolvePanel()
    qtbot.addWidget(panel)
    panel.set_cards((sharpener(),))
    for number in range(20):
        layers.show_preview(f"j{number}", write_raster(tmp_path / f"preview{number}.tif"), QgsProject.instance())
        source = QgsRasterLayer(write_raster(tmp_path / f"source{number}.tif"), f"source {number}")
        QgsProject.instance().addMapLayer(source)
        assert panel.layer.count() == 1 and panel.layer.currentLayer() == source
        layers.remove_preview(f"j{number}", QgsProject.instance())
        assert panel.layer.count() == 1
        QgsProject.instance().removeMapLayer(source.id())
        assert panel.layer.count() == 0
