"""The middle of a place that one window of a model covers."""

from typing import Optional, Tuple

from qgis.core import QgsCoordinateReferenceSystem, QgsRectangle

from ...engine.contract import ModelCard, Window
from .crs import crs_of
from .grid import Place, place

#: How many times larger than a window a side may be for a smaller extent to be worth a word.
NEARLY = 1.25
#: Tries to find an extent whose lattice, which may turn and reach beyond it, fits into a window.
_TRIES = 8
#: Pixels by which it moves from the middle, to and fro, where another CRS fits the middle.
_STEP = 4


def is_nearly_whole(where: Place, card: ModelCard) -> bool:
    """Whether a little less ground would be one picture of a model that draws those in one piece."""
    shape = where.lattice.shape
    return card.whole and not card.draws_whole(shape) and max(shape) <= NEARLY * card.window


def shrunk(
    where: Place, card: ModelCard, target: Optional[QgsCoordinateReferenceSystem] = None
) -> Optional[Tuple[QgsRectangle, QgsCoordinateReferenceSystem, Place]]:
    """The middle of a place that a window covers: an extent, the CRS of its coordinates, and the place there.

    The lattice stays in its CRS: where that changes from one extent to the next, as at the border of UTM zones, what
    fits into a window may not do so any more once its corners are rounded.

    Args:
        where: a place that is larger.
        card: of the model.
        target: CRS of the result, as for ``place``.
    """
    lattice, spare, shift = where.lattice, 0, 0
    crs = crs_of(lattice.crs)
    for _ in range(_TRIES):
        height, width = (min(side, card.window - spare) for side in lattice.shape)
        if min(height, width) < 1:
            return None
        col = min(max(0, (lattice.width - width) // 2 + shift), lattice.width - width)
        middle = Window((lattice.height - height) // 2, col, height, width)
        extent = QgsRectangle(*lattice.crop(middle).bounds)
        found = place(extent, crs, where.gsd, target)
        if found.lattice.crs != lattice.crs:
            shift = -shift if shift > 0 else _STEP - shift
            continue
        if card.draws_whole(found.lattice.shape):
            return extent, crs, found
        spare += max(found.lattice.shape) - card.window
    return None
