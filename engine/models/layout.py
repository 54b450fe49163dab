"""What lies in a folder of published weights: which family, which networks. Read from configurations alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UnknownModel, WeightsDamaged, WeightsMissing
from .weights import read_json

#: The training checkpoint whose U-Net DiffusionSat's ControlNets were trained on. A later one loads and runs as well,
#: and the pictures are worse without a sign of it. Source: the official notebooks and training scripts.
CONTROL_BASE = "checkpoint-100000"
#: How far above a component its pipeline is looked for: ``pipeline/checkpoint-150000/unet`` is two below.
LEVELS = 3
#: Endings of single files with everything in them: as Lightning writes them, and as they are kept once imported.
SINGLE = (".ckpt", ".safetensors")
#: What the names of the text towers begin with in Stable Diffusion XL's single files, and the largest list of tensors
#: that is looked through for them, bytes; one of XL has 0.3 MB.
XL_SINGLE, LIST_LIMIT = "conditioner.embedders.", 64 * 1024 * 1024
#: Name that a single file is kept under.
KEPT = "last.safetensors"
#: What the networks of a ControlNet and of its base must agree in, or their skips do not add up.
SHARED = (
    "in_channels",
    "block_out_channels",
    "down_block_types",
    "layers_per_block",
    "cross_attention_dim",
    "attention_head_dim",
    "num_metadata",
    "addition_embed_type",
    "projection_class_embeddings_input_dim",
)


@dataclass(frozen=True)
class Layout:
    """Where the parts of a model lie.

    Attributes:
        family: the file beside this one that loads it.
        kind: which of the family's models: "text to image", "inpainting", "2-D ControlNet" ...
        pipeline: folder with ``vae/``, ``text_encoder/``, ``tokenizer/`` and ``scheduler/``; None where none was found.
        unet: folder of the U-Net; None where none was found.
        controlnet: folder of the ControlNet, if it is one.
        checkpoint: a single file with everything in it, if it is one.
        also_here: other models below the pipeline, by their names in it.
    """

    family: str
    kind: str
    pipeline: Path | None = None
    unet: Path | None = None
    controlnet: Path | None = None
    checkpoint: Path | None = None
    also_here: tuple[str, ...] = ()


def found(part: Path | None) -> Path:
    """A part that the family of a layout always has. Raises WeightsMissing where it was not found after all."""
    if part is None:
        raise WeightsMissing("A part of the model is not in its folder.", "Get the model's folder again, complete.")
    return part


def index_of(pipeline: Path | None) -> dict[str, Any]:
    """``model_index.json`` of a pipeline; empty where there is none. Raises WeightsDamaged."""
    if pipeline is None or not (pipeline / "model_index.json").is_file():
        return {}
    return read_json(pipeline / "model_index.json")


def recognise(path: Path, base: Path | None = None) -> Layout:
    """Which family lies in a folder or a file.

    Args:
        path: a pipeline folder, one of its components, a training checkpoint, a ControlNet, or a single file, ``.ckpt``
            or the same as ``.safetensors``.
        base: for a ControlNet without a pipeline around it: where its base is; None looks in the folders above.

    Raises:
        WeightsMissing: there is nothing there, or a part of it is missing.
        UnknownModel: it is of no family that is known here.
        WeightsDamaged: its parts contradict each other, as a ControlNet does on another base than its own.
    """
    if path.is_file():
        if path.suffix.lower() not in SINGLE:
            raise UnknownModel(
                f"{path.name} is neither a folder of weights nor a .ckpt file.", "Name the model's folder instead."
            )
        return _checkpoint(path)
    if not path.is_dir():
        raise WeightsMissing("There is no such folder or file.", "Check the name.")
    own = path / "config.json"
    if own.is_file() and "_class_name" in read_json(own):
        return _component(path, read_json(own), base)
    if (path / "controlnet" / "config.json").is_file():
        return _control(path / "controlnet", base)
    if (path / "transformer" / "config.json").is_file():
        raise UnknownModel("This is a diffusion transformer; the families here denoise with a U-Net.")
    if (path / "unet" / "config.json").is_file():
        return _with_unet(path / "unet")
    trained = sorted(path.glob("checkpoint-*/unet/config.json"), key=_steps_trained)
    if trained:
        return _with_unet(trained[-1].parent)  # a single image is drawn with the latest
    checkpoints = sorted(path.glob("*.ckpt")) or sorted(path.glob(KEPT))
    if len(checkpoints) == 1:
        return _checkpoint(checkpoints[0])
    if checkpoints:
        raise UnknownModel("There are several checkpoints in this folder.", "Name one of them.")
    raise UnknownModel(
        "There is no model in this folder: neither unet/config.json nor controlnet/config.json nor a .ckpt file.",
        "Name the folder that holds model_index.json, a ControlNet's folder, or a .ckpt file.",
    )


def check_base(control: Mapping[str, Any], unet: Mapping[str, Any]) -> None:
    """See whether a ControlNet can steer a U-Net.

    Raises:
        WeightsDamaged: with what they disagree in.
    """
    for key in SHARED:
        if key in control and key in unet and _plain(control[key]) != _plain(unet[key]):
            raise WeightsDamaged(
                f"This ControlNet belongs to another base: its {key} is {control[key]}, and the base has {unet[key]}.",
                "Give it the base that it was trained on.",
            )
    if bool(control.get("use_metadata")) != is_satellite(unet):
        has, lacks = ("ControlNet", "base") if control.get("use_metadata") else ("base", "ControlNet")
        raise WeightsDamaged(
            f"This ControlNet belongs to another base: the {has} is told metadata and the {lacks} is not.",
            "Give it the base that it was trained on.",
        )


def is_satellite(unet: Mapping[str, Any]) -> bool:
    """Whether a U-Net's configuration is DiffusionSat's, with embeddings of metadata."""
    return bool(unet.get("use_metadata", unet.get("_class_name") == "SatUNet"))


def is_xl(config: Mapping[str, Any]) -> bool:
    """Whether a U-Net's or a ControlNet's configuration is Stable Diffusion XL's: a vector of the text, and a frame."""
    return config.get("addition_embed_type") == "text_time" and config.get("encoder_hid_dim_type") is None


