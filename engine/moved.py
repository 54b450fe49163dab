"""Blocks that stand in a result on its way, so that the tiles that they were made of need not be kept beside it.

A result is written block by block. Once some of them are on the disk, a list beside the file says where they stand, and
the tiles under them go: a job needs little more disk than its result. Until the result is in its place, file and list
stand for those tiles. After a crash they are read from there, and nothing is drawn again.

A list has a line for each block: the sum of the rest of the line, and as JSON ``[row, column, place, length, mask,
sum]``, or ``[row, column]`` for one that is to be drawn again. It only ever grows, and a line that a crash tore is
passed over; the tiles that it is about are still there.
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
    """What stands in one file, which has a name here first, and at last the user's.

    Attributes:
        path: of the list.
        target: the user's name.
        dtype: numpy name of the pixel type.
        bands: how many there are.
        places: block -> where its line begins in the list, and where the block ends in the file. What a line says stays
            on the disk: masks can be large.
    """

    path: Path
    target: Path
    dtype: str
    bands: int
    places: dict[BlockIndex, tuple[int, int]] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Its first name."""
        return self.path.with_suffix(".tif")

    def size(self) -> int:
        """Bytes of the file; 0 where there is none."""
        try:
            return self.file.stat().st_size
        except OSError:
            return self.published()

    def published(self) -> int:
        """Bytes of the file where it has the user's name; 0 for another file, of which no block is one of these."""
        if self.file.exists() or not self.places or self._read(self.target, next(iter(self.places))) is None:
            return 0
        return self.target.stat().st_size

    def read(self, index: BlockIndex) -> Packed | None:
        """A block; None where the disk does not give back what was written."""
        found = self._read(self.file, index)
        return self._read(self.target, index) if found is None else found

    def _read(self, path: Path, index: BlockIndex) -> Packed | None:
        try:
            with open(self.path, "rb") as file:
                file.seek(self.places[index][0])
                known = _opened(file.readline())
            if known is None or len(known) != _STANDING or (known[0], known[1]) != index:
                return None
            _, _, at, length, mask, total = known
            with open(path, "rb") as file:
                file.seek(at)
                block = Packed(file.read(length), base64.b64decode(mask))
        except (OSError, ValueError):
            return None
        return block if len(block.pixels) == length and checksum(block.pixels, block.mask) == total else None

    def add(self, lines: Sequence[Sequence[Any]]) -> list[int]:
        """Add lines, and have the disk hold them; where each begins."""
        is_new = not self.path.exists()
        with open(self.path, "ab") as file:
            if is_new:
                file.write(_sealed({"target": str(self.target), "dtype": self.dtype, "bands": self.bands}))
            file.write(b"\n")  # a line that a crash tore ends here
            starts = []
            for line in lines:
                starts.append(file.tell())
                file.write(_sealed(line))
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            durable.sync_folder(self.path.parent)
            durable.sync_folder(self.path.parent.parent)
        return starts

    def discard(self) -> None:
        """Remove both: the list first, which promises the file."""
        self.path.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


#: Values in the line of a block that stands somewhere.
_STANDING = 6


def _sealed(said: Any) -> bytes:
    """A line of a list."""
    text = json.dumps(said).encode()
    return b"%08x %s\n" % (checksum(text), text)


def _opened(line: bytes) -> Any:
    """What a line says; None for an empty or a damaged one."""
    total, _, text = line.rstrip(b"\n").partition(b" ")
    return json.loads(text) if text and total == b"%08x" % checksum(text) else None


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
        self._sizes: dict[_List, int] = {}
        for path in sorted(folder.glob(f"{name}.*.moved")):
            self._take_up(path)

    def _take_up(self, path: Path) -> None:
        """Take up a list; what it says counts more than what older ones do."""
        try:
            with open(path, "rb") as file:
                said = _opened(file.readline())
                if said is None:
                    return
                known = _List(path, Path(said["target"]), said["dtype"], said["bands"])
                self._lists.append(known)
                at = file.tell()
                for line in file:
                    self._follow(known, at, _opened(line))
                    at += len(line)
        except OSError:
            return

    def _follow(self, known: _List, at: int, said: Any) -> None:
        """Do what a line of a list says."""
        if said is None:
            return
        index = (said[0], said[1])
        if len(said) == _STANDING:
            known.places[index] = (at, said[2] + said[3])
        else:
            for each in self._lists:
                each.places.pop(index, None)

    def sizes(self) -> tuple[int, int]:
        """Bytes of the files that hold blocks: those with names here, and those with the user's."""
        published = sum(known.published() for known in self._lists)
        return sum(known.size() for known in self._lists) - published, published

    def has(self, window: Window) -> bool:
        """Whether all blocks under some pixels stand somewhere. Their bytes are summed when they are read, not here."""
        ends = [(known.places, self._size(known)) for known in self._lists]
        return bool(ends) and all(
            any(index in places and places[index][1] <= size for places, size in ends) for index in blocks_of(window)
        )

    def _size(self, known: _List) -> int:
        if known not in self._sizes:
            self._sizes[known] = known.size()
        return self._sizes[known]

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
        for known in list(self._lists):
            if any(other is not known and known.places.keys() <= other.places.keys() for other in self._lists):
                self._discard(known)  # a run got less far than another one before
        number = 1 + max((int(known.path.stem.rpartition(".")[2]) for known in self._lists), default=0)
        path = self._folder / f"{self._name}.{number:03d}.moved"
        path.unlink(missing_ok=True)  # one that was torn before it promised anything
        return _List(path, target, profile.dtype, len(profile.bands))

    def add(self, known: _List, blocks: Sequence[Standing]) -> None:
        """Note where blocks stand; older files go as soon as none of their blocks is needed.

        Raises:
            OSError: where the disk is full.
        """
        lines = [[*b.index, b.at, b.length, base64.b64encode(b.mask).decode(), b.checksum] for b in blocks]
        for block, start in zip(blocks, known.add(lines), strict=True):
            known.places[block.index] = (start, block.at + block.length)
        self._sizes.pop(known, None)
        if known not in self._lists:
            self._lists.append(known)
        for older in self._lists[:-1]:
            if older.places.keys() <= known.places.keys():
                self._discard(older)

    def _discard(self, known: _List) -> None:
        self._lists.remove(known)
        known.discard()


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
        self.path = self._list.file
        self._under: dict[BlockIndex, list[Window]] = {}
        self._left: collections.Counter[Window] = collections.Counter()
        for chunk in chunks:
            for index in blocks_of(chunk):
                self._under.setdefault(index, []).append(chunk)
                self._left[chunk] += 1

    @property
    def is_begun(self) -> bool:
        """Whether anything may stand there only."""
        return self._list.path.exists()

    def take(self, blocks: Sequence[Standing]) -> None:
        """Let go of what these blocks were made of, as far as no other block is.

        Raises:
            OSError: where that cannot be noted; then nothing goes.
        """
        faults.point("handover.before_list")
        self._moved.add(self._list, blocks)
        faults.point("handover.after_list")
        for block in blocks:
            for chunk in self._under.pop(block.index):
                self._left[chunk] -= 1
                if not self._left[chunk]:
                    del self._left[chunk]
                    self._remove(chunk)
        faults.point("handover.after_remove")
