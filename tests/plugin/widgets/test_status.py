from afterimage.engine.contract import ErrorCode, Estimate, Failure
from afterimage.plugin.widgets.engine import EngineLine
from afterimage.plugin.widgets.estimate import EstimateLine, sentence
from afterimage.plugin.widgets.setup import SetupBox
from qgis.PyQt.QtCore import Qt

LEFT = Qt.MouseButton.LeftButton
WHOLE = Estimate(shape=(768, 1024), tiles=12, windows=99, seconds=41, gflop=1, memory_mb=900, disk_mb=12.4)


def test_the_estimate_is_one_line():
    assert sentence(WHOLE).replace("\u00a0", " ") == (
        "1,024 \u00d7 768 px \u00b7 12 tiles \u00b7 about 40 s \u00b7 900 MB memory \u00b7 12 MB disk"
    )


def test_without_an_estimate_there_is_no_line(qtbot):
    line = EstimateLine()
    qtbot.addWidget(line)
    line.show_estimate(WHOLE)
    assert line.text() and not line.isHidden()
    line.show_estimate(None)
    assert not line.text() and line.isHidden()


def test_the_setup_says_what_it_downloads_and_where_to_before_anything_happens(qtbot):
    box = SetupBox()
    qtbot.addWidget(box)
    box.show()
    assert " GB from" in box.text.text() and "pypi.org" in box.text.text()
    assert "afterimage" in box.folder.text()
    assert not box.progress.isVisible() and not box.cancel_button.isVisible()
    with qtbot.waitSignal(box.install_asked):
        qtbot.mouseClick(box.install_button, LEFT)


def test_the_setup_shows_progress_can_be_cancelled_and_tells_why_it_ended(qtbot):
    box = SetupBox()
    qtbot.addWidget(box)
    box.show()
    box.show_state(is_installing=True, is_update=False)
    box.show_line("Downloading torch")
    assert box.progress.isVisible() and box.line.text() == "Downloading torch" and not box.install_button.isVisible()
    with qtbot.waitSignal(box.cancel_asked):
        qtbot.mouseClick(box.cancel_button, LEFT)
    box.show_state(is_installing=False, is_update=True)
    box.show_problem("The disk is full.")
    assert box.problem.isVisible() and box.install_button.text() == "Update engine"
    box.show_state(is_installing=True, is_update=True)
    assert not box.problem.isVisible()


def test_a_crashed_engine_can_be_started_again(qtbot):
    line = EngineLine()
    qtbot.addWidget(line)
    line.show()
    assert not line.start_button.isVisible()
    line.show_state("crashed", Failure(ErrorCode.ENGINE_LOST, "It ended.", "Start it again."))
    assert line.text.toolTip() == "It ended. Start it again."
    with qtbot.waitSignal(line.start_asked):
        qtbot.mouseClick(line.start_button, LEFT)
    line.show_state("ready")
    assert line.text.text() == "Engine ready" and not line.start_button.isVisible()
