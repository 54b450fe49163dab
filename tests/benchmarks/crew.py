"""What more than one process brings, and what it costs: time, windows computed twice, bytes, cancelling.

``python tests/benchmarks/crew.py --model eurosat-generate --side 1024 --rounds 3`` on a machine with as many free cores
as ``--workers``; one line of JSON. Jobs run as people run them, each from its folder in a process of its own, starting
and loading included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jobs
from protocol import ROOT, in_turns, report

import rasterio  # isort: skip
from afterimage.engine.contract import CHUNK, Cancel, Generate, Job, Submit, Window, dumps
from afterimage.engine.crew.shares import Shares
from afterimage.engine.models import catalog
from afterimage.engine.tasks.chunks import absolute, chunks
from afterimage.engine.tasks.decoding import make_decoding
from afterimage.engine.tasks.picture import place_windows, shifted

LAUNCH = [sys.executable, "-I", "-u", str(ROOT / "engine" / "launch.py")]


def make(folder: Path, request: Generate) -> Path:
    """A job folder."""
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(dumps(Job(folder.name, request)), encoding="utf-8")
    return folder


def environment(**more: str) -> dict[str, str]:
    """That of an engine that has one thread and keeps its tiles."""
    return {**os.environ, "AFTERIMAGE_DEVICE": "cpu", "AFTERIMAGE_KEEP_TILES": "1", **more}


def run(folder: Path, workers: int) -> None:
    """Run a job folder to its end."""
    command = [*LAUNCH, "--log-level", "ERROR", "run", str(folder), "--workers", str(workers)]
    subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)


def differing(a: Path, b: Path) -> int:
    """Bytes in which the pictures of two job folders differ."""
    with rasterio.open(a / "outputs" / "result.tif") as first, rasterio.open(b / "outputs" / "result.tif") as second:
        return int((first.read() != second.read()).sum())


class Windows:
    """The windows that chunks of a picture are made of, in all phases.

    Args:
        model: that draws.
        grid: what is drawn.
    """

    def __init__(self, model: Any, grid: Any) -> None:
        lattices, self.origin = place_windows(grid, model)
        self._lattices = shifted(lattices)
        self._decoding = make_decoding(model, self._lattices[-1])

    def of(self, chunk: Window) -> set[tuple[int, int, int]]:
        """(phase, row, column) of each."""
        phase, parts = len(self._lattices) - 1, self._decoding.latents(absolute(chunk, self.origin))
        found = set()
        while phase >= 0:
            indices = {index for part in parts for index in self._lattices[phase].touching(part)}
            found |= {(phase, *index) for index in indices}
            parts = [self._lattices[phase].window(index) for index in indices]
            phase -= 1
        return found


def evaluated(model: Any, side: int, workers: int) -> dict[str, float]:
    """Windows that hands of one pace compute, and those after a kill half way, over those of one that remembers all.

    What one hand has drawn is there for the others from its next piece on; ``apart`` is without that.
    """
    grid = jobs.grid(side)
    windows = Windows(model, grid)
    pieces = chunks(grid, windows.origin)
    shares, ideal = Shares(pieces, workers), len(set().union(*map(windows.of, pieces)))
    drawn: list[set[Any]] = [set() for _ in range(workers)]
    seen: list[set[Any]] = [set() for _ in range(workers)]
    while any(given := [shares.next(str(hand)) for hand in range(workers)]):
        left = set().union(*drawn)
        for hand, piece in enumerate(given):
            needed = windows.of(piece) if piece is not None else set()
            drawn[hand] |= needed - left
            seen[hand] |= needed
    half = len(pieces) // 2
    resumed = sum(len(set().union(*map(windows.of, part))) for part in (pieces[:half], pieces[half:]))
    found = {"over_ideal": sum(map(len, drawn)), "apart": sum(map(len, seen)), "resumed": resumed}
    return {"side": side, "ideal": ideal, **{name: round(count / ideal, 4) for name, count in found.items()}}


def killed(folder: Path, request: Generate, workers: int) -> dict[str, int]:
    """Kill an engine, workers and all, at a random time; the finished tiles that the next run draws again."""
    make(folder, request)
    command = [*LAUNCH, "--log-level", "ERROR", "run", str(folder), "--workers", str(workers)]
    engine = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
    tiles = folder / "tiles"
    wanted = random.Random(1).randrange(1, 4)
    while engine.poll() is None and len(list(tiles.glob("s*"))) < wanted:
        time.sleep(0.05)
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    time.sleep(4.0)  # what was at work has ended by then
    kept = {path.name: path.stat().st_mtime_ns for path in tiles.glob("s*")}
    run(folder, workers)
    again = sum(kept[path.name] != path.stat().st_mtime_ns for path in tiles.glob("s*") if path.name in kept)
    return {"finished_before": len(kept), "drawn_again": again}


def cancelled(folder: Path, request: Generate, workers: int) -> float:
    """Seconds from Cancel to its answer, all workers ended."""
    make(folder, request)
    engine = subprocess.Popen(
        [*LAUNCH, "--log-level", "ERROR", "serve"],
        env=environment(AFTERIMAGE_WORKERS=str(workers)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    engine.stdin.write(dumps(Submit("job", str(folder))) + "\n")
    engine.stdin.flush()
    began = 0.0
    for line in engine.stdout:
        event = json.loads(line)
        if not began and event.get("stage") == "drawing" and list((folder / "tiles").glob("s*")):
            engine.stdin.write(dumps(Cancel("job")) + "\n")
            engine.stdin.flush()
            began = time.perf_counter()
        if event["type"] in ("Cancelled", "Succeeded", "Failed"):
            break
    seconds = time.perf_counter() - began if event["type"] == "Cancelled" else float("nan")
    engine.stdin.close()
    engine.wait()
    return seconds


def check(root: Path, request: Generate, workers: int) -> dict[str, Any]:
    """What more processes must not change, and how fast they let go."""
    first = make(root / "first", request)
    run(first, 1)
    crews = {f"{count}_workers": make(root / f"with{count}", request) for count in (2, 4)}
    for count, folder in zip((2, 4), crews.values()):
        run(folder, count)
    differ = {name: differing(first, folder) for name, folder in crews.items()}
    resume = killed(root / "killed", request, workers)
    differ["killed_and_resumed"] = differing(first, root / "killed")
    cancel = [round(cancelled(root / f"cancelled{i}", request, workers), 2) for i in range(3)]
    return {"differing_bytes": differ, "resume": resume, "cancel_s": cancel}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="eurosat-generate")
    parser.add_argument("--prompt", default="forest")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", action="store_true", help="no run of each before the first round")
    parser.add_argument("--timed", action="store_true", help="times and windows alone, no bytes, kills or cancelling")
    options = parser.parse_args()
    model = catalog.load(options.model, jobs.SETTINGS)
    more = {"steps": options.steps} if options.steps else {}
    request = jobs.generate(model.card, jobs.grid(options.side), options.prompt, 7, **more)
    with tempfile.TemporaryDirectory() as scratch:
        root, number = Path(scratch), iter(range(10**6))
        checked = {} if options.timed else check(root, request, options.workers)
        times = in_turns(
            lambda: run(make(root / str(next(number)), request), options.workers),
            lambda: run(make(root / str(next(number)), request), 1),
            options.rounds,
            not options.once,
        )
    report(
        benchmark="crew",
        model=options.model,
        side=options.side,
        chunk=CHUNK,
        workers=options.workers,
        one_worker_over_many=times,
        windows=[evaluated(model, side, options.workers) for side in (options.side, 4096, 16384)],
        **checked,
    )


if __name__ == "__main__":
    main()
