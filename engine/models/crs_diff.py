"""Family: CRS-Diff, text, metadata, six maps and a content image to imagery; from one Lightning checkpoint.

Facts: Tang et al. 2024, "CRS-Diff: Controllable Remote Sensing Image Generation with Diffusion Model", and its code at
Sonettoo/CRS-Diff 81f651c. The U-Net is a stock one: the metadata become a vector that is added to its time embedding,
which ``class_embed_type="identity"`` takes through ``class_labels``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..contract import CONTENT
from ..diffusion.rows import Branch
from ..errors import InvalidRequest, WeightsDamaged
from . import image_tower, ldm
from .base import Given, Scene
from .latent_diffusion import Parts, two_branches
from .layout import Layout, found
from .local_adapter import ContentTokens, LocalAdapter, adapter_key
from .metadata import UNKNOWN, NumberEmbedding, date_fields, told_vector
from .schedulers import check_steps
from .stable_diffusion import StockUNet
from .statedict import build, described, fill, read_tensors, renamed, without
from .text import TextEncoder, load_tokenizer, make_tower
from .vae import make_codec
from .weights import read_json

#: The maps in the order in which the network takes them, three channels each.
MAPS = ("mlsd", "hed", "sketch", "road", "depth", "segmentation")
#: Kind of a control -> the map that it is here.
CONTROLS = dict(zip(("lines", "edges", "sketch", "roads", "depth", "land_use"), MAPS))
#: What the official demo and script put behind every prompt.
QUALITY = "best quality, extremely detailed"
#: What is said of a picture with content: its authors' tower cannot be had.
FOREIGN_TOWER = (
    "The content was read by the image tower that was imported with the model. CRS-Diff was trained with a fine-tuned "
    "one that is not published, so the picture may follow it less than its authors' do."
)
#: Field -> values that are mapped to 0 and 1, in the network's order. gsd in metres, cloud cover in percent, degrees.
FIELDS: dict[str, tuple[float, float]] = {
    "year": (1980.0, 2024.0),
    "month": (0.0, 12.0),
    "day": (0.0, 31.0),
    "gsd": (0.0, 5.0),
    "cloud_cover": (0.0, 100.0),
    "latitude": (-90.0, 90.0),
    "longitude": (-180.0, 180.0),
}
_UNET = {
    "in_channels": 4,
    "model_channels": 320,
    "num_res_blocks": 2,
    "attention_resolutions": [4, 2, 1],
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "transformer_depth": 1,
    "context_dim": 768,
}
#: What the published checkpoint was made with, for a ``.ckpt`` without a ``config.json`` beside it.
PUBLISHED: dict[str, Any] = {
    "linear_start": 0.00085,
    "linear_end": 0.012,
    "timesteps": 1000,
    "scale_factor": 0.18215,
    "unet_config": {"params": {**_UNET, "out_channels": 4}},
    "local_control_config": {
        "params": {
            **_UNET,
            "local_channels": 18,
            "inject_channels": [192, 256, 384, 512],
            "inject_layers": [1, 4, 7, 10],
        }
    },
    "global_content_control_config": {"params": {"in_dim": 768, "channel_mult": [2, 4]}},
    "metadata_config": {"params": {"max_value": 1000, "embedding_dim": 320, "metadata_dim": 7, "max_period": 10000}},
    "first_stage_config": {
        "params": {
            "embed_dim": 4,
            "ddconfig": {"in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2},
        }
    },
    "cond_stage_config": {"params": {}},
}
#: CLIP ViT-L/14's text tower, for configurations that only name it.
TOWER = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}


def metadata_vector(**known: float | None) -> Tensor:
    """What the network is told (7,) float32, of real-world numbers; a field that is left out or None is unknown.

    Args:
        known: by the names of ``FIELDS`` and in their units.

    Raises:
        InvalidRequest: for a name that is not one of them.
    """
    return told_vector(known, FIELDS, "CRS-Diff", lambda value, low, high: (value - low) / (high - low))


class MetadataEmbedding(NumberEmbedding):
    """One linear layer for each number; the sum of what they make of its sinusoid, sine and cosine in turn.

    Args:
        params: ``metadata_config.params``.
        out_width: of the time embedding.
    """

    def __init__(self, params: Mapping[str, Any], out_width: int) -> None:
        super().__init__()
        self._width, self._largest = int(params["embedding_dim"]), float(params["max_value"])
        self._period = float(params["max_period"])
        self.mlp_models = nn.ModuleList(
            nn.ModuleDict({"fc1": nn.Linear(self._width, out_width)}) for _ in range(int(params["metadata_dim"]))
        )

    def forward(self, values: Tensor) -> Tensor:
        """(B, out_width) of numbers (B, fields) in 0..1."""
        index = torch.arange(0, self._width, 2, device=values.device, dtype=torch.float32)
        angles = values.float()[..., None] * self._largest * torch.exp(-math.log(self._period) * index / self._width)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # (B, fields, width)
        parts = [layers["fc1"](waves[:, k]) for k, layers in enumerate(self.mlp_models)]  # type: ignore[index]
        return torch.stack(parts).sum(dim=0)


class CrsDiff(StockUNet):
    """Stable Diffusion 1.5 that is also told metadata, six maps and what the content of an image is.

    Args:
        parts: text side, autoencoder, schedule.
        unet: with ``class_embed_type="identity"``.
        adapter: makes residuals of the maps.
        tokens: makes tokens of the content.
        embedding: of the metadata.
        tower: makes vectors of pictures, for the content; None where none lies beside the checkpoint.
    """

    title = "CRS-Diff"
    conditioning = ("prompt", "negative_prompt", "metadata", "maps", "content")

    def __init__(
        self,
        parts: Parts,
        unet: UNet2DConditionModel,
        adapter: LocalAdapter,
        tokens: ContentTokens,
        embedding: MetadataEmbedding,
        tower: image_tower.ImageTower | None = None,
    ) -> None:
        super().__init__(parts, unet)
        self.tower = tower  # none of the networks: it reads one picture a job, on the CPU
        self.adapter, self.tokens, self.embedding = adapter, tokens, embedding
        self.networks = (*self.networks, adapter, tokens, embedding)

    def asked(self, scene: Scene) -> dict[str, Any]:
        """See ``LatentDiffusion``."""
        metadata = metadata_vector(
            **date_fields(scene.date),
            gsd=scene.gsd,
            cloud_cover=scene.cloud_cover,
            latitude=scene.latitude,
            longitude=scene.longitude,
        )
        asked = {**super().asked(scene), "metadata": metadata}
        if scene.content is None:
            return asked
        if self.tower is None:
            raise InvalidRequest(
                "This CRS-Diff has no image tower to read content with.",
                "Import its checkpoint once more with --tower, or leave the content out.",
            )
        strength = scene.control_strengths.get(CONTENT, 1.0)
        return {**asked, "content": self.tower.vector(scene.content), "content_strength": strength}

    def remarks(self, scene: Scene) -> tuple[str, ...]:
        """See ``LatentDiffusion``."""
        return (*super().remarks(scene), *([FOREIGN_TOWER] if scene.content is not None else ()))

    def texts_of(self, scene: Scene) -> tuple[str, str]:
        """See ``LatentDiffusion``; the words that its authors put behind every prompt are put behind it."""
        return ", ".join(filter(None, (scene.prompt, QUALITY))), scene.negative_prompt

    def describe(self) -> dict[str, Any]:
        """See ``LatentDiffusion``; and whether pictures can be read for their content."""
        found = super().describe()
        found["parameters"] += 0 if self.tower is None else self.tower.parameters
        return {**found, "content": {"width": self.tokens.width, "tower": self.tower is not None}}

    def shown(self, given: Given, size: tuple[int, int]) -> dict[str, Any]:
        """See ``LatentDiffusion``: the maps of the controls, the others black."""
        return {"maps": {CONTROLS[kind]: picture for kind, picture in given.controls.items()}, "size": size}

    def scheduler(self) -> ldm.LdmDDIMScheduler:
        """DDIM at the timesteps of the code that this model comes from."""
        return ldm.LdmDDIMScheduler.from_config(self.schedule)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> Tensor:
        """One call of the networks: raw output (B, 4, h, w) float32.

        Args:
            sample: (B, 4, h, w) noisy latents.
            timestep: a scalar, or one for each item.
            text: states (B, length, width).
            told: ``metadata`` (B, 7) as ``metadata_vector`` makes it, ``maps`` (B, 18, 8 h, 8 w) in 0..1 in the order
                of ``MAPS``, ``content`` (B, width), all zero for none, and ``content_strength`` (B,).
        """
        states = self._with_content(text, told["content"], told["content_strength"])
        residuals = self._residuals(sample, timestep, states, told["maps"])
        vector = self.metadata_embedding(told["metadata"])
        return self._unet(sample, timestep, states, vector=vector, residuals=residuals)

    def residuals(self, sample: Tensor, timestep: Tensor, text: Tensor, **told: Tensor) -> list[Tensor]:
        """What is added to the U-Net's skips, in order, and last to its middle block; arguments as in ``forward``."""
        states = self._with_content(text, told["content"], told["content_strength"])
        return self._residuals(sample, timestep, states, told["maps"])

    @torch.inference_mode()
    def metadata_embedding(self, metadata: Tensor) -> Tensor:
        """What metadata (B, 7) in 0..1 add to the time embedding (B, 4 x first width)."""
        return self.embedding(metadata.to(self.device))

    @torch.inference_mode()
    def content_tokens(self, content: Tensor) -> Tensor:
        """Tokens (B, 4, width) of content vectors (B, width); those of zeros are not zero."""
        return self.tokens(content.to(self.device).float())

    @torch.inference_mode()
    def hint_features(self, maps: Tensor) -> list[Tensor]:
        """What the adapter makes of maps (B, 18, H, W), a feature for each level, finest first."""
        return self.adapter.feature_extractor(maps.to(self.device))

    def branches(
        self,
        batch: int,
        *,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float = 7.5,
        metadata: Tensor | None = None,
        maps: Mapping[str, Tensor] | Tensor | None = None,
        content: Tensor | None = None,
        content_strength: float = 1.0,
        size: tuple[int, int] | None = None,
        **more: Any,
    ) -> list[Branch]:
        """What guidance asks: the negative prompt without content, then the prompt with it; maps and metadata in both.

        Args:
            batch: samples in each call.
            prompt: one for all samples, or one for each.
            negative_prompt: in the null branch.
            guidance_scale: up to 1 there is no null branch.
            metadata: (7,) or (B, 7) of ``metadata_vector``; None is all unknown.
            maps: name of ``MAPS`` -> (B or 1, 3, H, W) in 0..1, those that are left out black; or all six in one
                tensor (B or 1, 18, H, W); None is all black.
            content: (B or 1, width), the embedding of an image by the authors' CLIP; None is none.
            content_strength: how much the content counts.
            size: (H, W) of the picture, where there are no maps.
            more: refused.

        Raises:
            InvalidRequest: something is asked that this model is not told, or sizes differ.
        """
        self.refuse(more)
        width = self.tokens.width
        nothing = torch.zeros(1, width)
        shared = {
            "metadata": torch.full((1, len(FIELDS)), UNKNOWN) if metadata is None else torch.atleast_2d(metadata),
            "maps": stacked_maps(maps, size),
            "content_strength": torch.tensor([float(content_strength)]),
        }
        told = nothing if content is None else torch.atleast_2d(content).float()
        if told.shape[1] != width:
            raise InvalidRequest(f"The content is a vector of {width} numbers, not of {told.shape[1]}.")
        return two_branches(
            {"text": self.texts(negative_prompt), "content": torch.zeros_like(told), **shared},
            {"text": self.texts(prompt), "content": told, **shared},
            guidance_scale,
        )

    def sample(self, noise: Any, steps: int, scheduler: Any = None, **asked: Any) -> Any:
        """See ``LatentDiffusion.sample``; maps that are left out have the size of the noise."""
        start = noise(0) if callable(noise) else noise
        check_steps(self.scheduler(), steps)
        asked.setdefault("size", tuple(side * self.codec.scale for side in start.shape[-2:]))
        return super().sample(noise, steps, scheduler, **asked)

    def _with_content(self, text: Tensor, content: Tensor, strength: Tensor) -> Tensor:
        return torch.cat([text, self.content_tokens(content) * strength[:, None, None]], dim=1)

    @torch.inference_mode()
    def _residuals(self, sample: Tensor, timestep: Tensor, states: Tensor, maps: Tensor) -> list[Tensor]:
        expected = [side * self.codec.scale for side in sample.shape[-2:]]
        if list(maps.shape[-2:]) != expected:
            raise InvalidRequest(f"The maps have {list(maps.shape[-2:])} pixels, and the picture has {expected}.")
        return self.adapter(sample, torch.as_tensor(timestep), states, maps)


