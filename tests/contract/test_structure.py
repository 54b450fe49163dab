"""One text over many windows of a model is said to give one texture, unless something says what is where."""

from dataclasses import replace

import pytest
from afterimage.engine.contract import ModelCard, is_one_texture

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
