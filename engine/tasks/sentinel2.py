"""What a raster of Sentinel-2 is: which of its bands is which, of which level, and in which numbers.

Sources: the Sentinel-2 Products Specification Document (ESA, 15.0) for levels and for ``BOA_ADD_OFFSET`` and
``RADIO_ADD_OFFSET``, which processing baseline 04.00 brought on 25 January 2022: since then a number is 1000 more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..contract import Source
from ..contract.bands import FoundBands, find_bands
from ..errors import UnsupportedRaster
from ..models.sentinel2 import HINT
from ..raster import Profile, Raster

#: First day of processing baseline 04.00, ISO 8601, and what its numbers are more than those before.
BASELINE, ADDED = "2022-01-25", 1000.0
#: Least number of the darkest hundredth of a band that can have ``ADDED`` in it: reflectances are hardly negative.
DARKEST = 500.0
#: Digital numbers of a reflectance of 1.
QUANTIFICATION = 10_000.0
#: Largest reflectance of ordinary ground and clouds, with room to spare.
BRIGHTEST = 10.0
_PRODUCT = re.compile(r"MSIL(1C|2A)_\d{8}T\d{6}_N(\d\d)(\d\d)(?!\d)")


@dataclass(frozen=True)
class Product:
    """What is known of a raster of Sentinel-2.

    Attributes:
        bands: numbers of the raster's bands that ``HINT`` names, in its order.
        level: "L1C", "L2A", or "" where nothing tells.
        is_ordered: whether the bands have no names and were taken in their order.
        baseline: processing baseline, 400 for 04.00; None where nothing tells.
    """

    bands: tuple[int, ...]
    level: str
    is_ordered: bool
    baseline: int | None


@dataclass(frozen=True)
class Numbers:
    """The raster's own numbers -> digital numbers without the offset of newer baselines, band by band of ``HINT``.

    Attributes:
        scales: digital number = own number * scale + offset.
        offsets: as above.
        notices: what was guessed, for the person.
    """

    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    notices: tuple[str, ...] = ()

    def of(self, pixels: NDArray[np.generic]) -> NDArray[np.float64]:
        """Digital numbers (bands, h, w)."""
        scale, offset = (np.array(line)[:, None, None] for line in (self.scales, self.offsets))
        digital: NDArray[np.float64] = pixels.astype(np.float64) * scale + offset
        return digital


def recognise(source: Source, bands: Sequence[int], profile: Profile, tags: Mapping[str, str]) -> Product:
    """Which bands are which, and what else names tell.

    Args:
        source: of the request; its name may be that of a product.
        bands: 1-based numbers of the raster's bands.
        profile: their names.
        tags: what the file says about itself.

    Raises:
        UnsupportedRaster: where bands are missing, there twice, or not named and not all of them; and for 8 bits.
    """
    if np.dtype(profile.dtype).itemsize == 1:
        raise UnsupportedRaster(
            "The layer has 8 bits a band: that is a picture, and not the numbers that Sentinel-2 measured.",
            "Choose a layer with the bands of the product, of 16 bits or of reflectances.",
        )
    # a band without a description has its number for a name
    found = find_bands(["" if name == f"band {number}" else name for number, name in zip(bands, profile.bands)])
    _require_all(found, len(bands))
    product = _PRODUCT.search(source.name.upper())
    level = _level(product, tags)
    if not level:
        level = "L1C" if "B10" in found.places else "L2A" if "B9" in found.places else ""
    used = tuple(bands[found.places[name]] for name in HINT)
    return Product(used, level, found.is_ordered, _baseline(product, tags))


def numbers(product: Product, source: Source, profile: Profile, tags: Mapping[str, str], sampled: Raster) -> Numbers:
    """How to read the raster's own numbers.

    Args:
        product: what is known of it.
        source: of the request.
        profile: of the bands of ``HINT``, in its order.
        tags: what the file says about itself.
        sampled: every n-th pixel of those bands, some of it valid.
    """
    scales = profile.scales or (1.0,) * len(HINT)
    offsets = profile.offsets or (0.0,) * len(HINT)
    is_reflectance = max(abs(scale) for scale in scales) < 0.1
    said: list[str] = []
    values = sampled.pixels[:, sampled.valid].astype(np.float64)
    if scales == (1.0,) * len(HINT) and np.dtype(profile.dtype).kind == "f":
        is_reflectance = bool(np.percentile(values, 99) < BRIGHTEST)
        if is_reflectance:
            said.append("The layer's numbers are taken for reflectances, 1 for a surface that reflects all light.")
    unit = QUANTIFICATION if is_reflectance else 1.0
    own = Numbers(tuple(unit * scale for scale in scales), tuple(unit * offset for offset in offsets), tuple(said))
    if any(offsets):
        return own
    dark = own.of(values[..., None])[..., 0]
    darkest = float(min(np.percentile(band, 1) for band in dark))
    added, why = _added(product, source, tags)
    is_told = _is_told(product, tags)
    if added and darkest < DARKEST:
        said.append(f"{why}, but its numbers are too low for that: they are taken as they are.")
        added = 0.0
    elif added and not is_told:
        said.append(f"{why}: {_in_own(added, own)} is subtracted from its numbers.")
    elif not is_told and source.date is None and darkest >= DARKEST:
        said.append(
            f"Nothing tells whether the layer is of processing baseline 04.00 or later, with {_in_own(ADDED, own)} "
            "added to its numbers: they are taken as they are. Set the layer's date to have it told."
        )
    elif not is_told and not added and source.date is not None and darkest >= ADDED:
        said.append(
            f"The layer is of {source.date}, before processing baseline 04.00, and yet hardly a number of any band is "
            f"below {_in_own(ADDED, own)}: either nothing in it is dark, or it was processed again since, with that "
            "added. Its numbers are taken as they are. If it was processed again, give the layer the name of its "
            "product, which tells."
        )
    return Numbers(own.scales, tuple(offset - added for offset in own.offsets), tuple(said))


def _in_own(added: float, own: Numbers) -> str:
    """So many digital numbers, in the raster's own numbers."""
    return f"{added / own.scales[0]:.4g}"


