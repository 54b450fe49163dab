"""Figures of the engine: what it costs beside its network, and whether windows leave seams.

    python tests/benchmarks/engine_figures.py --generate eurosat-generate --superresolve superresolve --rounds 3

``overhead`` is the wall time of a whole job (plan, draw, commit, assemble, verify, publish; the model is loaded) over
the time of the same network calls alone, those of the decoder among them where there is one (but not those that only
make previews), in turns, as a median over rounds; ``overhead_cpu`` is the same in processor time, which other programs
on the machine disturb less. ``gflop`` is that of one window and step, as the card has it. ``seam ratio`` is the largest
over the smallest mean squared first difference by position in the window's stride (1: no seam); ``control`` is the same
for a period in which nothing repeats, so what is above it is seam and what is not is chance. Both are measured cell by
cell, where a cell is a latent or a pixel of the source; ``cell_ratio`` is the same inside a cell: the model's own.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol import SETTINGS, report, timed

import numpy as np  # isort: skip
import rasterio
import torch
from afterimage.engine.contract import Request
from afterimage.engine.models import catalog
from afterimage.engine.tasks.decoding import BLOCK
from jobs import COL, ROW, Loaded, generate, grid, run, super_resolve, write_source
from peers_multidiffusion import SIZES, WINDOW, make_network, make_ours


class Counted(Loaded):
    """A catalogue of one loaded model that notes what its networks are called with."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.calls: list[tuple[Callable, tuple]] = []
        self._note("predict", lambda *arguments: True)
        if hasattr(self.model, "decode"):
            side = BLOCK // self.model.scale + 2 * self.model.decode_halo  # a preview decodes windows
            self._note("decode", lambda z: z.shape[-1] == side)

    def _note(self, name: str, counts: Callable[..., bool]) -> None:
        call = getattr(self.model, name)

        def noted(*arguments: Any) -> torch.Tensor:
            if counts(*arguments):
                self.calls.append((call, arguments))
            return call(*arguments)

        setattr(self.model, name, noted)

    def floor(self) -> None:
        """The calls alone."""
        with torch.inference_mode():
            for call, arguments in self.calls:
                call(*arguments)


def seam_ratio(pixels: np.ndarray, period: int, first: tuple[int, int], cell: int = 1) -> float:
    """The larger of both axes; ``first`` is the absolute (row, col) of the first pixel, on a multiple of ``cell``."""
    ratios = []
    for axis in (1, 2):
        energy = np.square(np.diff(pixels.astype(float), axis=axis)).mean(axis=tuple({0, 1, 2} - {axis}))
        # The step between pixels p and p + 1 belongs to position p + 1: a seam lies where a window begins.
        position = (first[axis - 1] + 1 + np.arange(len(energy))) % period // cell
        by_position = [energy[position == p].mean() for p in range(period // cell) if (position == p).any()]
        ratios.append(max(by_position) / min(by_position))
    return max(ratios)


def figures(request: Request, counted: Counted, rounds: int, first: tuple[int, int]) -> dict[str, Any]:
    """Overhead and seams of one request; ``first`` is the absolute place of the first pixel."""
    stride, times = counted.model.card.stride, []
    cell = getattr(request, "factor", None) or counted.model.scale
    with tempfile.TemporaryDirectory() as scratch:
        for index in range(rounds):
            seed = dataclasses.replace(request.sampling, seed=index)
            asked, folder = dataclasses.replace(request, sampling=seed), Path(scratch) / f"{index}"
            write_source(folder / "source.tif")
            counted.calls.clear()
            paths: list[Path] = []
            wall, cpu = timed(lambda asked=asked, folder=folder, paths=paths: paths.append(run(asked, counted, folder)))
            times.append((wall, cpu, *timed(counted.floor)))
        with rasterio.open(paths[0]) as file:
            pixels = file.read()
    return {
        "model": counted.model.card.id,
        "pixels": list(pixels.shape[1:]),
        "steps": request.sampling.steps,
        "gflop": counted.model.card.gflop_per_window_step,
        "network_calls": len(counted.calls),
        "wall_s": round(statistics.median(wall for wall, _, _, _ in times), 2),
        "network_s": round(statistics.median(floor for _, _, floor, _ in times), 2),
        "overhead": round(statistics.median(wall / floor for wall, _, floor, _ in times), 3),
        "overhead_cpu": round(statistics.median(cpu / floor for _, cpu, _, floor in times), 3),
        "rounds": rounds,
        "stride": stride,
        "seam_ratio": round(seam_ratio(pixels, stride, first, cell), 3),
        "control": round(seam_ratio(pixels, stride + cell, first, cell), 3),
        "cell_ratio": round(seam_ratio(pixels, cell, first), 3),
    }


def main() -> None:
    """Print one line of JSON for each task."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--generate", default="eurosat-generate", help="id of a model")
    arguments.add_argument("--superresolve", default="superresolve", help="id of a model")
    arguments.add_argument("--seeded", choices=SIZES, nargs="*", default=[], help="networks of peers_multidiffusion.py")
    arguments.add_argument("--prompt", default="Forest")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--side", type=int, default=512, help="of the generated picture, in pixels")
    arguments.add_argument("--steps", type=int, help="the model's own where it is not given")
    chosen = arguments.parse_args()
    steps = {} if chosen.steps is None else {"steps": chosen.steps}
    loaded = (catalog.load(name, SETTINGS) for name in (chosen.generate, chosen.superresolve) if name)
    seeded = (make_ours(make_network(size), WINDOW // 2, 2) for size in chosen.seeded)
    for model in itertools.chain(loaded, seeded):
        counted = Counted(model)
        card = counted.model.card
        if "Generate" in card.tasks:
            request = generate(card, grid(chosen.side, card.gsd[0]), chosen.prompt, **steps)
            first = (ROW, COL)
        else:
            factor = max(card.factors)
            request = super_resolve(card, factor, min(card.gsd[1], 10.0) * factor, **steps)
            first = (ROW * factor, COL * factor)
        found = figures(request, counted, chosen.rounds, first)
        report(figure="engine_figures", task=type(request).__name__, **found)


if __name__ == "__main__":
    main()
