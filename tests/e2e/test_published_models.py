"""Every family of published models, imported and run by the real engine process: tiny checkpoints, four steps."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from afterimage.engine.contract import (
    Control,
    Edit,
    ErrorCode,
    Forecast,
    Generate,
    GeoBox,
    Mask,
    ModelCard,
    Notice,
    Request,
    Sampling,
    Source,
    Submit,
    SuperResolve,
    Window,
    dumps,
    loads,
)
from afterimage.engine.contract.bands import SENTINEL2
from afterimage.engine.diffusion.noise import field
from afterimage.engine.models import crs_diff, diffusionsat, text2earth
from afterimage.engine.models.published import open_model
from afterimage.engine.models.sentinel2 import BANDS
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file

#: The first to ask for a model waits for the imports before it.
pytestmark = pytest.mark.timeout(900)

STEPS = 4
LEFT, TOP = 500000.0, 5000000.0
#: One window, 1 m; CRS-Diff's smallest is twice as wide.
GRID = GeoBox("EPSG:32633", (1.0, 0.0, LEFT, 0.0, -1.0, TOP), (64, 64))
WIDE = replace(GRID, shape=(128, 128))
COARSE = GeoBox("EPSG:32633", (10.0, 0.0, LEFT, 0.0, -10.0, TOP), (16, 16))
PLACE = {"longitude": 15.0, "latitude": 45.15}
#: What is changed by edits: the pixels whose centres lie in it, by columns and rows.
SQUARE = (12, 20, 44, 50)
#: What no person should read in a sentence.
INSIDES = re.compile(r"Traceback|Error\b|Exception|\.py\b|/tmp|self\.|None\b")


# --- what is imported ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stock(parity, tmp_path_factory):
    """A stock pipeline and a ControlNet for it, random: text side, autoencoder and schedule of a reference."""
    folder = tmp_path_factory.mktemp("stock") / "pipeline"
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(parity / "rsedit" / part, folder / part)
    sizes: dict[str, Any] = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": json.loads((folder / "text_encoder" / "config.json").read_text())["hidden_size"],
    }
    with torch.random.fork_rng():
        torch.manual_seed(5)
        ups = ("UpBlock2D", "CrossAttnUpBlock2D")
        UNet2DConditionModel(in_channels=4, sample_size=8, up_block_types=ups, **sizes).save_pretrained(folder / "unet")
        control = ControlNetModel(conditioning_embedding_out_channels=(4, 8, 8, 12), **sizes)
        for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=0.3)  # made as zeros, which would steer nothing
        for weight in control.controlnet_cond_embedding.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=2 / weight[0].numel() ** 0.5)
    control.save_pretrained(folder.parent / "control")
    return folder.parent


@pytest.fixture(scope="module")
def xl(parity, tiny_xl, tmp_path_factory):
    """Stable Diffusion XL for text to image and for inpainting, and a ControlNet, random."""
    folder = tmp_path_factory.mktemp("xl")
    for name, channels in (("pipeline", 4), ("inpainting", 9)):
        tiny_xl.write_pipeline(folder / name, parity / "rsedit" / "tokenizer", channels)
    tiny_xl.write_control(folder / "control")
    return folder


@pytest.fixture(scope="module")
def models(parity, stock, xl, save_tower, tmp_path_factory, import_models):
    small = ("--window", "64")
    tower = save_tower(tmp_path_factory.mktemp("tower"))
    return import_models(
        sys.executable,
        {
            "diffusionsat": (str(parity / "diffusionsat"), *small),
            "sentinel": (str(parity / "diffusionsat" / "controlnet_sr"), *small),
            "series": (str(parity / "diffusionsat" / "controlnet3d"), *small),
            "text2earth": (str(parity / "text2earth"), *small),
            "inpainting": (str(parity / "text2earth" / "text2earth-inpainting"), *small),
            "rsedit": (str(parity / "rsedit"), *small),
            "crsdiff": (str(parity / "crsdiff" / "last.ckpt"), "--window", "128"),
            "reader": (str(parity / "crsdiff" / "last.ckpt"), "--window", "128", "--tower", str(tower)),
            "stock": (str(stock / "pipeline"), *small),
            "control": (str(stock / "control"), "--base", str(stock / "pipeline"), "--control", "map", *small),
            "xl": (str(xl / "pipeline"), *small),
            "xl-inpainting": (str(xl / "inpainting"), *small),
            "xl-control": (str(xl / "control"), "--base", str(xl / "pipeline"), "--control", "edges", *small),
        },
    )


@pytest.fixture(scope="module")
def card(models):
    """The card of a model, once that is imported."""

    def read(model: str) -> ModelCard:
        return loads(ModelCard, (models.folder(model) / "card.json").read_bytes())

    return read


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A folder of models that the engine lists beside the store."""
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def engine(models, damaged, engine_of):
    return engine_of(AFTERIMAGE_STORE=str(models.store), AFTERIMAGE_MODELS=str(damaged), AFTERIMAGE_DEVICE="cpu")


