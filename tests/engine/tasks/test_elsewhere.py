"""Windows that two processes need are drawn by one of them, and no byte depends on who left what."""

from __future__ import annotations

import numpy as np
import pytest
from afterimage.engine.contract import Generate, GeoBox, Sampling
from afterimage.engine.crew.exchange import Exchange
from afterimage.engine.crew.shares import Shares
from afterimage.engine.tasks import generate, picture

PHASES = ((128, 96), (128, 96), (128, 96))


@pytest.fixture
def model(generate_model, card):
    generate_model.card, generate_model.batch = card(phases=PHASES), 8
    generate_model.predict = lambda x, t, condition: 0.9 * x + 0.2 * x.roll(1, -1) + condition  # cheap, sees neighbours
    return generate_model


@pytest.fixture
def asked():
    box = GeoBox("EPSG:32633", (10.0, 0.0, 512000.0, 0.0, -10.0, 5120000.0), (1024, 1024))
    return Generate("stub", box, box, 10.0, "a", Sampling(5, 12, "DDIM"))


@pytest.fixture
def crew(bench, model, asked, tmp_path):
    """Draws a picture by hands of one pace: ``crew(count)`` -> (chunk -> pixels, windows that were drawn)."""

    def draw(count, folder=None, before=lambda number: None):
        works = [bench.plan(generate, asked, model) for _ in range(count)]
        exchanges = [Exchange(folder, "work", work.chunks) if folder else None for work in works]
        for work, exchange in zip(works, exchanges):
            if exchange:
                work.share(exchange)
        shares, drawn = Shares([(1, chunk) for chunk in works[0].chunks], count), {}
        is_busy = True
        while is_busy:
            is_busy = False
            for hand, (work, exchange) in enumerate(zip(works, exchanges)):
                piece = shares.next(str(hand))
                if piece is None:
                    continue
                is_busy = True
                before(len(drawn))
                if exchange:
                    exchange.take(shares.run(str(hand)))
                drawn[piece[1]] = work.draw(piece[1], 1, bench.ctx).pixels
        return drawn, windows_of(works)

    return draw


@pytest.fixture
def alone(crew):
    return crew(1)


def windows_of(works):
    """How many were computed."""
    return sum(cache.computed for work in works for cache in work.draw.__self__._caches)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[chunk], other[chunk]) for chunk in one)


def test_two_hands_draw_no_window_twice(crew, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "LEFT_LIMIT", 0)
    drawn, computed = crew(2, tmp_path / "windows")
    assert same(drawn, alone[0])
    assert computed <= 1.02 * alone[1]
    assert crew(2)[1] > 1.15 * alone[1], "without what they leave each other they do"
    left = list((tmp_path / "windows").iterdir())
    assert len(left) < 0.5 * alone[1], "what one hand alone needs is not left"


@pytest.mark.parametrize(("limit", "is_left"), [(picture.LEFT_LIMIT, True), (0, False)])
def test_who_takes_the_rest_of_anothers_run_finds_what_that_one_drew(
    bench, model, asked, alone, tmp_path, monkeypatch, limit, is_left
):
    monkeypatch.setattr(picture, "LEFT_LIMIT", limit)
    first, second = (bench.plan(generate, asked, model) for _ in range(2))
    order, drawn = first.chunks, {}
    for work, pieces, run in ((first, order[:12], order), (second, order[12:], order[12:])):
        exchange = Exchange(tmp_path / "windows", "work", order)
        work.share(exchange)
        exchange.take(((1, run[0]), (1, run[-1])))
        drawn |= {chunk: work.draw(chunk, 1, bench.ctx).pixels for chunk in pieces}
    assert same(drawn, alone[0])
    assert (windows_of((first, second)) <= 1.02 * alone[1]) == is_left


def test_four_hands_that_draw_side_by_side_draw_few_windows_twice(crew, alone, tmp_path):
    drawn, computed = crew(4, tmp_path / "windows")
    assert same(drawn, alone[0])
    assert computed <= 1.1 * alone[1]


@pytest.mark.parametrize(
    "harm", [lambda data: data[:-1], lambda data: b"", lambda data: data.replace(b"work", b"wirk")]
)
def test_a_window_that_is_damaged_is_drawn(crew, alone, tmp_path, harm):
    folder = tmp_path / "windows"

    def before(number):
        if number == 6:
            for path in folder.iterdir():
                path.write_bytes(harm(path.read_bytes()))

    drawn, computed = crew(2, folder, before)
    assert same(drawn, alone[0]) and computed > 1.02 * alone[1]


def test_a_disk_that_takes_nothing_costs_time_only(crew, alone, tmp_path):
    (tmp_path / "windows").write_text("a file where the folder would be")
    drawn, computed = crew(2, tmp_path / "windows")
    assert same(drawn, alone[0]) and computed > 1.15 * alone[1]


def test_a_window_of_other_work_is_not_taken(tmp_path):
    chunks = ()
    Exchange(tmp_path, "one", chunks).leave("name", np.ones((2, 3), np.float32))
    assert np.array_equal(Exchange(tmp_path, "one", chunks).fetch("name"), np.ones((2, 3)))
    assert Exchange(tmp_path, "two", chunks).fetch("name") is None
    assert Exchange(tmp_path, "one", chunks).fetch("other") is None
