"""Which of a host's files make up a model: weights, configurations and vocabularies, by their names; never code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from ..errors import DownloadDamaged
from ..models.filenames import FILES
from . import places
from .wish import DRAWS, SMALL, STEERS

#: Folders of networks, whose weights are fetched.
NETWORKS = ("vae", "text_encoder", "text_encoder_2", "unet", "controlnet")
#: What a name may hold: nothing that another system reads as a path, a drive or a device.
_NAME = re.compile(r"[A-Za-z0-9_+=@() ,.-]{1,200}", re.ASCII)
_CHECKPOINT = re.compile(r"checkpoint-\d+", re.ASCII)


def safe(path: str) -> PurePosixPath:
    """A host's path as one below a folder of ours.

    Raises:
        DownloadDamaged: it leads elsewhere, or is no path that every system takes.
    """
    names = path.split("/")
    if len(names) > 10 or not all(_is_safe(name) for name in names):
        raise DownloadDamaged(
            "The host names a file outside of the model's folder.", "Do not use this source; tell its authors."
        )
    return PurePosixPath(*names)


def _is_safe(name: str) -> bool:
    """Whether a name is one of a file everywhere; Windows opens a device for "con.json" and for "CON .json", too."""
    if not _NAME.fullmatch(name) or name != name.strip().rstrip("."):
        return False
    return name.partition(".")[0].strip().lower() not in places.DEVICES


def choose(paths: Iterable[str], root: str = "") -> list[str]:
    """Those of the paths that a model needs.

    Of several pipelines, the highest. Of each network, the one file that would be loaded. Of training checkpoints,
    those that a family draws or steers with, or the last one where a folder has others.

    Args:
        paths: below the model's folder, as the host writes them.
        root: what the folder itself is, "controlnet" for a ControlNet without a pipeline around it.
    """
    there = {path: PurePosixPath(path) for path in paths}
    folders: dict[PurePosixPath, list[str]] = {}
    for path, pure in there.items():
        folders.setdefault(pure.parent, []).append(path)
    wanted = []
    checkpoints = {name for pure in there.values() for name in pure.parts[:-1] if _CHECKPOINT.fullmatch(name)}
    skipped = checkpoints - _kept(checkpoints)
    pipelines = [_pipeline(folder) for folder in folders if (folder.name or root) in NETWORKS]
    place = min(pipelines, key=lambda found: (len(found.parts), str(found)), default=None)
    for folder, files in folders.items():
        if skipped & set(folder.parts) or (_is_component(folder.name) and _pipeline(folder) != place):
            continue
        part = folder.name or root
        if part == "unet" and DRAWS in checkpoints and not checkpoints & set(folder.parts):
            continue  # what is drawn with lies in the checkpoint
        names = {PurePosixPath(path).name for path in files}
        keep = set(SMALL.get(part, ()))
        if part in NETWORKS:
            keep |= set(next(([name] for name in FILES if name in names), []))
        if folder == place:
            keep |= set(SMALL[""])
        wanted += [path for path in files if PurePosixPath(path).name in keep]
    return sorted(wanted)


def _pipeline(component: PurePosixPath) -> PurePosixPath:
    """The folder of the pipeline that a component's folder belongs to."""
    if not component.name:
        return component
    above = component.parent
    return above.parent if _CHECKPOINT.fullmatch(above.name) else above


def _kept(checkpoints: set[str]) -> set[str]:
    named = checkpoints & {DRAWS, STEERS}
    return named or set(sorted(checkpoints, key=lambda name: int(name.split("-")[1]))[-1:])


def _is_component(part: str) -> bool:
    return bool(part) and part in SMALL
