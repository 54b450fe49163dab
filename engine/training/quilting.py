"""Larger images out of chips: neighbours that go on where one ends, cut along the line where they differ least.

A denoiser that only ever saw chips draws windows of twice their side too softly. Where nothing larger is at hand, a
quilt is: its ground is real everywhere, and no straight border lies between its chips.

Source: Efros & Freeman 2001, "Image Quilting for Texture Synthesis and Transfer", section 2.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..models.weights import digest
from .datasets import Chips
from .dihedral import turn
from .mark import keep, make_mark, read_kept

log = logging.getLogger(__name__)

#: Chips along a side of a quilt that windows are cut from.
ACROSS = 4

#: Pixels that neighbouring chips of a quilt share.
OVERLAP = 16
#: Chips that are tried for each place, in all eight orientations, and how many of the best are drawn from.
TRIED, KEPT = 192, 4
#: Side of the squares whose means are compared.
SQUARE = 4
#: How far the colour of a chip may be moved to that of its neighbours, of 255.
MOVED = 8.0
#: Pixels over which two chips fade on each side of a cut.
FADE = 2


@dataclass(frozen=True)
class Quilts:
    """Quilts of a data set.

    Attributes:
        pixels: (N, 3, side, side) uint8.
        labels: (N,) int64, the classes of their chips.
    """

    pixels: Tensor
    labels: Tensor

    def windows(self, count: int, side: int, lattice: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Squares of random quilts, turned one of eight ways.

        Args:
            count: of squares.
            side: pixels along them.
            lattice: their corners lie on multiples of it.
            generator: draws quilts, corners and the turn.

        Returns:
            (count, 3, side, side) in 0..1, and their classes (count,).
        """
        chosen = torch.randint(len(self.labels), (count,), generator=generator)
        places = (self.pixels.shape[-1] - side) // lattice + 1
        corners = (torch.randint(places, (count, 2), generator=generator) * lattice).tolist()
        cut = [self.pixels[k].narrow(1, top, side).narrow(2, left, side) for k, (top, left) in zip(chosen, corners)]
        turned = turn(torch.stack(cut), int(torch.randint(8, (), generator=generator)))
        return turned.float().div(255), self.labels[chosen]


def read_quilts(chips: Chips, count: int, cache: Path, seed: int) -> Quilts:
    """As many quilts of each class, of a file that keeps them; it is made anew where chips or settings are others.

    Args:
        chips: what they are made of.
        count: of each class.
        cache: the file.
        seed: draws chips.
    """
    settings = [ACROSS, OVERLAP, TRIED, KEPT, SQUARE, MOVED, FADE]
    made_of = [digest(np.ascontiguousarray(part).tobytes()) for part in (chips.pixels, chips.labels)]
    mark = make_mark(chips=made_of, count=count, seed=seed, settings=settings)
    kept = read_kept(cache, mark)
    if kept is None:
        rng, made = np.random.default_rng([seed, 7]), []
        for label, name in enumerate(chips.classes):
            made.append(quilt(chips.pixels[chips.labels == label], count, ACROSS, rng))
            log.info("%d quilts of %s", count, name)
        pixels = torch.from_numpy(np.concatenate(made)).permute(0, 3, 1, 2).contiguous()
        kept = {"pixels": pixels, "labels": torch.arange(len(made)).repeat_interleave(count)}
        keep(cache, kept, mark)
    return Quilts(kept["pixels"], kept["labels"])


