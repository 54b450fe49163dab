"""Files that the engine was given: inside the job folder, or not opened."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath


def job_file(folder: Path, name: str) -> Path:
    """The regular file of that name in the folder; links are followed first, then compared.

    Raises:
        FileNotFoundError: where there is none; its text ends a sentence that begins with what the file is for.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if not name or parts.is_absolute() or ":" in name or any(ord(char) < 32 for char in name):
        raise FileNotFoundError("has a name that is not one of a file in the job folder")
    try:
        path = (folder / parts).resolve(strict=True)
        is_inside = folder.resolve() in path.parents and stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise FileNotFoundError("is not in the job folder") from error
    if not is_inside:
        raise FileNotFoundError("is not a file in the job folder")
    return path
