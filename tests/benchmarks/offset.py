"""Far from the origin, and how often a window is evaluated.

    python tests/benchmarks/offset.py --rounds 5

``offset`` draws the same extent at the origin of its CRS and ``FAR`` pixels away, in turns. ``windows`` counts what a
whole job evaluates with the windows, strides, phases and batches of the models that ship, while their networks give
back nothing. A row is one window at one step, filled-up places of batches included. ``over_needed`` is rows over those
of a job that computes each window that decides a pixel once, ``over_least`` over those of windows laid edge to edge
with the extent: ceil((side - window) / stride + 1) along each side.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from protocol import SETTINGS, in_turns, report

import numpy as np  # isort: skip
import torch
from afterimage.engine.contract import Generate, Request
from afterimage.engine.diffusion.cache import TileCache
from afterimage.engine.models import catalog
from jobs import COL, ROW, generate, grid, planned, super_resolve, write_raster

#: A multiple of 768, and so of all chunks and strides: the windows lie the same in both extents.
FAR = 1_000_000_512
STEPS = 8


class Hollow:
    """A loaded model whose network costs nothing and counts what it is asked."""

    def __init__(self, model: Any) -> None:
        self.model, self.rows = model, 0
        model.predict = self._predict
        if hasattr(model, "decode"):
            model.decode = lambda z: torch.zeros(len(z), 3, *(side * model.scale for side in z.shape[2:]))

    def _predict(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        self.rows += len(x)
        return torch.zeros_like(x)


class Asked:
    """Within the block, which windows are asked for, once each."""

    def __enter__(self) -> Asked:
        self._keys: dict[int, set] = {}
        self._get = TileCache.get
        get, keys = self._get, self._keys

        def noted(cache: TileCache, wanted: Any, *rest: Any) -> Any:
            keys.setdefault(id(cache), set()).update(wanted)
            return get(cache, wanted, *rest)

        TileCache.get = noted
        return self

    def __exit__(self, *_: object) -> None:
        TileCache.get = self._get

    def count(self) -> float:
        """Windows, the mean over the phases: each has a memory of its own, and as many steps as the others."""
        return statistics.fmean(len(keys) for keys in self._keys.values())


def draw(request: Request, model: Any, folder: Path) -> None:
    """All chunks of a job."""
    with planned(request, model, folder) as (work, ctx):
        for chunk in work.chunks:
            work.draw(chunk, 1, ctx)


def request_for(model: Any, side: int, folder: Path, row: int, col: int) -> Request:
    """A picture of ``side`` pixels whose first is (row, col), from a text or from a source in the folder."""
    card = model.card
    if "Generate" in card.tasks:
        extent = grid(side, card.gsd[0], row, col)
        return generate(card, extent, card.vocabulary[0], steps=STEPS, scheduler="DPM++ 2M", guidance_scale=1.0)
    factor = max(card.factors)
    pixels = np.random.default_rng(0).integers(1, 255, (3, side // factor, side // factor)).astype(np.uint8)
    write_raster(folder / "source.tif", pixels, row // factor, col // factor)
    return super_resolve(card, factor, steps=STEPS, scheduler="DPM++ 2M")


def main() -> None:
    """Print one line of JSON for each model and figure."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--timed", nargs="*", default=["tiny-generate", "tiny-superresolve"], help="ids of models")
    arguments.add_argument("--counted", nargs="*", default=["eurosat-generate", "ucmerced-generate", "superresolve"])
    arguments.add_argument("--side", type=int, default=512, help="of a timed extent, in pixels")
    arguments.add_argument("--whole", type=int, default=2048, help="of a counted extent, in pixels")
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as scratch:
        for name in chosen.timed:
            model = catalog.load(name, SETTINGS)

            def at(row: int, col: int, model: Any = model) -> None:
                folder = Path(scratch) / f"{next(numbers)}"
                draw(request_for(model, chosen.side, folder, row, col), model, folder)

            turns = in_turns(lambda: at(0, 0), lambda: at(-FAR, FAR), chosen.rounds)
            report(figure="offset", model=name, side=chosen.side, pixels=FAR, **turns)
        for name in chosen.counted:
            hollow = Hollow(catalog.load(name, SETTINGS))
            model, folder = hollow.model, Path(scratch) / f"{next(numbers)}"
            request = request_for(model, chosen.whole, folder, ROW, COL)
            with Asked() as asked:
                draw(request, model, folder)
            scale = model.scale if isinstance(request, Generate) and not callable(model.scale) else 1
            side = math.ceil(chosen.whole / scale)
            least = math.ceil((side - model.window) / model.stride + 1) ** 2
            report(
                figure="windows",
                model=name,
                side=chosen.whole,
                steps=STEPS,
                windows=model.card.windows,
                batch=model.batch,
                rows=hollow.rows,
                over_needed=round(hollow.rows / (asked.count() * STEPS), 3),
                over_least=round(hollow.rows / (least * STEPS), 3),
            )


if __name__ == "__main__":
    main()
