"""The job folder: what was asked, what was chosen, the tiles that are finished, and what came of it.

::

    request.json        the job, written by whoever made the folder
    lock                held while an engine works on it
    pins.json           what the engine chose by itself, once
    tiles/              one file for each finished chunk of each sample, and of each picture kept on its way
    pending/            results on their way, in place of the tiles under their blocks
    previews/ scratch/  may be deleted at any time
    outputs/            results that were given no other place
    left_out.json       the chunks that could not be drawn, if there are any, and the work that they are of
    result.json         how it ended, once it ended well
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from . import durable
from .contract import Job, Result, Window, WireError, dumps, loads
from .errors import EmptyExtent, InvalidRequest, JobFolderBusy, JobFolderDamaged
from .tiles import Tiles

#: Longest request, in bytes.
_REQUEST_LIMIT = 8 * 1024 * 1024


class JobFolder:
    """A job folder, held by this process alone while in the ``with`` block.

    Args:
        path: the folder.

    Raises:
        JobFolderDamaged: where it is not a folder with a readable ``request.json``.
        InvalidRequest: where the request in it is not a valid one.
        JobFolderBusy: on entering, where another engine holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.job = self._read_job()
        self._lock: IO[bytes] | None = None

    def _read_job(self) -> Job:
        request = self.path / "request.json"
        try:
            if request.stat().st_size > _REQUEST_LIMIT:
                raise InvalidRequest("The request is too long.", "Shorten the prompt.")
            text = request.read_bytes()
        except OSError as error:
            raise JobFolderDamaged("The job folder has no readable request.") from error
        try:
            job = loads(Job, text)
        except WireError as error:
            if ": shape must be" in str(error):
                raise EmptyExtent("The extent holds no pixel.") from error
            raise InvalidRequest(f"The request is not valid: {error}.") from error
        if not isinstance(job, Job):
            raise InvalidRequest("The request is not a job.")
        return job

    def __enter__(self) -> JobFolder:
        """Take the lock. The system drops it when the process ends, however it ends."""
        try:
            file = open(self.path / "lock", "a+b")
        except PermissionError as error:
            raise JobFolderDamaged("The job folder cannot be written to.") from error
        try:
            lock(file)
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()}\n".encode())
            file.flush()
        except OSError as error:
            file.close()
            if isinstance(error, (BlockingIOError, PermissionError)):
                raise JobFolderBusy("Another engine works on this job.") from error
            raise
        self._lock = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def previews(self) -> Path:
        """Folder for previews."""
        return self.path / "previews"

    @property
    def pending(self) -> Path:
        """Folder for results on their way that tiles are moved to."""
        return self.path / "pending"

    @property
    def scratch(self) -> Path:
        """Folder for intermediate files."""
        return self.path / "scratch"

    def pins(self) -> dict[str, str]:
        """What the engine chose by itself, so far.

        A torn or foreign ``pins.json`` is set aside and counts as none: tiles that were drawn with it no longer fit.
        """
        path = self.path / "pins.json"
        try:
            pins = json.loads(path.read_text("utf-8"))
            if not isinstance(pins, dict):
                raise ValueError("not an object")
        except FileNotFoundError:
            return {}
        except ValueError:
            os.replace(path, path.with_suffix(".bad"))
            return {}
        return {str(key): str(value) for key, value in pins.items()}

    def pin(self, name: str, value: str) -> str:
        """Choose a value once: the first one stays for the life of the job, and is what is returned."""
        pins = self.pins()
        if name not in pins:
            pins[name] = value
            durable.write(self.path / "pins.json", json.dumps(pins, indent=1, sort_keys=True).encode(), "pins")
        return pins[name]

    def repin(self, name: str, value: str) -> None:
        """Choose another value, for what does not decide which tiles are whose."""
        pins = {**self.pins(), name: value}
        durable.write(self.path / "pins.json", json.dumps(pins, indent=1, sort_keys=True).encode(), "pins")

    def forget_pins(self) -> None:
        """Choose anew, where what was chosen is not there any more; tiles that were drawn with it no longer fit."""
        for name in ("pins.json", "left_out.json"):
            (self.path / name).unlink(missing_ok=True)

    def left_out(self, work: str) -> list[tuple[int, Window]]:
        """The chunks of a piece of work, by its hash, that could not be drawn: (sample, chunk)."""
        return [(sample, chunk) for key, sample, chunk in self._left_out() if key == work]

    def _left_out(self) -> list[tuple[str, int, Window]]:
        try:
            rows = json.loads((self.path / "left_out.json").read_text("utf-8"))
            return [(str(work), int(sample), Window(*map(int, chunk))) for work, sample, *chunk in rows]
        except (FileNotFoundError, ValueError, TypeError):
            return []

    def leave_out(self, sample: int, chunk: Window, work: str) -> None:
        """Note a chunk of a piece of work that could not be drawn."""
        known = dict.fromkeys([*self.left_out(work), (sample, chunk)])
        rows = [[work, number, window.row, window.col, window.height, window.width] for number, window in known]
        durable.write(self.path / "left_out.json", json.dumps(rows).encode(), "left_out")

    def try_again(self) -> bool:
        """Have the chunks that were left out be drawn after all, in a job that has ended; whether there are any."""
        rows = self._left_out()
        if not rows:
            return False
        (self.path / "result.json").unlink(missing_ok=True)  # first: it is not the result any more
        tiles = self.tiles({})
        for _, sample, chunk in rows:
            tiles.drop(sample, chunk)
        (self.path / "left_out.json").unlink(missing_ok=True)
        return True

    def result(self) -> Result | None:
        """How the job ended, if it ended well and its files are still there."""
        try:
            result = loads(Result, (self.path / "result.json").read_bytes())
        except (OSError, WireError):
            return None
        if isinstance(result, Result) and all(Path(output.path).is_file() for output in result.outputs):
            return result
        return None

    def finish(self, result: Result) -> None:
        """Record how the job ended."""
        durable.write(self.path / "result.json", dumps(result).encode(), "result")

    def tidy(self, keep_tiles: bool = False) -> None:
        """Drop what only an unfinished job needs."""
        always, tiles = ("scratch", "previews"), ("tiles", "pending")
        for name in always if keep_tiles else (*always, *tiles):
            # a preview may still be open in QGIS (Windows): what stays goes with the job folder
            shutil.rmtree(self.path / name, ignore_errors=True)

    def tiles(self, work: dict[str, Any], image: tuple[int, int] | None = None) -> Tiles:
        """The finished tiles of one piece of work.

        Args:
            work: everything that decides the pixels, as JSON; tiles of other work are not seen.
            image: see ``Tiles``.
        """
        return Tiles(self.path / "tiles", key_of(work), image, self.pending)


def key_of(work: dict[str, Any]) -> str:
    """Hash of what decides the pixels of a piece of work, given as JSON."""
    text = json.dumps(work, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


if os.name == "nt":  # pragma: no cover - the other branch is tested here
    import msvcrt

    def lock(file: IO[bytes]) -> None:
        """Hold a file until it is closed. Raises OSError where another process holds it."""
        # a byte far behind the content, since Windows locks against reading too
        file.seek(1024)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def lock(file: IO[bytes]) -> None:
        """Hold a file until it is closed. Raises BlockingIOError where another process holds it."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            # some network file systems have no locks: then the lock is given up, not the job
            return
