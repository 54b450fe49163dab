"""What a text-to-image network is told, as a short sequence of tokens: the text and the metadata."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

#: Metadata fields with the value that maps to 0 and the one that maps to 1. gsd is log2 of metres; the month and the
#: longitude go around, which the sine features of period 2 take care of when the range is mapped to -1..1.
FIELDS: dict[str, tuple[float, float]] = {
    "gsd": (0.0, 8.0),
    "longitude": (0.0, 180.0),
    "latitude": (0.0, 90.0),
    "year": (2000.0, 2020.0),
    "month": (0.0, 6.0),
    "cloud_cover": (0.0, 1.0),
}


class CaptionTokens(ModelMixin, ConfigMixin):
    """Tokens of a caption: one for the text, one for each metadata field.

    The text token is the weighted mean of learned class embeddings. A field is either known, and then a learned
    projection of sine features of its value, or unknown, and then a learned embedding of its own.

    Args:
        classes: names of what can be drawn, in the order of the embeddings.
        fields: names of metadata fields, out of ``FIELDS``.
        width: channels of a token.
        octaves: sine features of each field.
    """

    @register_to_config
    def __init__(
        self,
        classes: Sequence[str] = ("Forest", "River"),
        fields: Sequence[str] = tuple(FIELDS),
        width: int = 192,
        octaves: int = 4,
    ) -> None:
        super().__init__()
        unknown = set(fields) - set(FIELDS)
        if unknown:
            raise ValueError(f"unknown metadata fields: {sorted(unknown)}")
        self.class_embedding = nn.Parameter(torch.randn(len(classes), width))
        self.null_text = nn.Parameter(torch.randn(width))
        self.null_field = nn.Parameter(torch.randn(len(fields), width) * 0.1)
        self.field_projection = nn.Parameter(torch.randn(len(fields), 1 + 2 * octaves, width) * 0.1)

    def forward(self, class_weights: Tensor, metadata: Tensor) -> Tensor:
        """Tokens (B, 1 + fields, width).

        Args:
            class_weights: (B, classes), each row adding up to 1, or all 0 for no text.
            metadata: (B, fields) in the fields' own units (gsd as log2 metres, angles in degrees, month 1..12,
                cloud cover 0..1), NaN where unknown.
        """
        named = class_weights.sum(dim=1, keepdim=True)
        text = class_weights @ self.class_embedding + (1 - named) * self.null_text
        known = ~torch.isnan(metadata)
        offsets, spans = zip(*[(FIELDS[f][0], FIELDS[f][1] - FIELDS[f][0]) for f in self.config.fields])
        value = (torch.nan_to_num(metadata) - metadata.new_tensor(offsets)) / metadata.new_tensor(spans)
        angles = value[..., None] * (math.pi * 2.0 ** torch.arange(self.config.octaves, device=value.device))
        features = torch.cat([torch.ones_like(value)[..., None], angles.sin(), angles.cos()], dim=-1)
        told = torch.einsum("bfk,fkw->bfw", features.to(self.field_projection.dtype), self.field_projection)
        fields = torch.where(known[..., None], told, self.null_field)
        return torch.cat([text[:, None], fields], dim=1)
