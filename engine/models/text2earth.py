"""Family: Text2Earth, text and a zoom level to imagery, and inpainting with soft masks.

Facts: Liu et al. 2025, "Text2Earth", and its pipelines at Chen-Yang-Liu/Text2Earth 29049fa.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..diffusion.rows import Branch
from ..errors import InvalidRequest
from .base import Scene
from .latent_diffusion import load_parts, make_sampler, two_branches
from .layout import Layout
from .stable_diffusion import StockUNet, load_unet

#: Level that means "unknown"; it is also what the null branch of guidance is told.
NO_LEVEL = 0
#: Coarsest and finest level of the training data.
LEVELS = (10, 18)
_PREFIX = re.compile(r"(\d+)_GOOGLE_LEVEL_")


class Text2Earth(StockUNet):
    """Stable Diffusion whose time embedding is joined by that of a level: 17 is 1 m per pixel, 16 is 2 m."""

    title = "Text2Earth"
    conditioning = ("prompt", "negative_prompt", "level")
    is_repaint_binary = False

    def scheduler(self) -> Any:
        """Euler's method over the folder's schedule, as its authors sample; ``model_index.json`` names another."""
        return make_sampler("EulerDiscreteScheduler", self.schedule)

    def asked(self, scene: Scene) -> dict[str, Any]:
        """See ``LatentDiffusion``: the level of a prompt in the authors' spelling, else that of the resolution."""
        level: float | None = named_level(scene.prompt)
        if level is None:
            level = NO_LEVEL if scene.gsd is None else level_of(scene.gsd)
        return {**super().asked(scene), "prompt": scene.prompt, "level": level}  # ``branches`` takes the prefix off

    def texts_of(self, scene: Scene) -> tuple[str, str]:
        """See ``LatentDiffusion``: a level in the authors' spelling is no part of the text."""
        return split_prompt(scene.prompt)[1], scene.negative_prompt

    def remarks(self, scene: Scene) -> tuple[str, ...]:
        """See ``LatentDiffusion``: the level of a prompt, where it has one."""
        level = named_level(scene.prompt)
        if level is None:
            return ()
        known = f"level {level:.0f}, {2 ** (17 - level):.4g} m per pixel" if level else "an unknown level"
        return (f"The prompt begins with {known}: the model is told that, and no other resolution.",)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the network: its raw output (B, 4, h, w) float32.

        Args:
            sample: (B, 4, h, w) noisy latents, scaled by the scheduler; or all the input channels in one.
            timestep: a scalar, or one for each item.
            text: states (B, length, width).
            told: ``level`` (B,), 0 for unknown; ``context`` (B, 5, h, w), the further input channels of inpainting.
        """
        return self._unet(sample, timestep, text, told.get("context"), vector=told["level"])

    def level_embedding(self, level: Tensor) -> Tensor:
        """What a level (B,) adds to the time embedding (B, 4 x first width)."""
        with torch.inference_mode():
            return self.unet.class_embedding(self.unet.time_proj(level.to(self.device)))

    def branches(
        self,
        batch: int,
        *,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float = 4.0,
        level: float | Sequence[float] | None = None,
        picture: Tensor | None = None,
        repaint: Tensor | None = None,
        **more: Any,
    ) -> list[Branch]:
        """What guidance asks: the negative prompt without a level, then the prompt with its level.

        Args:
            batch: samples in each call.
            prompt: one for all samples, or one for each. A prefix "16_GOOGLE_LEVEL_" is taken off and read as the
                level, as the official pipeline does.
            negative_prompt: in the null branch.
            guidance_scale: up to 1 there is no null branch.
            level: for all samples, or one for each; None takes it from the prompt, or 0 for unknown.
            picture: (B or 1, 3, H, W) in 0..1, for inpainting.
            repaint: (B or 1, 1, H, W) in 0..1, 1 where the picture is drawn anew; soft values reach the network.
            more: refused.

        Raises:
            InvalidRequest: a picture is missing or is not used by this model.
        """
        self.refuse(more)
        split = [split_prompt(each) for each in ([prompt] if isinstance(prompt, str) else prompt)]
        if level is None:
            levels = [found for found, _ in split]
        else:
            levels = [float(level)] if isinstance(level, (int, float)) else [float(each) for each in level]
        told, shared = torch.tensor(levels), self.repainting(picture, repaint)
        return two_branches(
            {"text": self.texts(negative_prompt), "level": torch.full_like(told, NO_LEVEL), **shared},
            {"text": self.texts([text for _, text in split]), "level": told, **shared},
            guidance_scale,
        )


def split_prompt(prompt: str) -> tuple[float, str]:
    """(level, text) of a prompt in the authors' spelling; level 0 where it has no prefix."""
    found = _PREFIX.match(prompt)
    return (float(found[1]), prompt.removeprefix(found[0])) if found else (float(NO_LEVEL), prompt)


def named_level(prompt: str) -> float | None:
    """The level that a prompt begins with, 0 for unknown; None where it begins with none.

    Raises:
        InvalidRequest: for one that the model was not trained on.
    """
    if not _PREFIX.match(prompt):
        return None
    level, (coarsest, finest) = split_prompt(prompt)[0], LEVELS
    if level != NO_LEVEL and not coarsest <= level <= finest:
        raise InvalidRequest(
            f"The prompt begins with a level that Text2Earth was not trained on: it knows {coarsest} to {finest}.",
            f"Begin it with one of {coarsest}_GOOGLE_LEVEL_ to {finest}_GOOGLE_LEVEL_, with {NO_LEVEL}_GOOGLE_LEVEL_ "
            "for an unknown one, or with the words themselves.",
        )
    return level


def level_of(gsd: float) -> int:
    """The level whose pixels come nearest to a ground resolution in metres: 2^(17 - level), from 10 to 18."""
    return min(max(round(17 - math.log2(gsd)), LEVELS[0]), LEVELS[1])


def load_model(layout: Layout) -> Text2Earth:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    return Text2Earth(load_parts(layout), load_unet(layout))
