"""The line above the Run button: what a run takes, and how that fits the memory there is."""

import pytest
from afterimage.engine.contract import Estimate, Fit
from afterimage.plugin.widgets.estimate import EstimateLine, room

FOUND = Estimate((512, 512), 4, 1, 60.0, 1000.0, 6000, 20.0)


@pytest.mark.parametrize(
    ("fit", "says"),
    [
        (Fit(5000, 24000, "whole", True), "Needs about 5 GB of the GPU's memory; 24 GB are free."),
        (Fit(5000, 3200, "waiting", True), "Needs about 5 GB; 3.2 GB are free on this GPU: parts wait in main memory"),
        (Fit(5000, 900, "processor", True), "900 MB are free on this GPU: it is drawn on the processor, much slower."),
        (Fit(6000, 4000, "short", False), "Needs about 6 GB of memory, and 4 GB are free: it may run out."),
    ],
)
def test_how_it_fits_is_told_in_a_sentence(fit, says):
    assert says in room(fit).replace("\u00a0", " ")


def test_the_line_shows_both_or_nothing(qtbot):
    line = EstimateLine()
    qtbot.addWidget(line)
    line.show_estimate(FOUND)
    assert "6 GB memory" in line.text().replace("\u00a0", " ") and "\n" not in line.text()
    line.show_estimate(FOUND, Fit(5000, 3200, "waiting", True))
    assert line.text().split("\n")[1] == room(Fit(5000, 3200, "waiting", True))
    line.show_estimate(None, Fit(5000, 3200, "waiting", True))
    assert not line.text()
