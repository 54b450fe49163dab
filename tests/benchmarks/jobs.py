"""Whole jobs of the engine, run in this process as the engine runs them, with a model that is loaded already."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from protocol import ROOT, SETTINGS

import rasterio  # isort: skip
from afterimage.engine import runner
from afterimage.engine.backends import choice
from afterimage.engine.context import JobContext
from afterimage.engine.contract import (
    Generate,
    GeoBox,
    Job,
    ModelCard,
    Request,
    Sampling,
    Source,
    Succeeded,
    SuperResolve,
    dumps,
)
from afterimage.engine.journal import JobFolder
from afterimage.engine.settings import Settings
from afterimage.engine.tasks.base import Work
from afterimage.engine.tasks.plans import TASKS

#: Where extents begin, in pixels from the origin of their CRS.
ROW, COL = -512_000, 51_200
CRS = "EPSG:32633"


class Loaded:
    """A catalogue of one model, loaded."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def cards(self, settings: Settings) -> tuple[ModelCard, ...]:
        """Its card."""
        return (self.model.card,)

    def load(self, model_id: str, settings: Settings) -> Any:
        """The model, run as the settings ask, as the engine's own catalogue has it."""
        if hasattr(self.model, "networks"):
            choice.take(self.model, settings)
        return self.model


def grid(side: int | tuple[int, int], gsd: float = 10.0, row: int = ROW, col: int = COL) -> GeoBox:
    """An extent of (height, width) pixels whose first is the absolute pixel (row, col)."""
    shape = (side, side) if isinstance(side, int) else side
    return GeoBox(CRS, (gsd, 0.0, col * gsd, 0.0, -gsd, -row * gsd), shape)


def generate(card: ModelCard, extent: GeoBox, prompt: str, seed: int = 0, **sampling: Any) -> Generate:
    """A request as the form makes it; ``sampling`` takes the place of the card's own choices."""
    chosen = {"steps": card.steps, "scheduler": card.schedulers[0], "guidance_scale": card.guidance_scale} | sampling
    return Generate(card.id, extent, extent, card.gsd[0], prompt, Sampling(seed, **chosen))


def super_resolve(card: ModelCard, factor: int, gsd: float = 10.0, seed: int = 0, **sampling: Any) -> SuperResolve:
    """A request over ``source.tif`` in its job's folder."""
    chosen = {"steps": card.steps, "scheduler": card.schedulers[0], "guidance_scale": card.guidance_scale} | sampling
    return SuperResolve(card.id, Source("source.tif"), factor, gsd, Sampling(seed, **chosen))


def run(request: Request, catalog: Loaded, folder: Path, settings: Settings = SETTINGS) -> Path:
    """Run a job in a new folder; the path of its first output. Ends the program where the job fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "request.json").write_text(dumps(Job(folder.name, request)), encoding="utf-8")
    ending = runner.run(folder, folder.name, lambda event: None, threading.Event(), settings, catalog=catalog)
    if not isinstance(ending, Succeeded):
        raise SystemExit(str(ending))
    return Path(ending.result.outputs[0].path)


def write_source(path: Path, side: int = 192, row: int = ROW, col: int = COL) -> None:
    """A corner of the raster that ships with the plugin, or fields and noise where it is missing."""
    shipped = sorted((ROOT / "resources" / "demo").glob("*.tif"))
    if shipped:
        with rasterio.open(shipped[0]) as file:
            pixels = file.read((1, 2, 3), window=rasterio.windows.Window(0, 0, side, side))
    else:
        rng = np.random.default_rng(0)
        fields = rng.integers(40, 200, (3, side // 12, side // 12)).repeat(12, 1).repeat(12, 2)
        pixels = (fields + rng.normal(0, 8, fields.shape)).clip(0, 255).astype("uint8")
    write_raster(path, pixels, row, col)


def write_raster(path: Path, pixels: np.ndarray, row: int = ROW, col: int = COL, gsd: float = 10.0) -> None:
    """Pixels (bands, height, width) as a GeoTIFF whose first is the absolute pixel (row, col)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(*grid(pixels.shape[1:], gsd, row, col).transform)
    shape = {"count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", crs=CRS, transform=transform, tiled=True, **shape) as file:
        file.write(pixels)


@contextlib.contextmanager
def planned(request: Request, model: Any, folder: Path) -> Iterator[tuple[Work, JobContext]]:
    """The work of a request, to be drawn by hand; a source must lie in the folder already."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "request.json").write_text(dumps(Job(folder.name, request)), encoding="utf-8")
    with JobFolder(folder) as opened:
        ctx = JobContext(folder.name, lambda event: None, threading.Event(), folder / "previews")
        yield TASKS[type(request)](request, opened, model, ctx), ctx
