"""Checkpoints in the names of the latent diffusion code base (CompVis), in those of diffusers; its sampler.

Facts: the module tree of CompVis/stable-diffusion, and Rombach et al. 2022, "High-Resolution Image Synthesis with
Latent Diffusion Models".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from ..errors import WeightsDamaged

#: Parts of a residual block.
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
#: Parts of the U-Net outside its blocks.
_OUTSIDE = {
    "time_embed.0.": "time_embedding.linear_1.",
    "time_embed.2.": "time_embedding.linear_2.",
    "input_blocks.0.0.": "conv_in.",
    "out.0.": "conv_norm_out.",
    "out.2.": "conv_out.",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
#: Parts of the autoencoder, in the order in which they are looked for.
_AUTOENCODER = (
    (".mid.block_1.", ".mid_block.resnets.0."),
    (".mid.block_2.", ".mid_block.resnets.1."),
    (".mid.attn_1.norm.", ".mid_block.attentions.0.group_norm."),
    (".mid.attn_1.q.", ".mid_block.attentions.0.to_q."),
    (".mid.attn_1.k.", ".mid_block.attentions.0.to_k."),
    (".mid.attn_1.v.", ".mid_block.attentions.0.to_v."),
    (".mid.attn_1.proj_out.", ".mid_block.attentions.0.to_out.0."),
    (".norm_out.", ".conv_norm_out."),
    (".block.", ".resnets."),
    (".downsample.", ".downsamplers.0."),
    (".upsample.", ".upsamplers.0."),
    (".nin_shortcut.", ".conv_shortcut."),
)
#: Buffers of the noise schedule that checkpoints carry; ``betas`` say it all.
SCHEDULE = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "logvar",
    "lvlb_weights",
)


class LdmDDIMScheduler(DDIMScheduler):
    """DDIM at the timesteps of the latent diffusion code: 1, 1 + s, 1 + 2 s ... with s = levels // steps.

    Where the steps do not divide the levels there are more of these than steps (31 for 30 in 1000).
    """

    @property
    def steps_hint(self) -> str:
        """Which numbers of steps can be done, for the person."""
        levels = int(self.config.num_train_timesteps)
        return f"Choose 50 steps, or another number up to {levels // 2} that divides {levels}."

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Set the timesteps anew.

        Raises:
            ValueError: where the last would lie beyond the levels, as in the original code, or without steps.
        """
        levels = int(self.config.num_train_timesteps)
        stride = levels // num_inference_steps if num_inference_steps > 0 else 0
        timesteps = torch.arange(0, levels, stride).flip(0) + 1 if stride else torch.tensor([levels])
        if int(timesteps[0]) >= levels:
            raise ValueError(f"{num_inference_steps} steps end beyond the last of {levels} levels")
        self.num_inference_steps = num_inference_steps
        self.timesteps = timesteps.to(device)


def schedule(params: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of diffusers' DDIM scheduler, of a model's ``params``."""
    return {
        "num_train_timesteps": int(params.get("timesteps", 1000)),
        "beta_start": float(params["linear_start"]),
        "beta_end": float(params["linear_end"]),
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction" if params.get("parameterization") == "v" else "epsilon",
        "set_alpha_to_one": False,
        "clip_sample": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }


def check_schedule(betas: Tensor | None, scheduler: DDIMScheduler) -> None:
    """See that the noise schedule of a checkpoint is that of its configuration.

    Raises:
        WeightsDamaged: it is another one.
    """
    if betas is not None and not (
        betas.shape == scheduler.betas.shape and torch.allclose(betas.float(), scheduler.betas, rtol=1e-4, atol=0)
    ):
        raise WeightsDamaged(
            "The noise schedule in the checkpoint is not that of its configuration.",
            "Get config.json from the place of the checkpoint.",
        )


def unet_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of diffusers' U-Net, of ``unet_config.params``."""
    multipliers, width = list(params["channel_mult"]), int(params["model_channels"])
    widths = [width * each for each in multipliers]
    has_attention = [2**level in params["attention_resolutions"] for level in range(len(widths))]
    per_head = int(params.get("num_head_channels", -1))
    return {
        "in_channels": int(params["in_channels"]),
        "out_channels": int(params["out_channels"]) if "out_channels" in params else 4,
        "block_out_channels": widths,
        "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in has_attention],
        "up_block_types": ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(has_attention)],
        "layers_per_block": int(params["num_res_blocks"]),
        "cross_attention_dim": int(params["context_dim"]),
        # a number of heads, whatever diffusers calls it
        "attention_head_dim": [each // per_head for each in widths] if per_head > 0 else int(params["num_heads"]),
        "transformer_layers_per_block": int(params.get("transformer_depth", 1)),
        "use_linear_projection": bool(params.get("use_linear_in_transformer", False)),
    }


def unet_key(key: str, layers: int) -> str:
    """The name in diffusers' U-Net of a tensor below ``model.diffusion_model``.

    Args:
        key: for example "input_blocks.1.0.in_layers.2.weight".
        layers: residual blocks of a level.
    """
    for old, new in _OUTSIDE.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    room, *rest = key.split(".")
    if room == "middle_block" and len(rest) > 1:
        return f"mid_block.{_MIDDLE.get(rest[0], rest[0])}.{block_key('.'.join(rest[1:]))}"
    if room not in ("input_blocks", "output_blocks") or len(rest) < 3 or not rest[0].isdigit():
        return key
    number, part, tail = int(rest[0]), rest[1], ".".join(rest[2:])
    if room == "input_blocks":
        level, index = divmod(number - 1, layers + 1)
        if tail.startswith("op."):
            return f"down_blocks.{level}.downsamplers.0.conv.{tail[3:]}"
        return f"down_blocks.{level}.{'resnets' if part == '0' else 'attentions'}.{index}.{block_key(tail)}"
    level, index = divmod(number, layers + 1)
    if tail.startswith("conv."):
        return f"up_blocks.{level}.upsamplers.0.{tail}"
    return f"up_blocks.{level}.{'resnets' if part == '0' else 'attentions'}.{index}.{block_key(tail)}"


def block_key(key: str) -> str:
    """The name within a residual block; that of an attention block is the same in both."""
    for old, new in _RESNET.items():
        if key.startswith(old + "."):
            return new + key.removeprefix(old)
    return key


def autoencoder_config(params: Mapping[str, Any], scale_factor: float) -> dict[str, Any]:
    """The configuration of diffusers' autoencoder, of ``first_stage_config.params``.

    Raises:
        WeightsDamaged: for attention outside the middle block, which no published one has.
    """
    parts = params["ddconfig"]
    if parts.get("attn_resolutions"):
        raise WeightsDamaged("The autoencoder's configuration asks for attention outside its middle block.")
    widths = [int(parts["ch"]) * each for each in parts["ch_mult"]]
    return {
        "in_channels": int(parts["in_channels"]),
        "out_channels": int(parts["out_ch"]),
        "latent_channels": int(params["embed_dim"]),
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": int(parts["num_res_blocks"]),
        "scaling_factor": scale_factor,
    }


def autoencoder_key(key: str, levels: int) -> str:
    """The name in diffusers' autoencoder of a tensor below ``first_stage_model``."""
    room, *rest = key.split(".")
    if room == "encoder" and rest[:1] == ["down"]:
        key = ".".join([room, "down_blocks", *rest[1:]])
    if room == "decoder" and rest[:1] == ["up"] and rest[1].isdigit():
        key = ".".join([room, "up_blocks", str(levels - 1 - int(rest[1])), *rest[2:]])
    for old, new in _AUTOENCODER:
        key = key.replace(old, new)
    return key
