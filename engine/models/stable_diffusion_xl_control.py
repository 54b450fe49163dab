"""Family: Stable Diffusion XL steered by a stock ControlNet.

Facts: Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models", and diffusers'
``StableDiffusionXLControlNetPipeline``.
"""

from __future__ import annotations

from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from .latent_diffusion import Parts, load_parts
from .layout import Layout
from .paired_text import load_paired_text
from .stable_diffusion import load_unet
from .stable_diffusion_control import Steered, load_control
from .stable_diffusion_xl import StockXLUNet, check_told, zeroes_empty


class ControlledStableDiffusionXL(StockXLUNet, Steered):
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
        return self._steered(sample, timestep, text, told["hint"], told["hint_scale"], added)


def load_model(layout: Layout) -> ControlledStableDiffusionXL:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    parts = load_parts(layout, load_paired_text)
    return ControlledStableDiffusionXL(parts, load_unet(layout), zeroes_empty(layout), load_control(layout))
