from dataclasses import replace

from afterimage.plugin.transfer import Pace, Transfer
from afterimage.plugin.widgets.transfer import progress_text


def test_the_rate_is_that_of_the_last_seconds():
    pace = Pace()
    assert pace.rate(0, 9000, 0.0) is None
    assert pace.rate(500, 9000, 0.5) is None  # too early to tell
    assert pace.rate(2000, 9000, 2.0) == 1000
    for second in range(3, 14):
        rate = pace.rate(2000, 9000, float(second))
    assert rate == 0  # a stall is seen once the span is full of it


def test_bytes_that_were_there_before_say_nothing_of_the_rate():
    pace = Pace()
    pace.rate(10_000, 20_000, 0.0)
    assert pace.rate(10_200, 20_000, 2.0) == 100
    assert pace.rate(0, 500, 3.0) is None  # something else begins
    assert pace.rate(50, 500, 8.0) == 10
    assert pace.rate(20, 500, 9.0) is None  # bytes that were thrown away


def test_the_time_left_follows_from_the_rate():
    assert Transfer("m", "M", done=400, total=1000, rate=100.0).seconds_left == 6
    for transfer in (
        Transfer("m", "M", rate=100.0),
        Transfer("m", "M", total=9),
        Transfer("m", "M", total=9, rate=0.0),
    ):
        assert transfer.seconds_left is None


def test_a_stall_is_said_and_a_check_is_no_stall():
    stalled = Transfer("m", "M", stage="fetching", done=400_000_000, total=1_000_000_000, rate=0.0)
    assert progress_text(stalled) == "400 MB of 1 GB, nothing arrives at the moment"
    assert progress_text(replace(stalled, stage="checking")) == "400 MB of 1 GB"
    assert progress_text(replace(stalled, rate=1e7)) == "400 MB of 1 GB, 10 MB a second, about 1 min left"
