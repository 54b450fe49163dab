"""Figures of the engine: what it costs beside its network, and whether windows leave seams.

    python tests/benchmarks/engine_figures.py --generate eurosat-generate --superresolve superresolve --rounds 3

``overhead`` is the wall time of a whole job (plan, draw, commit, assemble, verify, publish; the model is loaded) over
the time of the same network calls alone, in turns, as a median over rounds; ``overhead_cpu`` is the same in processor
time, which other programs on the machine disturb less. ``seam ratio`` is the largest over the
smallest mean squared first difference by position in the window's stride (1: no seam); ``control`` is the same for a
period in which nothing repeats, so what is above it is seam and what is not is chance. Both are measured cell by cell,
where a cell is a latent or a pixel of the source; ``cell_ratio`` is the same inside a cell, which is the model's own.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "engine"))
import launch  # noqa: E402

launch.register(ROOT)

from afterimage.engine.device import prepare_environment  # noqa: E402
from afterimage.engine.settings import Settings  # noqa: E402

prepare_environment(Settings.from_environment())  # before torch is imported, as the engine does

import rasterio  # noqa: E402
import torch  # noqa: E402
from afterimage.engine import runner  # noqa: E402
from afterimage.engine.contract import (  # noqa: E402
    Generate,
    GeoBox,
    Job,
    Sampling,
    Source,
    Succeeded,
    SuperResolve,
    dumps,
)
from afterimage.engine.models import catalog  # noqa: E402

ROW, COL = -512_000, 51_200


class Counted:
    """A catalogue of one loaded model that notes the shapes of its network calls."""

    def __init__(self, model_id, settings):
        self.model = catalog.load(model_id, settings)
        self.calls = []
        self.predict = self.model.predict
        self.model.predict = self._noted

    def _noted(self, *arguments):
        self.calls.append(arguments)
        return self.predict(*arguments)

    def cards(self, settings):
        return (self.model.card,)

    def load(self, model_id, settings):
        return self.model

    def floor(self):
        """Seconds of the calls alone: on the wall, and of the processor."""
        began, worked = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            for arguments in self.calls:
                self.predict(*arguments)
        return time.perf_counter() - began, time.process_time() - worked


def run(request, counted, settings, folder):
    """(seconds on the wall, seconds of the processor, path of the result)."""
    folder.mkdir(parents=True)
    if isinstance(request, SuperResolve):
        write_source(folder / request.source.path)
    (folder / "request.json").write_text(dumps(Job(folder.name, request)), encoding="utf-8")
    counted.calls.clear()
    began, worked = time.perf_counter(), time.process_time()
    ending = runner.run(folder, folder.name, lambda event: None, threading.Event(), settings, catalog=counted)
    wall, cpu = time.perf_counter() - began, time.process_time() - worked
    if not isinstance(ending, Succeeded):
        raise SystemExit(str(ending))
    return wall, cpu, Path(ending.result.outputs[0].path)


def write_source(path, side=192):
    """The raster that ships with the plugin, or fields and noise where it is missing."""
    shipped = sorted((ROOT / "resources" / "demo").glob("*.tif"))
    if shipped:
        with rasterio.open(shipped[0]) as file:
            pixels = file.read((1, 2, 3), window=rasterio.windows.Window(0, 0, side, side))
    else:
        rng = np.random.default_rng(0)
        fields = rng.integers(40, 200, (3, side // 12, side // 12)).repeat(12, 1).repeat(12, 2)
        pixels = (fields + rng.normal(0, 8, fields.shape)).clip(0, 255).astype("uint8")
    transform = rasterio.Affine(10.0, 0.0, COL * 10.0, 0.0, -10.0, -ROW * 10.0)
    shape = {"count": 3, "height": pixels.shape[1], "width": pixels.shape[2], "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=transform, **shape) as file:
        file.write(pixels)


def seam_ratio(pixels, period, first, cell=1):
    """The larger of both axes; ``first`` is the absolute (row, col) of the first pixel, on a multiple of ``cell``."""
    ratios = []
    for axis in (1, 2):
        energy = np.square(np.diff(pixels.astype(float), axis=axis)).mean(axis=tuple({0, 1, 2} - {axis}))
        # The step between pixels p and p + 1 belongs to position p + 1: a seam lies where a window begins.
        position = (first[axis - 1] + 1 + np.arange(len(energy))) % period // cell
        by_position = [energy[position == p].mean() for p in range(period // cell) if (position == p).any()]
        ratios.append(max(by_position) / min(by_position))
    return max(ratios)


def figures(request, counted, settings, rounds, stride, first):
    """Overhead and seams of one request."""
    times, cell = [], getattr(counted.model, "scale", None) or request.factor
    with tempfile.TemporaryDirectory() as scratch:
        for index in range(rounds):
            seed = dataclasses.replace(request.sampling, seed=index)
            asked = dataclasses.replace(request, sampling=seed)
            wall, cpu, path = run(asked, counted, settings, Path(scratch) / f"{index}")
            times.append((wall, cpu, *counted.floor()))
        with rasterio.open(path) as file:
            pixels = file.read()
    return {
        "model": counted.model.card.id,
        "pixels": list(pixels.shape[1:]),
        "steps": request.sampling.steps,
        "network_calls": len(counted.calls),
        "wall_s": round(statistics.median(wall for wall, _, _, _ in times), 2),
        "network_s": round(statistics.median(floor for _, _, floor, _ in times), 2),
        "overhead": round(statistics.median(wall / floor for wall, _, floor, _ in times), 3),
        "overhead_cpu": round(statistics.median(cpu / floor for _, cpu, _, floor in times), 3),
        "stride": stride,
        "seam_ratio": round(seam_ratio(pixels, stride, first, cell), 3),
        "control": round(seam_ratio(pixels, stride + cell, first, cell), 3),
        "cell_ratio": round(seam_ratio(pixels, cell, first), 3),
    }


def main():
    """Print one line of JSON for each task."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--generate", default="tiny-generate", help="id of a model")
    arguments.add_argument("--superresolve", default="tiny-superresolve", help="id of a model")
    arguments.add_argument("--prompt", default="Forest")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--side", type=int, default=512, help="of the generated picture, in pixels")
    chosen = arguments.parse_args()
    settings = Settings.from_environment()
    for name, task in ((chosen.generate, Generate), (chosen.superresolve, SuperResolve)):
        counted = Counted(name, settings)
        card = counted.model.card
        sampling = Sampling(0, card.steps, card.schedulers[0], card.guidance_scale)
        gsd = card.gsd[0]
        if task is Generate:
            box = GeoBox("EPSG:32633", (gsd, 0.0, COL * gsd, 0.0, -gsd, -ROW * gsd), (chosen.side, chosen.side))
            request = Generate(card.id, box, box, gsd, chosen.prompt, sampling)
            first = (ROW, COL)
        else:
            factor = max(card.factors)
            request = SuperResolve(card.id, Source("source.tif"), factor, min(card.gsd[1], 10.0) * factor, sampling)
            first = (ROW * factor, COL * factor)
        print(
            json.dumps({"task": task.__name__} | figures(request, counted, settings, chosen.rounds, card.stride, first))
        )


if __name__ == "__main__":
    main()
