"""A published model as the tasks see it: whatever its family, a ``GenerateModel`` and an ``EditModel``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..contract import ModelCard
from ..diffusion.guidance import Predict
from ..errors import UnknownModel, UnknownScheduler
from .base import Given, Scene
from .latent_diffusion import LatentDiffusion, make_sampler
from .layout import recognise
from .published import open_model
from .weights import check_files

#: Name for people -> class of diffusers. The first scheduler on a card is the family's own recipe, whatever its name.
SCHEDULERS = {
    "DDIM": "DDIMScheduler",
    "DPM++ 2M": "DPMSolverMultistepScheduler",
    "Euler": "EulerDiscreteScheduler",
    "PNDM": "PNDMScheduler",
    "UniPC": "UniPCMultistepScheduler",
    "DDPM": "DDPMScheduler",
}


class PictureModel:
    """See ``base`` for what its attributes and methods are.

    Args:
        card: what it can do; window and stride are read from it.
        network: the model of the family.
    """

    dtype = torch.float32
    decode_halo: int | None = None
    batch = 1

    def __init__(self, card: ModelCard, network: LatentDiffusion) -> None:
        self.card, self.network, self.device = card, network, network.device
        self.scale, self.channels = network.codec.scale, network.codec.channels
        self.window, self.stride = card.window // self.scale, card.stride // self.scale
        #: Whoever is not shown what stays must be held to it.
        self.holds = "mask" not in card.uses and "image_guidance" not in card.uses

    @property
    def shown_side(self) -> int:
        """See ``MultispectralModel``."""
        return self.window * int(getattr(self.network, "hint_scale", self.scale))

    def scheduler(self, name: str) -> Any:
        """See ``GenerateModel``."""
        if name not in self.card.schedulers:
            offered = ", ".join(self.card.schedulers)
            raise UnknownScheduler(f"This model has no scheduler {name[:40]!r}.", f"Choose one of {offered}.")
        if name == self.card.schedulers[0]:
            return self.network.scheduler()
        return make_sampler(SCHEDULERS.get(name, name), self.network.schedule, self.network.mended)

    def told(self, scene: Scene) -> dict[str, Any]:
        """See ``GenerateModel``: the keywords of the family."""
        return self.network.asked(scene)

    def remarks(self, scene: Scene) -> tuple[str, ...]:
        """A sentence for each text whose end is not read."""
        found = []
        for name, text in (("prompt", scene.prompt), ("negative prompt", scene.negative_prompt)):
            count, limit = self.network.text.count(text), self.network.text.length
            if count > limit:
                found.append(f"The {name} has {count} tokens and this model reads {limit}: its end is not used.")
        return tuple(found)

    def predictor(self, told: dict[str, Any], guidance_scale: float, given: Given) -> Predict:
        """See ``GenerateModel``."""
        side = self.window * self.scale
        shown = self.network.shown(given, (side, side))
        return self.network.predictor(self.batch, guidance_scale=guidance_scale, **told, **shown)

    def encode(self, pixels: Tensor) -> Tensor:
        """See ``EditModel``."""
        return self.network.codec.encode(pixels.to(self.device).clamp(0, 1))

    def decode(self, z: Tensor) -> Tensor:
        """See ``GenerateModel``."""
        return self.network.decode(z)

    def colors(self) -> None:
        """See ``EditModel``: not known."""

    def holder(self, pixels: Tensor, known: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``EditModel``: blocks that are known wholly, since this code has no other parts."""
        code = self.encode(pixels)
        whole = nn.functional.avg_pool2d(known.to(code.dtype), self.scale) == 1
        return lambda z: torch.where(whole, code, z)


def load_model(card: ModelCard, folder: Path, device: torch.device) -> PictureModel:
    """The model in a folder, its files checked.

    Raises:
        WeightsMissing: a file is not there.
        WeightsDamaged: a file is not the one that the card names, or not of the network that it should be.
        UnknownModel: the folder holds another family than the card says.
    """
    check_files(folder, card.weights)
    family = recognise(folder).family
    if family != card.family:
        raise UnknownModel(f"The folder of {card.name} holds a model of the family {family}, not {card.family}.")
    return PictureModel(card, open_model(folder, device=device))
