import pytest
from afterimage.engine.contract import ErrorCode, dumps
from afterimage.plugin import models as models_module
from afterimage.plugin import report, settings
from afterimage.plugin.delivery import Delivery
from afterimage.plugin.dock import Dock
from afterimage.plugin.link.channel import ProcessChannel
from afterimage.plugin.models import ModelsDialog
from afterimage.plugin.session import Session
from afterimage.plugin.widgets.fetch import FetchDialog
from afterimage.plugin.widgets.importing import ImportDialog
from qgis.core import QgsSettings
from qgis.gui import QgsMessageBar
from qgis.PyQt.QtCore import QLocale, Qt
from qgis.PyQt.QtWidgets import QAbstractButton, QComboBox, QFileDialog, QLineEdit, QMessageBox, QSpinBox, QTreeWidget

from .panels.conftest import painter

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture(autouse=True)
def english():
    before = QLocale()
    QLocale.setDefault(QLocale(QLocale.Language.English, QLocale.Country.UnitedStates))
    yield
    QLocale.setDefault(before)


@pytest.fixture
def session(qgis_app, shop, fake_python, tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    (shipped / "painter").mkdir(parents=True)
    (shipped / "painter" / "card.json").write_text(dumps(painter()))
    monkeypatch.setattr("afterimage.plugin.cards.MODELS", shipped)
    session = Session(root=str(tmp_path / "jobs"), open_channel=lambda: ProcessChannel(fake_python))
    yield session
    session.stop()
    QgsSettings().remove("afterimage")


@pytest.fixture
def window(qtbot, session):
    window = ModelsDialog(session)
    qtbot.addWidget(window)
    window.show()
    return window


def choose(window, model):
    item = next(item for item in window.tree._items() if item.text(0) == model)
    window.tree.setCurrentItem(item)
    return item


def texts(window):
    return [[item.parent().text(0), item.text(0), item.text(1)] for item in window.tree._items()]


def asked(window, qtbot):
    """Click Fetch... and wait for the list of files."""
    qtbot.mouseClick(window.get_button, LEFT)
    (dialog,) = [each for each in window.findChildren(FetchDialog) if each.isVisible()]
    qtbot.waitUntil(lambda: not dialog.busy.isVisible(), timeout=20000)
    return dialog


def fetch(window, qtbot):
    """Click through as a person does, to the beginning of the fetch."""
    dialog = asked(window, qtbot)
    dialog.accept_box.setChecked(True)
    qtbot.mouseClick(dialog.get_button, LEFT)
    return dialog


def test_every_model_stands_below_its_tasks_with_its_state(window):
    assert texts(window) == [
        ["Generate", "Painter", "Built in"],
        ["Generate", "Painter-two", "Can be fetched"],
        ["Generate", "Sketcher", "Can be fetched"],
        ["Forecast", "Prophet", "Can be fetched"],
        ["Edit", "Painter-two", "Can be fetched"],
    ]
    item = choose(window, "Sketcher")
    assert [item.text(column) for column in range(2, 6)] == ["95 MB", "0.5 m to 10 m", "6.1 GB", "Academic use only"]


def test_a_model_in_a_folder_of_one_s_own_is_listed_and_not_removed(window, session, tmp_path, monkeypatch):
    folder = tmp_path / "own" / "another name"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(dumps(painter(id="mine", name="Mine")))
    monkeypatch.setenv("AFTERIMAGE_MODELS", str(tmp_path / "own"))
    session._read_cards()
    choose(window, "Mine")
    assert ["Generate", "Mine", "In a folder of yours"] in texts(window)
    assert not window.remove_button.isEnabled() and "AFTERIMAGE_MODELS" in window.reason.text()


def test_folders_are_measured_only_when_models_come_or_go(window, session, monkeypatch):
    walked = []
    monkeypatch.setattr(models_module, "size_of", lambda folder: walked.append(folder) or 7_000_000)
    session.cards_changed.emit()
    assert walked == []
    session.store.refresh()
    assert len(walked) == 1 and choose(window, "Painter").text(2) == "7 MB"


def test_the_details_name_citation_limits_and_where_it_lives(window):
    choose(window, "Sketcher")
    text = window.about.toPlainText()
    for fact in ("Somebody 2025", "No clouds.", "https://huggingface.co/somebody/sketcher", "for research only"):
        assert fact in text
    assert "https://example.org/licence" in window.about.toHtml()
    choose(window, "Prophet")
    assert "Builds on\nSketcher" in window.about.toPlainText().replace("\u2028", "\n")


def test_nothing_is_fetched_before_the_terms_are_accepted(window, qtbot, session):
    choose(window, "Sketcher")
    dialog = asked(window, qtbot)
    assert dialog.files.topLevelItemCount() == 3 and dialog.files.topLevelItem(0).text(1) == "60 MB"
    assert "95 MB to fetch, 500 GB are free in" in dialog.space.text()
    assert "0123456789ab" in dialog.state.text() and "for research only" in dialog.terms.toPlainText()
    assert not dialog.accept_box.isChecked() and not dialog.get_button.isEnabled()
    qtbot.mouseClick(dialog.get_button, LEFT)
    qtbot.keyClick(dialog, Qt.Key.Key_Return)
    assert session.store.transfer is None and dialog.isVisible()
    qtbot.keyClick(dialog.accept_box, Qt.Key.Key_Space)
    assert dialog.get_button.isEnabled()
    qtbot.mouseClick(dialog.get_button, LEFT)
    assert session.store.transfer.model == "sketcher" and not dialog.isVisible()


def test_a_fetch_shows_progress_and_ends_in_the_list(window, qtbot, session, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "slow")
    item = choose(window, "Sketcher")
    fetch(window, qtbot)
    qtbot.waitUntil(lambda: "left" in window.transfer.text.text(), timeout=20000)
    assert " of 95 MB, " in window.transfer.text.text() and "a second" in window.transfer.text.text()
    assert item.text(1).startswith("On its way, ") and window.transfer.bar.value() > 0
    assert not window.get_button.isEnabled() and not window.import_button.isEnabled()
    qtbot.keyClick(window.tree, Qt.Key.Key_Return)
    assert session.store.transfer.stage == "fetching"  # Enter in the list stops nothing
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        qtbot.waitUntil(lambda: not window.transfer.isVisible(), timeout=20000)
    assert window.said.text() == "Sketcher is installed: the forms of Generate offer it now."
    assert ["Generate", "Sketcher", "Installed"] in texts(window)
    assert window.remove_button.isEnabled() and not window.get_button.isEnabled()


def test_a_cancelled_fetch_can_be_gone_on_with(window, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "slow")
    choose(window, "Sketcher")
    fetch(window, qtbot)
    qtbot.waitUntil(lambda: window.transfer.bar.value() > 30, timeout=20000)
    qtbot.mouseClick(window.transfer.cancel_button, LEFT)
    qtbot.waitUntil(lambda: ["Generate", "Sketcher", "Partly fetched"] in texts(window), timeout=20000)
    assert not window.transfer.isVisible() and window.get_button.text() == "Go on &fetching…"
    dialog = asked(window, qtbot)
    assert "are here already" in dialog.space.text() and not dialog.get_button.isEnabled()
    assert dialog.files.topLevelItem(0).text(2).endswith(" MB")
    dialog.reject()
    assert window.remove_button.isEnabled()


def test_what_a_model_needs_is_shown_and_fetched_with_it(window, qtbot, session):
    window.show_task("Forecast")
    dialog = asked(window, qtbot)
    heads = [dialog.files.topLevelItem(index).text(0) for index in range(dialog.files.topLevelItemCount())]
    assert heads == ["Sketcher", "Prophet"] and dialog.state.text().startswith("6 files, 190 MB")
    assert dialog.terms.toPlainText().count("for research only") == 2
    dialog.accept_box.setChecked(True)
    qtbot.mouseClick(dialog.get_button, LEFT)
    assert "Then: Prophet" in window.transfer.text.text()
    qtbot.waitUntil(lambda: ["Forecast", "Prophet", "Installed"] in texts(window), timeout=20000)


def test_without_a_network_it_says_so_and_can_be_tried_again(window, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "offline")
    choose(window, "Sketcher")
    dialog = asked(window, qtbot)
    assert dialog.state.text() == "DOWNLOAD_FAILED: The host cannot be reached. Check the network, then try again."
    assert not dialog.accept_box.isEnabled() and not dialog.get_button.isEnabled()
    monkeypatch.setenv("FAKE_STORE", "")
    qtbot.mouseClick(dialog.again_button, LEFT)
    qtbot.waitUntil(dialog.accept_box.isEnabled, timeout=20000)


def test_a_disk_that_is_too_small_is_said_before(window, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "full")
    choose(window, "Sketcher")
    dialog = asked(window, qtbot)
    assert "That is not enough" in dialog.space.text() and not dialog.accept_box.isEnabled()


def test_a_fetch_that_breaks_off_leaves_its_code_and_a_way_on(window, qtbot, monkeypatch):
    choose(window, "Sketcher")
    monkeypatch.setenv("FAKE_STORE", "crash")
    fetch(window, qtbot)
    qtbot.waitUntil(lambda: window.transfer.problem.isVisible(), timeout=20000)
    assert window.transfer.problem.text().startswith("ENGINE_LOST: ") and window.transfer.title() == "Sketcher"
    assert window.get_button.isEnabled() and window.get_button.text() == "Go on &fetching…"


def test_a_list_of_files_is_no_longer_asked_for_once_the_window_is_closed(window, qtbot, session, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "mute")
    choose(window, "Sketcher")
    qtbot.mouseClick(window.get_button, LEFT)
    (dialog,) = window.findChildren(FetchDialog)
    channel, ends = session.store._listing._channel, []
    channel.ended.connect(ends.append)
    qtbot.waitUntil(lambda: channel.pid > 0, timeout=5000)
    dialog.reject()
    qtbot.waitUntil(lambda: len(ends) == 1, timeout=5000)
    assert session.store._listing is None


def test_a_model_is_removed_only_once_that_was_confirmed(window, qtbot, session, shop):
    choose(window, "Sketcher")
    fetch(window, qtbot)
    qtbot.waitUntil(window.remove_button.isEnabled, timeout=20000)

    def box():
        qtbot.mouseClick(window.remove_button, LEFT)
        (found,) = [each for each in window.findChildren(QMessageBox) if each.isVisible()]
        assert "2 MB in" in found.informativeText() and "become free" in found.informativeText()
        return found

    first = box()
    qtbot.mouseClick(first.button(QMessageBox.StandardButton.Cancel), LEFT)
    qtbot.wait(100)
    assert (shop / "sketcher").is_dir() and not session.store.is_busy
    second = box()
    sure = next(each for each in second.buttons() if each.text() == "&Remove")
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        qtbot.mouseClick(sure, LEFT)
    assert window.said.text() == "Sketcher was removed: 2 MB are free again."
    assert not (shop / "sketcher").exists() and ["Generate", "Sketcher", "Can be fetched"] in texts(window)


def imported(window, qtbot, path):
    qtbot.mouseClick(window.import_button, LEFT)
    (dialog,) = [each for each in window.findChildren(ImportDialog) if each.isVisible()]
    assert not dialog.import_button.isEnabled()
    dialog.path.setText(str(path))
    return dialog


def test_weights_on_this_computer_are_imported(window, qtbot, session, tmp_path):
    path = tmp_path / "My weights.ckpt"
    path.touch()
    dialog = imported(window, qtbot, path)
    assert dialog.form.note_text(dialog.name) == "Requests and scripts call it my-weights."
    dialog.control.setCurrentIndex(dialog.control.findData("roads"))
    dialog.window_side.setValue(256)
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        qtbot.mouseClick(dialog.import_button, LEFT)
        assert window.transfer.title() == "Import of My weights"
    card = session.card("my-weights")
    assert card.name == "My weights" and card.summary.endswith("--control roads --window 256")
    assert ["Generate", "My weights", "Installed"] in texts(window)


def test_an_image_tower_goes_along_with_a_checkpoint(window, qtbot, session, tmp_path, monkeypatch):
    path, tower = tmp_path / "last.ckpt", tmp_path / "clip"
    path.touch()
    dialog = imported(window, qtbot, path)
    assert dialog.words() == ()
    assert dialog.control.findData("map") > 0 and dialog.control.findData("content") < 0
    answers = iter(("", str(tower)))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: next(answers))
    for words in ((), ("--tower", str(tower))):
        asks = dialog.tower.findData(None)
        dialog.tower.setCurrentIndex(asks)
        dialog.tower.activated.emit(asks)
        assert dialog.words() == words
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        qtbot.mouseClick(dialog.import_button, LEFT)
    assert session.card("last").summary.endswith(f"--tower {tower}")


