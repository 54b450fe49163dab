"""When one text is too little for an extent, and whether a coarser level can be drawn first to mend that."""

from typing import Optional, Tuple

from .modelcard import ModelCard
from .requests import COARSE_FACTORS, Generate

#: Windows of the model, as an area, that one text still fills with something to look at.
WINDOWS = 16
#: What to say of an extent over which there are more.
ONE_TEXTURE = "One text over so large an extent gives one texture; give regions or guiding layers for structure."
#: What to say besides where the model can take it.
OR_COARSER = "A coarser level first gives structure, too."


def is_one_texture(shape: Tuple[int, int], card: ModelCard, is_guided: bool, coarse: int = 1) -> bool:
    """Whether a picture is far larger than what the model sees at once, and nothing but one text says what is where.

    Args:
        shape: (height, width) that is drawn, in pixels.
        card: of the model.
        is_guided: whether there are regions, or layers that guide.
        coarse: how many times coarser the level is that is drawn first, 1 for none.
    """
    largest = WINDOWS * (coarse * card.window) ** 2
    return "prompt" in card.uses and not is_guided and shape[0] * shape[1] > largest


def coarse_factors(gsd: float, shape: Tuple[int, int], card: ModelCard) -> Tuple[int, ...]:
    """How many times coarser a level may be that a picture starts from; empty where there can be none.

    Args:
        gsd: metres on the ground of one pixel, as the model is told.
        shape: (height, width) that is drawn, in pixels.
        card: of the model.
    """
    if card.draws_whole(shape):  # it sees all of it at once
        return ()
    return tuple(factor for factor in COARSE_FACTORS if card.takes_coarse(gsd, factor))


def coarse_refusal(request: Generate, shape: Tuple[int, int], card: ModelCard) -> Optional[Tuple[str, str]]:
    """Why a model cannot draw the coarser level that is asked for: a sentence and a next step; None where it can.

    Args:
        request: what is asked.
        shape: (height, width) that is drawn, in pixels.
        card: of the model that it names.
    """
    factor, gsd = request.coarse, request.told_gsd or request.gsd
    found = coarse_factors(gsd, shape, card)
    if factor == 1 or factor in found:
        return None
    if card.takes_coarse(gsd, factor):
        return (
            f"The model {card.name} sees all of this extent at once, so no coarser level of it is drawn first.",
            "Choose a larger extent, or no coarser level.",
        )
    for use, lack in (("gsd", "is told no ground resolution"), ("strength", "cannot start from a picture")):
        if use not in card.uses:
            message = f"The model {card.name} cannot draw a coarser level first: it {lack}."
            return message, "Choose another model, or no coarser level."
    return (
        f"The model {card.name} was trained on pixels of up to {card.gsd[1]:g} m, and those of a level {factor} times "
        f"coarser have {max(gsd, card.gsd[0]) * factor:g} m.",
        f"Choose at most {found[-1]} times." if found else "Choose a finer resolution, or no coarser level.",
    )
