"""One text over many windows gives one texture, unless something says what is where, or is drawn coarser first."""

from dataclasses import replace
from typing import Optional

import pytest
from afterimage.engine.contract import (
    Generate,
    GeoBox,
    ModelCard,
    Sampling,
    coarse_factors,
    coarse_refusal,
    is_one_texture,
)

CARD = ModelCard(
    "m", "M", "", "f", "1", ("Generate",), ("red",), (10.0, 10.0), 100, 50, ("DDIM",), 10, uses=("prompt",)
)


@pytest.mark.parametrize(
    "shape, is_one", [((400, 400), False), ((401, 400), True), ((100, 1600), False), ((100, 1601), True)]
)
def test_it_is_the_area_in_windows_that_counts(shape, is_one):
    assert is_one_texture(shape, CARD, False) is is_one


def test_what_says_what_is_where_is_enough():
    assert not is_one_texture((1000, 1000), CARD, True)


def test_of_a_model_that_reads_no_text_nothing_is_said():
    assert not is_one_texture((1000, 1000), replace(CARD, uses=()), False)


def test_a_coarser_level_sees_as_much_more():
    assert is_one_texture((401, 400), CARD, False, 1) and not is_one_texture((401, 400), CARD, False, 2)
    assert is_one_texture((801, 800), CARD, False, 2) and not is_one_texture((801, 800), CARD, False, 4)


ABLE = replace(CARD, gsd=(0.5, 8.0), uses=("prompt", "gsd", "strength"))


@pytest.mark.parametrize(
    ("gsd", "factors"), [(0.1, (2, 4, 8)), (1.0, (2, 4, 8)), (1.01, (2, 4)), (4.0, (2,)), (4.1, ()), (16.0, ())]
)
def test_a_model_takes_levels_that_it_was_trained_on(gsd, factors):
    assert coarse_factors(gsd, (500, 500), ABLE) == factors
    assert ABLE.takes_coarse(gsd, 1)


def test_a_model_must_be_told_the_resolution_and_start_from_pixels_and_see_a_part():
    for uses in (("prompt", "gsd"), ("prompt", "strength"), ()):
        assert coarse_factors(1.0, (500, 500), replace(ABLE, uses=uses)) == ()
    whole = replace(ABLE, whole=True)
    assert coarse_factors(1.0, (100, 100), whole) == () and coarse_factors(1.0, (100, 101), whole) == (2, 4, 8)


def asked(gsd: float, factor: int, told_gsd: Optional[float] = None) -> Generate:
    box = GeoBox("EPSG:32633", (gsd, 0.0, 0.0, 0.0, -gsd, 0.0), (500, 500))
    return Generate("m", box, box, gsd, "x", Sampling(1, 9, "DDIM"), told_gsd=told_gsd, coarse=factor)


@pytest.mark.parametrize(
    ("request_", "card", "words", "hint"),
    [
        (asked(2.0, 8), ABLE, "up to 8 m, and those of a level 8 times coarser have 16 m", "Choose at most 4 times."),
        (asked(5.0, 2), ABLE, "have 10 m", "Choose a finer resolution"),
        (asked(1.0, 8, 2.0), ABLE, "have 16 m", "Choose at most 4 times."),
        (asked(1.0, 2), replace(ABLE, uses=("strength",)), "is told no ground resolution", "another model"),
        (asked(1.0, 2), replace(ABLE, uses=("gsd",)), "cannot start from a picture", "another model"),
        (asked(1.0, 2), replace(ABLE, whole=True, window=500), "sees all of this extent at once", "larger extent"),
    ],
)
def test_why_a_model_cannot(request_, card, words, hint):
    message, next_step = coarse_refusal(request_, (500, 500), card)
    assert words in message and hint in next_step


@pytest.mark.parametrize("request_", [asked(1.0, 8), asked(9.0, 1), asked(9.0, 2, 4.0)])
def test_what_it_can_is_not_refused(request_):
    assert coarse_refusal(request_, (500, 500), ABLE) is None
