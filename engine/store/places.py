"""Where things lie below the store, and what a model may be called there."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from pathlib import Path

from .. import durable
from ..errors import DiskFull, InvalidRequest, OutputNotWritable
from ..models import catalog
from ..settings import Settings

#: What a model's folder may be called.
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
#: Names of devices on Windows, where no folder may be called so.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{k}" for port in ("com", "lpt") for k in range(1, 10))}
#: Below the store: downloads on their way, one folder an offer.
PARTIAL = ".partial"
#: Below the store: models that are being put together or taken away, and a lock for each id.
WORK = ".work"
#: Space that is left free, bytes: a full disk harms more than this model.
SPARE = 256 * 1024 * 1024


def check_id(model_id: str) -> str:
    """The same id. Raises InvalidRequest for one that cannot be a folder's name everywhere."""
    if not _ID.fullmatch(model_id) or model_id in DEVICES:
        raise InvalidRequest(
            f"A model cannot be called {model_id[:60]!r}.",
            "Use up to 63 small letters, digits and hyphens, beginning with a letter or a digit.",
        )
    return model_id


def id_of(name: str) -> str:
    """A name as an id: "Text2Earth v1.0" -> "text2earth-v1-0"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower(), flags=re.ASCII).strip("-")[:63].strip("-") or "model"


def check_free(model_id: str, settings: Settings) -> None:
    """See that no model that is listed has this id. Raises InvalidRequest."""
    listed = {card.id for card in catalog.cards(settings)}
    if model_id in listed or (settings.store / model_id / catalog.CARD).exists():
        raise InvalidRequest(f"There is already a model {model_id}.", "Remove it first, or give another id.")


def make(folder: Path) -> Path:
    """The same folder, which is there afterwards. Raises OutputNotWritable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable("The folder of the models cannot be made.", "Choose another folder.") from error
    return folder


def free(folder: Path) -> int:
    """Bytes that are free where a folder lies or will lie."""
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    return shutil.disk_usage(there).free


def check_space(folder: Path, needed: int) -> None:
    """See whether so many bytes fit, before any is written.

    Raises:
        DiskFull: with what is missing.
    """
    there = free(folder)
    if there < needed + SPARE:
        raise DiskFull(
            f"{gigabytes(needed)} are needed in the folder of the models, and {gigabytes(there)} are free.",
            "Free some space, or choose another folder for the models, then try again.",
        )


def can_link(store: Path) -> bool:
    """Whether a file below the store can have a second name, which costs no space."""
    with tempfile.TemporaryDirectory(prefix="link.", dir=make(store / WORK)) as folder:
        first = Path(folder, "first")
        first.touch()
        try:
            os.link(first, Path(folder, "second"))
        except OSError:
            return False
    return True


def gigabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def discard(folder: Path, store: Path) -> None:
    """Take a folder away: out of sight in one step, then for good.

    Raises:
        OutputNotWritable: a program has it open; nothing of it was taken away.
    """
    if not folder.exists():
        return
    # a name of its own: what an open file kept here before is in nobody's way
    away = make(store / WORK) / f"gone-{folder.name}.{uuid.uuid4().hex[:12]}"
    try:
        durable.replace(folder, away)
    except OSError as error:
        raise OutputNotWritable(
            "The folder of this model cannot be taken away: a program may have a file of it open.",
            "Close what uses the model, then try again.",
        ) from error
    shutil.rmtree(away, ignore_errors=True)


def sweep(store: Path) -> None:
    """Take what is left of folders that were taken away before; no id has a dot."""
    for away in (store / WORK).glob("gone-*.*"):
        if away.is_dir():
            shutil.rmtree(away, ignore_errors=True)
