"""Which band of a raster is which of Sentinel-2's, by what the bands are called: the same before a job and in it."""

import re
from dataclasses import dataclass
from typing import Dict, Sequence, Tuple

#: In the order of the products; level 2A has no B10, since it shows nothing of the surface.
SENTINEL2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
#: What catalogues and colours call them.
_WORDS = {
    "coastal": "B1",
    "blue": "B2",
    "green": "B3",
    "red": "B4",
    "rededge1": "B5",
    "rededge2": "B6",
    "rededge3": "B7",
    "nir": "B8",
    "nir08": "B8A",
    "nir09": "B9",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}
_NAME = re.compile(r"(?<![A-Z0-9])(?:B|BAND)[ _-]?0?(1[0-2]|8A|[1-9])(?![A-Z0-9])")


@dataclass(frozen=True)
class FoundBands:
    """Bands of Sentinel-2 in a raster.

    Attributes:
        places: name -> place among the raster's bands, from 0.
        is_ordered: whether no band has a name and they were taken in their order.
        twice: names that more than one band has; the first of them counts.
    """

    places: Dict[str, int]
    is_ordered: bool = False
    twice: Tuple[str, ...] = ()

    def missing(self, needed: Sequence[str]) -> Tuple[str, ...]:
        """Those of some names that no band has."""
        return tuple(name for name in needed if name not in self.places)


def band_name(text: str) -> str:
    """The band of Sentinel-2 that a description means: "B04", "Band 4 (665nm)", "red"; "" for none."""
    found = _NAME.search(text.upper())
    if found:
        return "B" + found[1]
    return _WORDS.get(re.sub(r"[^a-z0-9]", "", text.lower()), "")


def find_bands(descriptions: Sequence[str]) -> FoundBands:
    """The bands of Sentinel-2 among those of a raster.

    Args:
        descriptions: of each band, "" where it has none; "Band 3" for the third says no more. Where none means a band
            of Sentinel-2, 13 are taken for all of them in their order, and 12 for all but B10.
    """
    says_nothing = all(text.lower() in ("", f"band {number}") for number, text in enumerate(descriptions, 1))
    named = [] if says_nothing else [band_name(text) for text in descriptions]
    if not any(named):
        orders = {len(names): names for names in (SENTINEL2, tuple(name for name in SENTINEL2 if name != "B10"))}
        order = orders.get(len(descriptions), ())
        return FoundBands({name: place for place, name in enumerate(order)}, is_ordered=True)
    places: Dict[str, int] = {}
    twice = []
    for place, name in enumerate(named):
        if name in places:
            twice.append(name)
        elif name:
            places[name] = place
    return FoundBands(places, twice=tuple(twice))
