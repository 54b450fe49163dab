"""What a model needs out of an archive, and nothing beside it."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from ..errors import DownloadDamaged
from .selection import choose, safe

#: Most that an archive may become, times its own size: weights hardly shrink.
GROWTH = 4
#: Beside that, bytes: configurations and vocabularies of a small archive.
SLACK = 64 * 1024 * 1024
#: Most entries that are looked at.
ENTRIES_LIMIT = 20_000


def contents(archive: Path) -> list[zipfile.ZipInfo]:
    """The entries that a model needs.

    Raises:
        DownloadDamaged: it is no archive, leads out of its folder, holds links, or grows beyond measure.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DownloadDamaged(f"The file {archive.name} is no archive that can be opened.") from error
    if len(entries) > ENTRIES_LIMIT:
        raise DownloadDamaged(f"The archive {archive.name} has more files than any model.")
    if any(_leads_out(entry.filename) for entry in entries):
        raise DownloadDamaged(f"The archive {archive.name} holds a file outside of its folder.")
    by_name = {entry.filename: entry for entry in entries if not entry.is_dir()}
    wanted = [by_name[name] for name in choose(by_name)]
    for entry in wanted:
        safe(entry.filename)
        if stat.S_ISLNK(entry.external_attr >> 16) or entry.flag_bits & 1:
            raise DownloadDamaged(f"The archive {archive.name} holds a link or a locked file in place of weights.")
    if sum(entry.file_size for entry in wanted) > GROWTH * archive.stat().st_size + SLACK:
        raise DownloadDamaged(f"The archive {archive.name} would take far more space than weights do.")
    return wanted


def _leads_out(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or not parts[0] or ":" in parts[0]


def unpack(archive: Path, folder: Path) -> None:
    """Write what a model needs below a folder.

    Raises:
        DownloadDamaged: as ``contents``, or its bytes are not those that it says.
    """
    wanted = contents(archive)
    with zipfile.ZipFile(archive) as opened:
        for entry in wanted:
            target = folder / safe(entry.filename)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with opened.open(entry) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
                raise DownloadDamaged(f"The archive {archive.name} is damaged.") from error
            if target.stat().st_size != entry.file_size:
                raise DownloadDamaged(f"The archive {archive.name} is damaged.")


def root(folder: Path) -> Path:
    """The pipeline or the ControlNet in a folder that was unpacked: the highest there is."""
    for pattern in ("controlnet/config.json", "model_index.json", "unet/config.json"):
        found = sorted(folder.rglob(pattern), key=lambda path: (len(path.parts), str(path)))
        if found:
            return found[0].parents[pattern.count("/")]
    raise DownloadDamaged("The archive holds no model that is known here.", "Tell us which archive it is.")
