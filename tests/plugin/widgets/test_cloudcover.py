"""The cloud cover that is asked for: percent, or not known."""

import pytest
from afterimage.plugin.widgets.cloudcover import CloudCoverInput
from qgis.PyQt.QtCore import Qt


@pytest.fixture
def input_(qtbot):
    made = CloudCoverInput()
    qtbot.addWidget(made)
    made.show()
    return made


def test_nothing_is_known_at_first_and_after_clearing(input_):
    assert input_.value() is None and input_.number.text() == "unknown"
    input_.set_value(20.0)
    assert input_.value() == 20.0
    input_.number.clear()
    assert input_.value() is None and input_.number.text() == "unknown"


def test_no_clouds_are_not_unknown_clouds(input_, qtbot):
    seen = []
    input_.changed.connect(lambda: seen.append(input_.value()))
    input_.number.setFocus()
    qtbot.keyClick(input_.number, Qt.Key.Key_Up)
    assert input_.value() == 0.0
    qtbot.keyClick(input_.number, Qt.Key.Key_Down)
    assert seen == [0.0, None]


@pytest.mark.parametrize("way", ["tab", "click"])
def test_a_number_is_typed_over_unknown(input_, qtbot, way):
    input_.number.setFocus(Qt.FocusReason.TabFocusReason)
    if way == "click":
        qtbot.mouseClick(input_.number.lineEdit(), Qt.MouseButton.LeftButton)
    else:
        input_.number.selectAll()
    qtbot.keyClicks(input_.number, "35")
    assert input_.value() == 35.0


@pytest.mark.parametrize("strange", [None, "many", -3, 101, True, float("nan")])
def test_what_is_no_percentage_is_unknown(input_, strange):
    input_.set_value(50)
    input_.set_value(strange)
    assert input_.value() is None
