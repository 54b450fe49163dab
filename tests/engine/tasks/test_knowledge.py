"""What a model knows of a request: resolutions near its own, and names of what it does not use."""

import dataclasses

import pytest
from afterimage.engine.contract import ModelCard, Sampling
from afterimage.engine.errors import UnsupportedResolution
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings
from afterimage.engine.tasks.knowledge import trained_gsd, unguided_notices, unused_notices


@pytest.fixture(scope="module")
def card() -> ModelCard:
    found = catalog.load("tiny-generate", Settings(device="cpu", threads=1)).card
    return dataclasses.replace(found, gsd=(10.0, 20.0), uses=("prompt",))


@pytest.mark.parametrize(("asked", "drawn"), [(10, 10), (15, 15), (20.001, 20.001), (30, 20), (40, 20), (5, 10)])
def test_the_nearest_resolution_is_drawn(card, asked, drawn):
    assert trained_gsd(asked, card, lambda *_: pytest.fail("refused")) == drawn


@pytest.mark.parametrize("asked", [4.9, 41])
def test_what_is_too_far_is_refused_in_the_sentence_of_the_task(card, asked):
    with pytest.raises(UnsupportedResolution) as told:
        trained_gsd(asked, card, lambda drawn, widest: (f"It draws {drawn}.", f"Choose {widest}."))
    assert told.value.message == "It draws 10 to 20 m per pixel." and told.value.hint == "Choose 5 to 40 m per pixel."
    with pytest.raises(UnsupportedResolution, match=r"^10 m per pixel$"):
        trained_gsd(asked, dataclasses.replace(card, gsd=(10.0, 10.0)), lambda drawn, widest: (drawn, widest))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prompt": True, "date": False}, []),
        ({"date": True}, ["Not used by this model: the date."]),
        ({"negative prompt": True, "prompt": True, "date": True}, ["negative prompt and the date"]),
        ({"negative prompt": True, "date": True, "place": True}, ["negative prompt, the date and the place"]),
    ],
)
def test_what_is_not_used_is_named(card, given, said):
    notices = unused_notices(given, card)
    assert len(notices) == len(said) and all(text in notice for text, notice in zip(said, notices))


def test_a_negative_prompt_counts_in_our_models_wherever_guidance_gives_it_a_share(card):
    ours = dataclasses.replace(card, uses=("negative_prompt",))
    for scale, family, is_told in ((1.0, ours.family, True), (0.5, ours.family, False), (0.5, "crs_diff", True)):
        model = dataclasses.replace(ours, family=family)
        sampling = Sampling(1, 2, "DDIM", guidance_scale=scale)
        assert bool(unguided_notices("clouds", sampling, model)) == is_told


def test_a_resolution_that_is_told_is_used_where_the_card_has_it(card):
    assert unused_notices({"resolution told": True}, dataclasses.replace(card, uses=("gsd",))) == []
    assert unused_notices({"resolution told": True}, card) == ["Not used by this model: the resolution told."]


def test_a_name_of_two_words_is_found_among_what_a_card_uses(card):
    assert unused_notices({"negative prompt": True}, dataclasses.replace(card, uses=("negative_prompt",))) == []
