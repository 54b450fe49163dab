"""Family: Stable Diffusion 1 and 2 steered by a stock ControlNet (GeoSynth, EarthSynth and their like)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from ..diffusion.rows import Branch
from ..errors import InvalidRequest
from .base import Given, Scene
from .latent_diffusion import Parts, load_parts
from .layout import Layout, found
from .stable_diffusion import StockUNet, load_unet
from .statedict import build, component_tensors, fill
from .weights import read_json


class Steered(StockUNet):
    """What a hint adds to a network: residuals of a ControlNet, for text towers and U-Nets of any kind.

    Attributes:
        control: makes residuals for the U-Net's skips.
    """

    control: ControlNetModel

    def asked(self, scene: Scene) -> dict[str, Any]:
        """See ``LatentDiffusion``: the strength is that of the one control."""
        strengths = list(scene.control_strengths.values())
        return {**super().asked(scene), "hint_scale": strengths[0] if strengths else 1.0}

    def shown(self, given: Given, size: tuple[int, int]) -> dict[str, Any]:
        """See ``LatentDiffusion``: the one control."""
        return {"hint": next(iter(given.controls.values()), None)}

    @torch.inference_mode()
    def residuals(
        self, sample: Tensor, timestep: Tensor, text: Tensor, hint: Tensor, added: Mapping[str, Tensor] | None = None
    ) -> list[Tensor]:
        """What is added to the U-Net's skips, in order, and last to its middle block.

        Args:
            sample: as in ``forward``.
            timestep: as in ``forward``.
            text: as in ``forward``.
            hint: as in ``forward``.
            added: goes to ``added_cond_kwargs``.
        """
        check_hint(self.control, sample, hint)
        more: dict[str, Any] = {} if added is None else {"added_cond_kwargs": dict(added)}
        skips, middle = self.control(sample, timestep, text, hint, return_dict=False, **more)
        return [*skips, middle]

    def _steered(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        hint: Tensor,
        scale: Tensor,
        added: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """One call of both networks; ``scale`` (B,) is how much the hint counts."""
        residuals = self.residuals(sample, timestep, text, hint, added)
        scaled = [each * scale[:, None, None, None] for each in residuals]
        return self._unet(sample, timestep, text, residuals=scaled, added=added)

    def branches(
        self,
        batch: int,
        *,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float | None = None,
        hint: Tensor | None = None,
        hint_scale: float = 1.0,
        **more: Any,
    ) -> list[Branch]:
        """What guidance asks: the negative prompt, then the prompt, both with the hint.

        Args:
            batch: samples in each call.
            prompt: one for all samples, or one for each.
            negative_prompt: in the null branch.
            guidance_scale: up to 1 there is no null branch; None is ``usual_guidance``.
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
        return self.guided(prompt, negative_prompt, guidance_scale, shared)


class ControlledStableDiffusion(Steered):
    """Text and a hint to image.

    Args:
        parts: text side, autoencoder, schedule.
        unet: that the ControlNet was trained on.
        control: makes residuals for the U-Net's skips.
    """

    title = "Stable Diffusion with a ControlNet"
    conditioning = ("prompt", "negative_prompt", "hint")
    mended: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, parts: Parts, unet: UNet2DConditionModel, control: ControlNetModel) -> None:
        super().__init__(parts, unet)
        self.control = control
        self.networks = (*self.networks, control)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the networks: raw output (B, 4, h, w) float32.

        Args:
            sample: (B, 4, h, w) noisy latents, scaled by the scheduler.
            timestep: a scalar, or one for each item.
            text: states (B, length, width).
            told: ``hint`` (B, 3, 8 h, 8 w) in 0..1 and ``hint_scale`` (B,), how much it counts.
        """
        return self._steered(sample, timestep, text, told["hint"], told["hint_scale"])


def check_hint(control: ControlNetModel, sample: Tensor, hint: Tensor) -> None:
    """See that a hint has the size that goes with latents. Raises InvalidRequest."""
    encoder = control.controlnet_cond_embedding
    scale = 2 ** sum(block.stride == (2, 2) for block in encoder.blocks)
    expected = [len(sample), encoder.conv_in.in_channels, *[side * scale for side in sample.shape[-2:]]]
    if list(hint.shape) != expected:
        raise InvalidRequest(f"The hint has shape {list(hint.shape)}, and {expected} is needed.")


def load_control(layout: Layout) -> ControlNetModel:
    """The ControlNet of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    folder = found(layout.controlnet)
    network = build(ControlNetModel, read_json(folder / "config.json"), "ControlNet")
    return fill(network, component_tensors(folder), "ControlNet")


def load_model(layout: Layout) -> ControlledStableDiffusion:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    return ControlledStableDiffusion(load_parts(layout), load_unet(layout), load_control(layout))
