"""Every family of published models draws what it is asked, again the same, and says what it was made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from afterimage.engine.contract import (
    Edit,
    Forecast,
    Generate,
    ModelCard,
    Request,
    SuperResolve,
    Window,
    dumps,
)
from afterimage.engine.contract.bands import SENTINEL2
from afterimage.engine.diffusion.noise import field
from afterimage.engine.models import crs_diff, diffusionsat, text2earth
from afterimage.engine.models.published import open_model

from .jobs import CASES, PLACE, SQUARE, STEPS, Case, filled, pixels_of, square, weights_of

#: The first to ask for a model waits for the imports before it.
pytestmark = pytest.mark.timeout(900)


def hash_of(pixels: np.ndarray) -> str:
    """Of a raster without holes: type, bands and shape, then each row with what of it holds data."""
    count, height, width = pixels.shape
    digest = hashlib.sha256(f"{pixels.dtype.name} {count} {(height, width)}".encode())
    for row in pixels.swapaxes(0, 1):
        digest.update(np.ascontiguousarray(row).tobytes())
        digest.update(np.packbits(np.ones(width, bool)).tobytes())
    return digest.hexdigest()


def hashes_of(request: Request, given: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """(name, hash) of what a job was made from, in the order of the request."""
    sources = {
        Generate: lambda: [control.source for control in request.controls],
        SuperResolve: lambda: [request.source],
        Edit: lambda: [request.source],
        Forecast: lambda: request.sources,
    }[type(request)]()
    found = []
    for source in sources:
        pixels = given[source.path]
        if isinstance(request, SuperResolve):  # of all its bands, those that the model is shown
            order = ("B4", "B3", "B2", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
            pixels = pixels[[SENTINEL2.index(name) for name in order]]
        found.append((source.name, hash_of(pixels)))
    if getattr(request, "mask", None) is not None:
        found.append((request.mask.name, hashlib.sha256(square().encode()).hexdigest()))
    return found


def assert_said(event, request: Request, case: Case, card: ModelCard, folder: Path) -> None:
    """That the files say what they are and what they were made of."""
    (output,) = event.result.outputs
    assert not [notice for notice in event.result.notices if "memory" in notice]
    dtype = case.given["source.tif"].dtype.name if isinstance(request, Edit) else "uint8"
    assert (output.grid, output.dtype, output.bands) == (case.grid, dtype, output.bands)
    with rasterio.open(output.path) as file:
        assert (file.shape, file.count, file.crs.to_epsg()) == (case.grid.shape, 3, 32633)
        assert tuple(file.transform)[:6] == case.grid.transform and set(file.dtypes) == {dtype}
        tags, description = file.tags(ns="AFTERIMAGE"), file.tags()["TIFFTAG_IMAGEDESCRIPTION"]
    record = json.loads(dumps(event.result.provenance))
    assert json.loads(tags["PROVENANCE"]) == record and "AI-generated" in description
    stac = json.loads(Path(output.path).with_suffix(".stac.json").read_text("utf-8"))["properties"]
    assert stac["afterimage:provenance"] == record
    date = getattr(request, "date", None) or request.source.date
    assert output.date == record["date"] == date and stac["datetime"] == f"{date}T00:00:00Z"

    made = event.result.provenance
    assert (made.task, made.model, made.prompt) == (type(request).__name__, request.model, request.prompt)
    assert (made.seed, made.steps, made.scheduler) == (7, STEPS, card.schedulers[0])
    assert made.guidance_scale == card.guidance_scale and made.licence == card.licence and made.ai_generated
    assert made.weights == weights_of(folder)
    assert json.loads(made.job)["request"] == json.loads(dumps(request))
    assert [(given.name, given.sha256) for given in made.inputs] == hashes_of(request, case.given)


@pytest.mark.parametrize("name", CASES)
def test_four_steps_of_a_family(do, card, models, name):
    case = CASES[name]
    facts = card(case.request.model)
    assert facts.family == name.split()[0]
    request = filled(case.request, facts)
    event, stages, _ = do(request, case.prepare)
    first = pixels_of(event)
    assert "drawing" in stages and first.std() > 0
    assert_said(event, request, case, facts, models.folder(request.model))
    assert pixels_of(do(request, case.prepare)[0]).tobytes() == first.tobytes(), "the same request, the same picture"

    inside = np.ones(case.grid.shape, bool)
    if case.is_masked:
        west, north, east, south = SQUARE
        inside[:] = False
        inside[north:south, west:east] = True
        before = case.given["source.tif"]
        assert first[:, ~inside].tobytes() == before[:, ~inside].tobytes(), "outside, every number stays"
        assert (first != before)[:, inside].any(axis=0).mean() > 0.9
    for what, change in case.others.items():
        other = replace(request, **change) if isinstance(change, dict) else request
        found = pixels_of(do(other, change if callable(change) else case.prepare)[0])
        differs = (found != first).any(axis=0)
        assert differs[inside].mean() > 0.05, f"another picture by the {what}"


@pytest.mark.parametrize("model", ["diffusionsat", "text2earth", "crsdiff", "xl"])
def test_one_window_is_what_the_model_draws_from_the_same_noise(do, card, models, parity, xl, model):
    """In the engine and from Python, from the installed folder and from the authors' own: the same bytes."""
    families = {"crsdiff": "crs_diff", "xl": "stable_diffusion_xl"}
    case = CASES[f"{families.get(model, model)} generate"]
    request = filled(case.request, card(model))
    made = pixels_of(do(request, case.prepare)[0])
    date = {"year": 2017, "month": 2, "day": 11}
    if model == "crsdiff":
        maps = {
            "road": np.repeat(case.given["roads.tif"], 3, axis=0),
            "segmentation": case.given["land_use.tif"],
        }
        told = {
            "prompt": f"{request.prompt}, {crs_diff.QUALITY}",
            "metadata": crs_diff.metadata_vector(**PLACE, **date, gsd=1.0, cloud_cover=10.0),
            "maps": {name: torch.from_numpy(pixels)[None].float() / 255 for name, pixels in maps.items()},
        }
    elif model == "diffusionsat":
        metadata = diffusionsat.metadata_vector(**PLACE, **date, gsd=1.0)
        told = {"prompt": request.prompt, "metadata": metadata}
    elif model == "xl":
        told = {"prompt": request.prompt}
    else:
        told = {"prompt": request.prompt, "level": text2earth.level_of(1.0)}
    side = case.grid.height // 8
    noise = field(request.sampling.seed, 0, Window(0, 0, side, side), 4)[None]
    authors = {"crsdiff": parity / "crsdiff" / "last.ckpt", "xl": xl / "pipeline"}
    for place in (models.folder(model), authors.get(model, parity / model)):
        network = open_model(place)
        guidance = request.sampling.guidance_scale
        sampled = network.sample(noise, STEPS, negative_prompt="", guidance_scale=guidance, **told)
        expected = (network.decode(sampled.latents)[0].clamp(0, 1) * 255).round().byte().numpy()
        np.testing.assert_array_equal(made, expected)


def test_a_process_of_its_own_draws_the_same(do, card, models, start_engine, make_job):
    case = CASES["crs_diff generate"]
    request = filled(case.request, card("crsdiff"))
    folder = make_job("alone", request=request)
    case.prepare(folder)
    store = str(models.store)
    alone = start_engine("run", str(folder), null=False, AFTERIMAGE_STORE=store, AFTERIMAGE_DEVICE="cpu")
    found = pixels_of(alone.until("Succeeded", "Failed", timeout=240))
    assert found.tobytes() == pixels_of(do(request, case.prepare)[0]).tobytes()
