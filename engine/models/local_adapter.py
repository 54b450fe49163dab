"""CRS-Diff's local adapter: six maps of a place to residuals for the skips of a Stable Diffusion U-Net.

Facts: Tang et al. 2024, "CRS-Diff", and Zhao et al. 2023, "Uni-ControlNet", whose feature denormalisation it extends by
attention. Blocks are diffusers' own where they are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from .ldm import block_key

#: Widths of the hint's first convolutions and by how much each divides the size.
FIRST = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1))
EPS = 1e-5


class HintPyramid(nn.Module):
    """The maps at the sizes of the U-Net's levels, the finest an eighth of the maps.

    Args:
        channels: of the maps, all together.
        widths: of the levels.
    """

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, stride in FIRST:
            layers += [nn.Conv2d(channels, width, 3, stride=stride, padding=1), nn.SiLU()]
            channels = width
        self.pre_extractor = nn.Sequential(*layers)
        self.extractors, self.zero_convs = nn.ModuleList(), nn.ModuleList()
        for width in widths:
            self.extractors.append(nn.Sequential(nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.SiLU()))
            self.zero_convs.append(nn.Conv2d(width, width, 3, padding=1))
            channels = width

    def forward(self, maps: Tensor) -> list[Tensor]:
        """(B, channels, H, W) in 0..1 -> a feature for each level, finest first."""
        x, features = self.pre_extractor(maps), []
        for extract, convolve in zip(self.extractors, self.zero_convs):
            x = extract(x)
            features.append(convolve(x))
        return features


class _PlaceAttention(nn.Module):
    """Attention of each place to all others, with one head and without the usual scale, added to what it came from."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(width, width // 8, 1)
        self.key_conv = nn.Conv2d(width, width // 8, 1)
        self.value_conv = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query_conv, self.key_conv, self.value_conv))
        # Written out: without a scale the logits are large, and the fused kernels lose two digits on them; half
        # precision would lose all of them.
        weights = torch.bmm(query.float().transpose(1, 2), key.float()).softmax(dim=-1).to(x.dtype)  # (B, h w, h w)
        return torch.bmm(value, weights.transpose(1, 2)).reshape(x.shape) + x


class _HintModulation(nn.Module):
    def __init__(self, width: int, hint_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=EPS, affine=False)
        self.conv_gamma = nn.Conv2d(hint_width, width, 3, padding=1)
        self.conv_beta = nn.Conv2d(hint_width, width, 3, padding=1)

    def forward(self, x: Tensor, hint: Tensor) -> Tensor:
        return self.norm(x) * (1 + self.conv_gamma(hint)) + self.conv_beta(hint)


class _HintNorm(nn.Module):
    """Attention over the place, then a normalisation whose scale and shift come from the hint."""

    def __init__(self, width: int, hint_width: int) -> None:
        super().__init__()
        self.attention = _PlaceAttention(width)
        self.fdn = _HintModulation(width, hint_width)

    def forward(self, x: Tensor, hint: Tensor) -> Tensor:
        return self.fdn(self.attention(x), hint)


class _HintResnet(nn.Module):
    """A residual block that takes the hint in where others normalise."""

    def __init__(self, before: int, width: int, time_width: int, hint_width: int) -> None:
        super().__init__()
        self.norm_in = _HintNorm(before, hint_width)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, width)
        self.norm_out = _HintNorm(width, hint_width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, x: Tensor, time: Tensor, hint: Tensor) -> Tensor:
        h = self.conv1(nn.functional.silu(self.norm_in(x, hint)))
        h = h + self.time_emb_proj(nn.functional.silu(time))[:, :, None, None]
        h = self.conv2(nn.functional.silu(self.norm_out(h, hint)))
        return self.conv_shortcut(x) + h


class _Step(nn.Module):
    """One input block: a residual block, perhaps with attention to the text; or a halving."""

    def __init__(self, resnet: nn.Module | None, attention: nn.Module | None, down: nn.Module | None) -> None:
        super().__init__()
        self.resnet, self.attention, self.down = resnet, attention, down

    def forward(self, x: Tensor, time: Tensor, text: Tensor, hint: Tensor | None) -> Tensor:
        if self.resnet is None:
            return x if self.down is None else self.down(x)
        x = self.resnet(x, time) if hint is None else self.resnet(x, time, hint)
        return x if self.attention is None else self.attention(x, text, return_dict=False)[0]


