"""Progress only rises, cancelling takes hold between items, previews are rare."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from afterimage.engine.context import JobContext
from afterimage.engine.contract import GeoBox, Previewed, Progressed
from afterimage.engine.errors import JobCancelled
from afterimage.engine.raster import Raster


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events():
    return []


@pytest.fixture
def cancelled():
    return threading.Event()


@pytest.fixture
def ctx(tmp_path, clock, events, cancelled):
    return JobContext("job", events.append, cancelled, tmp_path / "previews", clock)


def test_nested_loops_tell_one_rising_fraction(ctx, clock, events):
    for _, part in ctx.part(0.1, 0.9).track(range(4), "tiles"):
        for _, _ in part.track(range(5), "steps"):
            clock.now += 1
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[0] == pytest.approx(0.1) and fractions[-1] == pytest.approx(0.9)
    assert len({event.stage for event in events}) == 2


def test_an_inner_context_never_takes_the_fraction_back(ctx, clock, events):
    list(ctx.track(range(2), "first"))
    clock.now += 1
    ctx.part(0.0, 0.5).tell("again")
    assert events[-1].fraction == 1.0


def test_time_left_is_told_of_timed_phases_only(ctx, clock, events):
    for _, _ in ctx.part(0.5, 1.0, timed=True).track(range(10), "tiles"):
        clock.now += 2
    halfway = next(event for event in events if event.fraction == pytest.approx(0.75))
    assert halfway.seconds_left == pytest.approx(10)
    for _, _ in ctx.part(0.0, 0.5).track(range(3), "loading"):
        clock.now += 1
    assert events[-1].seconds_left is None


def test_fast_loops_tell_little(ctx, clock, events):
    for _, _ in ctx.track(range(10_000), "fast"):
        clock.now += 0.001
    assert len(events) < 120


def test_cancelling_takes_hold_between_items(ctx, cancelled):
    seen = []
    with pytest.raises(JobCancelled):
        for item, _ in ctx.track(range(10), "tiles"):
            seen.append(item)
            if item == 3:
                cancelled.set()
    assert seen == [0, 1, 2, 3]
    with pytest.raises(JobCancelled):
        ctx.check()
    with pytest.raises(JobCancelled):
        ctx.tell("writing")


def test_cancelled_is_no_error_that_a_handler_would_swallow():
    from afterimage.engine.errors import EngineError

    assert not issubclass(JobCancelled, (EngineError, OSError, ValueError))


def test_previews_are_rare_small_and_georeferenced(ctx, clock, events, tmp_path):
    import rasterio

    grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (700, 1300))
    raster = Raster(np.zeros((3, 700, 1300), np.uint8), np.ones((700, 1300), bool), grid)
    for _ in range(8):
        ctx.preview(raster)
        clock.now += 0.5
    shown = [event for event in events if isinstance(event, Previewed)]
    assert len(shown) == 4
    with rasterio.open(shown[-1].path) as file:
        assert max(file.shape) <= 512
        assert file.bounds.left == 500000.0 and file.bounds.top == 5000000.0
        assert file.crs.to_epsg() == 32633
    assert len(list((tmp_path / "previews").iterdir())) <= 2
    assert not [event for event in events if isinstance(event, Progressed)]
