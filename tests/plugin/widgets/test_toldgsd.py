"""What a model is told of the ground resolution."""

import pytest
from afterimage.plugin.widgets.toldgsd import AUTOMATIC, CHOSEN, UNKNOWN, ToldGsdInput


@pytest.fixture
def input_(qtbot):
    made = ToldGsdInput()
    qtbot.addWidget(made)
    made.show()
    return made


def choose(input_, kind):
    input_.kind.setCurrentIndex(input_.kind.findData(kind))


def test_the_three_ways_are_what_a_request_holds(input_):
    assert input_.value() is None and not input_.number.isVisible()
    choose(input_, UNKNOWN)
    assert input_.value() == 0.0 and not input_.number.isVisible()
    choose(input_, CHOSEN)
    input_.number.setValue(0.5)
    assert input_.value() == 0.5 and input_.number.isVisible()


def test_another_begins_with_the_pixels_own_and_keeps_what_was_chosen(input_):
    seen = []
    input_.changed.connect(lambda: seen.append(input_.value()))
    input_.suggest(10.0)
    assert seen == []
    choose(input_, CHOSEN)
    assert seen == [10.0]
    input_.suggest(20.0)
    assert input_.value() == 10.0


def test_a_form_that_suggests_at_each_change_does_not_undo_what_was_kept(input_):
    input_.changed.connect(lambda: input_.suggest(10.0))
    input_.set_value(2.5)
    assert input_.value() == 2.5


@pytest.mark.parametrize("held, kind", [(None, AUTOMATIC), (0.0, UNKNOWN), (2.5, CHOSEN), ("x", AUTOMATIC)])
def test_what_was_kept_comes_back(input_, held, kind):
    choose(input_, UNKNOWN if kind == AUTOMATIC else AUTOMATIC)
    input_.set_value(held)
    assert input_.kind.currentData() == kind
    assert input_.value() == (None if kind == AUTOMATIC else held)


@pytest.mark.parametrize("strange", [-1.0, float("nan"), float("inf"), True])
def test_nonsense_is_automatic(input_, strange):
    input_.set_value(strange)
    assert input_.value() is None
