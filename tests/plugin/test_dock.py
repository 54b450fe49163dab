import time

import pytest
from afterimage.engine.contract import ErrorCode, JobState
from afterimage.plugin import catalogue, report, settings
from afterimage.plugin import session as session_module
from afterimage.plugin.delivery import Delivery
from afterimage.plugin.dock import Dock
from afterimage.plugin.link.channel import ProcessChannel
from afterimage.plugin.session import Session
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsSettings,
    QgsVectorLayer,
)
from qgis.gui import QgsMessageBar
from qgis.PyQt.QtCore import QCoreApplication, Qt
from qgis.PyQt.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QListWidget,
    QPlainTextEdit,
    QTabBar,
)

from .panels.conftest import make_map, painter, sharpener, write_raster

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def session(qgis_app, fake_python, tmp_path, monkeypatch):
    """A real session over a process that speaks the protocol, with two models."""
    QgsSettings().remove("afterimage")
    monkeypatch.setenv(settings.PYTHON_VARIABLE, fake_python)
    monkeypatch.setattr(session_module, "installed", lambda: (painter(), sharpener()))
    monkeypatch.setattr(Session, "_set_cards", lambda self, cards: None)
    session = Session(root=str(tmp_path / "jobs"), open_channel=lambda: ProcessChannel(fake_python))
    yield session
    session.stop()
    QgsSettings().remove("afterimage")


@pytest.fixture
def canvas(qgis_new_project):
    """A map of its own, 2 by 1 kilometres whatever other tests did to the shared one."""
    return make_map(400, 200, QgsRectangle(300000, 5300000, 302000, 5301000))


@pytest.fixture
def dock(qtbot, session, canvas):
    dock = Dock(session, canvas)
    qtbot.addWidget(dock)
    dock.resize(320, 900)
    dock.show()
    return dock


def ask(dock, qtbot, prompt):
    """Fill the form and click Run, as a person does; the fake engine does what the prompt says."""
    panel = dock.panels[0]
    qtbot.mouseClick(panel.extent.view_button, LEFT)
    panel.prompt.edit.clear()
    qtbot.keyClicks(panel.prompt.edit, prompt)
    qtbot.waitUntil(dock.run_button.isEnabled)
    qtbot.mouseClick(dock.run_button, LEFT)
    return dock.jobs.row(newest(dock).id)


def newest(dock):
    return dock._session.jobs[0]


def test_it_opens_with_the_first_thing_to_do_and_starts_nothing(dock, session):
    assert dock.problem.text().startswith("Choose where the picture should be. Use the map view")
    assert not dock.run_button.isEnabled() and dock.problem.toolTip() == ErrorCode.EMPTY_EXTENT.value
    assert session.engine_state == "stopped" and session.jobs == []
    assert not dock.setup.isVisible()
    assert dock.jobs.empty.isVisible()


def test_filling_the_form_shows_the_estimate_and_run_makes_a_job(dock, qtbot, session):
    row = ask(dock, qtbot, "river")
    assert "\u00a0\u00d7\u00a0100\u00a0px" in dock.estimate.text()
    assert row.title.text() == "river"
    qtbot.waitUntil(lambda: newest(dock).state is JobState.SUCCEEDED, timeout=20000)
    assert row.state.text().startswith("Finished in")
    assert row.show_button.isVisible()
    with qtbot.waitSignal(dock.show_asked) as asked:
        qtbot.mouseClick(row.show_button, LEFT)
    assert asked.args == [newest(dock).id]


def test_a_second_run_does_not_replace_the_first_one_s_file(dock, qtbot, session, tmp_path):
    from afterimage.plugin.jobs import read_job

    dock.panels[0].output.file.setFilePath(str(tmp_path / "mine.tif"))
    ask(dock, qtbot, "river")
    ask(dock, qtbot, "river")
    second, first = [read_job(job.folder).output for job in session.jobs]
    assert (first, second) == (str(tmp_path / "mine.tif"), "")


def test_tab_goes_through_the_form_in_the_order_that_it_is_read(dock, qtbot):
    panel = dock.panels[0]
    panel.model.combo.setFocus()
    seen, widget = [], panel.model.combo
    for _ in range(200):
        if widget.objectName() and panel.isAncestorOf(widget) and widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            seen.append(widget.objectName())
        widget = widget.nextInFocusChain()
        if widget is panel.model.combo:
            break
    wanted = ["model", "about_model", "mCondensedLineEdit", "prompt", "date", "gsd", "samples", "seed", "random_seed"]
    assert [name for name in seen if name in wanted] == wanted, seen


