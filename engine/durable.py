"""Files that are there, whole, after a crash: the few steps that a disk needs to be told."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

from . import faults
from .errors import OutputNotWritable

#: Windows: another program has the file open. Access denied, sharing violation, lock violation.
_SHARING = (5, 32, 33)
#: Pauses between tries, seconds; about 2.5 in all.
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.75, 1.0)


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder, on systems that can be told so."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Give a file its final name in one step, and have the disk hold that.

    Raises:
        OutputNotWritable: where another program keeps the old file open.
    """
    for pause in (*_PAUSES, None):
        try:
            os.replace(source, target)
            break
        except PermissionError as error:
            if pause is None or getattr(error, "winerror", None) not in _SHARING:
                raise OutputNotWritable(
                    "The output file cannot be replaced: another program may have it open."
                ) from error
            time.sleep(pause)
    sync_folder(target.parent)


def can_move(source: Path, target: Path) -> bool:
    """Whether a file that was made in one folder can go to another in one step, and is then as if it was made there.

    It cannot to another disk, or where the other folder hands down a group, rights or labels of its own. Only Linux
    tells all of them; on Windows a file takes along the rights of the folder that it comes from.
    """
    if not hasattr(os, "listxattr"):
        return False
    mark = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:12]  # a crash leaves one file at most
    made = [folder / f".{mark}" for folder in (source, target)]
    try:
        for path in made:
            path.unlink(missing_ok=True)
        rights = [_rights(path) for path in made]
        os.replace(*made)
        return rights[0] == rights[1]
    except OSError:
        return False
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _rights(path: Path) -> tuple[object, ...]:
    """Who may do what with a new file."""
    path.touch(exist_ok=False)
    said = path.stat()
    labels = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return said.st_uid, said.st_gid, said.st_mode, labels


def reserve(folder: Path, size: int) -> None:
    """See whether a file of this size would fit, and leave nothing.

    Raises:
        OSError: ENOSPC, EDQUOT or EFBIG where it would not.
    """
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))


def write(target: Path, content: bytes, name: str, mark: str = "") -> None:
    """Write a small file so that its name only ever shows the old content or all of the new.

    A failed fsync is final: the kernel may have dropped the pages, so the content is written anew to another file.

    Args:
        target: the file.
        content: all of it.
        name: of the fault points on the way.
        mark: of the file on its way, of whoever alone writes this target: what a killed run left there is overwritten.
    """
    for attempt in (1, 2):
        # no number of a process: two machines that share the folder may have the same
        temporary = target.with_name(f".{target.name}.{mark or secrets.token_hex(6)}")
        try:
            with open(temporary, "wb") as file:
                faults.point(f"{name}.before_write")
                file.write(content)
                faults.point(f"{name}.before_fsync")
                file.flush()
                os.fsync(file.fileno())
            faults.point(f"{name}.after_fsync")
            replace(temporary, target)
            faults.point(f"{name}.after_replace")
            return
        except OSError:
            temporary.unlink(missing_ok=True)
            if attempt == 2:
                raise
