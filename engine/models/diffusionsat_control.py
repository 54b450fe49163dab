"""Family: DiffusionSat's 2-D ControlNet, a picture with its own metadata to another one of the same place.

The published weights draw 512 px of colour from ten Sentinel-2 bands; ``sentinel2`` makes those. Facts: as in
``diffusionsat``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from ..diffusion.rows import Branch
from ..errors import InvalidRequest, WeightsDamaged
from .base import Given, Scene
from .diffusionsat import DiffusionSat, MetadataEmbedding, checked_parts, load_unet, metadata_of, split_embedding
from .latent_diffusion import Parts
from .layout import Layout, found
from .metadata import UNKNOWN
from .statedict import build, component_tensors, fill
from .weights import read_json

#: Keys of the configuration that are not those of the stock network.
OWN = ("conditioning_in_channels", "conditioning_scale", "use_metadata", "num_metadata", "use_temporal_transformer")


class ControlledDiffusionSat(DiffusionSat):
    """DiffusionSat steered by a picture of the same place.

    Args:
        parts: text side, autoencoder, schedule.
        unet: of the checkpoint that the ControlNet was trained on.
        embedding: of the U-Net's metadata.
        control: makes residuals for the U-Net's skips.
        control_embedding: of the ControlNet's metadata; the same for the target's and the picture's.
    """

    title = "DiffusionSat with a ControlNet"
    conditioning = ("prompt", "negative_prompt", "metadata", "hint", "hint_metadata")

    def __init__(
        self,
        parts: Parts,
        unet: UNet2DConditionModel,
        embedding: MetadataEmbedding,
        control: nn.Module,
        control_embedding: MetadataEmbedding,
    ) -> None:
        super().__init__(parts, unet, embedding)
        self.control, self.control_embedding = control, control_embedding
        self.networks = (*self.networks, control, control_embedding)

    def asked(self, scene: Scene) -> dict[str, Any]:
        """See ``LatentDiffusion``: the scene's metadata, and those of the picture that it is drawn from."""
        told = super().asked(scene)
        return {**told, "hint_metadata": metadata_of(scene.hints[0])} if scene.hints else told

    def shown(self, given: Given, size: tuple[int, int]) -> dict[str, Any]:
        """See ``LatentDiffusion``: the bands, ``hint_scale`` of their pixels a latent."""
        return {"hint": given.picture}

    @property
    def hint_channels(self) -> int:
        """Bands of the hint."""
        return int(self._hint_encoder().conv_in.in_channels)

    @property
    def hint_scale(self) -> int:
        """Pixels of the hint for each latent, along one axis."""
        strides = [block.stride[-1] for block in self._hint_encoder().blocks]
        return int(torch.tensor(strides).prod())

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the networks: raw output (B, 4, h, w) float32.

        Args:
            sample: (B, 4, h, w) noisy latents.
            timestep: a scalar, or one for each item.
            text: states (B, length, width).
            told: ``metadata`` (B, 7), ``hint_metadata`` (B, 7), both normalised as ``metadata_vector`` does, and
                ``hint`` (B, bands, H, W) in 0..1.
        """
        residuals = self.residuals(sample, timestep, text, **told)
        vector = self.metadata_embedding(told["metadata"])
        return self._unet(sample, timestep, text, vector=vector, residuals=residuals)

    @torch.inference_mode()
    def residuals(
        self, sample: Tensor, timestep: Tensor, text: Tensor, metadata: Tensor, hint_metadata: Tensor, hint: Tensor
    ) -> list[Tensor]:
        """What is added to the U-Net's skips, in order, and last to its middle block; arguments as in ``forward``."""
        if hint_metadata.ndim == 3 and hint_metadata.shape[2] == 1:
            hint_metadata = hint_metadata[:, :, 0]
        self._check_hint(sample, hint, ("batch", "bands"))
        vector = self.control_embedding(metadata) + self.control_embedding(hint_metadata)
        skips, middle = self.control(sample, timestep, text, hint, class_labels=vector, return_dict=False)
        return [*skips, middle]

    def branches(
        self,
        batch: int,
        *,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float = 5.0,
        metadata: Tensor | None = None,
        hint: Tensor | None = None,
        hint_metadata: Tensor | None = None,
        **more: Any,
    ) -> list[Branch]:
        """What guidance asks: without text and any metadata but with the hint, then with everything.

        Args:
            batch: samples in each call.
            prompt: one for all samples, or one for each.
            negative_prompt: in the null branch.
            guidance_scale: up to 1 there is no null branch.
            metadata: of the target, (7,) or (B, 7) of ``metadata_vector``; None is all unknown.
            hint: (B or 1, bands, H, W) in 0..1; of several dates (B or 1, bands, dates, H, W).
            hint_metadata: like ``metadata``, of the hint; of several dates (7, dates) or (B, 7, dates).
            more: refused.

        Raises:
            InvalidRequest: the hint is missing or of another size, or something is asked that is not told.
        """
        if hint is None:
            raise InvalidRequest(f"{self.title} needs a picture to start from.")
        null, *rest = super().branches(
            batch,
            prompt=prompt,
            negative_prompt=negative_prompt,
            guidance_scale=guidance_scale,
            metadata=metadata,
            **more,
        )
        told = self._hint_metadata(hint, hint_metadata)
        hint = hint.float()
        if not rest:
            return [Branch(null.weight, {**null.told, "hint": hint, "hint_metadata": told})]
        unknown = torch.full_like(told, UNKNOWN)
        return [
            Branch(null.weight, {**null.told, "hint": hint, "hint_metadata": unknown}),
            Branch(rest[0].weight, {**rest[0].told, "hint": hint, "hint_metadata": told}),
        ]

    def _hint_metadata(self, hint: Tensor, metadata: Tensor | None) -> Tensor:
        count = len(self.control_embedding) - 1
        return torch.full((1, count), UNKNOWN) if metadata is None else metadata.float().reshape(-1, count)

    def _hint_encoder(self) -> Any:
        return self.control.controlnet_cond_embedding

    def _check_hint(self, sample: Tensor, hint: Tensor, axes: Sequence[str]) -> None:
        size = [side * self.hint_scale for side in sample.shape[-2:]]
        expected = [len(sample), self.hint_channels]
        if hint.ndim != len(axes) + 2 or list(hint.shape[:2]) != expected or list(hint.shape[-2:]) != size:
            raise InvalidRequest(
                f"The hint has shape {list(hint.shape)}; it should have {', '.join(axes)}, height and width, with "
                f"{self.hint_channels} bands of {size[0]} x {size[1]} pixels."
            )


