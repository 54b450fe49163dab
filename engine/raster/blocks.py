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


def predictor(dtype: str) -> int:
    """TIFF's number of the way in which neighbours are subtracted: 2 for whole numbers, 3 for others."""
    return 3 if np.dtype(dtype).kind == "f" else 2


def pack(pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> Packed:
    """Pack pixels (bands, h, w) and where they hold data (h, w), filled up to a whole block if they are less."""
    rows, cols = _padded(*valid.shape)
    differences = _float_differences if pixels.dtype.kind == "f" else _differences
    return Packed(isal_zlib.compress(differences(pixels, rows, cols), _LEVEL), _pack_mask(valid, rows, cols))


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
        bits = isal_zlib.decompress(packed.mask)
    except _DAMAGED as error:
        raise ValueError("a damaged block") from error
    sums = _float_sums if np.dtype(dtype).kind == "f" else _sums
    mask = np.unpackbits(np.frombuffer(bits, np.uint8).reshape(rows, -1), axis=1)
    return sums(raw, dtype, bands, (rows, cols), (height, width)), mask[:height, :width].astype(np.bool_)


def _padded(height: int, width: int) -> tuple[int, int]:
    return max(height, BLOCK), max(width, BLOCK)


def _pack_mask(valid: NDArray[np.bool_], rows: int, cols: int) -> bytes:
    if valid.all() and valid.shape == (rows, cols):
        return _full_mask(rows, cols)
    whole = np.zeros((rows, cols), np.bool_)
    whole[: valid.shape[0], : valid.shape[1]] = valid
    return isal_zlib.compress(np.packbits(whole, axis=1), _LEVEL)


@functools.lru_cache(maxsize=4)
def _full_mask(rows: int, cols: int) -> bytes:
    return isal_zlib.compress(np.packbits(np.ones((rows, cols), np.bool_), axis=1), _LEVEL)


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
    differences = np.frombuffer(raw, kind.newbyteorder("<")).reshape(*block, bands)[: shape[0], : shape[1]]
    planes = np.ascontiguousarray(differences.transpose(2, 0, 1), dtype=kind)
    return np.cumsum(planes, axis=2, dtype=kind)


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
    planes = np.cumsum(np.frombuffer(raw, np.uint8).reshape(rows, size * cols, bands), axis=1, dtype=np.uint8)
    parts = np.ascontiguousarray(planes.reshape(rows, size, cols * bands).transpose(0, 2, 1))
    whole = parts.view(kind.newbyteorder(">")).reshape(rows, cols, bands)[: shape[0], : shape[1]]
    return np.ascontiguousarray(whole.transpose(2, 0, 1), dtype=kind)
