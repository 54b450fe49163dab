"""How good edits are: parcels of real scenes turned into something else by the very task that people use."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..context import JobContext
from ..contract import Edit, GeoBox, Job, Mask, Measure, Sampling, Source, Window, dumps
from ..journal import JobFolder
from ..models.eo_latent import LatentModel
from ..models.vocabulary import spelled
from ..raster import Polygons, Raster, write_preview
from ..tasks import edit
from .classifier import judge, read_judge, to_unit
from .datasets import Chips, read_eurosat

log = logging.getLogger(__name__)

#: What the parcels become.
TARGETS = ("Forest", "SeaLake", "Residential", "AnnualCrop", "Industrial")
#: Side in pixels of the chips that scenes are made of and that the judge knows, and chips along a scene's side.
CHIP, ACROSS = 64, 6
#: Corners of a parcel (column, row) from the corner of the chip that it covers: a little larger than the chip, slanted,
#: and on no border of a block.
PARCEL = ((-5.0, -3.0), (67.0, -6.0), (70.0, 66.0), (-3.0, 69.0))
#: Pixels from the border inwards in which the steepest step is looked for.
DEPTH = 12
GRID = GeoBox("EPSG:32632", (10.0, 0.0, 500_030.0, 0.0, -10.0, 5_000_050.0), (CHIP * ACROSS, CHIP * ACROSS))


@dataclass(frozen=True)
class Edited:
    """A scene before and after.

    Attributes:
        before: (3, height, width) uint8.
        after: like it.
        pasted: like it, with real chips of the target in the parcels, as they are.
        inside: (height, width) bool, where the parcels are.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    pasted: NDArray[np.uint8]
    inside: NDArray[np.bool_]

    @property
    def changed_outside(self) -> int:
        """Bytes outside the parcels that are not what they were."""
        return int((self.before != self.after)[:, ~self.inside].sum())

    def chips(self) -> NDArray[np.uint8]:
        """(parcels, 3, 64, 64): the chips that the parcels cover, afterwards."""
        windows = [Window(CHIP * row, CHIP * col, CHIP, CHIP).slices() for row, col in _places()]
        return np.stack([self.after[:, rows, cols] for rows, cols in windows])


def measure_edit(
    model: LatentModel, data: Path, work: Path, scenes: int = 2, judge_seed: int = 8
) -> tuple[Measure, ...]:
    """Whether parcels are recognised as what they became, whether all else stayed, and whether the border is a step.

    A scene is a mosaic of EuroSAT test chips: around each parcel eight chips of one class, which is not the target.
    Each is edited with the card's own settings. The step across the border is the mean absolute difference of
    neighbouring pixels of which one lies inside, over that of neighbours that both do, over all parcels of a target.
    A step that was only moved inwards shows in the steepest one.

    Args:
        model: of the family ``eo_latent``, trained on EuroSAT.
        data: folder with the archives.
        work: keeps the judge.
        scenes: of each target, with four parcels each.
        judge_seed: of the judge.
    """
    test = read_eurosat(data, "test")
    network = read_judge("eurosat", data, work, judge_seed)
    made = {
        target: [edit_scene(model, test, target, number) for number in range(scenes)]
        for target in TARGETS
        if target in model.vocabulary.classes
    }
    right, steps, pasted, steepest = {}, {}, {}, {}
    for target, edits in made.items():
        chips = torch.from_numpy(np.concatenate([one.chips() for one in edits])).float().div(255)
        told, _ = judge(network, chips)
        right[target] = float((told == test.classes.index(target)).float().mean())
        steps[target] = step_ratio([one.after for one in edits], [one.inside for one in edits])
        pasted[target] = step_ratio([one.pasted for one in edits], [one.inside for one in edits])
        steepest[target] = max(step_ratios([one.after for one in edits], [one.inside for one in edits]))
        log.info(
            "%s: %.2f recognised, step %.2f, pasted %.2f, steepest %.2f",
            *(target, right[target], steps[target], pasted[target], steepest[target]),
        )
    everything = [one for edits in made.values() for one in edits]
    on = f"{len(everything) * len(_places())} parcels in mosaics of EuroSAT test chips"
    reference = float((judge(network, to_unit(test))[0].numpy() == test.labels).mean())
    return (
        Measure(
            "edit: inside recognised as asked",
            f"{on} ({', '.join(f'{name} {100 * share:.0f}' for name, share in right.items())})",
            round(100 * float(np.mean(list(right.values()))), 1),
            "%",
            f"real test chips: {100 * reference:.1f} %",
        ),
        Measure("edit: bytes changed outside", on, float(sum(one.changed_outside for one in everything))),
        Measure(
            "edit: difference across the border over that inside, largest of the classes",
            f"{on} ({', '.join(f'{name} {ratio:.2f}' for name, ratio in steps.items())})",
            round(max(steps.values()), 2),
            "",
            f"real chips pasted in: {', '.join(f'{name} {ratio:.2f}' for name, ratio in pasted.items())}",
        ),
        Measure(
            f"edit: steepest difference at any depth up to {DEPTH} pixels over that inside, largest of the classes",
            f"{on} ({', '.join(f'{name} {ratio:.2f}' for name, ratio in steepest.items())})",
            round(max(steepest.values()), 2),
        ),
    )


