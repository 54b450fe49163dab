"""Family: Stable Diffusion XL steered by a stock ControlNet.

Facts: Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models", and diffusers'
``StableDiffusionXLControlNetPipeline``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from ..errors import InvalidRequest
from .base import Given, Scene
from .latent_diffusion import Branch, Parts, load_parts, two_branches
from .layout import Layout
from .paired_text import load_paired_text
from .stable_diffusion import load_unet
from .stable_diffusion_control import check_hint, load_control
from .stable_diffusion_xl import StockXLUNet, check_told, zeroes_empty


class ControlledStableDiffusionXL(StockXLUNet):
    """Text and a hint to image.

    Args:
        parts: text side, autoencoder, schedule.
        unet: that the ControlNet was trained on.
        zeroed: see ``StockXLUNet``.
        control: makes residuals for the U-Net's skips.
    """

    title = "Stable Diffusion XL with a ControlNet"
    conditioning = ("prompt", "negative_prompt", "hint")

    def __init__(self, parts: Parts, unet: UNet2DConditionModel, zeroed: bool, control: ControlNetModel) -> None:
        super().__init__(parts, unet, zeroed)
        check_told(self.text, control, "ControlNet")
        self.control = control
        self.networks = (*self.networks, control)

    def asked(self, scene: Scene) -> dict[str, Any]:
        """See ``LatentDiffusion``: the strength is that of the one control."""
        strengths = list(scene.control_strengths.values())
        return {**super().asked(scene), "hint_scale": strengths[0] if strengths else 1.0}

    def shown(self, given: Given, size: tuple[int, int]) -> dict[str, Any]:
        """See ``LatentDiffusion``: the one control."""
        return {"hint": next(iter(given.controls.values()), None)}

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the networks: raw output (B, 4, h, w) float32.

        Args:
            sample: (B, 4, h, w) noisy latents, scaled by the scheduler.
            timestep: a scalar, or one for each item.
            text: states (B, length, width) of both towers.
            told: ``pooled`` as in ``StableDiffusionXL``; ``hint`` (B, 3, 8 h, 8 w) in 0..1 and
                ``hint_scale`` (B,), how much it counts.
        """
        added = self.added(sample, told["pooled"])
        residuals = self.residuals(sample, timestep, text, told["hint"], added)
        scaled = [each * told["hint_scale"][:, None, None, None] for each in residuals]
        return self._unet(sample, timestep, text, residuals=scaled, added=added)

    @torch.inference_mode()
    def residuals(
        self, sample: Tensor, timestep: Tensor, text: Tensor, hint: Tensor, added: dict[str, Tensor]
    ) -> list[Tensor]:
        """What is added to the U-Net's skips, in order, and last to its middle block; arguments as in ``forward``."""
        check_hint(self.control, sample, hint)
        skips, middle = self.control(sample, timestep, text, hint, added_cond_kwargs=added, return_dict=False)
        return [*skips, middle]

    def branches(
        self,
        batch: int,
        *,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float = 5.0,
        hint: Tensor | None = None,
        hint_scale: float = 1.0,
        **more: Any,
    ) -> list[Branch]:
        """What guidance asks: the negative prompt, then the prompt, both with the hint.

        Args:
            batch: samples in each call.
            prompt: one for all samples, or one for each.
            negative_prompt: in the null branch.
            guidance_scale: up to 1 there is no null branch.
            hint: (B or 1, 3, H, W) in 0..1.
            hint_scale: how much it counts.
            more: refused.

        Raises:
            InvalidRequest: the hint is missing, or something is asked that this model is not told.
        """
        self.refuse(more)
        if hint is None:
            raise InvalidRequest(f"{self.title} needs a hint.")
        shared = {"hint": hint.float(), "hint_scale": torch.tensor([float(hint_scale)])}
        null, cond = self.told_of_null(negative_prompt), self.told_of_text(prompt)
        return two_branches({**null, **shared}, {**cond, **shared}, guidance_scale)


def load_model(layout: Layout) -> ControlledStableDiffusionXL:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    parts = load_parts(layout, load_paired_text)
    return ControlledStableDiffusionXL(parts, load_unet(layout), zeroes_empty(layout), load_control(layout))