def quilt(chips: NDArray[np.uint8], count: int, across: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Quilts of chips of one kind.

    Args:
        chips: (N, side, side, 3).
        count: of quilts.
        across: chips along a side.
        rng: draws chips.

    Returns:
        (count, S, S, 3) with S = across * (side - OVERLAP) + OVERLAP.
    """
    side = chips.shape[1]
    step = side - OVERLAP
    coarse = _coarse_turns(chips)
    canvas = np.zeros((count, across * step + OVERLAP, across * step + OVERLAP, 3), np.float32)
    for row in range(across):
        for col in range(across):
            top, left = row * step, col * step
            bottom, right = top + side, left + side
            there = canvas[:, top:bottom, left:right]
            known = np.zeros((side // SQUARE, side // SQUARE), bool)
            known[: OVERLAP // SQUARE] |= row > 0
            known[:, : OVERLAP // SQUARE] |= col > 0
            strips = coarse[:, :, known]  # what all of them are compared by
            chosen = np.stack([_fitting(chips, strips, one, known, rng) for one in there])
            weights = _share(there, chosen, row > 0, col > 0)
            canvas[:, top:bottom, left:right] = there * (1 - weights) + chosen * weights
    return canvas.round().clip(0, 255).astype(np.uint8)


def _coarse_turns(chips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of squares of every chip in its eight orientations: (8, N, h, w, 3)."""
    pixels = torch.from_numpy(chips).permute(0, 3, 1, 2)
    means = torch.cat([nn.functional.avg_pool2d(part.float(), SQUARE) for part in pixels.split(256)])
    return torch.stack([turn(means, k) for k in range(8)]).permute(0, 1, 3, 4, 2).contiguous().numpy()


def _fitting(
    chips: NDArray[np.uint8],
    strips: NDArray[np.float32],
    there: NDArray[np.float32],
    known: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """One of the chips that differ least from what is there, (side, side, 3), in their orientation and its colour."""
    some = rng.choice(len(chips), min(TRIED, len(chips)), replace=False)
    if known.any():
        squares = there.reshape(len(known), SQUARE, len(known), SQUARE, 3).mean(axis=(1, 3))
        differ = squares[known] - strips[:, some]  # (8, tried, squares, 3)
        moved = differ.mean(axis=2, keepdims=True).clip(-MOVED, MOVED)
        errors = np.square(differ - moved).sum(axis=(2, 3))
        which, place = np.unravel_index(np.argsort(errors, axis=None)[int(rng.integers(KEPT))], errors.shape)
        colour = moved[which, place, 0]
    else:
        which, place, colour = int(rng.integers(8)), 0, np.zeros(3, np.float32)
    found = turn(torch.from_numpy(chips[some[place]]).permute(2, 0, 1), int(which)).permute(1, 2, 0)
    return found.numpy().astype(np.float32) + colour


def _share(there: NDArray[np.float32], chosen: NDArray[np.float32], above: bool, before: bool) -> NDArray[np.float32]:
    """How much of each pixel is the chosen chip's, (B, side, side, 1), 0..1."""
    count, side = there.shape[:2]
    share = np.ones((count, side, side), np.float32)
    differ = np.square(there - chosen).sum(axis=-1)
    place = np.arange(OVERLAP)
    if before:
        path = _cut(differ[:, :, :OVERLAP])
        share[:, :, :OVERLAP] *= _fade(place[None, None] - path[:, :, None])
    if above:
        path = _cut(differ[:, :OVERLAP].swapaxes(1, 2))
        share[:, :OVERLAP] *= _fade(place[None, :, None] - path[:, None, :])
    return share[..., None]


def _fade(beyond: NDArray[np.int_]) -> NDArray[np.float32]:
    """Share of what lies behind a cut, so many pixels beyond it."""
    return ((beyond + FADE + 0.5) / (2 * FADE + 1)).clip(0, 1).astype(np.float32)


def _cut(differ: NDArray[np.float32]) -> NDArray[np.int_]:
    """The path from the first row to the last along which a strip (B, rows, OVERLAP) differs least: (B, rows).

    It keeps away from the strip's edges, so that chips fade on both sides of it: along an edge the cut would be a
    straight border.
    """
    count, rows, width = differ.shape
    cost = differ.copy()
    cost[..., :FADE] = cost[..., -FADE:] = np.inf
    for row in range(1, rows):
        beside = np.pad(cost[:, row - 1], ((0, 0), (1, 1)), constant_values=np.inf)
        cost[:, row] += np.minimum(np.minimum(beside[:, :-2], beside[:, 1:-1]), beside[:, 2:])
    path = np.empty((count, rows), int)
    path[:, -1] = cost[:, -1].argmin(axis=1)
    for row in range(rows - 2, -1, -1):
        near = (path[:, row + 1, None] + np.array([-1, 0, 1])).clip(0, width - 1)
        path[:, row] = np.take_along_axis(near, np.take_along_axis(cost[:, row], near, 1).argmin(1)[:, None], 1)[:, 0]
    return path