def edit_scene(model: LatentModel, chips: Chips, target: str, number: int) -> Edited:
    """A scene whose parcels become the target, by the task ``Edit``.

    Args:
        model: draws it.
        chips: real ones.
        target: one of their classes.
        number: of the scene; another has other chips and another seed.
    """
    before = _scene(chips, target, number)
    card = model.card
    request = Edit(
        model=card.id,
        source=Source("source.tif"),
        gsd=10.0,
        prompt=spelled(target),
        sampling=Sampling(number, card.steps, card.schedulers[0], card.guidance_scale),
        mask=Mask("mask.geojson"),
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_preview(folder / "source.tif", Raster(before, np.ones(GRID.shape, np.bool_), GRID))
        (folder / "mask.geojson").write_text(json.dumps(_parcels()), encoding="utf-8")
        (folder / "request.json").write_text(dumps(Job("edit", request)), encoding="utf-8")
        ctx = JobContext("edit", lambda event: None, threading.Event(), folder / "previews")
        planned = edit.plan(request, JobFolder(folder), model, ctx)
        after = np.empty_like(before)
        for chunk in planned.chunks:
            after[(slice(None), *chunk.slices())] = planned.draw(chunk, 1, ctx).pixels
        inside = Polygons(folder, Mask("mask.geojson"), GRID).inside(GRID.window)
    pasted = np.where(inside, _filled(chips, target, number), before)
    return Edited(before, after, pasted, inside)


def step_ratio(pictures: Sequence[NDArray[np.uint8]], insides: Sequence[NDArray[np.bool_]]) -> float:
    """Mean absolute difference of neighbours across the borders over that of neighbours inside.

    Args:
        pictures: (bands, height, width).
        insides: (height, width) of each.
    """
    return step_ratios(pictures, insides, 0)[0]


def step_ratios(
    pictures: Sequence[NDArray[np.uint8]], insides: Sequence[NDArray[np.bool_]], depth: int = DEPTH
) -> list[float]:
    """Mean absolute difference of neighbours across the borders, and further in, over that of neighbours inside.

    Args:
        pictures: (bands, height, width).
        insides: (height, width) of each.
        depth: of the last that is wanted. The first is that across the borders; number n is that of neighbours of which
            one lies n pixels deep, by as many steps along the axes from outside, and the other n + 1.
    """
    steps: list[list[NDArray[np.float64]]] = [[] for _ in range(depth + 1)]
    within = []
    for picture, inside in zip(pictures, insides):
        deep = _depths(inside, depth + 1)
        for axis in (0, 1):
            difference = np.abs(np.diff(picture.astype(np.float64), axis=axis + 1)).mean(axis=0)
            first, second = (np.delete(deep, end, axis=axis) for end in (-1, 0))
            shallow, deeper = np.minimum(first, second), np.maximum(first, second)
            for number, found in enumerate(steps):
                found.append(difference[(shallow == number) & (deeper == number + 1)])
            within.append(difference[shallow > 0])
    interior = float(np.concatenate(within).mean())
    return [float(np.concatenate(found).mean()) / interior for found in steps]


def _depths(inside: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Steps along the axes from outside, ``most`` at most; 0 outside."""
    depths = np.zeros(inside.shape, np.int64)
    for _ in range(most):
        depths += inside
        wide = np.pad(inside, 1, mode="edge")
        inside = inside & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return depths


def _places() -> list[tuple[int, int]]:
    """(row, column) of the chips that become parcels: the middle one of each three by three."""
    return [(row, col) for row in range(1, ACROSS, 3) for col in range(1, ACROSS, 3)]


def _parcels() -> dict[str, object]:
    features = []
    for row, col in _places():
        corners = [list(GRID.to_map(x + CHIP * col, y + CHIP * row)) for x, y in (*PARCEL, PARCEL[0])]
        geometry = {"type": "Polygon", "coordinates": [corners]}
        features.append({"type": "Feature", "properties": {}, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


def _scene(chips: Chips, target: str, number: int) -> NDArray[np.uint8]:
    """A mosaic of chips (3, height, width): each three by three of one class that is not the target."""
    rng = np.random.default_rng([3, number, chips.classes.index(target)])
    others = rng.permutation([k for k, name in enumerate(chips.classes) if name != target])
    scene = np.empty((3, *GRID.shape), np.uint8)
    for (row, col), label in zip(_places(), others):
        corner = (CHIP * (row - 1), CHIP * (col - 1))
        _fill(scene, corner, chips.pixels[rng.choice(np.flatnonzero(chips.labels == label), 9, replace=False)])
    return scene


def _filled(chips: Chips, target: str, number: int) -> NDArray[np.uint8]:
    """A mosaic of the target's own chips, with a whole chip under the middle of each parcel."""
    rng = np.random.default_rng([4, number])
    scene = np.empty((3, *GRID.shape), np.uint8)
    of_target = np.flatnonzero(chips.labels == chips.classes.index(target))
    for row, col in _places():
        _fill(scene, (CHIP * (row - 1), CHIP * (col - 1)), chips.pixels[rng.choice(of_target, 9, replace=False)])
    return scene


def _fill(scene: NDArray[np.uint8], corner: tuple[int, int], chips: NDArray[np.uint8]) -> None:
    """Put nine chips (9, 64, 64, 3) side by side, three in a row."""
    rows = chips.reshape(3, 3, CHIP, CHIP, 3).swapaxes(1, 2).reshape(3 * CHIP, 3 * CHIP, 3)
    down, across = Window(*corner, 3 * CHIP, 3 * CHIP).slices()
    scene[:, down, across] = rows.transpose(2, 0, 1)
