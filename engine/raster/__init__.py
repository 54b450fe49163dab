"""Pixels with a place: reading what was given, warping, and writing Cloud-Optimised GeoTIFFs.

The only room that imports rasterio and pyproj; it knows no tensors.
"""

from .aligned import AlignedRaster
from .blocks import BLOCK, Packed, checksum, pack, pack_mask, unpack, unpack_mask
from .cog import Pending, Standing, Taker, prepare, publish
from .crs import check_grid, footprint, gsd, lonlat, to_pyproj, to_rasterio
from .mask import NumberedPolygons, Polygons
from .parts import Index as BlockIndex
from .parts import Parts, blocks_of, is_block
from .parts import window as window_of
from .pixels import Profile, Raster
from .preview import write_preview
from .source import SourceRaster

__all__ = [
    "BLOCK",
    "AlignedRaster",
    "BlockIndex",
    "NumberedPolygons",
    "Packed",
    "Parts",
    "Pending",
    "Polygons",
    "Profile",
    "Raster",
    "SourceRaster",
    "Standing",
    "Taker",
    "blocks_of",
    "check_grid",
    "checksum",
    "footprint",
    "gsd",
    "is_block",
    "lonlat",
    "pack",
    "pack_mask",
    "prepare",
    "publish",
    "to_pyproj",
    "to_rasterio",
    "unpack",
    "unpack_mask",
    "window_of",
    "write_preview",
]
