"""Words become classes; what is not known is answered with what is."""

import numpy as np
import pytest
from afterimage.engine.errors import PromptNotUnderstood
from afterimage.engine.models.synonyms import EUROSAT, TABLES, UCMERCED
from afterimage.engine.models.vocabulary import Vocabulary, spelled
from afterimage.engine.training.captions import write_caption

KNOWN = Vocabulary(tuple(sorted(EUROSAT)))
AERIAL = Vocabulary(tuple(sorted(UCMERCED)))


def classes(prompt, known=KNOWN):
    return [known.classes[k] for k in known.named(prompt)]


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


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Dense residential", ["denseresidential"]),
        ("a dense forest beside houses", ["forest", "mediumresidential"]),
        ("terraced houses", ["denseresidential"]),
        ("a lone house", ["sparseresidential"]),
        ("an oil tank farm", ["storagetanks"]),
        ("a farm with a farm house", ["agricultural", "sparseresidential"]),
        ("a baseball field", ["baseballdiamond"]),
        ("a freeway interchange", ["overpass"]),
        ("the runway of an airport", ["runway", "airplane"]),
        ("airport runway", ["runway"]),
        ("mobile-home park", ["mobilehomepark"]),
        ("yachts in a marina", ["harbor"]),
        ("a car park and a tennis court", ["parkinglot", "tenniscourt"]),
        ("golf course, not denseresidential", ["golfcourse"]),
        ("a lake", []),
    ],
)
def test_a_model_of_another_data_set_has_words_of_its_own(prompt, expected):
    assert classes(prompt, AERIAL) == expected


def test_shares_add_up_and_a_class_counts_once():
    weights = KNOWN.weights("forest forest river")
    assert sum(weights) == pytest.approx(1)
    assert weights[KNOWN.classes.index("Forest")] == weights[KNOWN.classes.index("River")] == 0.5


@pytest.mark.parametrize("known", [KNOWN, AERIAL], ids=["eurosat", "ucmerced"])
@pytest.mark.parametrize("prompt", ["", "   ", "a spaceship", "12345", "лес", "x" * 4000])
def test_a_text_without_known_words_is_answered_with_the_list(prompt, known):
    with pytest.raises(PromptNotUnderstood) as caught:
        known.weights(prompt)
    assert all(spelled(name) in caught.value.hint for name in known.classes)
    assert "spaceship" not in str(caught.value)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_no_word_stands_for_two_classes_or_twice_for_one(table):
    seen = {}
    for name, words in table.items():
        for word in words:
            assert word == word.strip().lower() and word
            assert word not in seen, (word, name, seen.get(word))
            seen[word] = name


@pytest.mark.parametrize("known", [KNOWN, AERIAL], ids=["eurosat", "ucmerced"])
def test_every_class_understands_its_own_name_and_every_sentence_about_it(known):
    rng = np.random.default_rng(0)
    for k, name in enumerate(known.classes):
        assert known.named(spelled(name)) == [k]
        for gsd in (0.3, 10.0):
            for _ in range(40):
                caption = write_caption(name, known.synonyms, gsd, rng)
                assert known.named(caption) == [k], caption


def test_every_word_of_a_class_is_understood_by_itself():
    for known in (KNOWN, AERIAL):
        for k, name in enumerate(known.classes):
            for word in known.synonyms[name]:
                assert known.named(word) == [k], word


def test_names_are_written_as_people_do():
    assert spelled("HerbaceousVegetation") == "herbaceous vegetation"
    assert spelled("denseresidential") == "dense residential"
    assert spelled("golfcourse") == "golf course"


def test_a_part_of_the_classes_is_enough_and_the_words_follow_them():
    few = Vocabulary(("forest", "beach"))
    assert few.data_set == "ucmerced" and few.named("the sea") == [1]
    assert few.named("a parking lot") == []


def test_a_class_without_words_is_refused():
    with pytest.raises(ValueError, match="Glacier"):
        Vocabulary(("Forest", "Glacier"))
    with pytest.raises(ValueError, match="no words for"):
        Vocabulary(("Forest", "beach"))
