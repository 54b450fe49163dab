"""Whether tiling costs quality: opensr-test's metrics of super-resolution in windows that are blended, and one by one.

    python3 -m venv opensr && opensr/bin/pip install opensr-test==1.3.3
    python tests/benchmarks/quality_tiled.py --peer opensr/bin/python --rasters FILE.tif...

Rasters of 8 bit, the sample that ships with the plugin where none are named, are made four times coarser by block means
and drawn again: as a job is drawn, and with windows side by side, each by itself, which is the bare model on one tile.
Both are compared with the raster, one window's square at a time, and the metrics are means over these squares;
``ratio`` is tiled over one by one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path

from protocol import ROOT, SETTINGS, report

import numpy as np  # isort: skip
import rasterio
from afterimage.engine.models import catalog
from afterimage.engine.models.base import SuperResolveModel
from jobs import COL, ROW, planned, super_resolve, write_raster

FACTOR, MODEL = 4, "superresolve"
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Print one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--peer", required=True, help="a Python that has opensr-test")
    arguments.add_argument("--rasters", type=Path, nargs="+", help="GeoTIFFs whose first bands are red, green, blue")
    chosen = arguments.parse_args()
    model = catalog.load(MODEL, SETTINGS)
    if ROW * FACTOR % model.window or COL * FACTOR % model.window:
        raise SystemExit("quality_tiled: the picture does not begin where a window does")
    rasters = chosen.rasters or sorted((ROOT / "resources" / "demo").glob("*.tif"))
    stride = model.stride
    drawn = [squares_of(path, model, stride) for path in rasters]
    squares = {name: np.concatenate([each[name] for each in drawn]) for name in drawn[0]}
    with tempfile.TemporaryDirectory() as scratch:
        np.savez(Path(scratch) / "pictures.npz", **squares)
        command = [chosen.peer, str(HERE / "opensr_test_peer.py"), str(Path(scratch) / "pictures.npz")]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found = json.loads(done.stdout.splitlines()[-1])
    ratio = {key: round(value / found["one by one"][key], 4) for key, value in found["tiled"].items()}
    count = len(squares["hr"])
    report(figure="quality_tiled", model=MODEL, factor=FACTOR, squares=count, metrics=found, ratio=ratio)


def squares_of(path: Path, model: SuperResolveModel, stride: int) -> dict[str, np.ndarray]:
    """What is compared: ``lr``, ``hr`` and a way of drawing each, as (squares, 3, side, side) in 0..1.

    Args:
        path: of the raster; of its pixels as many as fill whole windows, from its corner.
        model: draws it.
        stride: between its windows, in a job.
    """
    window = model.window
    with rasterio.open(path) as file:
        down, across = file.height // window, file.width // window
        if not down or not across:
            raise SystemExit(f"quality_tiled: {path.name} is smaller than a window of {window} pixels")
        hr = file.read((1, 2, 3), window=rasterio.windows.Window(0, 0, across * window, down * window))
        gsd = file.res[0]
    blocks = hr.reshape(3, hr.shape[1] // FACTOR, FACTOR, hr.shape[2] // FACTOR, FACTOR)
    lr = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
    pictures = {"hr": hr, "lr": lr}
    with tempfile.TemporaryDirectory() as scratch:
        for name, distance in (("tiled", stride), ("one by one", window)):
            folder = Path(scratch) / name
            model.stride, model.card = distance, dataclasses.replace(model.card, stride=distance)
            write_raster(folder / "source.tif", lr)
            out = np.zeros_like(hr)
            with planned(super_resolve(model.card, FACTOR, gsd * FACTOR), model, folder) as (work, ctx):
                for chunk in work.chunks:
                    out[(slice(None), *chunk.slices())] = work.draw(chunk, 1, ctx).pixels
            pictures[name] = out
    squares = {}
    for name, picture in pictures.items():
        cut = picture.reshape(3, down, picture.shape[1] // down, across, picture.shape[2] // across)
        squares[name] = cut.transpose(1, 3, 0, 2, 4).reshape(-1, 3, cut.shape[2], cut.shape[4]) / np.float32(255)
    return squares


if __name__ == "__main__":
    main()
