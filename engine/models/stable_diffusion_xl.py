"""Family: Stable Diffusion XL, text to image and inpainting, on stock networks.

Facts: Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis", and diffusers'
``StableDiffusionXLPipeline``, ``StableDiffusionXLImg2ImgPipeline`` and ``StableDiffusionXLInpaintPipeline``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..errors import WeightsDamaged
from .latent_diffusion import Parts, load_parts
from .layout import Layout, index_of
from .paired_text import PairedText, load_paired_text
from .stable_diffusion import StableDiffusion, StockUNet, load_unet
from .statedict import described

#: Numbers that the network is told of a picture's frame: height and width of what it was cut from, the rows and columns
#: that were cut off above and left of it, and its own height and width, in pixels (section 2.2 of the paper).
FRAME = 6


class StockXLUNet(StockUNet):
    """What the families on Stable Diffusion XL's U-Net share: two text towers, and the frame of a picture.

    Args:
        parts: text side, autoencoder, schedule.
        unet: with 9 input channels for inpainting.
        zeroed: whether an empty negative prompt means zeros instead of the states of an empty text:
            ``force_zeros_for_empty_prompt`` of ``model_index.json``.
    """

    usual_guidance: ClassVar[float] = 5.0
    mended: ClassVar[Mapping[str, Any]] = {}
    text: PairedText

    def __init__(self, parts: Parts, unet: UNet2DConditionModel, zeroed: bool) -> None:
        super().__init__(parts, unet)
        self._zeroed = zeroed
        check_told(self.text, unet, "U-Net")

    def told_of_text(self, prompt: str | Sequence[str]) -> dict[str, Tensor]:
        """What ``forward`` is told of one prompt, or of one for each sample."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        return {"text": self.text(prompts), "pooled": self.text.pooled(prompts)}

    def told_of_null(self, negative_prompt: str | Sequence[str]) -> dict[str, Tensor]:
        """The same for the null branch of guidance."""
        told = self.told_of_text(negative_prompt)
        if not self._zeroed:
            return told
        prompts = [negative_prompt] if isinstance(negative_prompt, str) else negative_prompt
        counts = torch.tensor([float(bool(each)) for each in prompts], device=told["text"].device)
        return {"text": told["text"] * counts[:, None, None], "pooled": told["pooled"] * counts[:, None]}

    def added(self, sample: Tensor, pooled: Tensor) -> dict[str, Tensor]:
        """The further conditions of a network, by diffusers' names.

        Its frame is that of the sample, whole: each window of a larger picture is drawn as a picture of its own.

        Args:
            sample: (B, channels, h, w) latents.
            pooled: (B, width), one vector for each text.
        """
        size = [side * self.codec.scale for side in sample.shape[-2:]]
        frame = torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32).expand(len(sample), -1)
        return {"text_embeds": pooled.to(sample.device), "time_ids": frame.to(sample.device)}


class StableDiffusionXL(StockXLUNet, StableDiffusion):
    """Text to image; with nine input channels, also what to repaint and what is around it."""

    title = "Stable Diffusion XL"

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the network: its raw output (B, 4, h, w) float32.

        Args:
            sample: (B, 4, h, w) noisy latents, scaled by the scheduler; or all the input channels in one.
            timestep: a scalar, or one for each item.
            text: states (B, length, width) of both towers.
            told: ``pooled`` (B, width), the text as one vector; ``context`` (B, 5, h, w), the further input channels of
                inpainting.
        """
        added = self.added(sample, told["pooled"])
        return self._unet(sample, timestep, text, told.get("context"), added=added)


def check_told(text: PairedText, network: Any, name: str) -> None:
    """See whether a network is told what these towers tell, and the six numbers of a frame.

    Args:
        text: the towers.
        network: of diffusers: a U-Net or a ControlNet.
        name: of it, for people.

    Raises:
        WeightsDamaged: it is told something else.
    """
    config = network.config
    with described(name):  # either may be a list, one for each block
        told = text.pooled_width + FRAME * int(config.addition_time_embed_dim or 0)
        is_told = network.add_embedding.linear_1.in_features == told and int(config.cross_attention_dim) == text.width
    if not is_told:
        raise WeightsDamaged(
            f"The {name} is not told what the text encoders beside it tell: they belong to different models.",
            "Get the model's folder again, complete.",
        )
    if getattr(config, "time_cond_proj_dim", None) is not None:
        raise WeightsDamaged(
            "This U-Net was distilled to be told the scale of guidance, which is not known here.",
            "Get the model that it was made from.",
        )


def zeroes_empty(layout: Layout) -> bool:
    """Whether an empty negative prompt means zeros; as in diffusers, it does where the folder says nothing else."""
    return bool(index_of(layout.pipeline).get("force_zeros_for_empty_prompt", True))


def load_model(layout: Layout) -> StableDiffusionXL:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    return StableDiffusionXL(load_parts(layout, load_paired_text), load_unet(layout), zeroes_empty(layout))
