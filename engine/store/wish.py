"""What a person says of a model that is to be installed, and which of its files are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..contract import Notice, Offer

#: Takes notices of how far something is.
Tell = Callable[[Notice], None]
_TOKENIZER = (
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "added_tokens.json",
)
#: Files of a pipeline that are kept beside the weights, by folder. Nothing else is taken, and no code.
SMALL = {
    "": ("model_index.json",),
    "scheduler": ("scheduler_config.json",),
    "tokenizer": _TOKENIZER,
    "tokenizer_2": _TOKENIZER,
    "vae": ("config.json",),
    "text_encoder": ("config.json",),
    "text_encoder_2": ("config.json",),
    "unet": ("config.json",),
    "controlnet": ("config.json",),
}
#: The training checkpoint whose U-Net the authors of DiffusionSat draw single images with; another one at the
#: pipeline's root is left. Source: the official single-image notebook.
DRAWS = "checkpoint-150000"
#: The one that its ControlNets need, kept for them.
STEERS = "checkpoint-100000"


@dataclass(frozen=True)
class Wish:
    """What a model is to be called.

    Attributes:
        id: of the model.
        name: for people, "" for that of its kind.
        control: what a stock ControlNet is shown.
        window: side in pixels, 0 for the size that it was trained on.
        offer: the public model that it is; None for any other.
        origin: where it came from.
        record: further facts that are kept beside the card.
        tower: folder of a CLIP image tower, for CRS-Diff; None takes what lies beside the checkpoint.
    """

    id: str
    name: str = ""
    control: str = ""
    window: int = 0
    offer: Offer | None = None
    origin: str = "imported"
    record: dict[str, str] = field(default_factory=dict)
    tower: Path | None = None
