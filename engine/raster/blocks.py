"""A block of a GeoTIFF as it stands in the file: differences of neighbours, packed with DEFLATE.

Sources: TIFF 6.0, sections 14 and 15 (differencing, tiles); Adobe TIFF technical notes 2002 (DEFLATE) and 3 (floating
point). igzip (the package isal) takes a tenth of the time of zlib at its default level. On the pictures of land that it
was tried on its files are as large to 3 %, on terrain and reflectances up to 8 %, on maps of few classes up to a third.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

from ..contract import CHUNK

#: Side of the blocks of a result. A chunk that begins on a block of the file, and fills it, is that block.
BLOCK = CHUNK
#: Of igzip: 0 to 3. The lowest with which files are about as large as zlib's; 3 is slower and no better.
_LEVEL = 2
#: What it raises; its type information says that this is no class.
_DAMAGED: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]


@dataclass(frozen=True)
class Packed:
    """A block, packed.

    Attributes:
        pixels: of all bands, interleaved.
        mask: one bit for each pixel: whether there is data.
    """

    pixels: bytes
    mask: bytes


def checksum(*parts: bytes) -> int:
    """CRC-32 of bytes one after the other: tells what a disk or a crash did to them, at a fiftieth of SHA-256's time.

    Nothing here is kept from a person who means to change it: who can write a tile can write its sum.
    """
    value = 0
    for part in parts:
        value = isal_zlib.crc32(part, value)
    return value


def predictor(dtype: str) -> int:
    """TIFF's number of the way in which neighbours are subtracted: 2 for whole numbers, 3 for others."""
    return 3 if np.dtype(dtype).kind == "f" else 2


def pack(pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> Packed:
    """Pack pixels (bands, h, w) and where they hold data (h, w), filled up to a whole block if they are less."""
    rows, cols = _padded(*valid.shape)
    differences = _float_differences if pixels.dtype.kind == "f" else _differences
    return Packed(isal_zlib.compress(differences(pixels, rows, cols), _LEVEL), pack_mask(valid, (rows, cols)))


def unpack(
    packed: Packed, dtype: str, bands: int, height: int, width: int
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """The inverse of ``pack``.

    Raises:
        ValueError: for bytes that it did not make.
    """
    rows, cols = _padded(height, width)
    try:
        raw = isal_zlib.decompress(packed.pixels)
    except _DAMAGED as error:
        raise ValueError("a damaged block") from error
    sums = _float_sums if np.dtype(dtype).kind == "f" else _sums
    valid = unpack_mask(packed.mask, (rows, cols))[:height, :width]
    return sums(raw, dtype, bands, (rows, cols), (height, width)), valid


def _padded(height: int, width: int) -> tuple[int, int]:
    return max(height, BLOCK), max(width, BLOCK)


def pack_mask(valid: NDArray[np.bool_], shape: tuple[int, int]) -> bytes:
    """Pack where pixels hold data (h, w), filled up to so many rows and columns: one bit for each."""
    if valid.shape == shape and valid.all():
        return _full_mask(shape)
    whole = np.zeros(shape, np.bool_)
    whole[: valid.shape[0], : valid.shape[1]] = valid
    return isal_zlib.compress(np.packbits(whole, axis=1), _LEVEL)


def unpack_mask(packed: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The inverse of ``pack_mask``. Raises ValueError for bytes that it did not make."""
    if packed == _full_mask(shape):
        return np.ones(shape, np.bool_)
    try:
        bits = np.frombuffer(isal_zlib.decompress(packed), np.uint8).reshape(shape[0], -1)
    except _DAMAGED as error:
        raise ValueError("a damaged mask") from error
    return np.unpackbits(bits, axis=1, count=shape[1]).astype(np.bool_)


@functools.lru_cache(maxsize=16)
def _full_mask(shape: tuple[int, int]) -> bytes:
    return isal_zlib.compress(np.packbits(np.ones(shape, np.bool_), axis=1), _LEVEL)


def _differences(pixels: NDArray[np.generic], rows: int, cols: int) -> NDArray[np.generic]:
    """Each number less that of the pixel on its left, interleaved; what overflows comes back when it is added."""
    bands, height, width = pixels.shape
    whole = np.zeros((rows, cols, bands), pixels.dtype.newbyteorder("<"))
    planes = whole.transpose(2, 0, 1)[:, :height, :width]
    planes[:, :, 0] = pixels[:, :, 0]
    np.subtract(pixels[:, :, 1:], pixels[:, :, :-1], out=planes[:, :, 1:])
    return whole


def _sums(raw: bytes, dtype: str, bands: int, block: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.generic]:
    kind = np.dtype(dtype)
    rows = np.array(np.frombuffer(raw, kind.newbyteorder("<")).reshape(block[0], -1), dtype=kind)
    _add_up(rows, bands)
    whole = rows.reshape(*block, bands)[: shape[0], : shape[1]]
    return np.ascontiguousarray(whole.transpose(2, 0, 1))


def _add_up(rows: NDArray[np.generic], step: int) -> None:
    """To each number of a row add all those ``step``, 2 ``step`` and so on before it, in place.

    In sums of 2, 4, 8, ... of them: a few vector additions take half the time of a running sum.
    Source: Hillis and Steele 1986, "Data parallel algorithms".
    """
    reach = step
    while reach < rows.shape[1]:
        np.add(rows[:, reach:], rows[:, :-reach].copy(), out=rows[:, reach:])
        reach *= 2


def _float_differences(pixels: NDArray[np.generic], rows: int, cols: int) -> NDArray[np.generic]:
    """The first bytes of all numbers of a row, then their second ones, and so on; each less that before it."""
    bands, height, width = pixels.shape
    size = pixels.dtype.itemsize
    whole = np.zeros((rows, cols, bands), pixels.dtype.newbyteorder(">"))
    whole[:height, :width] = pixels.transpose(1, 2, 0)
    parts = whole.view(np.uint8).reshape(rows, cols * bands, size).transpose(0, 2, 1)
    planes = np.ascontiguousarray(parts).reshape(rows, size * cols, bands)
    out = planes.copy()
    out[:, 1:] -= planes[:, :-1]
    return out


def _float_sums(
    raw: bytes, dtype: str, bands: int, block: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.generic]:
    kind, (rows, cols) = np.dtype(dtype), block
    size = kind.itemsize
    planes = np.array(np.frombuffer(raw, np.uint8).reshape(rows, -1))
    _add_up(planes, bands)
    parts = np.ascontiguousarray(planes.reshape(rows, size, cols * bands).transpose(0, 2, 1))
    whole = parts.view(kind.newbyteorder(">")).reshape(rows, cols, bands)[: shape[0], : shape[1]]
    return np.ascontiguousarray(whole.transpose(2, 0, 1), dtype=kind)
