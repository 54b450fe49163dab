"""Family: Stable Diffusion 1 and 2, text to image and inpainting, on stock networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..diffusion.rows import Branch
from ..errors import InvalidRequest
from .base import Given
from .latent_diffusion import LatentDiffusion, Parts, load_parts, two_branches
from .layout import Layout, found
from .statedict import build, component_tensors, fill
from .weights import read_json


class StockUNet(LatentDiffusion):
    """What the families on diffusers' own U-Net share: the call of the network, and the inputs of inpainting.

    Args:
        parts: text side, autoencoder, schedule.
        unet: with 9 input channels for inpainting.
    """

    #: Guidance of those who name none, as the stock pipeline has it.
    usual_guidance: ClassVar[float] = 7.5
    #: Whether soft masks are cut at one half before the network sees them, as the stock pipeline does.
    is_repaint_binary = True

    def __init__(self, parts: Parts, unet: UNet2DConditionModel) -> None:
        super().__init__(parts, unet)
        self.unet = unet
        self.is_inpainting = int(unet.config.in_channels) == 9
        if self.is_inpainting:
            self.conditioning = (*self.conditioning, "picture", "repaint")

    def told_of_text(self, prompt: str | Sequence[str]) -> dict[str, Tensor]:
        """What ``forward`` is told of one prompt, or of one for each sample."""
        return {"text": self.texts(prompt)}

    def told_of_null(self, negative_prompt: str | Sequence[str]) -> dict[str, Tensor]:
        """The same for the null branch of guidance."""
        return self.told_of_text(negative_prompt)

    def guided(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str],
        guidance_scale: float | None,
        shared: Mapping[str, Tensor],
    ) -> list[Branch]:
        """The negative prompt, then the prompt, both with what they share; None is the usual guidance."""
        scale = self.usual_guidance if guidance_scale is None else guidance_scale
        null, cond = self.told_of_null(negative_prompt), self.told_of_text(prompt)
        return two_branches({**null, **shared}, {**cond, **shared}, scale)

    def shown(self, given: Given, size: tuple[int, int]) -> dict[str, Any]:
        """See ``LatentDiffusion``: an inpainting network sees the picture and where to repaint it."""
        return {"picture": given.picture, "repaint": given.repaint} if self.is_inpainting else {}

    def repainting(self, picture: Tensor | None, repaint: Tensor | None) -> dict[str, Tensor]:
        """The further input channels of inpainting, by their keyword of ``forward``; none for other networks.

        Order: where to repaint (1), then the latents of the picture without what is repainted (4).

        Raises:
            InvalidRequest: a picture is missing or is not used by this model.
        """
        if not self.is_inpainting:
            if picture is not None or repaint is not None:
                raise InvalidRequest("This model draws from text and takes no picture.", "Choose an inpainting model.")
            return {}
        if picture is None or repaint is None:
            raise InvalidRequest("This model repaints: it needs a picture and where to repaint it.")
        if picture.shape[-2:] != repaint.shape[-2:]:
            raise InvalidRequest("The picture and where to repaint it differ in size.")
        if self.is_repaint_binary:
            repaint = (repaint >= 0.5).to(picture.dtype)
        kept = (picture * 2 - 1) * (repaint < 0.5)
        size = [side // self.codec.scale for side in picture.shape[-2:]]
        where = torch.nn.functional.interpolate(repaint.float(), size=size).to(self.device)
        around = self.codec.encode((kept.to(self.device) + 1) / 2)
        count = max(len(where), len(around))
        return {"context": torch.cat([where.expand(count, -1, -1, -1), around.expand(count, -1, -1, -1)], dim=1)}

    def _unet(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        context: Tensor | None = None,
        vector: Tensor | None = None,
        residuals: Sequence[Tensor] | None = None,
        added: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The stock network.

        Args:
            sample: as in ``forward``.
            timestep: as in ``forward``.
            text: as in ``forward``.
            context: further input channels.
            vector: goes to ``class_labels``.
            residuals: for the skips, in order, and last for the middle block.
            added: goes to ``added_cond_kwargs``.
        """
        x = sample if context is None else torch.cat([sample, context], dim=1)
        expected = int(self.unet.config.in_channels)
        if x.shape[1] != expected:
            raise InvalidRequest(f"The network takes {expected} channels, and {x.shape[1]} were given.")
        more: dict[str, Any] = {}
        if residuals is not None:
            inner = next(self.unet.down_blocks.parameters()).dtype  # the skips', which they are added to
            residuals = [each.to(inner) for each in residuals]
            more = {
                "down_block_additional_residuals": tuple(residuals[:-1]),
                "mid_block_additional_residual": residuals[-1],
            }
        if added is not None:
            more["added_cond_kwargs"] = dict(added)
        with torch.inference_mode():
            output = self.unet(x, timestep, encoder_hidden_states=text, class_labels=vector, return_dict=False, **more)
        return output[0].float()


class StableDiffusion(StockUNet):
    """Text to image; with nine input channels, also what to repaint and what is around it."""

    title = "Stable Diffusion"

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the network: its raw output (B, 4, h, w) float32.

        Args:
            sample: (B, 4, h, w) noisy latents, scaled by the scheduler; or all the input channels in one.
            timestep: a scalar, or one for each item.
            text: states (B, length, width).
            told: ``context`` (B, 5, h, w), the further input channels of inpainting.
        """
        return self._unet(sample, timestep, text, told.get("context"))

    def branches(
        self,
        batch: int,
        *,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float | None = None,
        picture: Tensor | None = None,
        repaint: Tensor | None = None,
        **more: Any,
    ) -> list[Branch]:
        """What guidance asks: the negative prompt, then the prompt.

        Args:
            batch: samples in each call.
            prompt: one for all samples, or one for each.
            negative_prompt: in the null branch.
            guidance_scale: up to 1 there is no null branch; None is ``usual_guidance``.
            picture: (B or 1, 3, H, W) in 0..1, for inpainting.
            repaint: (B or 1, 1, H, W) in 0..1, 1 where the picture is drawn anew.
            more: refused.

        Raises:
            InvalidRequest: a picture is missing or is not used by this model.
        """
        self.refuse(more)
        return self.guided(prompt, negative_prompt, guidance_scale, self.repainting(picture, repaint))


def load_unet(layout: Layout, **changed: Any) -> UNet2DConditionModel:
    """The U-Net of a layout, strictly, with options of its configuration changed.

    Raises:
        WeightsMissing: a file is not there.
        WeightsDamaged: the weights are not those of the network that the configuration describes.
    """
    unet = found(layout.unet)
    config: Mapping[str, Any] = {**read_json(unet / "config.json"), **changed}
    return fill(build(UNet2DConditionModel, config, "U-Net"), component_tensors(unet), "U-Net")


def load_model(layout: Layout) -> StableDiffusion:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    return StableDiffusion(load_parts(layout), load_unet(layout))