def stacked_maps(maps: Mapping[str, Tensor] | Tensor | None, size: tuple[int, int] | None) -> Tensor:
    """All six maps in the network's order (B, 18, H, W), those that are left out black.

    Raises:
        InvalidRequest: for a name that is not one of ``MAPS``, for sizes that differ, or without any size.
    """
    if isinstance(maps, Tensor):
        if maps.ndim != 4 or maps.shape[1] != 3 * len(MAPS):
            raise InvalidRequest(f"The maps have shape {list(maps.shape)}; they are {3 * len(MAPS)} channels in one.")
        return maps.float()
    given = dict(maps or {})
    strange = sorted(set(given) - set(MAPS))
    if strange:
        raise InvalidRequest(f"CRS-Diff takes no map called {', '.join(strange)}.", f"It takes {', '.join(MAPS)}.")
    shapes = {tuple(each.shape) for each in given.values()}
    if len(shapes) > 1 or any(len(shape) != 4 or shape[1] != 3 for shape in shapes):
        raise InvalidRequest("The maps differ in shape, or do not have three channels each.")
    if not shapes and size is None:
        raise InvalidRequest("Without a map, the size of the picture must be given.")
    black = torch.zeros(shapes.pop() if shapes else (1, 3, *(size or ())))
    return torch.cat([given.get(name, black).float() for name in MAPS], dim=1)


