"""From finished tiles to a Cloud-Optimised GeoTIFF under the user's file name, or nothing at all.

``prepare`` writes a file, hidden beside the target or where a taker of its blocks wants it, and verifies it;
``publish`` puts it in place in one step. What the disk was told to hold is read back from it before it is believed.

The blocks of the file are packed once. Parts that lie on the blocks of the file are taken over as they were packed when
they were drawn; others are composed and packed on the way. The smaller versions are made in a first pass and wait in
the job folder, about a third of the file's size, because they must stand before the image.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from .. import faults
from ..contract import GeoBox, Window
from ..durable import replace, reserve, sync
from ..errors import OutputDamaged, OutputNotWritable
from . import tiff, tiled
from .blocks import BLOCK, Packed, checksum, predictor
from .crs import gsd, to_rasterio
from .options import environment
from .parts import BlockFile, Blocks, Composed, Index, Parts, count, window
from .pixels import Profile, Raster
from .pyramid import Pyramid, shapes

#: Metadata domain that holds the provenance record.
DOMAIN = "AFTERIMAGE"
#: How far, in pixels, the approximation of a projection may be off. Results promise 0.01.
WARP_TOLERANCE = 0.001
#: Results that are coarser than drawn by more than this are averaged on the way.
WARP_COARSER = 4 / 3
#: Files that may become larger, in bytes, are BigTIFF; classic TIFF ends at 4 GiB.
_CLASSIC_LIMIT = 3 * 2**30
#: Blocks of the finished file whose pixels GDAL reads back; of all others the bytes are compared.
_SAMPLED = 16
#: Bytes of the image after which the disk is told to hold them, where the parts under them may go.
_BATCH = 16 * 1024 * 1024
#: Shares of the work on a result: warping, the smaller versions, writing; the rest is reading back.
_WARPED, _REDUCED, _WRITTEN = 0.3, 0.6, 0.95

#: Takes how far it is, 0 to 1; raises to stop.
Tell = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """A block of an image in a file.

    Attributes:
        index: which.
        at: where its pixels begin, in bytes.
        length: of its packed pixels, in bytes.
        mask: packed; whether the file holds it too does not matter.
        checksum: of pixels and mask.
    """

    index: Index
    at: int
    length: int
    mask: bytes
    checksum: int


class Taker(Protocol):
    """Takes blocks as they come to stand in a file, in place of the parts that they were made of."""

    @property
    def path(self) -> Path:
        """Of the file. It can take the place of the target in one step."""

    @property
    def is_begun(self) -> bool:
        """Whether it took any: then the file must stay until the result is in its place."""

    def take(self, blocks: Sequence[Standing]) -> None:
        """These are on the disk. Parts under them may be gone afterwards, if no other block is made of them."""


@dataclass(frozen=True)
class Pending:
    """A verified file that waits beside its target, or where its parts were.

    Attributes:
        path: of the file.
        target: whose place it will take.
        mark: of its job, in the names of all that is on its way beside the target.
        taker: of its blocks; None where their parts stay.
    """

    path: Path
    target: Path
    mark: str
    taker: Taker | None = None

    def discard(self) -> None:
        """Remove it, unless it holds what stands nowhere else."""
        if self.taker is None or not self.taker.is_begun:
            self.path.unlink(missing_ok=True)


def prepare(
    target: Path,
    parts: Parts,
    drawn: GeoBox,
    result: GeoBox,
    profile: Profile,
    tags: dict[str, str],
    record: str,
    scratch: Path,
    tell: Tell,
    taker: Taker | None = None,
) -> Pending:
    """Make a verified Cloud-Optimised GeoTIFF of parts. Memory does not grow with the grid.

    Args:
        target: the user's file name.
        parts: of ``drawn``.
        drawn: grid of the parts.
        result: grid of the file; warped to, where it differs.
        profile: pixel type, names and so on.
        tags: TIFF tags.
        record: provenance as JSON, for the metadata domain.
        scratch: folder for intermediate files, inside the job folder.
        tell: called between blocks.
        taker: of the blocks, where the file has the pixels that were drawn; it also says where the file is made. None
            for a file beside the target, and parts that stay.

    Raises:
        OutputDamaged: where the disk gave back something else than was written.
        OutputNotWritable: where nothing can be written there.
        OSError: of the system (a full disk, for one).
    """
    scratch.mkdir(parents=True, exist_ok=True)
    for leftover in scratch.iterdir():
        # of a killed run, or what processes left for each other while they drew
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink()
    # named after the job, so that what a killed run left there is overwritten by the next, or goes
    mark = hashlib.sha256(os.fsencode(scratch.resolve())).hexdigest()[:8]
    beside = target.with_name(f".{target.name}.{mark}.part.tif")
    if taker is not None:
        beside.unlink(missing_ok=True)
    pending = Pending(beside if taker is None else taker.path, target, mark, taker)
    try:
        with ExitStack() as stack:
            base: Blocks = Composed(parts, drawn, profile)
            first = 0.0
            if drawn != result:
                first = _WARPED
                base = stack.enter_context(BlockFile(scratch / "warped.blocks", result.shape, profile))
                _warp(parts, drawn, result, profile, base, scratch, _part(tell, 0.0, first))
            pyramid = stack.enter_context(Pyramid(base, result.shape, profile, scratch))
            counted = _Counted(_part(tell, first, _REDUCED), math.prod(count(result.shape)))
            pyramid.draw(counted.step)
            faults.point("publish.before_cog")
            tell(_REDUCED)
            template = _template(result, profile, tags, {DOMAIN: {"PROVENANCE": record}})
            written = _write(pending, pyramid, template, profile, _part(tell, _REDUCED, _WRITTEN))
            faults.point("publish.after_cog")
            sync(pending.path)
            _verify(pending.path, written, result, profile, _part(tell, _WRITTEN, 1.0))
    except (RasterioError, CPLE_BaseError, OutputDamaged, PermissionError) as error:
        pending.discard()
        # GDAL does not say that a disk is full in a way that can be told from other errors; with a taker it only reads
        size = result.pixels * len(profile.bands) * profile.itemsize
        for folder in (scratch, target.parent) if taker is None else ():
            reserve(folder, size)
        if isinstance(error, (OutputDamaged, OutputNotWritable)):
            raise
        raise OutputNotWritable("The result cannot be written where it was asked for.") from error
    except BaseException:
        pending.discard()
        raise
    return pending


def publish(pending: Pending) -> None:
    """Put the verified file under the user's name: before, the old file is there; after, the complete new one.

    Raises:
        OutputNotWritable: where another program holds the old file open.
    """
    faults.point("publish.before_replace")
    replace(pending.path, pending.target)
    faults.point("publish.after_replace")


class _Counted:
    """Progress by the block."""

    def __init__(self, tell: Tell, total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0

    def step(self) -> None:
        self._tell(self._done / self._total)
        self._done += 1


def _part(tell: Tell, first: float, last: float) -> Tell:
    return lambda fraction: tell(first + fraction * (last - first))


def _template(
    grid: GeoBox, profile: Profile, tags: dict[str, str], domains: dict[str, dict[str, str]]
) -> tiff.Directory:
    """The directory of a file of one pixel with everything that GDAL has to say about the grid and its pixels."""
    one = grid.crop(Window(0, 0, 1, 1))
    options = {"compress": "deflate", "predictor": str(predictor(profile.dtype)), "bigtiff": "NO"}
    sides = {"blockxsize": str(BLOCK), "blockysize": str(BLOCK)}
    with environment(), rasterio.MemoryFile() as memory:
        with memory.open(**tiled.layout(one, profile, **options, **sides)) as file:
            tiled.describe(file, profile, tags, domains)
            file.write(np.zeros((len(profile.bands), 1, 1), profile.dtype))
        return tiff.directories(memory)[0]


@dataclass(frozen=True)
class _Placed:
    """A block in the file: its level (0 for the image itself), where in it, and the sum of all of its bytes."""

    level: int
    index: Index
    checksum: int


@dataclass(frozen=True)
class _Written:
    """What was written: all blocks, and of some blocks of the image the sum of what GDAL should read of them."""

    blocks: list[_Placed]
    sampled: dict[Index, int]


def _write(pending: Pending, pyramid: Pyramid, template: tiff.Directory, profile: Profile, tell: Tell) -> _Written:
    """Write the file: directories, then the blocks, those of the smallest version first."""
    is_masked = profile.nodata is None
    raw = sum(math.prod(shape) for shape in pyramid.shapes) * len(profile.bands) * profile.itemsize
    is_big = raw > _CLASSIC_LIMIT
    levels = [tiff.image(template, shape, level > 0) for level, shape in enumerate(pyramid.shapes)]
    counts = [math.prod(count(shape)) for shape in pyramid.shapes]
    offsets: list[tuple[list[int], list[int]]] = [([0] * n, [0] * n) for n in counts]
    masks: list[tuple[list[int], list[int]]] = [([0] * n, [0] * n) for n in counts]

    def head() -> bytes:
        found = []
        for directory, image, mask in zip(levels, offsets, masks, strict=True):
            found.append(tiff.placed(directory, *image, is_big))
            if is_masked:
                found.append(tiff.placed(tiff.mask(directory), *mask, is_big))
        return tiff.head(found, is_big, is_masked)

    written = _Written([], {})
    sampled = {round(place) for place in np.linspace(0, counts[0] - 1, _SAMPLED)}
    counted = _Counted(tell, sum(counts))
    with open(pending.path, "wb") as file:
        taking = _Taking(file, pending.taker)
        at = file.write(head())
        for level in reversed(range(len(levels))):
            across = count(pyramid.shapes[level])[1]
            for number in range(counts[level]):
                counted.step()
                index = divmod(number, across)
                block = pyramid.levels[level].packed(index)
                content = tiff.framed(block.pixels)
                offsets[level][0][number], offsets[level][1][number] = at + tiff.LEADER, len(block.pixels)
                if is_masked:
                    masks[level][0][number] = at + len(content) + tiff.LEADER
                    masks[level][1][number] = len(block.mask)
                    content += tiff.framed(block.mask)
                written.blocks.append(_Placed(level, index, checksum(content)))
                if level == 0 and number in sampled:
                    written.sampled[index] = _sum(*pyramid.levels[0].pixels(index))
                file.write(content)
                if level == 0:
                    taking.add(index, at + tiff.LEADER, block)
                at += len(content)
            pyramid.drop(level)
        file.seek(0)
        file.write(head())
    return written


class _Taking:
    """Tells a taker of blocks once the disk holds them, some at a time."""

    def __init__(self, file: IO[bytes], taker: Taker | None) -> None:
        self._file, self._taker = file, taker
        self._standing: list[Standing] = []
        self._bytes = 0

    def add(self, index: Index, at: int, block: Packed) -> None:
        """A block was written."""
        if self._taker is None:
            return
        length = len(block.pixels)
        self._standing.append(Standing(index, at, length, block.mask, checksum(block.pixels, block.mask)))
        self._bytes += length
        if self._bytes >= _BATCH:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._taker.take(self._standing)
            self._standing, self._bytes = [], 0


def _sum(pixels: NDArray[np.generic], valid: NDArray[np.bool_]) -> int:
    return checksum(pixels.tobytes(), valid.tobytes())


def _verify(path: Path, written: _Written, grid: GeoBox, profile: Profile, tell: Tell) -> None:
    """Open the file anew and compare it with what was written.

    The bytes of every block of every size are those that were packed, in the places that the file's own directories
    name; and what GDAL says of the file, and the pixels that it unpacks from some blocks, are what was asked and drawn.

    Raises:
        OutputDamaged: at the first difference.
    """
    try:
        _verify_bytes(path, written.blocks, grid, profile.nodata is None, tell)
        _verify_reading(path, written.sampled, grid, profile)
    except (RasterioError, CPLE_BaseError, ValueError, KeyError) as error:
        raise OutputDamaged("The file on disk cannot be read back.") from error


def _verify_bytes(path: Path, written: list[_Placed], grid: GeoBox, is_masked: bool, tell: Tell) -> None:
    counted = _Counted(tell, len(written))
    with open(path, "rb") as file:
        found = tiff.directories(file)
        step = 2 if is_masked else 1
        images, masks = [tiff.places(each) for each in found[::step]], [tiff.places(each) for each in found[1::step]]
        across = [count(shape)[1] for shape in shapes(grid.shape)]
        if len(images) != len(across) or (is_masked and len(masks) != len(across)):
            raise OutputDamaged("The file on disk has lost a smaller version of itself.")
        for block in written:
            counted.step()
            number = block.index[0] * across[block.level] + block.index[1]
            parts = []
            for places in (images, masks) if is_masked else (images,):
                at, length = places[block.level][number]
                file.seek(at - tiff.LEADER)
                framed = file.read(length + 2 * tiff.LEADER)
                if not tiff.is_framed(framed, length):
                    raise OutputDamaged("The file on disk has lost a block.")
                parts.append(framed)
            if checksum(*parts) != block.checksum:
                raise OutputDamaged("The file on disk does not hold the pixels that were written.")


def _verify_reading(path: Path, sampled: Mapping[Index, int], grid: GeoBox, profile: Profile) -> None:
    with environment(), rasterio.open(path, driver="GTiff") as file:
        tiled.verify_header(file, grid, profile)
        layout = file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT")
        if layout != "COG" or any(len(file.overviews(i)) != len(shapes(grid.shape)) - 1 for i in file.indexes):
            raise OutputDamaged("The file on disk is not a Cloud-Optimised GeoTIFF.")
        for index, expected in sampled.items():
            # as they stand in a file, with what fills the gaps
            if _sum(*tiled.read(file, window(index, grid.shape), profile)) != expected:
                raise OutputDamaged("The file on disk does not hold the pixels that were drawn.")


def _warp(
    parts: Parts, drawn: GeoBox, result: GeoBox, profile: Profile, into: BlockFile, scratch: Path, tell: Tell
) -> None:
    """Bring parts onto another grid, into blocks of it."""
    # between the two grids validity travels as a mask, whatever nodata is: one rule for all pixel types
    inner = Profile(profile.dtype, profile.bands)
    source, path = Composed(parts, drawn, inner), scratch / "drawn.tif"
    down, across = count(drawn.shape)
    counted = _Counted(_part(tell, 0.0, 0.3), down * across)

    def blocks() -> Iterator[tuple[Window, Raster]]:
        for number in range(down * across):
            index = divmod(number, across)
            block = window(index, drawn.shape)
            yield block, Raster(*source.pixels(index), drawn.crop(block))

    try:
        quick = {"compress": "zstd", "zstd_level": "1"}  # nobody but this process reads it
        ledger = tiled.write(path, blocks(), drawn, inner, {}, {}, counted.step, **quick)
        tiled.verify(path, ledger, drawn, inner, lambda: tell(0.3))
        squares = list(tiled.blocks(result))
        counted = _Counted(_part(tell, 0.3, 1.0), len(squares))
        for raster in _warped(path, drawn, result, squares, len(profile.bands)):
            counted.step()
            _put(raster, result, profile, into)
    finally:
        path.unlink(missing_ok=True)


def _put(square: tuple[Window, Raster], grid: GeoBox, profile: Profile, into: BlockFile) -> None:
    """Keep the blocks of a square that begins on one."""
    whole, raster = square
    for row in range(whole.row // BLOCK, -(-whole.row_end // BLOCK)):
        for col in range(whole.col // BLOCK, -(-whole.col_end // BLOCK)):
            rows, cols = window((row, col), grid.shape).relative_to(whole).slices()
            valid = raster.valid[rows, cols]
            into.put((row, col), profile.filled(raster.pixels[:, rows, cols], valid), valid)


def _warped(
    path: Path, drawn: GeoBox, result: GeoBox, squares: list[Window], bands: int
) -> Iterator[tuple[Window, Raster]]:
    # GDAL would guess the scale for each block from its outline, which is wrong for rotated grids and shifts the
    # picture by up to 0.013 pixel; told to be 1, the cubic kernel is exact to 0.0001.
    ratio = math.sqrt(math.prod(gsd(drawn)) / math.prod(gsd(result)))
    scale = f"{ratio:.6f}" if ratio * WARP_COARSER < 1 else "1"
    with (
        environment(),
        rasterio.open(path, driver="GTiff") as file,
        WarpedVRT(
            file,
            crs=to_rasterio(result.crs),
            transform=rasterio.Affine(*result.transform),
            height=result.height,
            width=result.width,
            resampling=Resampling.cubic,
            tolerance=WARP_TOLERANCE,
            add_alpha=True,
            warp_mem_limit=64,
            XSCALE=scale,
            YSCALE=scale,
        ) as warped,
    ):
        for square in squares:
            where = RasterioWindow(square.col, square.row, square.width, square.height)
            pixels = warped.read(list(range(1, bands + 1)), window=where)
            valid = warped.read(bands + 1, window=where) > 0
            yield square, Raster(pixels, valid, result.crop(square))
