"""The published models through ``qgis_process``, as a script would run them: tiny checkpoints, four steps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

import numpy as np
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsGeometry,
    QgsPointXY,
    QgsRectangle,
)

#: The first to ask for a model waits for the imports before it.
pytestmark = pytest.mark.timeout(900)

LEFT, TOP = 500000, 5000000
UTM = QgsCoordinateReferenceSystem("EPSG:32633")
STEPS = ("--STEPS=4", "--SEED=7")
SENTINEL2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")


def extent(side: int) -> str:
    return f"--EXTENT={LEFT},{LEFT + side},{TOP - side},{TOP} [EPSG:32633]"


@pytest.fixture
def run(qgis_process, published, tmp_path):
    """Runs an algorithm with a model: ``run("generate", "tiny-crsdiff", *parameters)`` gives (file, record, said)."""

    def run(algorithm, model, *parameters):
        assert published.folder(model).is_dir()
        target = str(tmp_path / f"{algorithm}.tif")
        status, results, said = qgis_process(
            "run",
            f"afterimage:{algorithm}",
            *parameters,
            *STEPS,
            f"--MODEL={model}",
            f"--OUTPUT={target}",
            AFTERIMAGE_STORE=str(published.store),
        )
        assert status == 0 and "Traceback" not in said, said
        assert results["OUTPUT"] == target and results["OUTPUTS"] == [target]
        file = gdal.Open(target)
        record = json.loads(file.GetMetadataItem("PROVENANCE", "AFTERIMAGE"))
        assert record["model"] == model and record["seed"] == 7 and record["steps"] == 4 and record["ai_generated"]
        card = json.loads((published.folder(model) / "card.json").read_text("utf-8"))
        assert record["weights"] == card["weights"] and record["scheduler"] == card["schedulers"][0]
        return file, record, said

    return run


def write(path: Path, pixels: np.ndarray, size: float, names=()) -> str:
    """A raster with square pixels of so many metres, its first in the corner."""
    count, height, width = pixels.shape
    kind = {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16}[pixels.dtype.name]
    file = gdal.GetDriverByName("GTiff").Create(str(path), width, height, count, kind)
    file.SetGeoTransform((LEFT, size, 0, TOP, 0, -size))
    file.SetProjection(UTM.toWkt())
    for number in range(1, count + 1):
        file.GetRasterBand(number).WriteRaster(0, 0, width, height, np.ascontiguousarray(pixels[number - 1]).tobytes())
        if names:
            file.GetRasterBand(number).SetDescription(names[number - 1])
    return str(path)


def write_shape(path: Path, shape: QgsGeometry) -> str:
    """A file of one feature, in degrees, as GeoJSON has it."""
    degrees = QgsCoordinateReferenceSystem("EPSG:4326")
    shape = QgsGeometry(shape)
    shape.transform(QgsCoordinateTransform(UTM, degrees, QgsCoordinateTransformContext()))
    path.write_text(f'{{"type": "Feature", "properties": {{}}, "geometry": {shape.asJson(12)}}}', encoding="utf-8")
    return str(path)


def noise(bands, side, low=1, high=250, dtype="uint8"):
    return np.random.default_rng(1).integers(low, high, (bands, side, side)).astype(dtype)


def dated(file) -> str:
    """The date in the item beside a file."""
    item = Path(file.GetDescription()).with_suffix(".stac.json")
    return json.loads(item.read_text("utf-8"))["properties"]["datetime"][:10]


def test_a_dated_picture_with_clouds(run):
    told = ("--RESOLUTION=1", "--PROMPT=a harbour", "--DATE=2017-02-11", "--CLOUD_COVER=20")
    file, record, _ = run("generate", "tiny-diffusionsat", extent(64), *told)
    assert file.GetGeoTransform() == (LEFT, 1, 0, TOP, 0, -1) and file.ReadAsArray().shape == (3, 64, 64)
    assert file.ReadAsArray().dtype == np.uint8 and file.ReadAsArray().std() > 0
    request = json.loads(record["job"])["request"]
    assert (request["prompt"], request["date"], request["cloud_cover"]) == ("a harbour", "2017-02-11", 20)
    assert request["longitude"] == pytest.approx(15, abs=0.01) and request["latitude"] == pytest.approx(45.15, abs=0.1)
    assert record["date"] == dated(file) == "2017-02-11"


def test_roads_of_a_vector_layer_guide_a_picture(run, tmp_path):
    road = QgsGeometry.fromPolylineXY([QgsPointXY(LEFT - 50, TOP - 40.5), QgsPointXY(LEFT + 200, TOP - 40.5)])
    roads = write_shape(tmp_path / "streets.geojson", road)
    told = ("--RESOLUTION=1", "--PROMPT=a suburb", f"--ROADS={roads}", "--ROAD_WIDTH=8")
    file, record, said = run("generate", "tiny-crsdiff", extent(128), *told)
    assert file.GetGeoTransform() == (LEFT, 1, 0, TOP, 0, -1) and file.ReadAsArray().shape == (3, 128, 128)
    (given,) = record["inputs"]
    assert given["name"] == "streets" and re.fullmatch("[0-9a-f]{64}", given["sha256"])
    (control,) = json.loads(record["job"])["request"]["controls"]
    assert control["kind"] == "roads" and control["derive"] == ""
    # what the model was shown: the road, white on black, over the picture
    folder = re.search(r"Job folder: ([^\s\"]+)", said)[1]
    shown = gdal.Open(str(Path(folder) / control["source"]["path"]))
    x, _, _, y, _, _ = shown.GetGeoTransform()
    row, col = round(y - TOP), round(LEFT - x)
    pixels = shown.ReadAsArray()[:, row : row + 128, col : col + 128]
    assert (pixels[:, 38:43] == 255).all() and not pixels[:, :34].any() and not pixels[:, 47:].any()


def test_a_picture_of_stable_diffusion_xl(run):
    told = ("--RESOLUTION=1", "--PROMPT=a harbour", "--NEGATIVE_PROMPT=blurred")
    file, record, _ = run("generate", "tiny-xl", extent(64), *told)
    assert file.GetGeoTransform() == (LEFT, 1, 0, TOP, 0, -1) and file.ReadAsArray().shape == (3, 64, 64)
    assert file.ReadAsArray().std() > 0
    assert (record["prompt"], record["negative_prompt"]) == ("a harbour", "blurred")


def test_the_content_of_a_layer_is_told(run, tmp_path):
    picture = write(tmp_path / "port.tif", noise(3, 160), 1)
    told = ("--RESOLUTION=1", "--PROMPT=a harbour", f"--CONTENT={picture}")
    file, record, _ = run("generate", "tiny-reader", extent(128), *told)
    assert file.ReadAsArray().shape == (3, 128, 128) and file.ReadAsArray().std() > 0
    assert [given["name"] for given in record["inputs"]] == ["port"]
    (control,) = json.loads(record["job"])["request"]["controls"]
    assert control["kind"] == "content"


def test_colour_is_drawn_from_the_bands_of_sentinel_2(run, tmp_path):
    names = SENTINEL2[::-1]  # found by their names, wherever they stand
    source = write(tmp_path / "scene.tif", noise(13, 16, 200, 3000, "uint16"), 10, names)
    told = (f"--INPUT={source}", "--FACTOR=4", "--PROMPT=a harbour", "--DATE=2017-08-30")
    file, record, _ = run("superresolve", "tiny-sentinel", *told)
    assert file.GetGeoTransform() == (LEFT, 2.5, 0, TOP, 0, -2.5) and file.ReadAsArray().shape == (3, 64, 64)
    assert file.ReadAsArray().dtype == np.uint8 and file.ReadAsArray().std() > 0
    colours = [file.GetRasterBand(number).GetColorInterpretation() for number in (1, 2, 3)]
    assert colours == [gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand]
    assert record["task"] == "SuperResolve" and record["prompt"] == "a harbour" and dated(file) == "2017-08-30"
    assert [given["name"] for given in record["inputs"]] == ["scene"]


def test_a_place_before_its_dated_layers_on_the_grid_of_the_finest(run, tmp_path):
    sources = [write(tmp_path / f"{name}.tif", noise(3, side), 64 / side) for name, side in (("old", 16), ("fine", 64))]
    given = (*(f"--INPUTS={path}" for path in sources), "--DATES=2014-02-28;2018-11-20", "--PROMPT=houses")
    file, record, _ = run("forecast", "tiny-series", *given, "--DATE=2009-06-01")
    drawn = file.ReadAsArray()
    assert file.GetGeoTransform() == (LEFT, 1, 0, TOP, 0, -1) and drawn.shape == (3, 64, 64) and drawn.std() > 0
    assert record["task"] == "Forecast" and record["date"] == dated(file) == "2009-06-01"
    asked = json.loads(record["job"])["request"]["sources"]
    assert [source["date"] for source in asked] == ["2018-11-20", "2014-02-28"]
    assert [source["gsd"] for source in asked] == pytest.approx([1, 4], rel=0.01)
    assert [given["name"] for given in record["inputs"]] == ["fine", "old"]


@pytest.mark.parametrize(
    ("model", "more", "margin"),
    [
        ("tiny-rsedit", ("--IMAGE_GUIDANCE=2.5", "--GUIDANCE=5"), 0),
        ("tiny-inpainting", ("--MARGIN=8", "--TOLD_GSD=0"), 8),
    ],
)
def test_an_event_is_drawn_inside_of_a_polygon(run, tmp_path, model, more, margin):
    pixels = noise(3, 48)
    source = write(tmp_path / "before.tif", pixels, 1)
    plot = QgsGeometry.fromRect(QgsRectangle(LEFT + 10, TOP - 40, LEFT + 40, TOP - 15))
    mask = write_shape(tmp_path / "plot.geojson", plot)
    told = ("--PROMPT=a flood", "--DATE=2030-05-01", *more)
    file, record, _ = run("edit", model, f"--INPUT={source}", f"--MASK={mask}", *told)
    assert file.GetGeoTransform() == (LEFT - margin, 1, 0, TOP + margin, 0, -1)
    made = file.ReadAsArray()
    assert made.shape == (3, 48 + 2 * margin, 48 + 2 * margin)
    changed = (made[:, margin : margin + 48, margin : margin + 48] != pixels).any(axis=0)
    inside = np.zeros((48, 48), bool)
    inside[15:40, 10:40] = True
    assert not changed[~inside].any() and changed[inside].mean() > 0.9
    assert record["date"] == dated(file) == "2030-05-01"
    assert [given["name"] for given in record["inputs"]] == ["before", "plot"]
    request = json.loads(record["job"])["request"]
    if margin:
        assert (request["margin"], request["told_gsd"]) == (8, 0)
    else:
        assert (request["image_guidance_scale"], request["sampling"]["guidance_scale"]) == (2.5, 5)


def test_what_a_model_cannot_is_refused(qgis_process, published, tmp_path):
    published.folder("tiny-rsedit")
    source, target = write(tmp_path / "before.tif", noise(3, 48), 1), tmp_path / "x.tif"
    asked = (f"--INPUT={source}", "--PROMPT=a flood", "--STRENGTH=0.5", "--MODEL=tiny-rsedit", f"--OUTPUT={target}")
    status, _, said = qgis_process("run", "afterimage:edit", *asked, AFTERIMAGE_STORE=str(published.store))
    assert status != 0 and "INVALID_REQUEST: " in said and "Traceback" not in said and not target.exists()