def _component(path: Path, config: Mapping[str, Any], base: Path | None) -> Layout:
    kind = str(config["_class_name"])
    if kind.startswith("ControlNetModel"):
        return _control(path, base)
    if kind in ("UNet2DConditionModel", "SatUNet"):
        return _with_unet(path)
    raise UnknownModel(f"A {kind[:60]} alone is no model.", "Name the folder that holds model_index.json.")


def _with_unet(unet: Path) -> Layout:
    config = read_json(unet / "config.json")
    pipeline = _pipeline_above(unet)
    index = index_of(pipeline)
    if index.get("requires_aesthetics_score"):
        raise UnknownModel(
            "This is the refiner of Stable Diffusion XL, which finishes pictures of another model and draws none.",
            "Choose the base model of Stable Diffusion XL.",
        )
    family, kind = _family(config, str(index.get("_class_name", "")))
    return Layout(family, kind, pipeline, unet, also_here=_also_here(unet, pipeline))


def _family(unet: Mapping[str, Any], pipeline: str) -> tuple[str, str]:
    """(family, kind) of a U-Net; ``pipeline`` is the class that ``model_index.json`` names."""
    channels, embedding = unet.get("in_channels"), unet.get("class_embed_type")
    kinds = {4: "text to image", 8: "instruction", 9: "inpainting"}
    if not isinstance(channels, int) or channels not in kinds:
        raise UnknownModel(f"A U-Net with {channels} input channels belongs to no family that is known here.")
    kind = kinds[channels]
    if is_satellite(unet):
        if embedding is not None or channels != 4:
            raise UnknownModel("A DiffusionSat U-Net has 4 input channels and no class embedding; this one differs.")
        return "diffusionsat", "single image"
    if embedding == "timestep" and channels in (4, 9):
        return "text2earth", kind
    if embedding is not None or unet.get("num_class_embeds") is not None:
        raise UnknownModel(f"A U-Net with the class embedding {embedding} belongs to no family that is known here.")
    if "Text2Earth" in pipeline:
        raise WeightsDamaged(
            "model_index.json says Text2Earth, and the U-Net has no embedding of the level.",
            "Get the folder again from its source.",
        )
    if is_xl(unet):
        if channels == 8:
            raise UnknownModel(
                "This is a Stable Diffusion XL that follows instructions, which cannot be run here.",
                "Choose a Stable Diffusion XL with 4 or 9 input channels, or RSEdit for instructions.",
            )
        return "stable_diffusion_xl", kind
    if unet.get("addition_embed_type") is not None or unet.get("encoder_hid_dim_type") is not None:
        raise UnknownModel(
            "This U-Net is told its text, or a picture, in a way that belongs to no family that is known here.",
            "Choose a model of the Stable Diffusion 1, 2 or XL family.",
        )
    return ("rsedit" if channels == 8 else "stable_diffusion"), kind


