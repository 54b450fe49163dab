"""From finished tiles to a Cloud-Optimised GeoTIFF under the user's file name, or nothing at all.

``prepare`` writes a hidden file beside the target and verifies it; ``publish`` puts it in place in one step. A file
that GDAL closed without complaint may still be empty (a full disk, a kill), so nothing is believed before it was read
back.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from .. import faults
from ..contract import GeoBox, Window
from ..durable import replace, reserve, sync
from ..errors import OutputDamaged, OutputNotWritable
from . import tiled
from .crs import gsd, to_rasterio
from .options import environment
from .pixels import Profile, Raster

#: Metadata domain that holds the provenance record.
DOMAIN = "AFTERIMAGE"
#: Side of the blocks of a result.
BLOCK = 512
#: How far, in pixels, the approximation of a projection may be off. Results promise 0.01.
WARP_TOLERANCE = 0.001
#: Results that are coarser than drawn by more than this are averaged on the way.
WARP_COARSER = 4 / 3


@dataclass(frozen=True)
class Pending:
    """A verified file that waits beside its target."""

    path: Path
    target: Path

    def discard(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)


def prepare(
    target: Path,
    parts: Iterable[tuple[Window, Raster]],
    drawn: GeoBox,
    result: GeoBox,
    profile: Profile,
    tags: dict[str, str],
    record: str,
    scratch: Path,
    check: tiled.Check,
) -> Pending:
    """Assemble parts into a verified Cloud-Optimised GeoTIFF beside the target. Memory does not grow with the grid.

    Args:
        target: the user's file name.
        parts: windows of ``drawn`` with their pixels; each pixel once.
        drawn: grid of the parts.
        result: grid of the file; warped to, where it differs.
        profile: pixel type, names and so on.
        tags: TIFF tags.
        record: provenance as JSON, for the metadata domain.
        scratch: folder for intermediate files, inside the job folder.
        check: called between parts; raises to stop.

    Raises:
        OutputDamaged: where the disk gave back something else than was written.
        OutputNotWritable: where GDAL cannot write there.
        OSError: of the system (a full disk, for one).
    """
    scratch.mkdir(parents=True, exist_ok=True)
    assembled, warped = scratch / "assembled.tif", scratch / "warped.tif"
    # named after the job, so that what a killed run left there is overwritten by the next
    mark = hashlib.sha256(os.fsencode(scratch.resolve())).hexdigest()[:8]
    pending = Pending(target.with_name(f".{target.name}.{mark}.part.tif"), target)
    domains = {DOMAIN: {"PROVENANCE": record}}
    try:
        if drawn == result:
            source, ledger = assembled, tiled.write(assembled, parts, drawn, profile, tags, domains, check)
        else:
            # between the two grids validity travels as a mask, whatever nodata is: one rule for all pixel types
            inner = Profile(profile.dtype, profile.bands)
            drawn_ledger = tiled.write(assembled, parts, drawn, inner, {}, {}, check)
            tiled.verify(assembled, drawn_ledger, drawn, inner, check)
            warped_parts = _warp(assembled, drawn, result, len(profile.bands))
            source, ledger = warped, tiled.write(warped, warped_parts, result, profile, tags, domains, check)
        faults.point("publish.before_cog")
        check()
        _copy(source, pending.path, scratch)
        faults.point("publish.after_cog")
        tiled.verify(pending.path, ledger, result, profile, check)
        _verify_layout(pending.path, result)
        sync(pending.path)
    except (RasterioError, CPLE_BaseError, OutputDamaged) as error:
        for path in (pending.path, assembled, warped):
            path.unlink(missing_ok=True)
        # GDAL does not say that a disk is full in a way that can be told from other errors
        size = result.pixels * len(profile.bands) * profile.itemsize
        for folder in (scratch, target.parent):
            reserve(folder, size)
        if isinstance(error, OutputDamaged):
            raise
        raise OutputNotWritable("The result cannot be written where it was asked for.") from error
    except BaseException:
        pending.discard()
        raise
    finally:
        assembled.unlink(missing_ok=True)
        warped.unlink(missing_ok=True)
    return pending


def publish(pending: Pending) -> None:
    """Put the verified file under the user's name: before, the old file is there; after, the complete new one.

    Raises:
        OutputNotWritable: where another program holds the old file open.
    """
    faults.point("publish.before_replace")
    replace(pending.path, pending.target)
    faults.point("publish.after_replace")


def _copy(source: Path, target: Path, scratch: Path) -> None:
    with environment(), rasterio.Env(CPL_TMPDIR=str(scratch)):
        rasterio.shutil.copy(
            str(source),
            str(target),
            driver="COG",
            COMPRESS="DEFLATE",
            LEVEL="6",
            PREDICTOR="YES",
            BLOCKSIZE=str(BLOCK),
            OVERVIEW_RESAMPLING="AVERAGE",
            BIGTIFF="IF_SAFER",
            COPY_SRC_MDD="YES",
            NUM_THREADS="1",
        )


def _warp(path: Path, drawn: GeoBox, result: GeoBox, bands: int) -> Iterator[tuple[Window, Raster]]:
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
        for window in tiled.blocks(result):
            where = RasterioWindow(window.col, window.row, window.width, window.height)
            pixels = warped.read(list(range(1, bands + 1)), window=where)
            valid = warped.read(bands + 1, window=where) > 0
            yield window, Raster(pixels, valid, result.crop(window))


def _verify_layout(path: Path, grid: GeoBox) -> None:
    with environment(), rasterio.open(path, driver="GTiff") as file:
        layout = file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT")
        has_overviews = all(file.overviews(index) for index in file.indexes)
        if layout != "COG" or (max(grid.shape) > BLOCK and not has_overviews):
            raise OutputDamaged("The file on disk is not a Cloud-Optimised GeoTIFF.")
