"""Differing bytes: chunks in any order, a part of an extent by itself, a job that is killed and goes on.

    python tests/benchmarks/determinism.py --models tiny-generate tiny-superresolve --shuffles 100
    python tests/benchmarks/determinism.py --models eurosat-generate superresolve --shuffles 2

``order`` draws all chunks in shuffled orders, each time by a work of its own that remembers nothing. ``overlap`` draws
an extent that lies partly on the first. ``killed`` ends a process of the engine without notice after its first tile and
runs it again, beside one that is left alone; ``recomputed`` is how many of the tiles that were done are written again.
How many workers draw is measured by ``crew.py``.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from protocol import ROOT, SETTINGS, report

import numpy as np  # isort: skip
import rasterio
from afterimage.engine.contract import Generate, Job, Request, dumps
from afterimage.engine.models import catalog
from jobs import COL, ROW, generate, grid, planned, super_resolve, write_source

STEPS, SCALE = 8, 2


def request_for(card: Any, side: int, folder: Path, shift: int = 0) -> Request:
    """A picture of ``side`` pixels; ``shift`` moves it down and to the right."""
    if "Generate" in card.tasks:
        extent = grid(side, card.gsd[0], ROW + shift, COL + shift)
        return generate(card, extent, card.vocabulary[0], steps=STEPS, scheduler="DPM++ 2M", guidance_scale=1.0)
    write_source(folder / "source.tif", side // SCALE)
    return super_resolve(card, SCALE)


def drawn(request: Request, model: Any, folder: Path, order: random.Random | None = None) -> np.ndarray:
    """All pixels (bands, height, width) of a job whose chunks are drawn in the plan's order or another."""
    with planned(request, model, folder) as (work, ctx):
        chunks = list(work.chunks)
        if order:
            order.shuffle(chunks)
        out = np.zeros((len(work.profile.bands), *work.drawn.shape), work.profile.dtype)
        for chunk in chunks:
            out[(slice(None), *chunk.slices())] = work.draw(chunk, 1, ctx).pixels
    return out


def killed(request: Request, folder: Path) -> dict[str, int]:
    """Differing bytes after a kill, and the tiles that were done and are written again."""
    results, done, again = [], 0, 0
    for name in ("alone", "killed"):
        path = folder / name
        path.mkdir(parents=True)
        if not isinstance(request, Generate):
            (path / "source.tif").write_bytes((folder / "source.tif").read_bytes())
        (path / "request.json").write_text(dumps(Job(name, request)), encoding="utf-8")
        command = [sys.executable, "-I", str(ROOT / "engine" / "launch.py"), "run", str(path)]
        environment = {**os.environ, "AFTERIMAGE_KEEP_TILES": "1", "AFTERIMAGE_TEST_MODELS": "1"}
        if name == "killed":
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and not tiles(path):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            before = tiles(path)
            done = len(before)
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(ended.stdout[-2000:] + ended.stderr[-2000:])
        if name == "killed":
            after = tiles(path)
            again = sum(after.get(tile) != changed for tile, changed in before.items())
        with rasterio.open(path / "outputs" / "result.tif") as file:
            results.append(file.read())
    return {"killed": int((results[0] != results[1]).sum()), "done_when_killed": done, "recomputed": again}


def tiles(path: Path) -> dict[str, int]:
    """Name of each finished tile -> when it was written."""
    return {tile.name: tile.stat().st_mtime_ns for tile in (path / "tiles").glob("*.tile")}


def main() -> None:
    """Print one line of JSON for each model."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", nargs="*", default=["tiny-generate", "tiny-superresolve"])
    arguments.add_argument("--shuffles", type=int, default=100)
    arguments.add_argument("--side", type=int, default=600, help="of the result, in pixels")
    chosen = arguments.parse_args()
    for name in chosen.models:
        model = catalog.load(name, SETTINGS)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            request = request_for(model.card, chosen.side, folder / "first")
            first = drawn(request, model, folder / "first")
            differing = 0
            for number in range(chosen.shuffles):
                differing += int((drawn(request, model, folder / "first", random.Random(number)) != first).sum())
            found = {"bytes": int(first.nbytes), "shuffles": chosen.shuffles, "order": differing}
            if isinstance(request, Generate):
                shift = chosen.side // 3
                moved = drawn(request_for(model.card, chosen.side, folder / "moved", shift), model, folder / "moved")
                overlap = first[:, shift:, shift:] != moved[:, : chosen.side - shift, : chosen.side - shift]
                found["overlap"] = int(overlap.sum())
            report(figure="determinism", model=name, **found, **killed(request, folder / "first"))


if __name__ == "__main__":
    main()
