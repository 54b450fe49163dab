"""Family: InstructPix2Pix and RSEdit, a picture and what happens to it to the picture after.

Facts: Brooks et al. 2023, "InstructPix2Pix"; Bili-Sakura/RSEdit-Preview c91b803, which uses the stock pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..diffusion.rows import Branch
from ..errors import InvalidRequest
from .base import Given, Scene
from .latent_diffusion import load_parts
from .layout import Layout
from .stable_diffusion import StockUNet, load_unet


class InstructedEdit(StockUNet):
    """Stable Diffusion with the latents of a picture, unscaled, as four further input channels."""

    title = "RSEdit (InstructPix2Pix)"
    conditioning = ("prompt", "negative_prompt", "picture")
    mended: ClassVar[Mapping[str, Any]] = {}

    def asked(self, scene: Scene) -> dict[str, Any]:
        """See ``LatentDiffusion``."""
        return {**super().asked(scene), "image_guidance_scale": scene.image_guidance_scale}

    def shown(self, given: Given, size: tuple[int, int]) -> dict[str, Any]:
        """See ``LatentDiffusion``: the picture before."""
        return {"picture": given.picture}

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the network: its raw output (B, 4, h, w) float32.

        Args:
            sample: (B, 4, h, w) noisy latents, scaled by the scheduler; or all eight input channels in one.
            timestep: a scalar, or one for each item.
            text: states (B, length, width).
            told: ``context`` (B, 4, h, w), the picture's latents.
        """
        return self._unet(sample, timestep, text, told.get("context"))

    def branches(
        self,
        batch: int,
        *,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float = 7.5,
        picture: Tensor | None = None,
        image_guidance_scale: float = 1.5,
        **more: Any,
    ) -> list[Branch]:
        """What guidance asks: text and picture, the picture alone, and nothing.

        nothing + guidance_scale (both - picture) + image_guidance_scale (picture - nothing).
        Source: Brooks et al. 2023, "InstructPix2Pix", eq. 3.

        Args:
            batch: samples in each call.
            prompt: what happens, one for all samples or one for each.
            negative_prompt: in the two branches without the text.
            guidance_scale: how much the text counts; up to 1, there is one branch only.
            picture: (B or 1, 3, H, W) in 0..1.
            image_guidance_scale: how much the picture counts; below 1, there is one branch only, as in the stock
                pipeline.
            more: refused.

        Raises:
            InvalidRequest: the picture is missing, or something is asked that this model is not told.
        """
        self.refuse(more)
        if picture is None:
            raise InvalidRequest("This model edits: it needs a picture.")
        latents = self.codec.encode(picture.to(self.device), scaled=False)
        both = {"text": self.texts(prompt), "context": latents}
        if guidance_scale <= 1 or image_guidance_scale < 1:
            return [Branch(1.0, both)]
        null = self.texts(negative_prompt)
        return [
            Branch(guidance_scale, both),
            Branch(image_guidance_scale - guidance_scale, {"text": null, "context": latents}),
            Branch(1 - image_guidance_scale, {"text": null, "context": torch.zeros_like(latents)}),
        ]


def load_model(layout: Layout) -> InstructedEdit:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    return InstructedEdit(load_parts(layout), load_unet(layout))
