"""Family: DiffusionSat, text and metadata to imagery.

Facts: Khanna et al. 2024, "DiffusionSat: A Generative Foundation Model for Satellite Imagery", and its code at
samar-khanna/DiffusionSat 68259b0. The network is a stock one: seven numbers become a vector that is added to its time
embedding, which ``class_embed_type="identity"`` takes through ``class_labels``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from ..diffusion.rows import Branch
from ..errors import InvalidRequest, WeightsDamaged
from .base import Scene
from .latent_diffusion import Parts, load_parts, two_branches
from .layout import Layout, found
from .metadata import UNKNOWN, NumberEmbedding, date_fields, told_vector
from .stable_diffusion import StockUNet
from .statedict import build, component_tensors, described, fill, without
from .weights import read_json

#: Field -> (what is added to it, the span that is mapped to 0..1000), in the network's order. Angles in degrees, gsd in
#: metres per pixel of the generated image (not capped), cloud cover 0..1, month 1..12, day 1..31.
FIELDS: dict[str, tuple[float, float]] = {
    "longitude": (180.0, 360.0),
    "latitude": (90.0, 180.0),
    "gsd": (0.0, 1.0),
    "cloud_cover": (0.0, 1.0),
    "year": (-1980.0, 120.0),
    "month": (0.0, 12.0),
    "day": (0.0, 31.0),
}
#: Keys of the U-Net and of the ControlNets that stock networks do not have.
EMBEDDING = "metadata_embedding."


def metadata_vector(**known: float | None) -> Tensor:
    """What the network is told (7,) float32, of real-world numbers; a field that is left out or None is unknown.

    Args:
        known: by the names of ``FIELDS`` and in their units.

    Raises:
        InvalidRequest: for a name that is not one of them.
    """
    return told_vector(known, FIELDS, "DiffusionSat", lambda value, offset, span: (value + offset) / span * 1000)


def metadata_of(scene: Scene) -> Tensor:
    """What the network is told (7,) of a scene."""
    return metadata_vector(
        longitude=scene.longitude,
        latitude=scene.latitude,
        gsd=scene.gsd,
        cloud_cover=None if scene.cloud_cover is None else scene.cloud_cover / 100,
        **date_fields(scene.date),
    )


class MetadataEmbedding(NumberEmbedding, nn.ModuleList):
    """One two-layer network for each number; the sum of what they make of its sinusoid.

    Args:
        config: of the U-Net or the ControlNet that it belongs to.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        width = int(config["block_out_channels"][0])
        count = int(config.get("num_metadata", len(FIELDS)))
        super().__init__(TimestepEmbedding(width, 4 * width, config.get("act_fn", "silu")) for _ in range(count))
        self.sinusoid = Timesteps(width, bool(config.get("flip_sin_to_cos", True)), config.get("freq_shift", 0))

    def forward(self, values: Tensor) -> Tensor:
        """(B, 4 x width) of normalised numbers (B, count); float32, since half precision would round the numbers."""
        count = len(self) - 1  # the sinusoid is one of the children
        if values.shape[1] != count:
            raise InvalidRequest(f"The network is told {count} numbers of metadata, not {values.shape[1]}.")
        parts = [self[k](self.sinusoid(values[:, k].float())) for k in range(count)]
        return torch.stack(parts).sum(dim=0)


class DiffusionSat(StockUNet):
    """Stable Diffusion 2 that is also told place, ground resolution, cloud cover and date.

    Args:
        parts: text side, autoencoder, schedule.
        unet: with ``class_embed_type="identity"``.
        embedding: of the metadata.
    """

    title = "DiffusionSat"
    conditioning: tuple[str, ...] = ("prompt", "negative_prompt", "metadata")
    prediction = "v_prediction"

    def __init__(self, parts: Parts, unet: UNet2DConditionModel, embedding: MetadataEmbedding) -> None:
        super().__init__(parts, unet)
        self.embedding = embedding
        self.networks = (*self.networks, embedding)

    def asked(self, scene: Scene) -> dict[str, Any]:
        """See ``LatentDiffusion``: everything that is known of the world."""
        return {**super().asked(scene), "metadata": metadata_of(scene)}

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the network: its raw output (B, 4, h, w) float32.

        Args:
            sample: (B, 4, h, w) noisy latents.
            timestep: a scalar, or one for each item.
            text: states (B, length, width).
            told: ``metadata`` (B, 7), normalised as ``metadata_vector`` does.
        """
        return self._unet(sample, timestep, text, vector=self.metadata_embedding(told["metadata"]))

    def metadata_embedding(self, metadata: Tensor) -> Tensor:
        """What normalised metadata (B, 7) adds to the time embedding (B, 4 x first width)."""
        with torch.inference_mode():
            return self.embedding(metadata.to(self.device))

    def branches(
        self,
        batch: int,
        *,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float = 7.5,
        metadata: Tensor | None = None,
        **more: Any,
    ) -> list[Branch]:
        """What guidance asks: the negative prompt without metadata, then the prompt with them.

        Args:
            batch: samples in each call.
            prompt: one for all samples, or one for each.
            negative_prompt: in the null branch.
            guidance_scale: up to 1 there is no null branch.
            metadata: (7,) or (B, 7) of ``metadata_vector``; None is all unknown.
            more: refused.

        Raises:
            InvalidRequest: something is asked that this model is not told.
        """
        self.refuse(more)
        told = torch.full((1, len(FIELDS)), UNKNOWN) if metadata is None else torch.atleast_2d(metadata).float()
        return two_branches(
            {"text": self.texts(negative_prompt), "metadata": torch.full_like(told, UNKNOWN)},
            {"text": self.texts(prompt), "metadata": told},
            guidance_scale,
        )


def split_embedding(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], MetadataEmbedding]:
    """(the tensors of the stock network, the metadata embedding), strictly. Raises WeightsDamaged."""
    rest, own = without(tensors, EMBEDDING)
    with described("metadata embedding"), torch.device("meta"):
        embedding = MetadataEmbedding(config)
    return rest, fill(embedding, own, "metadata embedding")


def load_unet(layout: Layout) -> tuple[UNet2DConditionModel, MetadataEmbedding]:
    """The U-Net of a layout and its metadata embedding, strictly. Raises WeightsMissing and WeightsDamaged."""
    unet = found(layout.unet)
    config = read_json(unet / "config.json")
    rest, embedding = split_embedding(component_tensors(unet), config)
    stock = {**config, "class_embed_type": "identity"}
    unet = fill(build(UNet2DConditionModel, stock, "U-Net", own=("use_metadata", "num_metadata")), rest, "U-Net")
    return unet, embedding


def checked_parts(layout: Layout) -> Parts:
    """The parts of a pipeline whose schedule is the one that DiffusionSat was trained with.

    Raises:
        WeightsMissing: one of them is not there.
        WeightsDamaged: one of them is not what its configuration says, or the schedule predicts something else.
    """
    parts = load_parts(layout)
    predicted = parts.schedule.get("prediction_type", "epsilon")
    if predicted != DiffusionSat.prediction:
        raise WeightsDamaged(
            f"DiffusionSat predicts velocities, and the scheduler's configuration says {predicted}.",
            "Get scheduler/scheduler_config.json from the original archive.",
        )
    return parts


def load_model(layout: Layout) -> DiffusionSat:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    return DiffusionSat(checked_parts(layout), *load_unet(layout))