@pytest.fixture
def do(engine, make_job):
    """Run a request to its end: ``do(request, prepare)``, each time in a folder of its own."""
    count = 0

    def do(request, prepare=lambda folder: None):
        nonlocal count
        count += 1
        folder = make_job(f"job{count}", request=request)
        prepare(folder)
        engine.send(Submit(str(folder), str(folder)))
        stages = []
        while (event := engine.event(240)) is not None:
            if event.job == str(folder):
                if type(event).__name__ in ("Succeeded", "Failed", "Cancelled"):
                    return event, stages, folder
                stages.append(getattr(event, "stage", ""))
        pytest.fail(f"the engine ended:\n{engine.log.read_text(errors='replace')[-3000:]}")

    return do


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the engine's: what is compared byte by byte must be added up in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- what jobs are given ------------------------------------------------------------------------------------------


def scene(bands=3, side=64, seed=0, dtype="uint8") -> np.ndarray:
    """Fields with noise over them, no number 0."""
    rng = np.random.default_rng(seed)
    fields = rng.integers(20, 220, (bands, side // 8, side // 8)).repeat(8, 1).repeat(8, 2)
    return (fields + rng.integers(0, 30, (bands, side, side))).astype(dtype)


def multispectral(seed=0) -> np.ndarray:
    """All bands of Sentinel-2 (13, 16, 16), about as the model was trained on."""
    rng = np.random.default_rng(seed)
    mean, deviation = (np.array(column)[:, None, None] for column in zip(*BANDS.values()))
    return (mean + deviation * rng.uniform(-1, 1.5, (len(BANDS), 16, 16))).clip(1, 65535).astype("uint16")


def write(path: Path, pixels: np.ndarray, grid: GeoBox, names=()) -> None:
    count, height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=pixels.dtype.name,
        crs=grid.crs,
        transform=rasterio.Affine(*grid.transform),
    ) as file:
        file.write(pixels)
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)


def square() -> str:
    west, north, east, south = SQUARE
    ring = [(LEFT + x, TOP - y) for x, y in ((west, north), (east, north), (east, south), (west, south), (west, north))]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    features = [{"type": "Feature", "properties": {}, "geometry": polygon}]
    return json.dumps({"type": "FeatureCollection", "features": features})


def with_source(pixels: np.ndarray, grid: GeoBox = GRID, names=()) -> Callable[[Path], None]:
    def prepare(folder):
        write(folder / "source.tif", pixels, grid, names)
        (folder / "mask.geojson").write_text(square())

    return prepare


def with_maps(**pixels: np.ndarray) -> Callable[[Path], None]:
    def prepare(folder):
        for name, each in pixels.items():
            write(folder / f"{name}.tif", each, replace(GRID, shape=each.shape[1:]))

    return prepare


def roads(side: int, row: int) -> np.ndarray:
    """A road from west to east, white on black, in one band."""
    pixels = np.zeros((1, side, side), "uint8")
    pixels[:, row : row + 5] = 255
    return pixels


