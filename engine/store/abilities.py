"""What each kind of published model can do, as its authors trained and ran it: the part of a card that no file tells.

Sources are the papers and the authors' code that the files in ``engine/models`` name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..contract import CONTENT, CONTROLS
from ..errors import InvalidRequest
from ..models.layout import Layout
from ..models.schedulers import CLASSES
from ..models.sentinel2 import HINT

#: Class of a scheduler -> name for people.
NAMES = {kind: name for name, kind in CLASSES.items()} | {"LdmDDIMScheduler": "DDIM"}
#: What models are told by the place and the date that they draw.
WORLD = ("gsd", "date", "place", "cloud_cover")
TEXT = ("prompt", "negative_prompt")
#: The maps that CRS-Diff takes, in words of ours.
CRS_CONTROLS = ("lines", "edges", "sketch", "roads", "depth", "land_use")
#: Colours that CRS-Diff's maps were made in: roads white on black, land use in LoveDA's palette.
CRS_PALETTES = {
    "roads": {"road": "#ffffff"},
    "land_use": {
        "background": "#ffffff",
        "building": "#ff0000",
        "road": "#ffff00",
        "water": "#0000ff",
        "barren": "#9f81b7",
        "forest": "#00ff00",
        "agriculture": "#ffc380",
    },
}


#: What is said of a CRS-Diff with an image tower beside it.
FOREIGN = "Content is read by an image tower that was imported beside it, not by the one that it was trained with."


@dataclass(frozen=True)
class Ability:
    """The fields of a card that are the same for all weights of a kind; see ``ModelCard``."""

    name: str
    summary: str
    tasks: tuple[str, ...]
    gsd: tuple[float, float]
    window: int
    steps: int
    guidance_scale: float
    uses: tuple[str, ...] = TEXT
    controls: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    palettes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    frames: int = 0
    factors: tuple[int, ...] = ()
    source_bands: tuple[str, ...] = ()
    licence: str = "Not stated in the folder: that of the weights you imported applies."
    citation: str = ""
    limitations: str = ""


_ROMBACH = "Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models"
_PODELL = "Podell et al. 2023, SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis"
_ZHANG = "Zhang et al. 2023, Adding Conditional Control to Text-to-Image Diffusion Models"
_UNTRAINED = "Not trained on satellite imagery. It is told no ground resolution, and any is accepted."
_KHANNA = "Khanna et al. 2024, DiffusionSat: A Generative Foundation Model for Satellite Imagery"
_OPENRAIL = "CreativeML Open RAIL++-M (Stable Diffusion 2.1); a licence of the weights themselves is not verified"
_GSD = "The range of ground resolutions is that of the data sets it was trained on, not a measured limit."

#: The kind of a stock ControlNet, of any family.
STOCK_CONTROL = "ControlNet"

_TEXT2EARTH = Ability(
    name="Text2Earth",
    summary="Draws satellite imagery from text and ground resolution, 0.5 to 128 m.",
    tasks=("Generate", "Edit"),
    gsd=(0.5, 128.0),
    window=256,
    steps=50,
    guidance_scale=4.0,
    uses=(*TEXT, "gsd", "strength"),
    licence="Academic use only, as the authors state",
    citation="Liu et al. 2025, Text2Earth",
    limitations="Ground resolution is one of nine levels, each twice the one before.",
)


def _stock(
    family: str, name: str, pictures: str, window: int, guidance: float, citation: str
) -> dict[tuple[str, str], Ability]:
    """What the models of a general family can do, which differ by how large they draw.

    Args:
        family: of ``layout``.
        name: for people.
        pictures: what they draw, in words.
        window: side in pixels.
        guidance: scale by which text and layers are followed; that of inpainting is 7.5 in all of them.
        citation: of the family.
    """
    drawn = Ability(
        name=name,
        summary=f"Draws {pictures} of any kind from text; knows satellite imagery by hearsay.",
        tasks=("Generate", "Edit"),
        gsd=(0.1, 100.0),
        window=window,
        steps=50,
        guidance_scale=guidance,
        uses=(*TEXT, "strength"),
        citation=citation,
        limitations=_UNTRAINED,
    )
    painted = replace(
        drawn,
        name=f"{name} inpainting",
        summary="Draws a part of a picture anew, or beyond its edge, from text.",
        tasks=("Edit",),
        guidance_scale=7.5,
        uses=(*TEXT, "mask", "margin"),
    )
    guided = replace(
        drawn,
        name=f"{name} with a ControlNet",
        summary=f"Draws {pictures} from text and a map.",
        tasks=("Generate",),
        uses=(*TEXT, "control_strength"),
        citation=f"{citation}; {_ZHANG}",
        limitations="It is told no ground resolution, and any is accepted. What colours its map should have is not "
        "told by its files.",
    )
    return {
        (family, "text to image"): drawn,
        (family, "inpainting"): painted,
        (f"{family}_control", STOCK_CONTROL): guided,
    }


#: (family, kind) as ``layout`` tells them -> what such a model can do.
ABILITIES: dict[tuple[str, str], Ability] = {
    ("diffusionsat", "single image"): Ability(
        name="DiffusionSat",
        summary="Draws satellite imagery from text, place, date, ground resolution and cloud cover.",
        tasks=("Generate", "Edit"),
        gsd=(0.3, 10.0),
        window=512,
        steps=20,
        guidance_scale=7.5,
        uses=(*TEXT, *WORLD, "strength"),
        licence=_OPENRAIL,
        citation=_KHANNA,
        limitations=f"An unknown field is told as 0, which is also a value: 180 W, 90 S, no clouds. {_GSD}",
    ),
    ("diffusionsat_control", "2-D ControlNet"): Ability(
        name="DiffusionSat super-resolution",
        summary="Draws high-resolution colour from ten bands of Sentinel-2.",
        tasks=("SuperResolve",),
        gsd=(0.3, 5.0),
        window=512,
        steps=50,
        guidance_scale=5.0,
        uses=(*TEXT, *WORLD),
        factors=(4, 2, 8, 10, 16),
        source_bands=HINT,
        licence=_OPENRAIL,
        citation=_KHANNA,
        limitations=f"It invents detail rather than restoring it. Made for level-1C numbers. {_GSD}",
    ),
    ("diffusionsat_temporal", "3-D ControlNet"): Ability(
        name="DiffusionSat over time",
        summary="Draws a place on another date, from up to three dated pictures of it.",
        tasks=("Forecast",),
        gsd=(1.0, 10.0),
        window=256,
        steps=50,
        guidance_scale=1.0,
        uses=(*TEXT, *WORLD),
        frames=3,
        licence=_OPENRAIL,
        citation=_KHANNA,
        limitations="The published weights were trained on houses in Texas. Fewer than three pictures are repeated.",
    ),
    ("text2earth", "text to image"): _TEXT2EARTH,
    ("text2earth", "inpainting"): replace(
        _TEXT2EARTH,
        name="Text2Earth inpainting",
        summary="Draws a part of a picture anew, or beyond its edge, from text and ground resolution.",
        tasks=("Edit",),
        guidance_scale=3.5,
        uses=(*TEXT, "gsd", "mask", "margin"),
    ),
    ("rsedit", "instruction"): Ability(
        name="RSEdit",
        summary="Draws what a picture looks like after an event that is told in words.",
        tasks=("Edit",),
        gsd=(0.3, 1.0),
        window=512,
        steps=50,
        guidance_scale=7.5,
        uses=(*TEXT, "image_guidance"),
        citation="Brooks et al. 2023, InstructPix2Pix; RSEdit (Bili-Sakura/RSEdit-Preview)",
        limitations=f"It is told no ground resolution. Prompts beyond 77 tokens are cut. {_GSD}",
    ),
    ("crs_diff", "text, metadata, six maps and content to image"): Ability(
        name="CRS-Diff",
        summary="Draws satellite imagery from text, metadata and up to six maps.",
        tasks=("Generate",),
        gsd=(0.3, 5.0),
        window=512,
        steps=50,
        guidance_scale=7.5,
        uses=(*TEXT, *WORLD),
        controls=CRS_CONTROLS,
        palettes=CRS_PALETTES,
        licence="The authors state no licence: all rights reserved",
        citation="Tang et al. 2024, CRS-Diff: Controllable Remote Sensing Image Generation with Diffusion Model",
        limitations="Whether land use was trained with red and blue swapped is not known; the published demo swaps "
        f"them. The authors' content encoder is not published. {_GSD}",
    ),
    **_stock("stable_diffusion", "Stable Diffusion", "pictures", 512, 7.5, _ROMBACH),
    **_stock("stable_diffusion_xl", "Stable Diffusion XL", "large pictures", 1024, 5.0, _PODELL),
}


def ability(layout: Layout, model: Any) -> Ability:
    """What the model of a layout can do.

    Raises:
        InvalidRequest: no task here can run it.
    """
    found = ABILITIES.get((layout.family, layout.kind))
    if found is None:
        raise InvalidRequest(
            f"There is no task yet for a model of the kind {layout.kind}.", "Choose another model to import."
        )
    if layout.family == "diffusionsat_control" and model.hint_channels != len(HINT):
        raise InvalidRequest(
            f"This ControlNet is shown {model.hint_channels} bands, and only those that are shown "
            f"{len(HINT)} bands of Sentinel-2 have a task here.",
            "Import the ControlNet for Sentinel-2.",
        )
    if getattr(model, "tower", None) is not None:
        return replace(
            found,
            summary=found.summary.replace("and up to six maps", "up to six maps and the content of a picture"),
            uses=(*found.uses, "content_strength"),
            controls=(*found.controls, CONTENT),
            limitations=f"{found.limitations} {FOREIGN}",
        )
    return found


def schedulers(own: str) -> tuple[str, ...]:
    """Names of the schedulers of a model, its own recipe first.

    Args:
        own: class of the scheduler that the model makes by itself.
    """
    first = NAMES.get(own, own.removesuffix("Scheduler"))
    return (first, *dict.fromkeys(name for name in NAMES.values() if name != first))


def controls(layout: Layout, found: Ability, named: str) -> tuple[str, ...]:
    """Kinds of layers that guide a model.

    Args:
        layout: of the model.
        found: what it can do.
        named: what the person says that a stock ControlNet is shown, or "".

    Raises:
        InvalidRequest: nobody said it, or said it of a model that tells it by itself.
    """
    if layout.kind != STOCK_CONTROL:
        if named:
            raise InvalidRequest("Only a stock ControlNet can be told what it is shown.", "Leave --control out.")
        return found.controls
    maps = tuple(kind for kind in CONTROLS if kind != CONTENT)
    if named not in maps:
        raise InvalidRequest(
            "A ControlNet's files do not tell what it is shown.", f"Say it with --control: {', '.join(maps)}."
        )
    return (named,)