def stock_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The stock ControlNet's configuration, of DiffusionSat's."""
    return {
        **config,
        "conditioning_channels": config["conditioning_in_channels"],
        "class_embed_type": "identity",
    }


def reduce_strides(network: ControlNetModel, scale: int) -> None:
    """Make the last of the hint encoder's halving convolutions keep the size: as many as ``scale`` has doublings.

    Raises:
        WeightsDamaged: for a scale that is no power of two, or has more doublings than there are halvings.
    """
    halvings = [block for block in network.controlnet_cond_embedding.blocks if block.stride != (1, 1)]
    doublings = scale.bit_length() - 1
    if scale != 1 << doublings or doublings > len(halvings):
        raise WeightsDamaged(f"The ControlNet's configuration asks for a conditioning scale of {scale}.")
    for block in halvings[::-1][:doublings]:
        block.stride = (1, 1)


def load_model(layout: Layout) -> ControlledDiffusionSat:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    controlnet = found(layout.controlnet)
    config = read_json(controlnet / "config.json")
    tensors, embedding = split_embedding(component_tensors(controlnet), config)
    control = build(ControlNetModel, stock_options(config), "ControlNet", own=OWN)
    reduce_strides(control, int(config.get("conditioning_scale", 1)))
    fill(control, tensors, "ControlNet")
    return ControlledDiffusionSat(checked_parts(layout), *load_unet(layout), control, embedding)