def load_model(layout: Layout) -> CrsDiff:
    """The model of a checkpoint, strictly; ``config.json``, ``tokenizer/`` and ``image_encoder/`` lie beside it.

    Raises:
        UnknownModel: the image tower is no CLIP's.
        WeightsMissing: the tokenizer is not there.
        WeightsDamaged: the checkpoint is not of this family, or not the one that its configuration describes.
    """
    checkpoint = found(layout.checkpoint)
    folder = checkpoint.parent
    params = _params(folder)
    tensors = read_tensors(checkpoint)
    parts: dict[str, dict[str, Tensor]] = {}
    for prefix in (
        "model.diffusion_model.",
        "first_stage_model.",
        "cond_stage_model.transformer.",
        "local_adapter.",
        "global_content_adapter.",
        "metadata_emb.",
    ):
        tensors, parts[prefix] = without(tensors, prefix)
        if not parts[prefix]:
            raise WeightsDamaged(
                f"{checkpoint.name} is no CRS-Diff checkpoint: it has nothing called {prefix[:-1]}.",
                "Choose last.ckpt of CRS-Diff, or the folder of another model.",
            )
    surplus = sorted(set(tensors) - set(ldm.SCHEDULE))
    if surplus:
        raise WeightsDamaged(
            f"The checkpoint has {len(surplus)} tensors that no part of CRS-Diff takes ({surplus[0]})."
        )
    with described("checkpoint", "CRS-Diff"):
        return _assembled(params, parts, tensors.get("betas"), folder)


