"""What a published model reads of the texts of a scene, and what a person is told of it."""

import pytest
from afterimage.engine.contract import ModelCard
from afterimage.engine.errors import InvalidRequest
from afterimage.engine.models.base import Scene
from afterimage.engine.models.crs_diff import QUALITY
from afterimage.engine.models.picture import PictureModel
from afterimage.engine.models.published import open_model


def opened(folder):
    card = ModelCard(
        id="stub",
        name="Stub",
        summary="",
        family="",
        version="1",
        tasks=("Generate",),
        bands=("red", "green", "blue"),
        gsd=(0.5, 128.0),
        window=64,
        stride=48,
        schedulers=("DDIM",),
        steps=2,
    )
    return PictureModel(card, open_model(folder))


@pytest.fixture(scope="module")
def crs_diff(parity):
    return opened(parity / "crsdiff" / "last.ckpt")


@pytest.fixture(scope="module")
def text2earth(parity):
    return opened(parity / "text2earth")


def longest(model, behind=""):
    """A text that just fits with what is put behind it."""
    text = model.network.text
    words = "roof"
    while text.count(f"{words} roof{behind}") <= text.length:
        words += " roof"
    return words


def test_the_words_that_the_authors_put_behind_a_prompt_count_as_tokens(crs_diff):
    fitting = longest(crs_diff, f", {QUALITY}")
    assert crs_diff.remarks(Scene(prompt=fitting)) == ()
    assert crs_diff.told(Scene(prompt=fitting))["prompt"] == f"{fitting}, {QUALITY}"
    (remark,) = crs_diff.remarks(Scene(prompt=f"{fitting} roof"))
    count = crs_diff.network.text.count(f"{fitting} roof, {QUALITY}")
    assert f"{count} tokens with the words that are put behind it" in remark and "its end is not used" in remark
    (remark,) = crs_diff.remarks(Scene(negative_prompt="roof " * 100))
    assert "The negative prompt has" in remark and "put behind" not in remark
    assert crs_diff.told(Scene())["prompt"] == QUALITY


def test_a_level_in_the_prompt_is_used_and_told_and_is_no_token(text2earth):
    fitting = longest(text2earth)
    assert text2earth.remarks(Scene(prompt=fitting, gsd=1.0)) == ()
    scene = Scene(prompt=f"16_GOOGLE_LEVEL_{fitting}", gsd=8.0)
    assert text2earth.network.text.count(scene.prompt) > text2earth.network.text.length
    (remark,) = text2earth.remarks(scene)
    assert remark == "The prompt begins with level 16, 2 m per pixel: the model is told that, and no other resolution."
    assert text2earth.told(scene)["level"] == 16
    twice = text2earth.remarks(Scene(prompt=f"{scene.prompt} roof"))
    assert len(twice) == 2 and "its end is not used" in twice[1]


def test_only_the_prefix_is_taken_off(text2earth):
    (branch,) = text2earth.network.branches(
        1, guidance_scale=1.0, **text2earth.told(Scene(prompt="16_GOOGLE_LEVEL_17_GOOGLE_LEVEL_roofs"))
    )
    assert branch.told["level"].tolist() == [16]
    assert (branch.told["text"] == text2earth.network.texts("17_GOOGLE_LEVEL_roofs")).all()


def test_an_unknown_level(text2earth):
    scene = Scene(prompt="0_GOOGLE_LEVEL_roofs", gsd=1.0)
    assert text2earth.told(scene)["level"] == 0
    assert text2earth.remarks(scene)[0].startswith("The prompt begins with an unknown level:")


@pytest.mark.parametrize("level", ["1", "9", "19", "99", "9" * 5000])
def test_a_level_that_was_never_trained_is_refused(text2earth, level):
    with pytest.raises(InvalidRequest, match="it knows 10 to 18") as told:
        text2earth.told(Scene(prompt=f"{level}_GOOGLE_LEVEL_roofs"))
    assert "10_GOOGLE_LEVEL_ to 18_GOOGLE_LEVEL_" in told.value.hint


@pytest.mark.parametrize("level", [10, 18])
def test_the_ends_of_what_was_trained_are_taken(text2earth, level):
    assert text2earth.told(Scene(prompt=f"{level}_GOOGLE_LEVEL_roofs"))["level"] == level
