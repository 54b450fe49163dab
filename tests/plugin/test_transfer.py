from afterimage.plugin.transfer import Pace, Transfer


def test_the_rate_is_that_of_the_last_seconds():
    pace = Pace()
    assert pace.rate("fetching", 0, 0.0) is None
    assert pace.rate("fetching", 500, 0.5) is None  # too early to tell
    assert pace.rate("fetching", 2000, 2.0) == 1000
    for second in range(3, 14):
        rate = pace.rate("fetching", 2000, float(second))
    assert rate == 0  # a stall is seen once the span is full of it


def test_bytes_that_were_there_before_say_nothing_of_the_rate():
    pace = Pace()
    pace.rate("fetching", 10_000, 0.0)
    assert pace.rate("fetching", 10_200, 2.0) == 100
    assert pace.rate("checking", 0, 3.0) is None  # another stage begins anew
    assert pace.rate("checking", 50, 8.0) == 10


def test_the_time_left_follows_from_the_rate():
    assert Transfer("m", "M", done=400, total=1000, rate=100.0).seconds_left == 6
    for transfer in (
        Transfer("m", "M", rate=100.0),
        Transfer("m", "M", total=9),
        Transfer("m", "M", total=9, rate=0.0),
    ):
        assert transfer.seconds_left is None
