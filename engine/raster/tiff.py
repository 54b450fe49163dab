"""The container of a TIFF file: its directories, read and written, and nothing of what they mean.

GDAL makes the directory of a result, with everything that QGIS reads from it; here it gets a size, blocks and smaller
versions. Sources: TIFF 6.0; BigTIFF (Aware Systems, 2007); GDAL, "COG driver", header ghost area and tile leaders.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

#: Bytes of one value of each type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SHORT, _LONG, _LONG8 = 3, 4, 16
_WIDTH, _LENGTH, _KIND = 256, 257, 254
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _PREDICTOR = 258, 259, 262, 277, 284, 317
_TILE_WIDTH, _TILE_LENGTH, _OFFSETS, _COUNTS = 322, 323, 324, 325
_EXTRA, _FORMAT, _NODATA = 338, 339, 42113
#: What a smaller version has in common with the image.
_STRUCTURE = (
    *(_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _PREDICTOR),
    *(_TILE_WIDTH, _TILE_LENGTH, _EXTRA, _FORMAT, _NODATA),
)
_REDUCED, _MASK = 1, 4
_DEFLATE, _IS_MASK = 8, 4
#: Most bytes of a directory's value that are read.
_VALUE_LIMIT = 2**31


@dataclass(frozen=True)
class Field:
    """One tag: its type, how many values, and their bytes, little end first."""

    kind: int
    count: int
    value: bytes

    @classmethod
    def of(cls, *numbers: int, kind: int = _LONG) -> Field:
        """Whole numbers."""
        letter = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}[kind]
        return cls(kind, len(numbers), struct.pack(f"<{len(numbers)}{letter}", *numbers))

    def numbers(self) -> tuple[int, ...]:
        """The inverse of ``of``."""
        letter = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}[self.kind]
        return struct.unpack(f"<{self.count}{letter}", self.value)


Directory = dict[int, Field]


def directories(file: IO[bytes]) -> list[Directory]:
    """The directories of a file, in their order.

    Raises:
        ValueError: for what is no TIFF of this byte order, or breaks off.
    """
    magic = _bytes(file, 0, 4)
    if magic not in (b"II*\0", b"II+\0"):
        raise ValueError("not a TIFF")
    is_big = magic == b"II+\0"
    at = struct.unpack("<Q", _bytes(file, 8, 8))[0] if is_big else struct.unpack("<I", _bytes(file, 4, 4))[0]
    found = []
    while at:
        directory, at = _directory(file, at, is_big)
        found.append(directory)
    return found


def _directory(file: IO[bytes], at: int, is_big: bool) -> tuple[Directory, int]:
    """The directory at a place, and the place of the next one; 0 after the last."""
    head, entry, link, inline = ("<Q", "<HHQ", "<Q", 8) if is_big else ("<H", "<HHI", "<I", 4)
    (count,) = struct.unpack(head, _bytes(file, at, struct.calcsize(head)))
    at += struct.calcsize(head)
    size = struct.calcsize(entry) + inline
    entries = _bytes(file, at, count * size)
    directory = {}
    for index in range(count):
        part = entries[slice(index * size, (index + 1) * size)]
        tag, kind, values = struct.unpack(entry, part[:-inline])
        length = _SIZES.get(kind, 1) * values
        if length > _VALUE_LIMIT:
            raise ValueError("a value without end")
        place = part[-inline:]
        value = place[:length] if length <= inline else _bytes(file, struct.unpack(link, place)[0], length)
        directory[tag] = Field(kind, values, value)
    return directory, struct.unpack(link, _bytes(file, at + count * size, inline))[0]


def _bytes(file: IO[bytes], at: int, length: int) -> bytes:
    file.seek(at)
    found = file.read(length)
    if len(found) < length:
        raise ValueError("a TIFF that breaks off")
    return found


def image(template: Directory, shape: tuple[int, int], reduced: bool = False) -> Directory:
    """The directory of an image, or of a smaller version of it, with another size.

    Args:
        template: of an image with the same pixels.
        shape: (height, width).
        reduced: whether it is a smaller version: then it says nothing but what its blocks are.
    """
    kept = {tag: field for tag, field in template.items() if not reduced or tag in _STRUCTURE}
    kind = Field.of(_REDUCED if reduced else 0)
    return {**kept, _KIND: kind, _WIDTH: Field.of(shape[1]), _LENGTH: Field.of(shape[0])}


def mask(of: Directory) -> Directory:
    """The directory of the mask of an image: a bit for each pixel."""
    return {
        _KIND: Field.of(of[_KIND].numbers()[0] | _MASK),
        _BITS: Field.of(1, kind=_SHORT),
        _COMPRESSION: Field.of(_DEFLATE, kind=_SHORT),
        _PHOTOMETRIC: Field.of(_IS_MASK, kind=_SHORT),
        _SAMPLES: Field.of(1, kind=_SHORT),
        _PLANAR: Field.of(1, kind=_SHORT),
        **{tag: of[tag] for tag in (_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH)},
    }


def placed(directory: Directory, offsets: list[int], counts: list[int], is_big: bool) -> Directory:
    """A directory that says where its blocks are, row by row."""
    return {
        **directory,
        _OFFSETS: Field.of(*offsets, kind=_LONG8 if is_big else _LONG),
        _COUNTS: Field.of(*counts),
    }


def places(directory: Directory) -> list[tuple[int, int]]:
    """(offset, bytes) of each block."""
    return list(zip(directory[_OFFSETS].numbers(), directory[_COUNTS].numbers(), strict=True))


def head(directories: list[Directory], is_big: bool, is_masked: bool) -> bytes:
    """Everything that stands before the blocks. Its length does not depend on where they are.

    Args:
        directories: of the image, its mask, its smaller versions and their masks.
        is_big: BigTIFF, for files of more than 4 GiB.
        is_masked: whether each block is followed by that of its mask.
    """
    number, entry, link, inline = ("<Q", "<HHQ", "<Q", 8) if is_big else ("<H", "<HHI", "<I", 4)
    ghost = _ghost(is_masked)
    out = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if is_big else struct.pack("<2sHI", b"II", 42, 0))
    linked = len(out) - inline  # where the place of the next directory is to be written
    out += ghost + b"\0" * (len(ghost) % 2)
    for directory in directories:
        at = len(out)
        struct.pack_into(link, out, linked, at)
        linked = at + struct.calcsize(number) + len(directory) * (struct.calcsize(entry) + inline)
        table, values = struct.pack(number, len(directory)), b""
        for tag, field in sorted(directory.items()):
            value = field.value
            if len(value) > inline:
                value = struct.pack(link, linked + inline + len(values))
                values += field.value + b"\0" * (len(field.value) % 2)
            table += struct.pack(entry, tag, field.kind, field.count) + value.ljust(inline, b"\0")
        out += table + struct.pack(link, 0) + values
    return bytes(out)


def _ghost(is_masked: bool) -> bytes:
    """What tells a reader that the blocks come in order, each between its length and its last four bytes."""
    text = (
        "LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
        "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "  # room for "YES": an editor writes it
    )
    if is_masked:
        text += "MASK_INTERLEAVED_WITH_IMAGERY=YES\n"
    return f"GDAL_STRUCTURAL_METADATA_SIZE={len(text):06d} bytes\n{text}".encode()


def framed(block: bytes) -> bytes:
    """A block between its length and its last four bytes."""
    return struct.pack("<I", len(block)) + block + block[-4:]


def is_framed(content: bytes, length: int) -> bool:
    """Whether these bytes are a block of so many bytes between its length and its last four bytes."""
    whole = len(content) == length + 2 * LEADER and content[:LEADER] == struct.pack("<I", length)
    return whole and content[-LEADER:] == content[slice(-2 * LEADER, -LEADER)]


#: Bytes of a block's length before it.
LEADER = 4
