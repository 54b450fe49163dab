"""A Stable Diffusion XL of small size and random weights, as diffusers itself writes such a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

#: Widths of the two text towers, and of the second one's projection.
WIDTHS, POOLED = (16, 24), 20
#: Three levels as XL has them: no attention at the finest, several transformers in a row at the coarsest.
SIZES: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "block_out_channels": (8, 16, 24),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (2, 4, 6),
    "norm_num_groups": 4,
    "cross_attention_dim": sum(WIDTHS),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + POOLED,
}
#: The schedule of the published weights.
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def write_pipeline(folder: Path, words: Path, channels: int = 4, zeroed: bool = True, seed: int = 3) -> Path:
    """A pipeline folder.

    Args:
        folder: to be made.
        words: a CLIP tokenizer with a small vocabulary.
        channels: of the U-Net's input: 4, or 9 for inpainting.
        zeroed: ``force_zeros_for_empty_prompt``.
        seed: of the weights.
    """
    tokenizer = CLIPTokenizer.from_pretrained(words)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {
            "vae": AutoencoderKL(
                block_out_channels=(8, 8, 8, 16),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                norm_num_groups=8,
                scaling_factor=0.13025,
                force_upcast=True,
            ),
            "text_encoder": CLIPTextModel(_tower(WIDTHS[0], tokenizer, hidden_act="quick_gelu")),
            "text_encoder_2": CLIPTextModelWithProjection(_tower(WIDTHS[1], tokenizer, hidden_act="gelu")),
            "unet": UNet2DConditionModel(
                in_channels=channels,
                sample_size=8,
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                **SIZES,
            ),
        }
        for part in ("text_encoder", "text_encoder_2"):  # of other words, other states
            _spread(parts[part], 0.2)
        _spread(parts["unet"].add_embedding, 0.3)
    kind = StableDiffusionXLInpaintPipeline if channels == 9 else StableDiffusionXLPipeline
    kind(
        **parts,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading"),
        force_zeros_for_empty_prompt=zeroed,
        add_watermarker=False,
    ).save_pretrained(folder)
    for name in ("tokenizer", "tokenizer_2"):  # in the files of the published weights
        shutil.rmtree(folder / name)
        shutil.copytree(words, folder / name)
    padded = folder / "tokenizer_2" / "special_tokens_map.json"
    padded.write_text(json.dumps({**json.loads(padded.read_text()), "pad_token": "!"}))
    settings = folder / "tokenizer_2" / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "pad_token": "!"}))
    return folder


def write_control(folder: Path, seed: int = 4) -> Path:
    """The folder of a ControlNet for such a pipeline."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        control = ControlNetModel(conditioning_embedding_out_channels=(4, 8, 8, 12), **SIZES)
        for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=0.3)  # made as zeros, which would steer nothing
        for weight in control.controlnet_cond_embedding.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=2 / weight[0].numel() ** 0.5)
        _spread(control.add_embedding, 0.3)
    control.save_pretrained(folder)
    return folder


def _tower(width: int, tokenizer: CLIPTokenizer, **more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=POOLED,
        bos_token_id=0,
        eos_token_id=2,  # as the published configurations say, which means: where the largest id stands
        pad_token_id=1,
        **more,
    )


def _spread(network: torch.nn.Module, deviation: float) -> None:
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=deviation)
