"""Every piece is given out once, neighbours to the same hand, and nobody waits while there is work."""

from __future__ import annotations

import random

import pytest
from afterimage.engine.crew.shares import Shares


def drawn(shares, hands, seed=0):
    """Who drew what, where hands ask in any order."""
    rng, out = random.Random(seed), {hand: [] for hand in hands}
    left = list(hands)
    while left:
        hand = rng.choice(left)
        piece = shares.next(hand)
        if piece is None:
            left.remove(hand)
        else:
            out[hand].append(piece)
    return out


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("pieces", "count"), [(1, 2), (7, 3), (64, 4), (5, 1), (10, 25)])
def test_each_piece_is_given_once(pieces, count, seed):
    out = drawn(Shares(range(pieces), count), [f"w{i}" for i in range(count)], seed)
    assert sorted(piece for run in out.values() for piece in run) == list(range(pieces))


def test_hands_that_keep_pace_have_a_border_each():
    shares = Shares(range(64), 4)
    rounds = [[shares.next(f"w{i}") for i in range(4)] for _ in range(16)]
    assert [list(run) for run in zip(*rounds)] == [list(range(16 * i, 16 * i + 16)) for i in range(4)]
    assert shares.next("w0") is None


def test_a_fast_hand_takes_the_later_half_of_what_a_slow_one_has_left():
    shares = Shares(range(16), 2)
    assert shares.next("slow") == 0
    fast = [shares.next("fast") for _ in range(12)]
    assert fast[:8] == list(range(8, 16)) and fast[8:] == [4, 5, 6, 7]
    assert shares.next("slow") == 1


def test_what_a_lost_hand_had_is_drawn_by_others():
    shares = Shares(range(8), 2)
    lost = shares.next("a")
    assert shares.next("b") == 4
    shares.give_back(lost)
    shares.leave("a")
    assert [shares.next("b") for _ in range(7)] == [5, 6, 7, 1, 2, 3, 0] and shares.next("b") is None


def test_a_piece_that_is_left_out_is_not_given_again():
    shares = Shares(range(2), 1)
    shares.give_back(shares.next("a"))
    shares.take(0)
    assert shares.next("a") == 1 and shares.next("a") is None


def test_hands_that_come_later_get_work_too():
    shares = Shares(range(12), 1)
    assert shares.next("a") == 0 and shares.next("late") == 6


def test_a_run_is_told_by_its_ends_as_far_as_it_is_the_hands():
    shares = Shares(range(16), 2)
    assert shares.next("slow") == 0 and shares.run("slow") == (0, 7)
    for _ in range(8):
        shares.next("fast")
    assert shares.run("fast") == (8, 15)
    assert shares.next("fast") == 4 and shares.run("fast") == (4, 7)
    assert shares.next("slow") == 1 and shares.run("slow") == (0, 3)
    shares.give_back(1)
    shares.leave("slow")
    assert [shares.next("fast") for _ in range(4)] == [5, 6, 7, 2] and shares.run("fast") == (2, 3)
    assert [shares.next("fast") for _ in range(2)] == [3, 1] and shares.run("fast") == (1, 1)