def test_weights_can_be_said_to_be_a_public_model(window, qtbot, session, tmp_path):
    dialog = imported(window, qtbot, tmp_path)
    dialog.kind.setCurrentIndex(dialog.kind.findData("painter-two"))
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        qtbot.mouseClick(dialog.import_button, LEFT)
    assert session.card("painter-two").name == "Painter-two"
    assert ["Edit", "Painter-two", "Installed"] in texts(window)


def test_an_import_that_is_refused_says_why(window, qtbot, tmp_path):
    (tmp_path / "broken").mkdir()
    dialog = imported(window, qtbot, tmp_path / "broken")
    qtbot.mouseClick(dialog.import_button, LEFT)
    qtbot.waitUntil(lambda: window.transfer.problem.isVisible(), timeout=20000)
    assert window.transfer.problem.text().startswith(ErrorCode.WEIGHTS_DAMAGED.value)


@pytest.mark.parametrize(("name", "word"), [("nowhere", "no such"), ("notes.txt", "ends in")])
def test_what_cannot_be_weights_is_said_before(window, qtbot, tmp_path, name, word):
    (tmp_path / "notes.txt").touch()
    dialog = imported(window, qtbot, tmp_path / name)
    assert word in dialog.problem.text() and not dialog.import_button.isEnabled()
    assert dialog.form.note_text(dialog.name)
    for field in (dialog.path, dialog.name, dialog.base, dialog.window_side):  # what is said takes no height of theirs
        qtbot.waitUntil(lambda field=field: field.height() >= field.minimumSizeHint().height(), timeout=5000)


