"""Family: DiffusionSat's 3-D ControlNet, several dated pictures of a place to the one of another date.

Facts: as in ``diffusionsat``. Everything of the network is stock but how frames meet: the hint encoder convolves over
time, and some residuals attend over time before all are added up.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ControlNetModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from ..errors import InvalidRequest
from .base import Given, Scene
from .diffusionsat import checked_parts, load_unet, metadata_of, split_embedding
from .diffusionsat_control import OWN, ControlledDiffusionSat, stock_options
from .layout import Layout, found
from .metadata import UNKNOWN
from .statedict import build, component_tensors, described, fill
from .weights import read_json

#: Heads, their size and the norm groups of the attention over time behind the first convolution, whatever the
#: configuration says.
FIRST = {"num_attention_heads": 8, "attention_head_dim": 64, "norm_num_groups": 32}
#: Frames that the published weights were trained with. Residuals are added over frames, so more of them are louder.
FRAMES = 3


class FrameHint(nn.Module):
    """The hint encoder: convolutions over time and place, which every second time halve the place alone.

    Args:
        bands: of each frame.
        widths: channels after each halving, the first before any.
        out_channels: width of the U-Net's first level.
    """

    def __init__(self, bands: int, widths: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv3d(bands, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for before, after in itertools.pairwise(widths):
            self.blocks.append(nn.Conv3d(before, before, 3, padding=1))
            self.blocks.append(nn.Conv3d(before, after, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)))
        self.conv_out = nn.Conv3d(widths[-1], out_channels, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, bands, T, H, W) -> (B T, out_channels, h, w)."""
        x = nn.functional.silu(self.conv_in(frames))
        for block in self.blocks:
            x = nn.functional.silu(block(x))
        return self.conv_out(x).transpose(1, 2).flatten(0, 1)  # (B, C, T, h, w) -> (B T, C, h, w)


class TemporalControlNet(nn.Module):
    """A stock ControlNet for each frame, whose residuals attend over time and are added up.

    Args:
        trunk: the stock network, its hint encoder a ``FrameHint``.
        config: of the published network.
    """

    def __init__(self, trunk: ControlNetModel, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.trunk = trunk
        self.temporal_blocks = nn.ModuleDict()
        self.mixing_attns = nn.ParameterList()
        if config.get("use_temporal_transformer"):
            self.temporal_blocks.update({str(k): block for k, block in _attentions(config).items()})
            count = len(trunk.controlnet_down_blocks)
            self.mixing_attns.extend(nn.Parameter(torch.empty(())) for _ in range(count))

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, frames: Tensor, vector: Tensor) -> list[Tensor]:
        """Residuals of the U-Net's skips (B, C, h, w), in order, and last of its middle block.

        Args:
            sample: (B, 4, h, w) noisy latents.
            timestep: a scalar, or one for each item.
            text: states (B, length, width).
            frames: (B, bands, T, H, W) in 0..1.
            vector: (B T, 4 x width), added to the time embedding of each frame.
        """
        count = frames.shape[2]
        repeated = [each.repeat_interleave(count, dim=0) for each in (sample, timestep.expand(len(sample)), text)]
        skips, middle = self.trunk(*repeated, frames, class_labels=vector, return_dict=False)
        mixed = [self._mixed(k, skip, count) for k, skip in enumerate(skips)]
        return [each.unflatten(0, (-1, count)).sum(dim=1) for each in (*mixed, middle)]

    def _mixed(self, index: int, residual: Tensor, count: int) -> Tensor:
        if str(index) not in self.temporal_blocks:
            return residual
        attended = self.temporal_blocks[str(index)](residual, num_frames=count, return_dict=False)[0]
        share = self.mixing_attns[index].clamp(0, 1)
        return share * attended + (1 - share) * residual