def test_a_running_job_shows_progress_and_can_be_cancelled_then_retried(dock, qtbot, session):
    row = ask(dock, qtbot, "slow river")
    qtbot.waitUntil(lambda: row.progress.isVisible() and row.progress.value() > 0, timeout=20000)
    assert "left" in row.state.text()
    qtbot.mouseClick(row.cancel_button, LEFT)
    qtbot.waitUntil(lambda: newest(dock).state is JobState.CANCELLED, timeout=20000)
    assert row.retry_button.isVisible() and not row.cancel_button.isVisible()
    qtbot.mouseClick(row.retry_button, LEFT)
    qtbot.waitUntil(lambda: newest(dock).state is JobState.RUNNING, timeout=20000)


def test_cancel_all_stops_the_running_and_the_waiting(dock, qtbot, session):
    assert not dock.jobs.cancel_all_button.isVisible()
    ask(dock, qtbot, "slow river")
    ask(dock, qtbot, "slow forest")
    assert dock.jobs.cancel_all_button.isVisible()
    qtbot.mouseClick(dock.jobs.cancel_all_button, LEFT)
    qtbot.waitUntil(lambda: all(job.state is JobState.CANCELLED for job in session.jobs), timeout=20000)
    assert len(session.jobs) == 2 and not dock.jobs.cancel_all_button.isVisible()


def test_a_failure_is_a_sentence_with_its_code_and_a_way_on(dock, qtbot, session):
    with qtbot.waitSignal(session.problem, timeout=20000):
        row = ask(dock, qtbot, "fail")
    assert row.state.text() == "Too little memory. Ask for less."
    assert row.state.toolTip() == ErrorCode.OUT_OF_MEMORY.value
    assert row.retry_button.isVisible()


def test_a_failure_is_logged_once_and_shown_once(dock, qtbot, session, monkeypatch):
    bar, logged = QgsMessageBar(), []
    delivery = Delivery(session, bar)
    monkeypatch.setattr(report, "log", lambda message, *_: logged.append(message))
    with qtbot.waitSignal(session.problem, timeout=20000):
        ask(dock, qtbot, "fail")
    assert [text.split("]")[0] for text in logged] == ["[OUT_OF_MEMORY"] and len(bar.items()) == 1
    delivery.deleteLater()


def test_run_again_keeps_the_seed_and_run_with_a_new_one_does_not(dock, qtbot, session):
    from afterimage.plugin.jobs import read_job

    with qtbot.waitSignal(session.result_ready, timeout=20000):
        row = ask(dock, qtbot, "river")
    row.again_action.trigger()
    row.new_seed_action.trigger()
    new, same, first = [read_job(job.folder).request.sampling.seed for job in session.jobs]
    assert first == same != new
    assert len(dock.jobs._rows) == 3


def test_a_job_can_be_removed(dock, qtbot, session):
    with qtbot.waitSignal(session.result_ready, timeout=20000):
        row = ask(dock, qtbot, "river")
    with qtbot.waitSignal(session.job_removed):
        row.remove_action.trigger()
    assert session.jobs == [] and dock.jobs.empty.isVisible()


def test_what_cannot_be_done_is_told(dock, qtbot, session):
    with qtbot.waitSignal(session.result_ready, timeout=20000):
        row = ask(dock, qtbot, "river")
    import os

    os.remove(os.path.join(newest(dock).folder, "request.json"))
    with qtbot.waitSignal(dock.refused) as refused:
        row.again_action.trigger()
    assert refused.args[0].code is ErrorCode.JOB_FOLDER_DAMAGED


def test_the_history_is_there_the_next_time(dock, qtbot, session, canvas):
    with qtbot.waitSignal(session.result_ready, timeout=20000):
        ask(dock, qtbot, "river")
    later = Dock(Session(root=session._root), canvas)
    qtbot.addWidget(later)
    assert later.jobs.row(newest(dock).id).state.text().startswith("Finished")
    assert later.panels[0].prompt.text() == "river"


def test_a_long_history_shows_the_newest_first(dock, qtbot, session, canvas, draft):
    from afterimage.plugin.jobs import create_folder

    for number in range(25):
        create_folder(session._root, draft(f"job {number}"))
    later = Dock(Session(root=session._root), canvas)
    qtbot.addWidget(later)
    assert len(later.jobs._rows) == 20 and later.jobs.earlier_button.text() == "Show 5 earlier jobs"
    later.jobs.earlier_button.click()
    assert len(later.jobs._rows) == 25 and later.jobs.earlier_button.isHidden()


