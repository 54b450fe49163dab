"""Regions: how many rows of the network a plan takes, and what is to be seen along its borders.

    python tests/benchmarks/regions.py

``rows`` draws a plan of five polygons of four texts on a fifth with the windows, phases and batches of the models that
ship, while their networks give back nothing. A row is one window under one text, or under none, at one step, filled-up
places included; ``needed`` are the rows of a job that asks for each window that decides a pixel once, at each step for
the texts that have a share in it, and once for what all of them are guided away from. ``of_one_text`` are the rows of
the same extent from one text.

``border`` draws two texts side by side, with the border inside a latent, and looks at columns of pixels. ``step`` is
the mean over the rows of the difference of neighbouring columns, its size the largest of the three bands and the mean
over the pictures: what is left of it where a texture is averaged away, a step that runs along the border. ``ratio`` is
the largest step within ``NEAR`` pixels of the border over the largest elsewhere; ``gradient_ratio`` is the same of the
mean absolute difference, in which textures count. ``--width`` draws borders as wide at all levels of noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from protocol import SETTINGS, report

import numpy as np  # isort: skip
import torch
from afterimage.engine.contract import Generate, GeoBox, ModelCard, Regions
from afterimage.engine.models import catalog
from afterimage.engine.tasks.regions import WIDEST, RegionTold
from jobs import generate, grid, planned

STEPS = 16
#: Corners of the polygons as (column, row), sides of the extent being 1, and the place of each one's text.
PLAN = (
    (0, ((0, 0), (0.55, 0), (0.45, 0.5), (0.3, 0.62), (0, 0.55))),
    (1, ((0.5, 0.05), (1, 0), (1, 0.45), (0.62, 0.5))),
    (2, ((0.05, 0.6), (0.4, 0.65), (0.5, 1), (0, 1))),
    (3, ((0.55, 0.55), (0.95, 0.5), (0.9, 0.9), (0.6, 0.95))),
    (1, ((0.3, 0.2), (0.38, 0.2), (0.38, 0.3), (0.3, 0.3))),
)
#: Pixels on each side of a border that are near it, and beyond which they are away from it.
NEAR, AWAY = 32, 72
#: (height, width) of the extent of ``border``, and the column of the border, three pixels into a latent.
SHAPE, BORDER = (128, 256), 131


def write_plan(folder: Path, box: GeoBox, polygons: list[tuple[str, list[tuple[float, float]]]]) -> None:
    """Polygons as a job folder holds them: (text, corners as (column, row) in pixels) each."""
    features = [
        {
            "type": "Feature",
            "properties": {"prompt": text},
            "geometry": {"type": "Polygon", "coordinates": [[list(box.to_map(*each)) for each in (*ring, ring[0])]]},
        }
        for text, ring in polygons
    ]
    folder.mkdir(parents=True)
    (folder / "regions.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def request(card: ModelCard, box: GeoBox, prompt: str, seed: int = 0) -> Generate:
    """The plan of a job folder, drawn with guidance."""
    asked = generate(card, box, prompt, seed, steps=STEPS, scheduler="DPM++ 2M", guidance_scale=1.8)
    return dataclasses.replace(asked, regions=Regions("regions.geojson", "plan", False))


def draw(asked: Generate, model: Any, folder: Path) -> np.ndarray:
    """The pixels (bands, height, width) of a job."""
    with planned(asked, model, folder) as (work, ctx):
        pixels = np.zeros((len(work.profile.bands), *work.drawn.shape), np.uint8)
        for chunk in work.chunks:
            rows, cols = chunk.slices()
            pixels[:, rows, cols] = work.draw(chunk, 1, ctx).pixels
    return pixels


class Counted:
    """The denoiser of a loaded model, replaced by one that costs nothing and counts its rows and calls."""

    def __init__(self, model: Any) -> None:
        self.rows = self.calls = 0
        model.networks.denoiser.take(self._answer)
        model.decode = lambda z: torch.zeros(len(z), 3, *(side * model.scale for side in z.shape[2:]))

    def _answer(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        self.rows += len(x)
        self.calls += 1
        return torch.zeros_like(x)


class Needed:
    """Within the block, the rows that the windows of a job need."""

    def __enter__(self) -> Needed:
        self._windows: dict[tuple[Any, Any], int] = {}
        self._predictor = predictor = RegionTold.predictor
        windows = self._windows

        def noted(told: RegionTold, batch: Any, given: Any, check: Any) -> Any:
            predict = predictor(told, batch, given, check)

            def counted(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
                for window in batch:
                    windows[window, float(t)] = len(told.shares(window, t)) + 1
                return predict(x, t)

            return counted

        RegionTold.predictor = noted  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        RegionTold.predictor = self._predictor  # type: ignore[method-assign]

    @property
    def rows(self) -> int:
        """A window at a timestep counts once; phases have steps of their own."""
        return sum(self._windows.values())


def count(name: str, side: int, scratch: Path) -> None:
    """Report the rows of a plan."""
    model = catalog.load(name, SETTINGS)
    card, counter, box = model.card, Counted(model), grid(side, model.card.gsd[0])
    words = card.vocabulary
    folder = scratch / f"{name}-{side}"
    write_plan(
        folder, box, [(words[(text + 1) % len(words)], [(c * side, r * side) for c, r in ring]) for text, ring in PLAN]
    )
    with Needed() as needed:
        draw(request(card, box, words[0]), model, folder)
    rows, calls = counter.rows, counter.calls
    counter.rows = 0
    draw(dataclasses.replace(request(card, box, words[0]), regions=None), model, scratch / f"{name}-{side}-plain")
    report(
        figure="rows",
        model=name,
        side=side,
        steps=STEPS,
        batch=model.batch,
        rows=rows,
        calls=calls,
        needed=needed.rows,
        over_needed=round(rows / needed.rows, 3),
        of_one_text=counter.rows,
    )


def look(name: str, pair: tuple[str, str], seeds: int, width: int | None, scratch: Path) -> None:
    """Report what is to be seen along a border."""
    if width is not None:
        RegionTold.width = lambda told, t: width  # type: ignore[method-assign]
    model, box, pictures = catalog.load(name, SETTINGS), grid(SHAPE, 10.0), []
    far = 10_000
    sides = [(pair[0], -far, BORDER), (pair[1], BORDER, far)]
    halves = [(text, [(left, -far), (right, -far), (right, far), (left, far)]) for text, left, right in sides]
    for seed in range(seeds):
        folder = scratch / f"{seed}"
        write_plan(folder, box, halves)
        pictures.append(draw(request(model.card, box, pair[0], seed), model, folder))
    change = np.diff(np.stack(pictures).astype(float), axis=3)  # (seeds, bands, rows, columns)
    steps, gradients = np.abs(change.mean(axis=2)).max(axis=1).mean(axis=0), np.abs(change).mean(axis=(0, 1, 2))
    distance = np.abs(np.arange(len(steps)) + 1 - BORDER)
    near, away = distance <= NEAR, distance >= AWAY
    report(
        figure="border",
        model=name,
        texts=pair,
        seeds=seeds,
        width=width,
        step=round(steps[near].max(), 2),
        step_elsewhere=round(steps[away].max(), 2),
        ratio=round(steps[near].max() / steps[away].max(), 2),
        gradient_ratio=round(gradients[near].max() / gradients[away].max(), 2),
    )


def main() -> None:
    """Print one line of JSON for each model and figure."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--counted", nargs="*", default=["eurosat-generate", "ucmerced-generate", "tiny-generate"])
    arguments.add_argument("--sides", nargs="*", type=int, default=[512, 1024])
    arguments.add_argument("--seeds", type=int, default=4, help="pictures of a border; 0 for none")
    arguments.add_argument("--texts", nargs=2, default=["sea lake", "residential"])
    arguments.add_argument("--width", type=int, help=f"latents on each side of a border, 1 to {WIDEST}")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in chosen.counted:
            for side in chosen.sides:
                count(name, side, Path(scratch))
        if chosen.seeds:
            look("eurosat-generate", tuple(chosen.texts), chosen.seeds, chosen.width, Path(scratch))


if __name__ == "__main__":
    main()