def content_width(folder: Path) -> int:
    """Numbers in the vector of a content that the checkpoint in a folder takes. Raises WeightsDamaged."""
    with described("checkpoint", "CRS-Diff"):
        return int(_params(folder)["global_content_control_config"]["params"]["in_dim"])


def _assembled(
    params: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]], betas: Tensor | None, folder: Path
) -> CrsDiff:
    unet_params = params["unet_config"]["params"]
    config = {**ldm.unet_config(unet_params), "class_embed_type": "identity"}
    layers = config["layers_per_block"]
    unet_tensors = renamed(parts["model.diffusion_model."], lambda key: ldm.unet_key(key, layers))
    unet = fill(build(UNet2DConditionModel, config, "U-Net"), unet_tensors, "U-Net")
    codec_config = ldm.autoencoder_config(params["first_stage_config"]["params"], float(params["scale_factor"]))
    levels = len(codec_config["block_out_channels"])
    codec_tensors = renamed(parts["first_stage_model."], lambda key: ldm.autoencoder_key(key, levels))
    with torch.device("meta"):
        adapter = LocalAdapter(params["local_control_config"]["params"])
        tokens = ContentTokens(params["global_content_control_config"]["params"])
        embedding = MetadataEmbedding(params["metadata_config"]["params"], 4 * config["block_out_channels"][0])
    fill(adapter, renamed(parts["local_adapter."], adapter_key), "local adapter")
    fill(tokens, parts["global_content_adapter."], "content adapter")
    fill(embedding, parts["metadata_emb."], "metadata embedding")
    tower = params["cond_stage_config"]["params"].get("clip_text_config", TOWER)
    text = TextEncoder(load_tokenizer(folder / "tokenizer"), make_tower(tower, parts["cond_stage_model.transformer."]))
    beside = folder / image_tower.FOLDER
    tower = image_tower.ImageTower(beside, tokens.width) if (beside / "config.json").is_file() else None
    own = Parts(text, make_codec(codec_config, codec_tensors), ldm.schedule(params))
    model = CrsDiff(own, unet, adapter, tokens, embedding, tower)
    ldm.check_schedule(betas, model.scheduler())
    return model


def _params(folder: Path) -> dict[str, Any]:
    """The hyper-parameters beside a checkpoint, in the nesting of the original configuration, or the published ones."""
    if not (folder / "config.json").is_file():
        return PUBLISHED
    found = read_json(folder / "config.json").get("model", {}).get("params")
    if not isinstance(found, dict):
        raise WeightsDamaged("The config.json beside the checkpoint has no model.params.")
    return found
