"""A CLIP image tower with small random weights, in the layout of its kind."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

#: Side of the pictures that it takes, in pixels.
SIDE = 32


def save(folder: Path, width: int = 16) -> Path:
    """Write one whose vectors have ``width`` numbers; the same at each call. Returns the folder."""
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = CLIPVisionConfig(**sizes, image_size=SIDE, patch_size=8, projection_dim=width)
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
    shape = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=shape).save_pretrained(folder)
    return folder
