"""Family: InstructPix2Pix and RSEdit, a picture and what happens to it to the picture after.

Facts: Brooks et al. 2023, "InstructPix2Pix"; Bili-Sakura/RSEdit-Preview c91b803, which uses the stock pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidRequest
from .latent_diffusion import Branch, load_parts
from .layout import Layout
from .stable_diffusion import StableDiffusion, load_unet


class InstructedEdit(StableDiffusion):
    """Stable Diffusion with the latents of a picture, unscaled, as four further input channels."""

    title = "RSEdit (InstructPix2Pix)"
    conditioning = ("prompt", "negative_prompt", "picture")

    def branches(
        self,
        batch: int,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float = 7.5,
        picture: Tensor | None = None,
        repaint: Tensor | None = None,
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
            repaint: refused.
            image_guidance_scale: how much the picture counts; below 1, there is one branch only, as in the stock
                pipeline.
            more: refused.

        Raises:
            InvalidRequest: the picture is missing, or something is asked that this model is not told.
        """
        if picture is None:
            raise InvalidRequest("This model edits: it needs a picture.")
        if more or repaint is not None:
            raise InvalidRequest(f"{self.title} is not told {', '.join(sorted(more) or ['where to repaint'])}.")
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
