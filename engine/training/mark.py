"""What a kept file was made from, written with it: a stale one is seen and made anew."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger(__name__)

#: Key of the mark in the metadata of a safetensors file and in the file that a folder has.
KEY = "made_from"
#: File with the mark of a folder.
FILE = f"{KEY}.json"


def make_mark(**parts: Any) -> str:
    """Short hash of everything that decides what a file holds, as JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def archive_mark(path: Path) -> str:
    """Short hash of an archive's list: the name, size and checksum of each file in it.

    Raises:
        FileNotFoundError: the archive is not there.
    """
    with zipfile.ZipFile(path) as archive:
        return make_mark(files=[(info.filename, info.file_size, info.CRC) for info in archive.infolist()])


def read_kept(path: Path, mark: str) -> dict[str, Tensor] | None:
    """The tensors of a safetensors file; None where there is none, or one that was made from something else."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get(KEY) == mark:
                return {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError:
        log.info("%s cannot be read", path.name)
    log.info("%s was made from other data or settings: it is made anew", path.name)
    return None


def keep(path: Path, tensors: dict[str, Tensor], mark: str) -> None:
    """Write a safetensors file with its mark, beside the one that is there, then give it its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.writing")
    save_file(tensors, fresh, metadata={KEY: mark})
    os.replace(fresh, path)


def is_kept(folder: Path, mark: str) -> bool:
    """Whether a folder is there and has this mark."""
    if not folder.is_dir():
        return False
    try:
        if json.loads((folder / FILE).read_bytes())[KEY] == mark:
            return True
    except (OSError, ValueError, LookupError, TypeError):
        log.info("%s has no mark of what it was made from", folder.name)
    log.info("%s was made from other data or settings: it is made anew", folder.name)
    return False


def keep_folder(folder: Path, fill: Callable[[Path], None], mark: str) -> None:
    """Have a folder filled beside the one that is there, mark it, then give it its name.

    Args:
        folder: its name at last.
        fill: writes its files into the folder that it is given.
        mark: what it is made from.
    """
    fresh = folder.with_name(f"{folder.name}.writing")
    shutil.rmtree(fresh, ignore_errors=True)
    fill(fresh)
    (fresh / FILE).write_text(json.dumps({KEY: mark}) + "\n", encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(fresh, folder)
