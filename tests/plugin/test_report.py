from afterimage.engine.contract import ErrorCode, Failure
from afterimage.plugin import report
from qgis.core import QgsApplication
from qgis.gui import QgsMessageBar
from qgis.PyQt.QtWidgets import QPushButton

FAILURE = Failure(ErrorCode.DISK_FULL, "The disk is full.", "Free some space.", "Traceback: secret path")


def test_a_problem_carries_its_failure():
    problem = report.Problem(ErrorCode.DISK_FULL, "The disk is full.", "Free some space.")
    assert problem.failure == Failure(ErrorCode.DISK_FULL, "The disk is full.", "Free some space.")
    assert str(problem) == "The disk is full."
    assert report.Problem.of(FAILURE).failure == FAILURE


def test_the_bar_shows_a_sentence_and_a_next_step_and_the_log_the_rest(qgis_app, qtbot, monkeypatch):
    bar, logged, opened = QgsMessageBar(), [], []
    qtbot.addWidget(bar)
    QgsApplication.messageLog().messageReceived.connect(lambda text, tag, level: logged.append((tag, text)))
    monkeypatch.setattr(report, "open_log", lambda: opened.append(True))
    report.show(bar, FAILURE)
    item = bar.currentItem()
    assert item.text() == "The disk is full. Free some space."
    assert (report.TAG, "[DISK_FULL] The disk is full. Free some space.\nTraceback: secret path") in logged
    button = next(button for button in item.findChildren(QPushButton) if button.text() == "Details")
    button.click()
    assert opened == [True]


def test_the_log_panel_needs_a_window(qgis_app, monkeypatch):
    monkeypatch.setattr("qgis.utils.iface", None)
    report.open_log()