@pytest.mark.parametrize(
    ("name", "is_file", "called"),
    [("stable-v1.5", False, "stable-v1.5"), ("LAST.CKPT", True, "LAST"), ("sd.v2.SafeTensors", True, "sd.v2")],
)
def test_only_the_ending_of_a_file_is_no_part_of_the_name(window, qtbot, tmp_path, name, is_file, called):
    path = tmp_path / name
    if is_file:
        path.touch()
    else:
        path.mkdir()
    dialog = imported(window, qtbot, path)
    assert (dialog.model_name, dialog.problem.text(), dialog.import_button.isEnabled()) == (called, "", True)


def test_without_an_engine_the_list_is_there_and_the_way_to_one(qtbot, shop, tmp_path, monkeypatch):
    monkeypatch.setenv(settings.PYTHON_VARIABLE, "/nowhere/python")
    session = Session(root=str(tmp_path / "jobs"))
    window = ModelsDialog(session)
    qtbot.addWidget(window)
    choose(window, "Sketcher")
    assert "engine" in window.reason.text() and not window.get_button.isEnabled()
    assert not window.import_button.isEnabled() and "Somebody 2025" in window.about.toPlainText()
    session.stop()


def test_another_folder_can_be_chosen_unless_a_variable_says_which(window, qtbot, session, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(models_module.QFileDialog, "getExistingDirectory", lambda *_: str(other))
    qtbot.mouseClick(window.folder_button, LEFT)
    assert session.store.folder == str(other) and str(other) in window.folder.text()
    monkeypatch.setenv(settings.MODELS_VARIABLE, str(tmp_path))
    session.store.refresh()
    assert not window.folder_button.isEnabled() and settings.MODELS_VARIABLE in window.folder_button.toolTip()


def test_the_dock_opens_it_at_the_task_and_fills_its_forms(qtbot, session, qgis_canvas):
    dock = Dock(session, qgis_canvas)
    qtbot.addWidget(dock)
    dock.show()
    dock.show_task("Forecast")
    panel = dock.panel
    assert (
        panel.model.card is None
        and panel.model.models_button.toolButtonStyle() != Qt.ToolButtonStyle.ToolButtonIconOnly
    )
    assert "Prophet" in panel.fields.note_text(panel.model)
    qtbot.mouseClick(panel.model.models_button, LEFT)
    window = dock.models
    assert window.isVisible() and window.tree.row.id == "prophet"
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        fetch(window, qtbot)
    qtbot.waitUntil(lambda: panel.model.card is not None and panel.model.card.id == "prophet", timeout=20000)
    assert "sketcher" in [card.id for card in dock.panels[0].model._cards]
    window.close()
    qtbot.waitUntil(lambda: dock.models is None)


@pytest.mark.parametrize("is_open", [True, False])
def test_a_failed_fetch_is_shown_and_logged_once(qtbot, session, qgis_canvas, monkeypatch, is_open):
    bar, logged = QgsMessageBar(), []
    delivery = Delivery(session, bar)
    dock = Dock(session, qgis_canvas)
    qtbot.addWidget(dock)
    dock.refused.connect(delivery.refuse)
    monkeypatch.setattr(report, "log", lambda message, *_: logged.append(message))
    if is_open:
        dock.show_models()
    monkeypatch.setenv("FAKE_STORE", "offline")
    with qtbot.waitSignal(session.store.failed, timeout=20000):
        session.store.get(session.store.offer("sketcher"))
    assert [text.split("]")[0] for text in logged] == ["[DOWNLOAD_FAILED"]
    assert len(bar.items()) == (0 if is_open else 1)
    if is_open:
        assert dock.models.transfer.problem.text().startswith("DOWNLOAD_FAILED")
        dock.models.close()


def test_every_input_can_be_reached_and_has_a_name(window, qtbot, tmp_path):
    choose(window, "Sketcher")
    first = asked(window, qtbot)
    dialogs = [first, imported(window, qtbot, tmp_path), window]
    nameless = []
    for dialog in dialogs:
        for kind in (QLineEdit, QComboBox, QSpinBox, QAbstractButton, QTreeWidget):
            for widget in dialog.findChildren(kind):
                if not widget.isVisible() or isinstance(widget.parent(), (QSpinBox, QComboBox)):
                    continue
                text = widget.text() if isinstance(widget, QAbstractButton) else ""
                if not widget.accessibleName() and not text:
                    nameless.append((type(widget).__name__, widget.objectName()))
                if widget.isEnabled() and widget.focusPolicy() == Qt.FocusPolicy.NoFocus:
                    nameless.append((widget.objectName(), "no focus"))
    assert nameless == []
    first.reject()
