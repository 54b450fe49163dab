"""Words become classes; what is not known is answered with what is."""

import pytest
from afterimage.engine.errors import PromptNotUnderstood
from afterimage.engine.models.vocabulary import EUROSAT, Vocabulary, spelled

KNOWN = Vocabulary(tuple(sorted(EUROSAT)))


def classes(prompt):
    return [KNOWN.classes[k] for k in KNOWN.named(prompt)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("forest", ["Forest"]),
        ("A dense FOREST, seen from above.", ["Forest"]),
        ("herbaceous vegetation", ["HerbaceousVegetation"]),
        ("an olive grove and olive trees", ["PermanentCrop"]),
        ("trees by a lake", ["Forest", "SeaLake"]),
        ("wheat fields along a motorway", ["AnnualCrop", "Highway"]),
        ("a built-up area", ["Residential"]),
        ("a power plant", ["Industrial"]),
        ("a village, a village, a village", ["Residential"]),
        ("sealake", []),
    ],
)
def test_words_stand_for_classes(prompt, expected):
    assert classes(prompt) == expected


def test_shares_add_up_and_a_class_counts_once():
    weights = KNOWN.weights("forest forest river")
    assert sum(weights) == pytest.approx(1)
    assert weights[KNOWN.classes.index("Forest")] == weights[KNOWN.classes.index("River")] == 0.5


@pytest.mark.parametrize("prompt", ["", "   ", "a spaceship", "12345", "лес", "x" * 4000])
def test_a_text_without_known_words_is_answered_with_the_list(prompt):
    with pytest.raises(PromptNotUnderstood) as caught:
        KNOWN.weights(prompt)
    assert all(spelled(name) in caught.value.hint for name in KNOWN.classes)
    assert "spaceship" not in str(caught.value)


def test_no_word_stands_for_two_classes():
    seen = {}
    for name, words in EUROSAT.items():
        for word in words:
            assert seen.setdefault(word, name) == name, word


def test_every_class_understands_its_own_name():
    for name in EUROSAT:
        assert classes(spelled(name)) == [name]


def test_a_class_without_words_is_refused():
    with pytest.raises(ValueError, match="Glacier"):
        Vocabulary(("Forest", "Glacier"))
