"""A picture to the vector of a CLIP image tower: what CRS-Diff is told of its content.

Source: ``ContentDetector`` in ``annotator/content/__init__.py`` of Sonettoo/CRS-Diff 4a65a43: CLIP's own processing of
pictures, then ``get_image_features``, the projected and not normalised vector. Its tower is a fine-tuned one that is
not published; any of CLIP's of the same width can stand here, by the person's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..device import free_main_memory
from ..errors import OutOfMemory, UnknownModel, WeightsDamaged, WeightsMissing
from .filenames import FILES
from .statedict import check_shapes, component_tensors, described, fill, read_tensors
from .weights import read_json

#: Folder of the tower beside a checkpoint, called as in diffusers' pipelines.
FOLDER = "image_encoder"
#: How pictures are resized, cut and normalised for a tower.
PROCESSING = "preprocessor_config.json"
#: Where that lies in diffusers' pipelines: beside the tower's folder.
_APART = "feature_extractor"
#: What it may say; other words in it say nothing about pixels.
_SAID = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)
#: Largest side in pixels that it may ask for.
_SIDE_LIMIT = 2048
#: The rest of a whole CLIP, which reads texts, and the positions that older files carry.
_OTHERS = ("text_model.", "text_projection.", "logit_scale", "vision_model.embeddings.position_ids")
_NAME = "image tower"
#: A weight in float32, and beside it what the file has it in, at most the same.
_BYTES = 8


class ImageTower:
    """The tower in a folder. Its weights are read when a picture is, once a job, and let go at once.

    Args:
        folder: with ``config.json``, weights and ``preprocessor_config.json``: a ``CLIPVisionModelWithProjection``, or
            a whole CLIP, of which only that part counts.
        width: numbers in a vector that whoever is told takes.

    Attributes:
        width: as given.
        parameters: number of weights.

    Raises:
        UnknownModel: it is no CLIP's.
        WeightsMissing: a part of it is not there.
        WeightsDamaged: its vectors have another width, or its parts contradict each other.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self._folder, self.width = folder, width
        self._settings = settings_of(folder, width)
        self._processing = _processing(read_json(processing_of(folder)), int(self._settings.image_size))
        network = self._network()
        check_shapes(network, _own(_shapes(folder)), _NAME)
        self.parameters = sum(p.numel() for p in network.parameters())
        self._read: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def vector(self, picture: Tensor) -> Tensor:
        """The vector (1, width) float32 of a picture (3, H, W) uint8, on the CPU; that of the last one is remembered.

        Raises:
            WeightsMissing: the weights are gone.
            WeightsDamaged: they are others by now.
            OutOfMemory: there is not enough for them beside the model.
        """
        if self._read is None or self._read[0] is not picture:
            free = free_main_memory()
            if free is not None and free < _BYTES * self.parameters:
                raise OutOfMemory(
                    f"The image tower needs {_BYTES * self.parameters // 10**6} MB of memory beside the model, and "
                    f"{free // 10**6} MB are free."
                )
            pixels = _processed(self._processing, picture)
            network = fill(self._network(), _weights(self._folder), _NAME)
            places = network.vision_model.embeddings  # the one thing that no file holds
            places.position_ids = torch.arange(places.num_positions)[None]
            self._read = (picture, network(pixels).image_embeds.float())
        return self._read[1]

    def _network(self) -> CLIPVisionModelWithProjection:
        """Without memory for its weights."""
        with described(_NAME), torch.device("meta"):
            return CLIPVisionModelWithProjection(self._settings)