def _control(folder: Path, base: Path | None) -> Layout:
    config = read_json(folder / "config.json")
    if config.get("_class_name") == "ControlNetModel3D" or config.get("use_temporal_transformer") is not None:
        family, kind = "diffusionsat_temporal", "3-D ControlNet"
    elif config.get("use_metadata"):
        family, kind = "diffusionsat_control", "2-D ControlNet"
    else:
        family, kind = f"stable_diffusion{'_xl' if is_xl(config) else ''}_control", "ControlNet"
    unet = _base_unet(folder, base, is_checkpoint=bool(config.get("use_metadata")))
    pipeline = _pipeline_above(unet) if unet else None
    if unet is not None:
        check_base(config, read_json(unet / "config.json"))
    return Layout(family, kind, pipeline, unet, folder)


def _base_unet(folder: Path, base: Path | None, is_checkpoint: bool) -> Path | None:
    """The U-Net of a ControlNet: the one that is named, the one saved with it, or one in the folders above."""
    if base is not None:
        for place in (base / CONTROL_BASE / "unet", base / "unet", base):
            if (place / "config.json").is_file():
                return _not_another_checkpoint(place) if is_checkpoint else place
        raise WeightsMissing("There is no U-Net in the folder that was named as the base.", "Name its pipeline folder.")
    if (folder.parent / "unet" / "config.json").is_file():
        return folder.parent / "unet"  # the official code saves the U-Net that it was trained on around it
    last = LEVELS + 1
    for above in list(folder.parents)[1:last]:
        for place in (above / CONTROL_BASE / "unet",) if is_checkpoint else (above / "unet",):
            if (place / "config.json").is_file():
                return place
    return None


def _not_another_checkpoint(unet: Path) -> Path:
    """A U-Net that was named, unless its own place says that it is a later checkpoint."""
    place = unet.parent if unet.name == "unet" else unet
    later = place.name.startswith("checkpoint-") and place.name != CONTROL_BASE
    if later or (place / CONTROL_BASE / "unet" / "config.json").is_file():
        raise WeightsDamaged(
            f"DiffusionSat's ControlNets belong to the U-Net of {CONTROL_BASE}, not to {place.name}.",
            f"Name the folder that holds {CONTROL_BASE}, or that folder itself.",
        )
    return unet


def _pipeline_above(unet: Path) -> Path | None:
    """The nearest folder from a component upwards that has an autoencoder."""
    for above in list(unet.parents)[:LEVELS]:
        if (above / "vae" / "config.json").is_file():
            return above
    return None


def _checkpoint(path: Path) -> Layout:
    if any(name.startswith(XL_SINGLE) for name in _names(path)):
        raise UnknownModel(
            "This is a Stable Diffusion XL in one file, which has neither its configurations nor its vocabularies.",
            "Get it as a folder with model_index.json, unet, vae, and two text encoders and tokenizers.",
        )
    return Layout("crs_diff", "text, metadata, six maps and content to image", checkpoint=path)


def _names(path: Path) -> tuple[str, ...]:
    """Names of the tensors in a safetensors file; none where it is another file, or a damaged one."""
    if path.suffix.lower() != ".safetensors":
        return ()
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= LIST_LIMIT else {}
    except (OSError, ValueError, RecursionError):
        return ()  # whoever opens it says what is wrong with it
    return tuple(header) if isinstance(header, dict) else ()


def _also_here(unet: Path, pipeline: Path | None) -> tuple[str, ...]:
    """Other U-Nets and ControlNets one folder below the pipeline of a U-Net."""
    if pipeline is None:
        return ()
    found = {path.parent for name in ("unet", "controlnet") for path in pipeline.glob(f"*/{name}/config.json")}
    return tuple(sorted(path.relative_to(pipeline).as_posix() for path in found - {unet}))


def _steps_trained(config: Path) -> int:
    steps = config.parent.parent.name.removeprefix("checkpoint-")
    return int(steps) if steps.isdigit() else -1


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
