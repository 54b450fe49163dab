"""Super-resolution beside opensr-utils with the same network and windows: time with its start, disk, agreement.

    python3 -m venv opensr && opensr/bin/pip install opensr-utils==2.1.0
    python tests/benchmarks/peers_opensr.py --peer opensr/bin/python --side 1024 --rounds 3

Each run is a process of its own: Python starts, libraries are imported, 4 bands of 16 bits become four times as fine.
Ours imports diffusers and ends as ``engine run`` does (``engine/lean.py``, ``engine/server.py``).
Ours also writes mask, overviews and provenance, and reads its result again. ``temporary`` is the most that stood on the
disk at once beyond source and result, looked at every 50 ms; ``consistency`` is the root of the mean squared difference
of the result's block means from the source, where 1 is a reflectance of 1 (10 000).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from protocol import SETTINGS, in_turns, report

import numpy as np  # isort: skip
import rasterio
import torch
from afterimage.engine import lean
from afterimage.engine.contract import Sampling, Source, SuperResolve
from afterimage.engine.models import catalog
from enlarger import FACTOR, Enlarger
from jobs import Loaded, run, write_raster
from torch import Tensor

BANDS, WINDOW, OVERLAP = 4, 128, 12
HERE = Path(__file__).resolve().parent


class Enlarging:
    """A ``SuperResolveModel`` that is one call of a network: one step, from noise that it does not look at."""

    bands, multiple, batch, dtype = BANDS, FACTOR, 1, torch.float32
    window, stride = WINDOW * FACTOR, (WINDOW - OVERLAP) * FACTOR

    def __init__(self, width: int) -> None:
        tiny = next(card for card in catalog.cards(SETTINGS) if card.id == "tiny-superresolve")
        changes = {"window": self.window, "stride": self.stride, "factors": (FACTOR,), "schedulers": ("DDIM",)}
        self.card = dataclasses.replace(tiny, **changes, steps=1, gsd=(0.1, 60.0))
        self.device = torch.device("cpu")
        self._network = Enlarger(BANDS, width)

    def scheduler(self, name: str) -> Any:
        """One step leads to the estimate itself."""
        from diffusers import DDIMScheduler  # late: see ``main``

        return DDIMScheduler(prediction_type="sample", timestep_spacing="trailing", clip_sample=False)

    def enlarge(self, lr: Tensor, factor: int) -> Tensor:
        """Each pixel repeated, so that ``predict`` finds the source again."""
        return lr.repeat_interleave(factor, -1).repeat_interleave(factor, -2)

    def scale(self, enlarged: Tensor, factor: int) -> Tensor:
        """Nothing is scaled."""
        return torch.ones_like(enlarged)

    def predict(self, x: Tensor, t: Tensor, enlarged: Tensor, factor: int) -> Tensor:
        """What the network adds to the repeated pixels."""
        return self._network(enlarged[..., ::factor, ::factor]) - enlarged


def draw_ours(folder: Path, width: int) -> None:
    """The job in a folder that holds source.tif; leaves result.tif there."""
    torch.set_num_threads(1)
    model = Enlarging(width)
    request = SuperResolve(model.card.id, Source("source.tif"), FACTOR, 10.0, Sampling(0, 1, "DDIM"))
    run(request, Loaded(model), folder).rename(folder / "result.tif")


def field(side: int) -> np.ndarray:
    """Smooth and rough: (BANDS, side, side) uint16 up to 10 000."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(500, 6000, (1, BANDS, side // 16, side // 16)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0].numpy()
    return (smooth + rng.normal(0, 150, smooth.shape)).clip(1, 10_000).astype(np.uint16)


class Disk:
    """The most bytes that stood in a folder while it is entered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.most = folder, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Disk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            sizes = 0
            for path in self.folder.rglob("*"):
                try:
                    sizes += path.stat().st_blocks * 512 if path.is_file() else 0
                except OSError:  # gone meanwhile
                    continue
            self.most = max(self.most, sizes)


def consistency(source: Path, result: Path) -> float:
    """See above."""
    with rasterio.open(source) as lr, rasterio.open(result) as sr:
        fine = sr.read().astype(np.float64)
        means = fine.reshape(len(fine), lr.height, FACTOR, lr.width, FACTOR).mean(axis=(2, 4))
        return float(np.sqrt(np.square(means - lr.read()).mean()) / 10_000)


def main() -> None:
    """Print one line of JSON for each network."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--peer", help="a Python that has opensr-utils; without it only ours is run")
    arguments.add_argument("--side", type=int, default=1024, help="of the source, in pixels")
    arguments.add_argument("--widths", type=int, nargs="*", default=[0, 32], help="0: bilinear; else of the network")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--draw", nargs=2, metavar=("FOLDER", "WIDTH"), help="run ours once, in this process")
    chosen = arguments.parse_args()
    if chosen.draw:
        lean.import_diffusers()
        draw_ours(Path(chosen.draw[0]), int(chosen.draw[1]))
        os._exit(0)
    if not chosen.peer:
        raise SystemExit("peers_opensr: name a Python that has opensr-utils with --peer")
    for width in chosen.widths:
        with tempfile.TemporaryDirectory() as scratch:
            measured: dict[str, dict[str, Any]] = {"ours": {}, "theirs": {}}

            def once(name: str, scratch: str = scratch, measured: dict = measured, width: int = width) -> None:
                folder = Path(scratch) / name
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                shutil.copyfile(Path(scratch) / "source.tif", folder / "source.tif")
                source, result = folder / "source.tif", folder / "result.tif"
                ours = [sys.executable, __file__, "--draw", str(folder), str(width)]
                theirs = [chosen.peer, str(HERE / "opensr_peer.py"), str(source), str(result), str(BANDS), str(width)]
                environment = {**os.environ, "TMPDIR": str(folder)}
                with Disk(folder) as disk:
                    done = subprocess.run(
                        ours if name == "ours" else theirs, cwd=folder, env=environment, capture_output=True, text=True
                    )
                if done.returncode:
                    raise SystemExit(f"{name}: {done.stderr[-2000:]}")
                final = sum(path.stat().st_blocks * 512 for path in (source, result))
                measured[name] = {
                    "temporary_mb": round((disk.most - final) / 1e6, 2),
                    "result_mb": round(result.stat().st_size / 1e6, 2),
                    "consistency": consistency(source, result),
                }

            write_raster(Path(scratch) / "source.tif", field(chosen.side))
            turns = in_turns(functools.partial(once, "ours"), functools.partial(once, "theirs"), chosen.rounds)
            report(figure="peers_opensr", side=chosen.side, width=width, **turns, **measured)


if __name__ == "__main__":
    main()