class TemporalDiffusionSat(ControlledDiffusionSat):
    """DiffusionSat steered by several dated pictures: ``control`` is a ``TemporalControlNet``."""

    title = "DiffusionSat with a temporal ControlNet"

    def asked(self, scene: Scene) -> dict[str, Any]:
        """See ``LatentDiffusion``: the scene's metadata, and those of each frame."""
        told = super().asked(scene)
        return {**told, "hint_metadata": torch.stack([metadata_of(frame) for frame in scene.hints], dim=1)}

    def shown(self, given: Given, size: tuple[int, int]) -> dict[str, Any]:
        """See ``LatentDiffusion``: the frames."""
        return {"hint": given.frames}

    @torch.inference_mode()
    def residuals(
        self, sample: Tensor, timestep: Tensor, text: Tensor, metadata: Tensor, hint_metadata: Tensor, hint: Tensor
    ) -> list[Tensor]:
        """What is added to the U-Net's skips, in order, and last to its middle block.

        Args:
            sample: (B, 4, h, w) noisy latents.
            timestep: a scalar, or one for each item.
            text: states (B, length, width).
            metadata: of the target (B, 7), normalised.
            hint_metadata: of each frame (B, 7, T), normalised.
            hint: (B, bands, T, H, W) in 0..1.

        Raises:
            InvalidRequest: for a hint of another shape, or other metadata than one set for each frame.
        """
        self._check_hint(sample, hint, ("batch", "bands", "frames"))
        count = hint.shape[2]
        if hint_metadata.ndim != 3 or hint_metadata.shape[2] != count:
            raise InvalidRequest(f"There are {count} frames, and not one set of metadata for each.")
        target = self.control_embedding(metadata).repeat_interleave(count, dim=0)
        vector = target + self.control_embedding(hint_metadata.transpose(1, 2).flatten(0, 1))
        return self.control(sample, torch.as_tensor(timestep), text, hint, vector)

    def _hint_metadata(self, hint: Tensor, metadata: Tensor | None) -> Tensor:
        if hint.ndim != 5:
            raise InvalidRequest("The hint is a series of frames: batch, bands, frames, height, width.")
        count = len(self.control_embedding) - 1
        if metadata is None:
            return torch.full((1, count, hint.shape[2]), UNKNOWN)
        return metadata.float() if metadata.ndim == 3 else metadata.float()[None]

    def _hint_encoder(self) -> Any:
        trunk: Any = self.control.trunk
        return trunk.controlnet_cond_embedding


def _attentions(config: Mapping[str, Any]) -> dict[int, TransformerTemporalModel]:
    """Index of a residual -> its attention over time: behind the first convolution and behind each halving.

    ``attention_head_dim`` is a number of heads in Stable Diffusion 2's configurations; here it is taken for their size,
    as the published weights were made.
    """
    widths, layers = config["block_out_channels"], int(config["layers_per_block"])
    sizes = config["attention_head_dim"]
    blocks = {0: TransformerTemporalModel(in_channels=widths[0], **FIRST)}
    for level, width in enumerate(widths[:-1]):
        size = int(sizes if isinstance(sizes, int) else sizes[level])
        blocks[(level + 1) * (layers + 1)] = TransformerTemporalModel(
            num_attention_heads=width // size,
            attention_head_dim=size,
            in_channels=width,
            norm_num_groups=int(config["norm_num_groups"]),
        )
    return blocks


def _our_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names to ours; convolutions of one voxel are those of one pixel."""
    result = {}
    for key, value in tensors.items():
        if key.startswith(("controlnet_down_blocks.", "controlnet_mid_block.")) and value.ndim == 5:
            value = value[..., 0]
        result[key if key.startswith(("temporal_blocks.", "mixing_attns.")) else f"trunk.{key}"] = value
    return result


def load_model(layout: Layout) -> TemporalDiffusionSat:
    """The model of a layout, strictly. Raises WeightsMissing and WeightsDamaged."""
    controlnet = found(layout.controlnet)
    config = read_json(controlnet / "config.json")
    tensors, embedding = split_embedding(component_tensors(controlnet), config)
    trunk = build(ControlNetModel, stock_options(config), "ControlNet", own=OWN)
    with described("ControlNet"), torch.device("meta"):
        widths = tuple(config["conditioning_embedding_out_channels"])
        trunk.controlnet_cond_embedding = FrameHint(
            int(config["conditioning_in_channels"]), widths, int(config["block_out_channels"][0])
        )
        control = TemporalControlNet(trunk, config)
    fill(control, _our_keys(tensors), "ControlNet")
    return TemporalDiffusionSat(checked_parts(layout), *load_unet(layout), control, embedding)
