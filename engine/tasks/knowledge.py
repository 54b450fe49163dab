"""What a model knows of what it is asked: ground resolutions, and which parts of a request change its picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..contract import ModelCard, Sampling
from ..errors import UnsupportedRaster, UnsupportedResolution
from ..models.catalog import FAMILIES


def trained_gsd(gsd: float, card: ModelCard, refusal: Callable[[str, str], tuple[str, str]]) -> float:
    """The ground resolution to draw at, metres per pixel: the asked one, or the nearest that the model knows.

    Args:
        gsd: that is asked for.
        card: of the model.
        refusal: (what the model draws, what may be asked for), in words -> sentence and next step.

    Raises:
        UnsupportedResolution: for one that is further than a factor of ``GSD_REACH`` from the model's.
    """
    finest, coarsest = card.gsd
    if not card.reaches(gsd):
        widest = _range(finest / card.GSD_REACH, coarsest * card.GSD_REACH)
        raise UnsupportedResolution(*refusal(_range(finest, coarsest), widest))
    nearest = min(max(gsd, finest), coarsest)
    return gsd if math.isclose(gsd, nearest, rel_tol=1e-3) else nearest


def require_bands(bands: Sequence[int], card: ModelCard) -> None:
    """See that a raster has a band for each that the model draws. Raises UnsupportedRaster."""
    if len(bands) != len(card.bands):
        names = ", ".join(card.bands)
        raise UnsupportedRaster(
            f"The model {card.name} draws {len(card.bands)} bands ({names}), and {len(bands)} are given.",
            f"Choose {len(card.bands)} bands of the layer, in the order {names}.",
        )


def told_gsd(asked: float | None, drawn: float) -> float | None:
    """The ground resolution that a model is told, metres per pixel; None leaves it unknown.

    Args:
        asked: of the request: None for what is drawn, 0 for unknown.
        drawn: metres per pixel of what is drawn.
    """
    return drawn if asked is None else asked or None


#: Name for people of what is given -> name among what a card uses, where they differ by more than "_" for a space.
_USES = {"resolution told": "gsd", "image strength": "image_guidance"}


def unused_notices(given: Mapping[str, bool], card: ModelCard) -> list[str]:
    """The sentence that names what is given and not used, if there is such a thing.

    Args:
        given: name for people -> whether it is given; a name of ``card.uses`` with spaces for "_", or one of ``_USES``.
        card: of the model.
    """
    unused = [name for name, is_given in given.items() if is_given and not _is_used(name, card)]
    if not unused:
        return []
    names = " and the ".join([", the ".join(unused[:-1]), unused[-1]] if len(unused) > 1 else unused)
    return [f"Not used by this model: the {names}."]


def unguided_notices(
    negative_prompt: str, sampling: Sampling, card: ModelCard, image_guidance: bool = False
) -> list[str]:
    """The sentence about what counts in guidance only, where it is given to a model that knows it and there is none.

    Args:
        negative_prompt: of the request.
        sampling: its guidance.
        card: of the model.
        image_guidance: whether an image strength is given.
    """
    scale = sampling.guidance_scale
    # the pipelines of published models have no null branch up to 1; ours have, wherever it has a share in the result
    if scale > 1 or (scale < 1 and card.family in FAMILIES):
        return []
    given = {"negative prompt": bool(negative_prompt), "image strength": image_guidance}
    names = [name for name, is_given in given.items() if is_given and _is_used(name, card)]
    if not names:
        return []
    what, counts = ("are", "they count") if len(names) > 1 else ("is", "it counts")
    return [f"The {' and the '.join(names)} {what} not used: {counts} only with a guidance above 1."]


def _is_used(name: str, card: ModelCard) -> bool:
    return _USES.get(name, name.replace(" ", "_")) in card.uses


def _range(low: float, high: float) -> str:
    return f"{low:.4g} m per pixel" if low == high else f"{low:.4g} to {high:.4g} m per pixel"
