"""Polygons with texts of their own: a land-use plan, a scenario, on its way into a job folder."""

from typing import Callable, List, Optional, Tuple

from qgis.core import QgsFeatureRequest

from ...engine.contract import GeoBox, ModelCard, Regions
from .collection import write_collection
from .plan import TEXT, Plan
from .polygons import placed
from .survey import Survey, apart, height, require_few, require_regions, seen_from, survey, wordless

#: Where the engine finds the polygons, relative to the job folder.
REGIONS_PATH = "inputs/regions.geojson"


def prepare_regions(plan: Plan, card: ModelCard, lattice: GeoBox, surveyed: Optional[Survey] = None) -> "RegionsExport":
    """Get polygons ready to be written into a job folder from another thread.

    Args:
        plan: the polygons and their texts.
        card: of the model that is to draw.
        lattice: that it draws on.
        surveyed: what of the plan lies there, where that is known; else it is looked at now, which may take seconds.

    Raises:
        Problem: as ``survey`` and ``require_regions``.
    """
    require_regions(plan.polygons.name, survey(plan, lattice, card) if surveyed is None else surveyed, card)
    return RegionsExport(plan, seen_from(lattice, card))


class RegionsExport:
    """Polygons with texts on their way into a job folder.

    Attributes:
        regions: as they stand in the request.
        files: none: no result has the name of a file with polygons.
    """

    files: Tuple[str, ...] = ()

    def __init__(self, plan: Plan, seen: GeoBox) -> None:
        """Take note of what is read later; use ``prepare_regions`` to get one.

        Args:
            plan: the polygons and their texts.
            seen: pixels that windows of the model look at: those of the lattice, and around it.
        """
        self.regions = Regions(REGIONS_PATH, plan.polygons.name, plan.only)
        self._plan = plan
        self._seen = seen

    def write(self, folder: str, cancelled: Callable[[], bool]) -> None:
        """Write the polygons into the job folder, on any one thread; returns early, without a file, once cancelled.

        Those without a text are left out. A polygon with a greater feature id lies above one with a smaller.

        Raises:
            Problem: MASK_EMPTY or PROMPT_NOT_UNDERSTOOD where there is nothing to write, MASK_UNREADABLE for a polygon
                without a place in the CRS of the lattice, PROMPT_TOO_LONG, or INVALID_REQUEST for too many texts.
            OSError: where the file cannot be written.
        """
        text, polygons = self._plan.reader(), self._plan.polygons
        found: List[Tuple[Tuple[bool, int], str, dict]] = []
        is_near = False
        for feature, geometry in placed(polygons, self._seen, QgsFeatureRequest(), whole=True):
            if cancelled():
                return
            is_near, words = True, text(feature)
            if words:
                found.append((height(feature), words, geometry))
        if not found:
            raise wordless(polygons.name) if is_near else apart(polygons.name)
        require_few(polygons.name, len({words for _, words, _ in found}), 0)
        found.sort(key=lambda each: each[0])
        shapes = (({TEXT: words}, geometry) for _, words, geometry in found)
        write_collection(folder, REGIONS_PATH, self._seen.crs, shapes, cancelled)