def _require_all(found: FoundBands, count: int) -> None:
    twice, missing = [name for name in found.twice if name in HINT], found.missing(HINT)
    if twice:
        raise UnsupportedRaster(f"The layer has the Sentinel-2 band {twice[0]} twice.", "Choose one of the two.")
    if missing and found.is_ordered:
        raise UnsupportedRaster(
            f"The layer has {count} bands without the names of Sentinel-2's.",
            "Choose a layer whose bands are named B1 to B12, or one with all 13 (or 12, without B10) in their order.",
        )
    if missing:
        raise UnsupportedRaster(
            f"The layer lacks the Sentinel-2 bands {', '.join(missing)}.",
            f"Choose a layer with the bands {', '.join(HINT)}, each named in its description.",
        )


def _level(product: re.Match[str] | None, tags: Mapping[str, str]) -> str:
    if product:
        return f"L{product[1]}"
    text = " ".join(tags.get(key, "") for key in ("PROCESSING_LEVEL", "PRODUCT_TYPE")).upper()
    return "L2A" if "2A" in text else "L1C" if "1C" in text else ""


def _baseline(product: re.Match[str] | None, tags: Mapping[str, str]) -> int | None:
    told = re.fullmatch(r"N?0?(\d)\.?(\d\d)", tags.get("PROCESSING_BASELINE", "").strip().upper())
    if told:
        return int(told[1] + told[2])
    return int(product[2] + product[3]) if product else None


def _offset(tags: Mapping[str, str]) -> float | None:
    """``*_ADD_OFFSET`` of the product's own metadata, None where there is none."""
    for key, text in tags.items():
        if key.upper().startswith(("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")):
            try:
                value = float(text)
            except ValueError:
                continue
            if value in (0.0, -ADDED):
                return value
    return None


def _is_told(product: Product, tags: Mapping[str, str]) -> bool:
    return product.baseline is not None or _offset(tags) is not None


def _added(product: Product, source: Source, tags: Mapping[str, str]) -> tuple[float, str]:
    """(what newer baselines added to the numbers, why so)."""
    told = _offset(tags)
    if told is not None:
        return -told, "The layer says that an offset was added to its numbers"
    if product.baseline is not None:
        why = f"The layer is of processing baseline {product.baseline // 100:02}.{product.baseline % 100:02}"
        return (ADDED if product.baseline >= 400 else 0.0), why
    why = f"The layer is of {source.date}, when processing baselines from 04.00 on were in use"
    return (ADDED if source.date is not None and source.date >= BASELINE else 0.0), why
