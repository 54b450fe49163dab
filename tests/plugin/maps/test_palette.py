"""Values of a table become classes of a palette."""

import pytest
from afterimage.plugin.maps.palette import match, rgb

PALETTE = {
    "background": "#ffffff",
    "building": "#ff0000",
    "road": "#ffff00",
    "forest": "#00ff00",
    "rice_field": "#000001",
}


@pytest.mark.parametrize(
    "value, name",
    [
        ("forest", "forest"),
        (" Forests ", "forest"),
        ("WOOD", "forest"),
        ("tree-cover", "forest"),
        ("Buildings", "building"),
        ("rice field", "rice_field"),
        ("Background", "background"),
    ],
)
def test_a_class_is_found_by_its_name_and_by_usual_other_words(value, name):
    assert match(PALETTE, [value]).classes == {value: name}


def test_what_is_no_class_is_told_and_what_is_empty_is_not():
    found = match(PALETTE, ["quarry", "forest", "", None, "NULL", 3, "beach"])
    assert found.classes == {"forest": "forest"}
    assert found.others == (3, "beach", "quarry")


def test_a_word_that_the_palette_has_itself_is_that_class():
    assert match({"forest": "#000000", "wood": "#000001"}, ["wood"]).classes == {"wood": "wood"}


def test_a_class_that_is_not_in_the_palette_has_no_other_words():
    assert match({"water": "#0000ff"}, ["wood", "lakes"]).classes == {"lakes": "water"}


def test_numbers_are_classes_where_the_palette_is_of_numbers():
    assert match({"1": "#000000", "2": "#ffffff"}, [1, 2, 3]).classes == {1: "1", 2: "2"}


def test_a_colour_is_three_numbers():
    assert rgb("#9f81b7") == (159, 129, 183)
