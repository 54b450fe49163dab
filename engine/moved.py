"""Blocks that stand in a result on its way, so that the tiles that they were made of need not be kept beside it.

A result is written block by block. Once some of them are on the disk, a list beside the file says where they stand, and
the tiles under them go: a job needs little more disk than its result. Until the result is in its place, file and list
stand for those tiles. After a crash they are read from there, and nothing is drawn again.

A list holds a line of JSON for each block: ``[row, column, place, length, mask, sum]``, or ``[row, column]`` for one
that is to be drawn again. It only ever grows, so a crash tears no more than its last lines, whose tiles stay.
"""

from __future__ import annotations

import base64
import collections
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import durable, faults
from .contract import Window
from .raster import BlockIndex, Packed, Profile, Standing, blocks_of, checksum, unpack, window_of


@dataclass(eq=False)
class _List:
    """What stands in one file, for as long as that file has its first name, and then under the user's."""

    path: Path
    target: Path
    dtype: str
    bands: int
    places: dict[BlockIndex, Standing] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.path.with_suffix(".tif")

    def size(self) -> int:
        """Bytes of the file; 0 where there is none."""
        for path in (self.file, self.target):
            try:
                return path.stat().st_size
            except OSError:
                continue
        return 0

    def read(self, index: BlockIndex) -> Packed | None:
        """A block; None where the disk does not give back what was written."""
        place = self.places[index]
        for path in (self.file, self.target):
            try:
                with open(path, "rb") as file:
                    file.seek(place.at)
                    pixels = file.read(place.length)
            except OSError:
                continue
            if len(pixels) == place.length and checksum(pixels, place.mask) == place.checksum:
                return Packed(pixels, place.mask)
        return None

    def add(self, lines: Sequence[Sequence[Any]]) -> None:
        """Add lines, and have the disk hold them."""
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        is_new = not self.path.exists()
        with open(self.path, "ab") as file:
            if is_new:
                head = {"target": str(self.target), "dtype": self.dtype, "bands": self.bands}
                file.write(f"{json.dumps(head)}\n".encode())
            file.write(f"\n{text}".encode())  # a line that a crash tore ends here
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            durable.sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove both: the list first, which promises the file."""
        self.path.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


class Moved:
    """Where the blocks of one picture of a piece of work stand, if they do not stand in tiles.

    Args:
        folder: of the files and their lists.
        name: of the picture and of the work that it is of; files begin with it.
        image: (height, width) of the picture, which has the blocks of its result.
    """

    def __init__(self, folder: Path, name: str, image: tuple[int, int]) -> None:
        self._folder, self._name, self._image = folder, name, image
        self._lists: list[_List] = []
        for path in sorted(folder.glob(f"{name}.*.moved")):
            self._read(path)

    def _read(self, path: Path) -> None:
        """Take up a list; what it says counts more than what older ones do."""
        try:
            head, *lines = path.read_text("utf-8").split("\n")
            said = json.loads(head)
            known = _List(path, Path(said["target"]), str(said["dtype"]), int(said["bands"]))
        except (OSError, ValueError, KeyError, TypeError):
            return
        self._lists.append(known)
        for line in lines:
            try:
                row, col, *place = json.loads(line or "null")
                if place:
                    at, length, mask, total = place
                    standing = Standing((row, col), at, length, base64.b64decode(mask), total)
                    known.places[row, col] = standing
                else:
                    for each in self._lists:
                        each.places.pop((row, col), None)
            except (ValueError, TypeError):
                continue  # torn

    def has(self, window: Window) -> bool:
        """Whether all blocks under some pixels stand somewhere. Their bytes are summed when they are read, not here."""
        sizes = [known.size() for known in self._lists]
        return bool(sizes) and all(
            any(
                index in known.places and known.places[index].at + known.places[index].length <= size
                for known, size in zip(self._lists, sizes)
            )
            for index in blocks_of(window)
        )

    def packed(self, index: BlockIndex) -> Packed | None:
        """A block; None where it does not stand anywhere, or is not what was written."""
        found = self._find(index)
        return found and found[0]

    def read(self, window: Window) -> tuple[NDArray[np.generic], NDArray[np.bool_]] | None:
        """Pixels (bands, h, w) and where they hold data (h, w); None where a block of them cannot be read."""
        pixels: NDArray[np.generic] | None = None
        valid = np.zeros((window.height, window.width), np.bool_)
        for index in blocks_of(window):
            found = self._find(index)
            if found is None:
                return None
            block, (packed, known) = window_of(index, self._image), found
            try:
                values, is_valid = unpack(packed, known.dtype, known.bands, block.height, block.width)
            except (ValueError, TypeError):
                return None
            if pixels is None:
                pixels = np.zeros((len(values), window.height, window.width), values.dtype)
            common = window.intersection(block)
            rows, cols = common.relative_to(window).slices()
            from_rows, from_cols = common.relative_to(block).slices()
            pixels[:, rows, cols] = values[:, from_rows, from_cols]
            valid[rows, cols] = is_valid[from_rows, from_cols]
        return None if pixels is None else (pixels, valid)

    def _find(self, index: BlockIndex) -> tuple[Packed, _List] | None:
        for known in reversed(self._lists):
            if index in known.places and (packed := known.read(index)) is not None:
                return packed, known
        return None

    def forget(self, window: Window) -> None:
        """Have some pixels be drawn again."""
        lost = [index for index in blocks_of(window) if any(index in known.places for known in self._lists)]
        if lost:
            self._lists[-1].add(lost)
            for known in self._lists:
                for index in lost:
                    known.places.pop(index, None)

    def begin(self, target: Path, profile: Profile) -> _List:
        """A file for a result, empty, and its list, which is not there before a block stands in it."""
        self._folder.mkdir(exist_ok=True)
        known = {path for each in self._lists for path in (each.path, each.file)}
        for path in set(self._folder.glob(f"{self._name}.*")) - known:
            path.unlink()  # of a killed run: nothing was moved there yet
        number = 1 + max((int(known.path.stem.rpartition(".")[2]) for known in self._lists), default=0)
        path = self._folder / f"{self._name}.{number:03d}.moved"
        return _List(path, target, profile.dtype, len(profile.bands))

    def add(self, known: _List, blocks: Sequence[Standing]) -> None:
        """Note where blocks stand; older files go as soon as none of their blocks is needed.

        Raises:
            OSError: where the disk is full.
        """
        known.add([[*b.index, b.at, b.length, base64.b64encode(b.mask).decode(), b.checksum] for b in blocks])
        known.places.update({block.index: block for block in blocks})
        if known not in self._lists:
            self._lists.append(known)
        for older in self._lists[:-1]:
            if older.places.keys() <= known.places.keys():
                older.discard()
                self._lists.remove(older)


class Handover:
    """Takes the blocks of a result that are on the disk, and lets the tiles under them go.

    Args:
        moved: where it is noted.
        target: the result's name at last.
        profile: of its pixels.
        chunks: of the picture.
        remove: takes a chunk whose tile is not needed any more.

    Attributes:
        path: of the file that the result is to be written to.
        is_begun: whether anything stands there only.
    """

    def __init__(
        self,
        moved: Moved,
        target: Path,
        profile: Profile,
        chunks: Sequence[Window],
        remove: Callable[[Window], None],
    ) -> None:
        self._moved, self._list, self._remove = moved, moved.begin(target, profile), remove
        self.path, self.is_begun = self._list.file, False
        self._under: dict[BlockIndex, list[Window]] = {}
        self._left: collections.Counter[Window] = collections.Counter()
        for chunk in chunks:
            for index in blocks_of(chunk):
                self._under.setdefault(index, []).append(chunk)
                self._left[chunk] += 1

    def take(self, blocks: Sequence[Standing]) -> None:
        """Let go of what these blocks were made of, as far as no other block is.

        Raises:
            OSError: where that cannot be noted; then nothing goes.
        """
        faults.point("handover.before_list")
        self.is_begun = True
        self._moved.add(self._list, blocks)
        faults.point("handover.after_list")
        for block in blocks:
            for chunk in self._under[block.index]:
                self._left[chunk] -= 1
                if not self._left[chunk]:
                    self._remove(chunk)
        faults.point("handover.after_remove")
