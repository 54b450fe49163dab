"""A published model as the tasks see it: whatever its family, a ``GenerateModel`` and an ``EditModel``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..contract import ModelCard
from ..device import free_caches, free_main_memory, free_memory
from ..diffusion.guidance import Predict
from ..diffusion.rows import Branch
from ..errors import NotFinite, UnknownModel, UnknownScheduler, is_out_of_memory
from .base import Given, Scene
from .latent_diffusion import LatentDiffusion, make_sampler
from .layout import recognise
from .memory import Rung, fitting, ladder
from .published import open_model
from .schedulers import CLASSES
from .weights import check_files

#: The types of two bytes a weight. float16 has three binary digits more than bfloat16, draws eight times nearer to
#: float32 (docs/published-models.md), and is what the models' authors sample in. It has a range that numbers can leave;
#: then the other one takes its place.
HALF, WIDE = torch.float16, torch.bfloat16


#: What is set where a schedule is sampled in another way than its own: PNDM without its Runge-Kutta start, which needs
#: twelve network calls more and cannot begin at a strength below 1; and no clipping to -1..1, which diffusers does
#: where the folder's own scheduler has no such option: latents have no bounds.
PLAIN = {"skip_prk_steps": True, "clip_sample": False}


class PictureModel:
    """See ``base`` for what its attributes and methods are.

    Until ``settle`` it runs as it was opened, in float32 on the CPU.

    Args:
        card: what it can do; window and stride are read from it.
        network: the model of the family, on the CPU.
        device: where it should run.
        reopen: opens the network anew, for its weights in float32 after they were in half precision.
    """

    dtype = torch.float32
    decode_halo: int | None = None
    batch = 1

    def __init__(
        self,
        card: ModelCard,
        network: LatentDiffusion,
        device: torch.device | None = None,
        reopen: Callable[[], LatentDiffusion] | None = None,
    ) -> None:
        self.card, self.network, self.device = card, network, network.device
        self._target, self._reopen = device or network.device, reopen
        self.rungs = ladder(self._target.type)
        self._rung: Rung | None = None
        self._half, self._type = HALF, torch.float32
        self.scale, self.channels = network.codec.scale, network.codec.channels
        self.window, self.stride = card.window // self.scale, card.stride // self.scale
        #: Whoever is not shown what stays must be held to it.
        self.holds = "mask" not in card.uses and "image_guidance" not in card.uses

    @property
    def memory(self) -> str:
        """The rung that it runs on and the type of its U-Net, as they are pinned in the job folder."""
        return f"{(self._rung or self.rungs[0]).name} {str(self._type).removeprefix('torch.')}"

    @property
    def memory_notice(self) -> str:
        """What the person should know of that, "" for nothing."""
        return self._rung.notice if self._rung else ""

    def settle(self, pinned: str | None = None) -> str:
        """Run on the best rung that fits the free memory from here on; what to pin.

        Args:
            pinned: what an earlier run of the job pinned: no better rung is taken than that.

        Raises:
            torch.OutOfMemoryError: not even the last one fits.
        """
        names = [rung.name for rung in self.rungs]
        name, _, type_ = (pinned or "").partition(" ")
        if type_ == str(WIDE).removeprefix("torch."):
            self._half = WIDE
        size = self.network.size(self.window, self._branches, max(1, self.card.frames))
        host = free_main_memory()
        self._take(
            fitting(
                self.rungs,
                names.index(name) if name in names else 0,
                size,
                free_memory(self._target),
                None if host is None else host + size.weights,
            )
        )
        return self.memory

    def lighten(self) -> bool:
        """Run on the next lower rung from here on; whether there was one.

        Raises:
            torch.OutOfMemoryError: none of those below fits.
        """
        below = 1 + (self.rungs.index(self._rung) if self._rung else 0)
        if below == len(self.rungs):
            return False
        self._take(below)
        return True

    def widen(self) -> bool:
        """Take a type of two bytes with the range of float32 and fewer digits; whether that is another one than before.

        Raises:
            torch.OutOfMemoryError: see ``lighten``.
        """
        if self._rung is None or not self._rung.half or self._half == WIDE:
            return False
        self._half = WIDE
        self._take(self.rungs.index(self._rung))
        return True

    def _take(self, index: int) -> None:
        """Take a rung, or one below it where its weights do not fit."""
        while not self._has_taken(index):
            free_caches()
            index += 1

    def _has_taken(self, index: int) -> bool:
        rung = self.rungs[index]
        type_ = self._half if rung.half else torch.float32
        if self._reopen is not None and self._type not in (type_, torch.float32):  # whose digits are gone
            self.network = None  # type: ignore[assignment]  # not both at once
            free_caches()
            self.network = self._reopen()
        self._rung, self._type = rung, type_
        try:
            self.network.place(rung, self._target, self._half, self.window)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or index + 1 == len(self.rungs):
                raise
            return False
        self.device = self.network.device  # the CPU on the last rungs, whatever was asked for
        return True

    @property
    def _branches(self) -> int:
        return 3 if "image_guidance" in self.card.uses else 2

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
        return make_sampler(CLASSES.get(name, name), self.network.schedule, {**self.network.mended, **PLAIN})

    def told(self, scene: Scene) -> dict[str, Any]:
        """See ``GenerateModel``: the keywords of the family."""
        return self.network.asked(scene)

    def remarks(self, scene: Scene) -> tuple[str, ...]:
        """A sentence for each text whose end is not read, and what the family has to say."""
        found, limit = list(self.network.remarks(scene)), self.network.text.length
        given = scene.prompt, scene.negative_prompt
        for name, own, text in zip(("prompt", "negative prompt"), given, self.network.texts_of(scene)):
            count = self.network.text.count(text)
            if count > limit:
                added = " with the words that are put behind it" if len(text) > len(own) else ""
                found.append(f"The {name} has {count} tokens{added} and this model reads {limit}: its end is not used.")
        return tuple(found)

    def predictor(self, told: dict[str, Any], guidance_scale: float, given: Given) -> Predict:
        """See ``GenerateModel``.

        The prediction raises NotFinite for numbers that are not finite: their pixels would be black.
        """
        guided = self.network.predictor(self.batch, guidance_scale=guidance_scale, **told, **self._shown(given))
        return lambda x, t: _finite(guided(x, t))

    def branches(self, told: dict[str, Any], guidance_scale: float, given: Given) -> list[Branch]:
        """See ``GenerateModel``."""
        return self.network.branches(self.batch, guidance_scale=guidance_scale, **told, **self._shown(given))

    def guides(self, t: Tensor) -> bool:
        """See ``GenerateModel``: everywhere."""
        return True

    def rows(self, branches: int) -> int:
        """See ``GenerateModel``."""
        return self.batch * (1 if self.network.is_sliced else branches)

    def answer(self, x: Tensor, t: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        """See ``GenerateModel``; raises NotFinite like ``predictor``."""
        return _finite(self.network.forward(x, t, **{name: value.to(self.device) for name, value in told.items()}))

    def _shown(self, given: Given) -> dict[str, Any]:
        side = self.window * self.scale
        return self.network.shown(given, (side, side))

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


def _finite(output: Tensor) -> Tensor:
    if not output.isfinite().all():
        raise NotFinite("The model drew numbers that are not finite.")
    return output


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
    return PictureModel(card, open_model(folder), device, lambda: open_model(folder))
