"""Jobs of four steps for each family of published models, and the rasters that they are made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from afterimage.engine.contract import (
    Control,
    Edit,
    Forecast,
    Generate,
    GeoBox,
    Mask,
    ModelCard,
    Request,
    Sampling,
    Source,
    SuperResolve,
)
from afterimage.engine.contract.bands import SENTINEL2
from afterimage.engine.models.sentinel2 import BANDS

STEPS = 4
LEFT, TOP = 500000.0, 5000000.0
#: One window, 1 m; CRS-Diff's smallest is twice as wide.
GRID = GeoBox("EPSG:32633", (1.0, 0.0, LEFT, 0.0, -1.0, TOP), (64, 64))
WIDE = replace(GRID, shape=(128, 128))
COARSE = GeoBox("EPSG:32633", (10.0, 0.0, LEFT, 0.0, -10.0, TOP), (16, 16))
PLACE = {"longitude": 15.0, "latitude": 45.15}

#: What is changed by edits: the pixels whose centres lie in it, by columns and rows.
SQUARE = (12, 20, 44, 50)


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


def filled(request: Request, card: ModelCard) -> Request:
    sampling = replace(SAMPLING, scheduler=card.schedulers[0], guidance_scale=card.guidance_scale)
    return replace(request, sampling=sampling)


def pixels_of(event) -> np.ndarray:
    assert type(event).__name__ == "Succeeded", event
    with rasterio.open(event.result.outputs[0].path) as file:
        return file.read()


def weights_of(folder: Path) -> dict[str, str]:
    """File -> hash, as cards and provenance have them: of all that a model is made of."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for name, path in paths.items()
        if name not in ("card.json", "origin.json")
    }