@pytest.fixture
def bare(session, monkeypatch, tmp_path):
    """A session on a computer without an engine."""
    monkeypatch.delenv(settings.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(settings, "current_environment", lambda: None)
    bare = Session(root=str(tmp_path / "jobs"))
    yield bare
    bare.stop()


def test_without_an_engine_it_offers_one_and_installs_only_on_a_click(bare, canvas, qtbot, monkeypatch):
    asked = []
    monkeypatch.setattr(bare, "install_engine", lambda: asked.append("install"))
    dock = Dock(bare, canvas)
    qtbot.addWidget(dock)
    dock.show()
    assert dock.setup.isVisible() and asked == []
    assert dock.problem.text().startswith("The engine is not installed yet.") and not dock.run_button.isEnabled()
    qtbot.mouseClick(dock.setup.install_button, LEFT)
    assert asked == ["install"]


def test_an_installation_shows_its_lines_and_ends_in_a_usable_dock(bare, canvas, qtbot, monkeypatch):
    state = {"state": "installing"}
    monkeypatch.setattr(Session, "engine_state", property(lambda self: state["state"]))
    dock = Dock(bare, canvas)
    qtbot.addWidget(dock)
    dock.show()
    bare.install_progressed.emit("Downloading torch")
    assert dock.setup.line.text() == "Downloading torch" and dock.setup.cancel_button.isVisible()
    assert dock.engine.text.text() == "Engine is being installed"
    state["state"] = "ready"
    bare.engine_changed.emit("ready")
    assert not dock.setup.isVisible() and dock.engine.text.text() == "Engine ready"


def test_the_task_that_was_open_opens_again(dock, qtbot, session, canvas):
    tabs = dock.tabs.tabBar()
    qtbot.mouseClick(tabs, LEFT, pos=tabs.tabRect(1).center())
    assert dock.panel.task == "SuperResolve"
    later = Dock(session, canvas)
    qtbot.addWidget(later)
    assert later.panel.task == "SuperResolve"
    later.show_task("Generate")
    assert later.panel.task == "Generate"


def test_it_fits_320_pixels(dock):
    for panel in dock.panels:
        assert panel.minimumSizeHint().width() <= 300
    assert dock.minimumSizeHint().width() <= 320


def test_it_fits_320_pixels_with_every_public_model(dock, qtbot, tmp_path):
    offered = [offer.card for offer in catalogue.offers()]
    assert len(offered) > 10
    raster = QgsRasterLayer(write_raster(tmp_path / "wide.tif", 4), "a raster with quite a long name, of 2020-01-01")
    shapes = QgsVectorLayer(
        "LineString?crs=EPSG:32633&field=a_field_with_a_long_name:string", "all roads there are", "memory"
    )
    shapes.setCrs(QgsCoordinateReferenceSystem("EPSG:32633"))
    QgsProject.instance().addMapLayers([raster, shapes])
    wide = {}
    for panel in dock.panels:
        dock.show_task(panel.task)
        cards = tuple(card for card in offered if panel.task in card.tasks)
        assert cards
        panel.set_cards(cards)
        panel.advanced.setCollapsed(False)
        if panel.task == "Forecast":
            panel.series.add(raster)
        bare = panel.minimumSizeHint().width()
        for card in cards:
            panel.model.pick(card.id)
            for layer in (raster, shapes):
                for row in panel.controls.rows.values() if panel.task == "Generate" else ():
                    row.layer.choose(layer)
                    row.layer.choose(row.layer.currentLayer() or raster)
                QCoreApplication.processEvents()
                width = panel.minimumSizeHint().width()
                if width > (bare if panel.task == "Generate" else 300):  # a layer that guides widens nothing
                    wide[card.id] = width
    assert wide == {}
    assert dock.minimumSizeHint().width() <= 320


def test_every_input_can_be_reached_and_has_a_name(dock, qtbot):
    nameless = []
    for panel in dock.panels:
        dock.show_task(panel.task)
        panel.advanced.setCollapsed(False)
        for kind in (QLineEdit, QComboBox, QAbstractSpinBox, QPlainTextEdit, QListWidget, QAbstractButton):
            for widget in dock.widget().findChildren(kind):
                parent = widget.parent()
                is_part = isinstance(parent, (QAbstractSpinBox, QComboBox, QLineEdit, QTabBar))
                if is_part or not widget.isVisible():
                    continue
                text = widget.text() if isinstance(widget, QAbstractButton) else ""
                what = (type(parent).__name__, type(widget).__name__, widget.objectName())
                if not widget.accessibleName() and not text:
                    nameless.append(what)
                if widget.isEnabled() and widget.focusPolicy() == Qt.FocusPolicy.NoFocus:
                    nameless.append((*what, "no focus"))
    assert nameless == [], str(nameless)


def test_a_refresh_takes_less_than_100_ms(dock, qtbot):
    qtbot.mouseClick(dock.panels[0].extent.view_button, LEFT)
    dock.refresh()
    began = time.process_time()
    for gsd in range(10, 20):
        dock.panels[0].gsd.setValue(gsd)
        dock.refresh()
    assert (time.process_time() - began) / 10 < 0.1
