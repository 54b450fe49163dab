import pytest
from afterimage.engine.contract import ErrorCode, Failure, JobState
from afterimage.plugin.jobs import JobRecord
from afterimage.plugin.widgets.jobrow import JobRow, status
from qgis.PyQt.QtCore import Qt

OUT_OF_MEMORY = Failure(ErrorCode.OUT_OF_MEMORY, "Too little memory.", "Ask for less.")


def record(state=JobState.QUEUED, **more):
    return JobRecord("j1", "a river", "Generate", "/nowhere", state, created="2026-11-22T10:00:00+00:00", **more)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (record(), "Waiting"),
        (record(JobState.RUNNING, stage="tiles", seconds_left=41), "Drawing tiles, about 40 s left"),
        (record(JobState.RUNNING, stage="loading model"), "Loading the model"),
        (record(JobState.RUNNING, stage="warping"), "Warping"),
        (record(JobState.RUNNING), "Running"),
        (record(JobState.FAILED, failure=OUT_OF_MEMORY), "Too little memory. Ask for less."),
        (record(JobState.CANCELLED), "Cancelled; finished tiles are kept"),
        (record(JobState.SUCCEEDED), "Finished"),
    ],
)
def test_a_row_says_where_the_job_stands(qtbot, shown, text):
    assert status(shown) == text
    row = JobRow(shown)
    qtbot.addWidget(row)
    assert row.state.text() == text
    assert row.accessibleName() == "a river, " + text


@pytest.mark.parametrize(
    ("state", "buttons"),
    [
        (JobState.QUEUED, {"cancel"}),
        (JobState.RUNNING, {"cancel"}),
        (JobState.SUCCEEDED, {"show"}),
        (JobState.FAILED, {"retry"}),
        (JobState.CANCELLED, {"retry"}),
    ],
)
def test_each_state_has_its_own_button(qtbot, state, buttons):
    row = JobRow(record(state, failure=OUT_OF_MEMORY if state is JobState.FAILED else None))
    qtbot.addWidget(row)
    row.show()
    all_buttons = {"cancel": row.cancel_button, "retry": row.retry_button, "show": row.show_button}
    assert {name for name, button in all_buttons.items() if button.isVisible()} == buttons
    for name in buttons:
        with qtbot.waitSignal(row.asked) as asked:
            qtbot.mouseClick(all_buttons[name], Qt.MouseButton.LeftButton)
        assert asked.args == [name, "j1"]


def test_the_menu_has_the_rest(qtbot):
    row = JobRow(record(JobState.SUCCEEDED))
    qtbot.addWidget(row)
    asked = []
    row.asked.connect(lambda what, job: asked.append(what))
    for action in row.menu.actions():
        action.trigger()
    assert asked == ["again", "new_seed", "copy", "folder", "remove"]


def test_progress_is_shown_while_the_job_runs(qtbot):
    row = JobRow(record(JobState.RUNNING))
    qtbot.addWidget(row)
    row.show()
    assert row.progress.isVisible() and row.progress.maximum() == 0  # busy, as nothing is known yet
    row.show_record(record(JobState.RUNNING, fraction=0.5))
    assert row.progress.value() == row.progress.maximum() / 2
    row.show_record(record(JobState.CANCELLED))
    assert not row.progress.isVisible()
