"""Windows over an extent of any size: an absolute lattice of squares, and the weights that blend them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..contract import Window

#: (row, column) of a window in its lattice; may be negative.
Index = tuple[int, int]
#: Least weight of a pixel before normalisation, so that no pixel inside a window is without weight.
FLOOR = 1e-3


@dataclass(frozen=True)
class Lattice:
    """Squares of one size at one distance, counted from an absolute pixel, without end in any direction.

    Attributes:
        size: side of a square in pixels.
        stride: distance between neighbours in pixels, at most ``size``.
        first: absolute row and column where the square (0, 0) begins.

    Raises:
        ValueError: where squares would leave gaps.
    """

    size: int
    stride: int
    first: int = 0

    def __post_init__(self) -> None:
        """Check that the squares cover the plane."""
        if not 0 < self.stride <= self.size:
            raise ValueError("stride must be from 1 to size")

    def window(self, index: Index) -> Window:
        """The absolute pixels of one square."""
        row, col = (self.first + place * self.stride for place in index)
        return Window(row, col, self.size, self.size)

    def times(self, scale: int) -> Lattice:
        """The same squares in pixels that are ``scale`` times smaller along each axis."""
        return Lattice(self.size * scale, self.stride * scale, self.first * scale)

    def touching(self, region: Window) -> list[Index]:
        """The squares that share a pixel with a region of absolute pixels, row by row."""
        rows = self._touching(region.row, region.row_end)
        cols = self._touching(region.col, region.col_end)
        return [(row, col) for row in rows for col in cols]

    def weights(self) -> Tensor:
        """Blending weights of a square: separable raised cosines, (size, size) float32, the same for every square.

        They begin without a step and without a slope where a window begins: there it differs most from its neighbours,
        and a tent lets it in at once, which shows as a seam (``docs/decisions/0016-phases-and-regions.md``).
        """
        position = (torch.arange(self.size, dtype=torch.float32) + 0.5) / self.size
        hill = (torch.pi * position).sin().square().clamp_min(FLOOR)
        return hill[:, None] * hill[None, :]

    def _touching(self, start: int, stop: int) -> range:
        start, stop = start - self.first, stop - self.first
        return range((start - self.size) // self.stride + 1, -(-stop // self.stride))


def shifted(lattices: Sequence[Lattice]) -> tuple[Lattice, ...]:
    """The lattices of phases, each shifted by another part of its stride: none, a half, a quarter, three quarters, ...

    What was a border between two windows then lies inside of one in the next phase, which sees both its sides, and no
    two phases of a few have their borders in the same place.

    Source of the parts: van der Corput 1935, "Verteilungsfunktionen", base 2.
    """
    return tuple(replace(each, first=int(_part(phase) * each.stride)) for phase, each in enumerate(lattices))


def _part(number: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, ...: binary digits mirrored at the point."""
    digits = f"{number:b}"[::-1]
    return int(digits, 2) / 2 ** len(digits)


def blend(lattice: Lattice, tiles: Mapping[Index, Tensor], region: Window, channels: int) -> Tensor:
    """The weighted mean of tiles over a region.

    Tiles are added up in the order of their indices, whatever the order they come in, so a pixel has the same bits in
    each region that holds it, provided that all its tiles are there. A pixel of one tile alone is that tile's, bit for
    bit: a picture of one window is what the model drew.

    Args:
        lattice: where the tiles lie.
        tiles: index -> (channels, size, size) float32 on the CPU; those that do not touch the region are left out.
        region: absolute pixels.
        channels: of the tiles.

    Returns:
        (channels, height, width) float32; 0 where there is no tile.
    """
    total = torch.zeros(channels, region.height, region.width)
    weight = torch.zeros(region.height, region.width)
    count = torch.zeros(region.height, region.width, dtype=torch.int16)
    plain = torch.zeros_like(total)
    hill = lattice.weights()
    for index in sorted(tiles):
        window = lattice.window(index)
        if not window.intersects(region):
            continue
        shared = window.intersection(region)
        rows, cols = shared.relative_to(region).slices()
        inner_rows, inner_cols = shared.relative_to(window).slices()
        share = hill[inner_rows, inner_cols]
        total[:, rows, cols] += tiles[index][:, inner_rows, inner_cols] * share
        weight[rows, cols] += share
        count[rows, cols] += 1
        plain[:, rows, cols] = tiles[index][:, inner_rows, inner_cols]
    return torch.where(count > 1, total / weight.clamp_min(FLOOR * FLOOR), plain)


def squares(region: Window, side: int) -> list[Window]:
    """A region of absolute pixels cut at the multiples of ``side``: disjoint, covering it, row by row."""
    lattice = Lattice(side, side)
    return [lattice.window(index).intersection(region) for index in lattice.touching(region)]
