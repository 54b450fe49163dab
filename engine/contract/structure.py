"""When one text is too little for an extent."""

from typing import Tuple

from .modelcard import ModelCard

#: Windows of the model, as an area, that one text still fills with something to look at.
WINDOWS = 16
#: What to say of an extent over which there are more.
ONE_TEXTURE = "One text over so large an extent gives one texture; give regions or guiding layers for structure."


def is_one_texture(shape: Tuple[int, int], card: ModelCard, is_guided: bool) -> bool:
    """Whether a picture is far larger than what the model sees at once, and nothing but one text says what is where.

    Args:
        shape: (height, width) that is drawn, in pixels.
        card: of the model.
        is_guided: whether there are regions, or layers that guide.
    """
    return "prompt" in card.uses and not is_guided and shape[0] * shape[1] > WINDOWS * card.window**2
