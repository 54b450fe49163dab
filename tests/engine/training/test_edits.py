"""The figures of edits: the step across a border in closed form, and a scene that is edited by the task itself."""

import numpy as np
import pytest
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings
from afterimage.engine.training.datasets import Chips
from afterimage.engine.training.edits import edit_scene, step_ratio, step_ratios


def ramp(step):
    """Rows rise by 2 from column to column, and by ``step`` from column 9 to column 10."""
    cols = np.arange(20.0)
    return np.broadcast_to(2 * cols + (cols >= 10) * (step - 2), (3, 12, 20)).astype(np.uint8)


@pytest.mark.parametrize("step", [2, 9])
def test_the_step_is_the_difference_across_over_that_inside(step):
    inside = np.zeros((12, 20), bool)
    inside[:, 10:] = True
    # inside: 12 rows of 9 differences of 2 along the rows, 11 rows of 10 differences of 0 along the columns
    assert step_ratio([ramp(step)], [inside]) == pytest.approx(step / (12 * 9 * 2 / (12 * 9 + 11 * 10)))


def test_a_step_that_was_moved_inwards_is_found_there():
    inside = np.zeros((12, 20), bool)
    inside[:, 7:] = True
    interior = 12 * (11 * 2 + 9) / (12 * 12 + 11 * 13)
    found = step_ratios([ramp(9)], [inside], 5)
    assert found == pytest.approx([ratio / interior for ratio in (2, 2, 2, 9, 2, 2)])
    assert step_ratio([ramp(9)], [inside]) == found[0]


def test_a_scene_is_edited_in_its_parcels_and_nowhere_else():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 12)
    pixels = rng.integers(20, 200, (60, 8, 8, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    chips = Chips(pixels, labels, ("AnnualCrop", "Forest", "Pasture", "River", "SeaLake"), 10.0)
    model = catalog.load("tiny-generate", Settings(device="cpu", threads=1))
    edited = edit_scene(model, chips, "Forest", 0)
    assert edited.changed_outside == 0 and 4 * 64 * 64 < edited.inside.sum() < 4 * 80 * 80
    assert (edited.after != edited.before)[:, edited.inside].any(axis=0).mean() > 0.9
    assert edited.chips().shape == (4, 3, 64, 64)
    assert (edited.after != edited.before).any(axis=0)[64:128, 64:128].mean() > 0.9, "a chip lies inside its parcel"
    forest = set(map(bytes, pixels[labels == 1].reshape(12, -1)))
    under = edited.pasted[:, 64:128, 64:128].transpose(1, 2, 0)
    assert under.tobytes() in forest, "what is pasted under a parcel is a whole chip of the target"
    again = edit_scene(model, chips, "Forest", 1)
    assert not np.array_equal(again.before, edited.before)
