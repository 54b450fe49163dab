"""How many texts meet in the windows of a model: each takes network calls of its own."""

import math
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np
from qgis.core import QgsGeometry

from ...engine.contract import GeoBox, ModelCard
from .burning import burn

#: Most cells along a side: where there are more windows, they are counted in blocks.
_SIDE = 400
#: Parts of a cell's side in which it is looked whether polygons leave anything of the ground over.
_PARTS = 4


@dataclass(frozen=True)
class Crowd:
    """How many texts meet.

    Attributes:
        mean: texts of a window on average, those in which nothing is drawn counted too; of windows of several sizes,
            each counts as much as its pixels.
        most: texts of the window with the most of them.
    """

    mean: float
    most: int


def crowd(shapes: Sequence[Tuple[str, QgsGeometry]], lattice: GeoBox, card: ModelCard, only: bool) -> Crowd:
    """How many texts meet in the windows over an extent: along borders now and then one too many.

    Windows count as they lie without the shift of every second phase, and regions without the ramps by which the engine
    lets neighbours give way to each other, so that a window just outside of one may have it as well.

    Args:
        shapes: (text, its ground in the CRS of the lattice) of each polygon.
        lattice: that the model draws on.
        card: of the model.
        only: whether nothing is drawn outside of the polygons; else the ground there has one text more.
    """
    by_text: Dict[str, List[QgsGeometry]] = {}
    for text, shape in shapes:
        by_text.setdefault(text, []).append(shape)
    work, mean, most, beyond = 0.0, 0.0, 0, card.halo
    for window, stride in ((card.window, card.window),) if card.draws_whole(lattice.shape) else reversed(card.windows):
        cells, reach, count = _cells(lattice, card, window, stride, beyond)
        texts = sum(_any(_burnt(grounds, cells, True), reach).astype(np.int32) for grounds in by_text.values())
        if not only:
            covered = _burnt([shape for _, shape in shapes], cells.zoom(_PARTS), False)
            parts = covered.reshape(cells.height, _PARTS, cells.width, _PARTS)
            texts = texts + _any(~parts.all(axis=(1, 3)), reach)
        found = np.asarray(texts)
        pixels = float(count * window * window)
        work, mean, most = work + pixels, mean + pixels * float(found.mean()), max(most, int(found.max()))
        beyond += window  # an earlier phase is drawn wherever a later one looks
    return Crowd(mean / work, most)


def _cells(lattice: GeoBox, card: ModelCard, window: int, stride: int, beyond: int) -> Tuple[GeoBox, int, int]:
    """A grid of cells for the windows of a phase.

    Args:
        lattice: that the model draws on.
        card: of the model.
        window: side of a window in pixels.
        stride: between two of them.
        beyond: pixels around the lattice that are drawn too.

    Returns:
        Cells one stride wide, how many of them a window covers along a side, from its first one on, and how many
        windows there are.
    """
    if card.draws_whole(lattice.shape):
        return _grid(lattice, (0, 0), max(lattice.shape), (1, 1)), 1, 1
    corner, first, counts = lattice.anchor(), [], []
    for start, side in zip(corner, lattice.shape):
        first.append((start - beyond - window) // stride + 1)
        counts.append(-(-(start + side + beyond) // stride) - first[-1])
    block = math.ceil(max(counts) / _SIDE)
    cell = block * stride
    reach = math.ceil(((block - 1) * stride + window) / cell)
    row, col = (index * stride - start for index, start in zip(first, corner))
    shape = tuple(math.ceil(count / block) + reach - 1 for count in counts)
    return _grid(lattice, (row, col), cell, shape), reach, math.prod(counts)


def _grid(lattice: GeoBox, corner: Tuple[int, int], cell: int, shape: Tuple[int, ...]) -> GeoBox:
    """The grid of so many (rows, columns) of square cells whose corner is a (row, col) of the lattice."""
    a, _, c, _, e, f = lattice.transform
    row, col = corner
    return GeoBox(lattice.crs, (a * cell, 0.0, c + a * col, 0.0, e * cell, f + e * row), (shape[0], shape[1]))


def _burnt(shapes: List[QgsGeometry], grid: GeoBox, touched: bool) -> np.ndarray:
    """(height, width): which pixels of a grid lie in some shape."""
    numbers = np.zeros(grid.shape, np.uint8)
    burn([(shape, 0) for shape in shapes], grid, numbers, touched)
    return numbers > 0


def _any(cells: np.ndarray, reach: int) -> np.ndarray:
    """Whether any of the cells of each window is set."""
    rows, cols = (side - reach + 1 for side in cells.shape)
    steps = [(slice(i, i + rows), slice(j, j + cols)) for i in range(reach) for j in range(reach)]
    return np.logical_or.reduce([cells[step] for step in steps])