class LocalAdapter(nn.Module):
    """The encoder and the middle of a U-Net with maps taken in, and a convolution for each residual.

    Args:
        params: ``local_control_config.params``.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__()
        width, layers = int(params["model_channels"]), int(params["num_res_blocks"])
        widths = [width * each for each in params["channel_mult"]]
        hints = dict(zip(params["inject_layers"], params["inject_channels"]))
        self._level_of = {number: level for level, number in enumerate(params["inject_layers"])}
        self.time_proj = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, 4 * width)
        self.feature_extractor = HintPyramid(int(params["local_channels"]), list(params["inject_channels"]))
        self.conv_in = nn.Conv2d(int(params["in_channels"]), width, 3, padding=1)
        self.input_blocks = nn.ModuleDict()
        outputs, before = [width], width
        for level, after in enumerate(widths):
            for _ in range(layers):
                number = len(outputs)
                resnet = (
                    _HintResnet(before, after, 4 * width, hints[number])
                    if number in hints
                    else _resnet(before, after, 4 * width)
                )
                attention = _attention(after, params) if 2**level in params["attention_resolutions"] else None
                self.input_blocks[str(number)] = _Step(resnet, attention, None)
                outputs.append(after)
                before = after
            if level + 1 < len(widths):
                down = Downsample2D(before, use_conv=True, out_channels=before, padding=1, name="op")
                self.input_blocks[str(len(outputs))] = _Step(None, None, down)
                outputs.append(before)
        self.middle_block = nn.ModuleList(
            [_resnet(before, before, 4 * width), _attention(before, params), _resnet(before, before, 4 * width)]
        )
        self.zero_convs = nn.ModuleList(nn.Conv2d(each, each, 1) for each in outputs)
        self.middle_block_out = nn.Conv2d(before, before, 1)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, maps: Tensor) -> list[Tensor]:
        """Residuals of the U-Net's skips, in order, and last of its middle block.

        Args:
            sample: (B, 4, h, w) noisy latents.
            timestep: a scalar, or one for each item.
            text: states (B, tokens, width), those of the content among them.
            maps: (B, 18, 8 h, 8 w) in 0..1.
        """
        time = self.time_embedding(self.time_proj(timestep.expand(len(sample))).to(sample.dtype))
        features = self.feature_extractor(maps)
        x = self.conv_in(sample)
        residuals = [self.zero_convs[0](x)]
        for number, step in self.input_blocks.items():
            level = self._level_of.get(int(number))
            x = step(x, time, text, None if level is None else features[level])
            residuals.append(self.zero_convs[int(number)](x))
        first, attention, second = self.middle_block
        x = second(attention(first(x, time), text, return_dict=False)[0], time)
        return [*residuals, self.middle_block_out(x)]


class ContentTokens(nn.Module):
    """A content vector to tokens that stand beside those of the text.

    Args:
        params: ``global_content_control_config.params``.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__()
        self.width = int(params["in_dim"])
        wider, widest = (self.width * each for each in params["channel_mult"])
        self.norm1 = nn.LayerNorm(self.width)
        self.ff1 = FeedForward(self.width, wider, activation_fn="geglu")
        self.norm2 = nn.LayerNorm(wider)
        self.ff2 = FeedForward(wider, widest, activation_fn="geglu")

    def forward(self, content: Tensor) -> Tensor:
        """(B, width) -> (B, tokens, width)."""
        return self.ff2(self.norm2(self.ff1(self.norm1(content)))).unflatten(1, (-1, self.width))


def adapter_key(key: str) -> str:
    """The name in ``LocalAdapter`` of a tensor below ``local_adapter``."""
    for old, new in (
        ("time_embed.0.", "time_embedding.linear_1."),
        ("time_embed.2.", "time_embedding.linear_2."),
        ("input_blocks.0.0.", "conv_in."),
        ("middle_block_out.0.", "middle_block_out."),
    ):
        if key.startswith(old):
            return new + key.removeprefix(old)
    parts = key.split(".")
    if parts[0] == "zero_convs" and parts[2:3] == ["0"]:
        return ".".join([*parts[:2], *parts[3:]])
    if parts[0] == "middle_block":
        return ".".join([*parts[:2], block_key(".".join(parts[2:]))])
    if parts[0] == "input_blocks":
        tail = block_key(".".join(parts[3:]))
        if tail.startswith("op."):
            return f"input_blocks.{parts[1]}.down.conv.{tail[3:]}"
        return f"input_blocks.{parts[1]}.{'resnet' if parts[2] == '0' else 'attention'}.{tail}"
    return key


def _resnet(before: int, after: int, time_width: int) -> ResnetBlock2D:
    return ResnetBlock2D(in_channels=before, out_channels=after, temb_channels=time_width, groups=32, eps=EPS)


def _attention(width: int, params: Mapping[str, Any]) -> Transformer2DModel:
    heads = int(params["num_heads"])
    return Transformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        in_channels=width,
        num_layers=int(params.get("transformer_depth", 1)),
        cross_attention_dim=int(params["context_dim"]),
        norm_num_groups=32,
        use_linear_projection=bool(params.get("use_linear_in_transformer", False)),
    )