def settings_of(folder: Path, width: int) -> CLIPVisionConfig:
    """What a tower is like, by its configuration alone.

    Raises:
        UnknownModel: it is no CLIP's.
        WeightsMissing: there is no configuration.
        WeightsDamaged: its vectors have another width than asked for, or it makes no tower.
    """
    config = read_json(folder / "config.json")
    kind = str(config.get("model_type", config.get("_class_name", "unknown network")))
    if kind not in ("clip_vision_model", "clip"):
        raise UnknownModel(
            f"This folder holds a {kind[:60]}, not an image tower of CLIP.",
            "Name the folder of a CLIPVisionModelWithProjection, or of a whole CLIP.",
        )
    own = config if kind == "clip_vision_model" else _vision(config)
    with described(_NAME):
        settings = CLIPVisionConfig(**{k: v for k, v in own.items() if not k.startswith("_")})
        found = int(settings.projection_dim)
    if found != width:
        raise WeightsDamaged(
            f"This image tower makes vectors of {found} numbers, and the checkpoint takes {width}.",
            "Name a tower of that width, as that of CLIP ViT-L/14 is for the published checkpoint.",
        )
    return settings


def processing_of(folder: Path) -> Path:
    """Where it stands how pictures are prepared for a tower. Raises WeightsMissing."""
    for place in (folder / PROCESSING, folder.parent / _APART / PROCESSING):
        if place.is_file():
            return place
    raise WeightsMissing(
        f"The image tower's file {PROCESSING} is not there, which says how pictures are prepared for it.",
        "Get the tower's folder again, complete.",
    )


def _vision(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a whole CLIP's configuration, that of its image tower."""
    own, width = config.get("vision_config"), config.get("projection_dim", 512)
    if not isinstance(own, dict):
        raise WeightsDamaged("The configuration of this CLIP describes no image tower.")
    return {**own, "projection_dim": width}


def _processing(config: Mapping[str, Any], side: int) -> CLIPImageProcessorPil:
    """CLIP's processing as configured, having seen that it makes squares of ``side`` pixels."""
    kind = str(config.get("image_processor_type", config.get("feature_extractor_type", "CLIP")))
    if not kind.startswith("CLIP"):
        raise WeightsDamaged(
            f"Pictures would be prepared for another tower than CLIP's: {PROCESSING} names a {kind[:60]}.",
            "Get the tower's folder again from its source.",
        )
    with described(_NAME, "way to prepare pictures"):
        made = CLIPImageProcessorPil(**{key: config[key] for key in _SAID if key in config})
        sides = [int(each) for asked in (made.size, made.crop_size) for each in dict(asked or {}).values() if each]
        if max(sides, default=0) > _SIDE_LIMIT:
            raise WeightsDamaged(f"{PROCESSING} asks for pictures of {max(sides)} pixels a side.")
        shape = tuple(_processed(made, torch.zeros(3, 8, 12, dtype=torch.uint8)).shape)
    if shape != (1, 3, side, side):
        raise WeightsDamaged(
            f"{PROCESSING} makes pictures of {shape[-1]} x {shape[-2]} pixels, and the image tower takes {side}.",
            "Get the tower's folder again from its source.",
        )
    return made


def _processed(processing: CLIPImageProcessorPil, picture: Tensor) -> Tensor:
    """(3, H, W) uint8 -> what the tower takes (1, 3, side, side) float32."""
    pixels = np.ascontiguousarray(picture.numpy().transpose(1, 2, 0))
    made = processing(images=pixels, input_data_format="channels_last", return_tensors="pt")
    return torch.as_tensor(made["pixel_values"], dtype=torch.float32)


def _shapes(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder without their memory, where they are safetensors."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None or path.suffix != ".safetensors":
        return component_tensors(folder) if path is None else read_tensors(path)
    try:
        with safe_open(path, "pt") as file:
            return {key: torch.empty(file.get_slice(key).get_shape(), device="meta") for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise WeightsDamaged(f"The file {path.name} cannot be read as weights.", "Get the file again.") from error


def _weights(folder: Path) -> dict[str, Tensor]:
    """The weights of the image tower alone, as stored: of a whole CLIP, safetensors bring no more than these."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None or path.suffix != ".safetensors":
        return _own(component_tensors(folder))
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if not key.startswith(_OTHERS)}
    except (SafetensorError, OSError) as error:
        raise WeightsDamaged(f"The file {path.name} cannot be read as weights.", "Get the file again.") from error


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the image tower."""
    return {key: value for key, value in tensors.items() if not key.startswith(_OTHERS)}