def half(white: str) -> np.ndarray:
    """Black and white halves, the white one in the east or in the west."""
    pixels = np.zeros((3, 64, 64), "uint8")
    pixels[:, :, 32:] = 255
    return pixels if white == "east" else pixels[:, :, ::-1].copy()


def land_use(side: int) -> np.ndarray:
    """Forest, and water in the east."""
    pixels = np.zeros((3, side, side), "uint8")
    pixels[1], pixels[:, :, side // 2 :] = 255, np.array([0, 0, 255])[:, None, None]
    return pixels


FRAMES = (
    Source("a.tif", "last autumn", (), "2018-11-20", 1.0, 0.0),
    Source("b.tif", "coarse", (), "2016-09-11", 4.0, 12.5),
    Source("c.tif", "long ago", (), "2014-02-28", 1.0),
)


def frames(folder: Path) -> None:
    write(folder / "a.tif", scene(seed=1), GRID)
    coarse = GeoBox(GRID.crs, (4.0, 0.0, LEFT, 0.0, -4.0, TOP), (16, 16))
    write(folder / "b.tif", scene(seed=2, side=16), coarse)
    write(folder / "c.tif", scene(seed=3), GRID)


ROADS = Control("roads", Source("roads.tif", "streets"))
LAND_USE = Control("land_use", Source("land_use.tif", "plan"))
SOURCE = Source("source.tif", "before", (1, 2, 3), "2019-05-06")
#: Seed, steps; scheduler and guidance are the model's own, filled in when its card is there.
SAMPLING = Sampling(7, STEPS, "", 0.0)


def generate(model, grid=GRID, **more):
    facts = {"prompt": "a fmow satellite image of a park", "date": "2017-02-11", **PLACE}
    return Generate(model, grid, grid, 1.0, sampling=SAMPLING, **{**facts, **more})


def edit(model, **more):
    facts = {"prompt": "a pond", "mask": Mask("mask.geojson", "plot"), "date": "2030-05-01"}
    return Edit(model, SOURCE, 1.0, sampling=SAMPLING, **{**facts, **more})


def forecast(**more):
    facts = {"sources": FRAMES, "prompt": "houses", "date": "2027-06-01"}
    return Forecast("series", gsd=1.0, sampling=SAMPLING, **{**facts, **more})


def super_resolve(**more):
    facts = {"source": Source("source.tif", "S2", (), "2017-08-30"), "prompt": "a harbour"}
    return SuperResolve("sentinel", factor=4, gsd=10.0, sampling=SAMPLING, **{**facts, **more})


@dataclass(frozen=True)
class Case:
    """One kind of job of one family.

    Attributes:
        request: what is asked.
        grid: of the result.
        given: file of the job folder -> the pixels written there.
        prepare: writes them.
        others: what must give another picture: changes of the request, or other pixels.
        is_masked: whether pixels outside of the square must stay.
    """

    request: Request
    grid: GeoBox
    given: dict[str, np.ndarray]
    prepare: Callable[[Path], None]
    others: dict[str, dict[str, Any] | Callable[[Path], None]]
    is_masked: bool = False


def drawn(model: str, **others) -> Case:
    return Case(generate(model), GRID, {}, lambda folder: None, {"prompt": {"prompt": "a harbour"}, **others})


def edited(model: str, dtype: str = "uint8", others: dict[str, Any] | None = None, **more) -> Case:
    pixels = scene(seed=4, dtype=dtype)
    request = edit(model, **more)
    changes = {"prompt": {"prompt": "a road"}, **(others or {})}
    return Case(request, GRID, {"source.tif": pixels}, with_source(pixels), changes, request.mask is not None)


CASES = {
    "diffusionsat generate": drawn(
        "diffusionsat", clouds={"cloud_cover": 80.0}, date={"date": "1999-11-30"}, place={"longitude": -120.0}
    ),
    "diffusionsat edit": edited("diffusionsat", "uint16", {"strength": {"strength": 0.9}}, strength=0.5),
    "diffusionsat_control superresolve": Case(
        super_resolve(),
        GeoBox(COARSE.crs, (2.5, 0.0, LEFT, 0.0, -2.5, TOP), (64, 64)),
        {"source.tif": multispectral()},
        with_source(multispectral(), COARSE, SENTINEL2),
        {
            "prompt": {"prompt": "a desert"},
            "date": {"source": Source("source.tif", "S2", (), "2003-01-30")},
            "bands": with_source(multispectral(1), COARSE, SENTINEL2),
        },
    ),
    "diffusionsat_temporal forecast": Case(
        forecast(),
        GRID,
        {"a.tif": scene(seed=1), "b.tif": scene(seed=2, side=16), "c.tif": scene(seed=3)},
        frames,
        {
            "before": {"date": "2009-06-01"},
            "prompt": {"prompt": "a lake"},
            "frame's date": {"sources": (replace(FRAMES[0], date="2012-03-04"), *FRAMES[1:])},
        },
    ),
    "text2earth generate": drawn("text2earth", level={"told_gsd": 64.0}),
    "text2earth edit": edited("text2earth", mask=None, strength=0.7),
    "text2earth inpainting edit": edited("inpainting", others={"level": {"told_gsd": 64.0}}),
    "rsedit edit": edited("rsedit", others={"image": {"image_guidance_scale": 6.0}}),
    "crs_diff generate": Case(
        generate("crsdiff", WIDE, controls=(ROADS, LAND_USE), cloud_cover=10.0),
        WIDE,
        {"roads.tif": roads(128, 40), "land_use.tif": land_use(128)},
        with_maps(roads=roads(128, 40), land_use=land_use(128)),
        {
            "prompt": {"prompt": "a harbour"},
            "clouds": {"cloud_cover": 90.0},
            "roads": with_maps(roads=roads(128, 90), land_use=land_use(128)),
            "one control": {"controls": (ROADS,)},
        },
    ),
    "crs_diff content": Case(
        generate("reader", WIDE, controls=(Control("content", Source("other.tif", "elsewhere")),)),
        WIDE,
        {"other.tif": scene(seed=8)},
        with_maps(other=scene(seed=8)),
        {
            "content": with_maps(other=scene(seed=9)),
            "strength": {"controls": (Control("content", Source("other.tif", "elsewhere"), strength=0.3),)},
            "lack of it": {"controls": ()},
        },
    ),
    "stable_diffusion generate": drawn("stock"),
    "stable_diffusion edit": edited("stock"),
    "stable_diffusion_control generate": Case(
        generate("control", controls=(Control("map", Source("map.tif", "streets")),)),
        GRID,
        {"map.tif": half("east")},
        with_maps(map=half("east")),
        {
            "prompt": {"prompt": "a harbour"},
            "map": with_maps(map=half("west")),
            "strength": {"controls": (Control("map", Source("map.tif", "streets"), strength=0.3),)},
        },
    ),
    "stable_diffusion_xl generate": drawn("xl", negative={"negative_prompt": "blurred"}),
    "stable_diffusion_xl edit": edited("xl", others={"strength": {"strength": 0.9}}, strength=0.5),
    "stable_diffusion_xl inpainting edit": edited("xl-inpainting"),
    "stable_diffusion_xl_control generate": Case(
        generate("xl-control", controls=(Control("edges", Source("edges.tif", "plan")),)),
        GRID,
        {"edges.tif": half("east")},
        with_maps(edges=half("east")),
        {
            "prompt": {"prompt": "a harbour"},
            "edges": with_maps(edges=half("west")),
            "strength": {"controls": (Control("edges", Source("edges.tif", "plan"), strength=0.3),)},
        },
    ),
}


# --- what comes of it ---------------------------------------------------------------------------------------------


def filled(request: Request, card: ModelCard) -> Request:
    sampling = replace(SAMPLING, scheduler=card.schedulers[0], guidance_scale=card.guidance_scale)
    return replace(request, sampling=sampling)


def pixels_of(event) -> np.ndarray:
    assert type(event).__name__ == "Succeeded", event
    with rasterio.open(event.result.outputs[0].path) as file:
        return file.read()


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


def weights_of(folder: Path) -> dict[str, str]:
    """File -> hash, as cards and provenance have them: of all that a model is made of."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for name, path in paths.items()
        if name not in ("card.json", "origin.json")
    }


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


# --- what cannot be -----------------------------------------------------------------------------------------------


def assert_plain(failure, code: ErrorCode, *words: str) -> None:
    """That a person is told what is wrong and what to do."""
    assert failure.code is code, failure
    assert all(word in failure.message for word in words), failure
    assert failure.message.endswith(".") and failure.hint.endswith((".", "?")), failure
    assert not INSIDES.search(f"{failure.message} {failure.hint}"), failure


def change_text(**fields):
    """Write into ``request.json`` what the contract would not let a person make."""

    def change(folder):
        frames(folder)
        job = json.loads((folder / "request.json").read_text("utf-8"))
        for name, value in fields.items():
            job["request"]["sources"][1][name] = value
        (folder / "request.json").write_text(json.dumps(job), encoding="utf-8")

    return change


FOUR = (*FRAMES, replace(FRAMES[2], name="longest ago", date="2011-02-28"))
WITHOUT_B5 = tuple(name for name in SENTINEL2 if name != "B5")
REFUSED = {
    "four frames": (forecast(sources=FOUR), frames, ErrorCode.INVALID_REQUEST, "at most 3 layers"),
    "a layer without a date": (forecast(), change_text(date=None), ErrorCode.INVALID_REQUEST, "without a date"),
    "a date that is none": (forecast(), change_text(date="last May"), ErrorCode.INVALID_REQUEST, "YYYY-MM-DD"),
    "a layer that is not there": (
        forecast(sources=(*FRAMES[:2], replace(FRAMES[2], path="d.tif"))),
        frames,
        ErrorCode.SOURCE_UNREADABLE,
        "Layer 3 (long ago)",
    ),
    "bands that are missing": (
        super_resolve(),
        with_source(np.delete(multispectral(), 4, axis=0), COARSE, WITHOUT_B5),
        ErrorCode.UNSUPPORTED_RASTER,
        "B5",
    ),
    "three bands": (
        super_resolve(),
        with_source(multispectral()[:3], COARSE),
        ErrorCode.UNSUPPORTED_RASTER,
        "",
    ),
    "a control for a model that takes none": (
        generate("text2earth", controls=(ROADS,)),
        with_maps(roads=roads(64, 20)),
        ErrorCode.INVALID_REQUEST,
        "is not guided by roads",
    ),
    "a control of another model": (
        generate("crsdiff", WIDE, controls=(Control("map", Source("map.tif", "streets")),)),
        with_maps(map=scene(seed=5)),
        ErrorCode.INVALID_REQUEST,
        "is not guided by map",
    ),
    "a control that is missing": (
        generate("control"),
        lambda folder: None,
        ErrorCode.INVALID_REQUEST,
        "needs a layer of map",
    ),
    "a strength for a model without": (
        generate("crsdiff", WIDE, controls=(replace(ROADS, strength=0.5),)),
        with_maps(roads=roads(128, 20)),
        ErrorCode.INVALID_REQUEST,
        "knows no strength",
    ),
    "a strength of an edit": (
        edit("rsedit", strength=0.5),
        with_source(scene()),
        ErrorCode.INVALID_REQUEST,
        "knows no strength below 1",
    ),
    "another task": (edit("crsdiff"), with_source(scene()), ErrorCode.UNKNOWN_MODEL, "cannot do Edit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_model_cannot_is_refused_before_it_draws(do, card, name):
    request, prepare, code, words = REFUSED[name]
    event, stages, folder = do(filled(request, card(request.model)), prepare)
    assert type(event).__name__ == "Failed", event
    assert_plain(event.failure, code, words)
    assert "drawing" not in stages and not list(folder.glob("tiles/*")) and not list(folder.glob("outputs/*"))


def rehashed(folder: Path, **fields) -> None:
    """Make a card fit what its folder holds now, so that nothing but its content is wrong."""
    facts = loads(ModelCard, (folder / "card.json").read_bytes())
    changed = replace(facts, id=folder.name, weights=weights_of(folder), **fields)
    (folder / "card.json").write_text(dumps(changed), encoding="utf-8")


def retensored(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


KEY = "conv_in.weight"


def another_base(folder: Path, models) -> None:
    shutil.rmtree(folder / "unet")
    shutil.copytree(models.folder("rsedit") / "unet", folder / "unet")
    rehashed(folder)


DAMAGES: dict[str, tuple[str, Callable[[Path, Any], object], ErrorCode, str]] = {
    "wrong-family": (
        "diffusionsat",
        lambda folder, models: rehashed(folder, family="text2earth"),
        ErrorCode.UNKNOWN_MODEL,
        "of the family diffusionsat, not text2earth",
    ),
    "family-of-the-future": (
        "diffusionsat",
        lambda folder, models: rehashed(folder, family="hypersat"),
        ErrorCode.UNKNOWN_MODEL,
        "hypersat",
    ),
    "family-that-ships": (
        "diffusionsat",
        lambda folder, models: rehashed(folder, family="eo_latent"),
        ErrorCode.WEIGHTS_DAMAGED,
        "",
    ),
    "missing-key": (
        "diffusionsat",
        lambda folder, models: (retensored(folder, lambda tensors: tensors.pop(KEY)), rehashed(folder)),
        ErrorCode.WEIGHTS_DAMAGED,
        KEY,
    ),
    "extra-key": (
        "text2earth",
        lambda folder, models: (
            retensored(folder, lambda tensors: tensors.update({"mid.extra": torch.zeros(2)})),
            rehashed(folder),
        ),
        ErrorCode.WEIGHTS_DAMAGED,
        "mid.extra",
    ),
    "other-shape": (
        "text2earth",
        lambda folder, models: (
            retensored(folder, lambda tensors: tensors.update({KEY: tensors[KEY][:, :3].contiguous()})),
            rehashed(folder),
        ),
        ErrorCode.WEIGHTS_DAMAGED,
        KEY,
    ),
    "other-bytes": (
        "text2earth",
        lambda folder, models: retensored(folder, lambda tensors: tensors[KEY].add_(1)),
        ErrorCode.WEIGHTS_DAMAGED,
        "diffusion_pytorch_model",
    ),
    "another-base": ("control", another_base, ErrorCode.WEIGHTS_DAMAGED, "another base"),
    "no-autoencoder": (
        "text2earth",
        lambda folder, models: (shutil.rmtree(folder / "vae"), rehashed(folder)),
        ErrorCode.WEIGHTS_MISSING,
        "vae",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_model_that_is_not_what_it_should_be_is_refused(do, card, models, damaged, name):
    model, damage, code, words = DAMAGES[name]
    folder = Path(shutil.copytree(models.folder(model), damaged / name))
    rehashed(folder)
    damage(folder, models)
    request = filled(CASES[f"{card(model).family} generate"].request, card(model))
    event, stages, job = do(replace(request, model=name), with_maps(map=scene(seed=5)))
    assert type(event).__name__ == "Failed", event
    assert_plain(event.failure, code, words)
    assert "drawing" not in stages and not list(job.glob("tiles/*"))


def test_what_cannot_be_imported_leaves_nothing(models, parity, stock, tmp_path):
    damaged = Path(shutil.copytree(parity / "rsedit", tmp_path / "rsedit", ignore=shutil.ignore_patterns("refs.npz")))
    retensored(damaged, lambda tensors: tensors.pop(KEY))
    for words, own, sentence in (
        ((str(damaged), "--window", "64"), "missing-key", KEY),
        ((str(parity / "diffusionsat" / "controlnet_sr"), "--base", str(stock / "pipeline")), "base", "another base"),
    ):
        done = models.run("import", *words, "--id", own)
        assert done.returncode == 1, done.stdout + done.stderr
        refused = loads(Notice, done.stdout.splitlines()[-1])
        assert_plain(refused.failure, ErrorCode.WEIGHTS_DAMAGED, sentence)
        assert refused.id == own and not (models.store / own).exists()
