"""When one text is too little for an extent."""

from .modelcard import ModelCard
from .requests import Generate

#: Windows of the model, as an area, that one text still fills with something to look at.
WINDOWS = 16
#: What to say of an extent over which there are more.
ONE_TEXTURE = "One text over so large an extent gives one texture; give regions or guiding layers for structure."


def is_one_texture(request: Generate, card: ModelCard) -> bool:
    """Whether a picture is far larger than what the model sees at once, and nothing but one text says what is where.

    Args:
        request: what is asked.
        card: of the model.
    """
    is_guided = bool(request.controls) or request.regions is not None
    height, width = request.lattice.shape
    return "prompt" in card.uses and not is_guided and height * width > WINDOWS * card.window**2
