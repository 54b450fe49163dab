"""Both tasks with the real engine, wherever the extent or the layer lies: the result sits on the asked grid."""

from __future__ import annotations

import csv
import math
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

import numpy as np
from afterimage.engine.contract import JobState, Role, SuperResolve
from afterimage.plugin import settings
from afterimage.plugin.maps.grid import crs_of
from afterimage.plugin.processing.generate import GenerateAlgorithm
from afterimage.plugin.processing.super_resolve import SuperResolveAlgorithm
from afterimage.plugin.report import Problem
from afterimage.plugin.session import Session
from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsProcessingContext, QgsProject, QgsRasterLayer

ENGINE = os.environ.get(settings.PYTHON_VARIABLE) or os.path.expanduser("~/.venvs/engine/bin/python")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "test_rasters"
LAEA = "PROJ:+proj=laea +lat_0=52 +lon_0=13 +x_0=7 +datum=WGS84"

if not os.path.isfile(ENGINE):
    if os.environ.get("CI") == "true":
        pytest.fail("the engine's Python is not there", pytrace=False)
    pytest.skip("the engine's Python is not there", allow_module_level=True)


@pytest.fixture(scope="module")
def session(qgis_app, tmp_path_factory):
    """One engine for all of these."""
    variables = {settings.PYTHON_VARIABLE: ENGINE, "AFTERIMAGE_TEST_MODELS": "1", "AFTERIMAGE_DEVICE": "cpu"}
    variables["AFTERIMAGE_THREADS"] = "1"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        session = Session(root=str(tmp_path_factory.mktemp("jobs")))
        yield session
        session.stop()


@pytest.fixture
def run(session, qtbot):
    """Runs an algorithm's request in the session's engine: ``run(algorithm, EXTENT=..., ...)`` -> (request, result)."""
    project = QgsProject()
    context = QgsProcessingContext()
    context.setProject(project)

    def finish(algorithm, **parameters):
        algorithm.initAlgorithm()
        draft = algorithm.create().draft({**parameters, "OUTPUT": "TEMPORARY_OUTPUT"}, context)
        job = session.submit(draft)
        qtbot.waitUntil(lambda: session.job(job).is_over, timeout=180000)
        record = session.job(job)
        assert record.state is JobState.SUCCEEDED, record.failure
        return draft.request, record.result

    yield finish
    context.temporaryLayerStore().removeAllMapLayers()  # they must not outlive QGIS
    project.clear()


def assert_on_grid(path, grid):
    """That a file's corners are those of the grid, to less than 0.01 pixel, in its CRS, as QGIS sees it too."""
    file = gdal.Open(path)
    assert (file.RasterYSize, file.RasterXSize) == grid.shape
    c, a, b, f, d, e = file.GetGeoTransform()
    for col, row in ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height)):
        at = grid.to_pixel(a * col + b * row + c, d * col + e * row + f)
        assert math.dist(at, (col, row)) < 0.01
    layer = QgsRasterLayer(path, "x", "gdal")
    asked, found = crs_of(grid.crs), layer.crs()
    assert found.isValid() and (found == asked or found.toProj() == asked.toProj())


def spread_of(path):
    file = gdal.Open(path)
    return file.GetRasterBand(1).ReadAsArray().std()


@pytest.mark.parametrize(
    ("extent", "crs"),
    [
        ("13.000,13.008,52.000,52.005 [EPSG:4326]", None),
        ("13.000,13.008,52.000,52.005 [EPSG:4326]", "EPSG:25833"),
        ("13.000,13.008,52.000,52.005 [EPSG:4326]", "EPSG:4326"),
        ("11.996,12.004,52.000,52.005 [EPSG:4326]", None),
        ("11.996,12.004,52.000,52.005 [EPSG:4326]", "EPSG:4326"),
        ("13.000,13.008,60.000,60.005 [EPSG:4326]", "EPSG:3857"),
        ("500000,500600,500000,500500 [EPSG:3031]", "EPSG:3031"),
        ("-300,300,-300,300 [EPSG:3031]", "EPSG:3031"),
        ("-300,300,-300,300 [EPSG:3031]", None),
        ("13.000,13.008,52.000,52.005 [EPSG:4326]", LAEA),
        ("13.000,13.008,52.000,52.005 [EPSG:4326]", "ESRI:54008"),
        ("-74.000,-73.992,40.700,40.705 [EPSG:4326]", "EPSG:2263"),
        ("179.996,180.004,52.000,52.005 [EPSG:4326]", None),
        ("179.996,180.004,52.000,52.005 [EPSG:4326]", "EPSG:4326"),
        ("20037200,20037800,6800000,6800600 [EPSG:3857]", "EPSG:3857"),
        ("20037200,20037800,6800000,6800600 [EPSG:3857]", "EPSG:4326"),
    ],
)
def test_a_picture_lies_on_the_asked_grid(run, extent, crs):
    request, result = run(
        GenerateAlgorithm(), EXTENT=extent, CRS=crs, RESOLUTION=10, PROMPT="Forest", MODEL="tiny-generate", STEPS=2
    )
    (output,) = result.outputs
    assert output.grid == request.grid
    assert_on_grid(output.path, request.grid)
    file = gdal.Open(output.path)
    assert (file.RasterCount, output.dtype) == (3, "uint8")
    assert spread_of(output.path) > 0
    # the drawn area covers the whole grid: nothing is empty but, at most, a rim of rounding
    band = file.GetRasterBand(1)
    assert (band.GetMaskBand().ReadAsArray() > 0).mean() > 0.99


def crop(source: Path, target: Path, side: int = 40) -> None:
    """The part of a raster with the most data, as small as a test likes it, everything else as it was."""
    file = gdal.Open(str(source))
    step = max(1, min(file.RasterXSize, file.RasterYSize) // 8)
    band = file.GetRasterBand(1)
    valid = band.GetMaskBand().ReadAsArray() > 0
    places = [(row, col) for row in range(0, valid.shape[0], step) for col in range(0, valid.shape[1], step)]
    row, col = max(places, key=lambda place: valid[place[0] : place[0] + side, place[1] : place[1] + side].sum())
    row, col = min(row, max(0, valid.shape[0] - side)), min(col, max(0, valid.shape[1] - side))
    window = [col, row, min(side, file.RasterXSize), min(side, file.RasterYSize)]
    gdal.Translate(str(target), file, srcWin=window, creationOptions=["COMPRESS=NONE"])


def names():
    if not SHARED.is_dir():
        return [pytest.param("", marks=pytest.mark.shared)]
    with open(SHARED / "manifest.csv", newline="") as file:
        return [pytest.param(row["file"], id=row["file"], marks=pytest.mark.shared) for row in csv.DictReader(file)]


def assert_finer(source, output, request: SuperResolve):
    """That the output has the source's type, range and holes, on its grid refined."""
    coarse, fine = gdal.Open(str(source)), gdal.Open(output.path)
    one, other = coarse.GetRasterBand(1), fine.GetRasterBand(1)
    assert one.DataType == other.DataType
    before, after = one.GetNoDataValue(), other.GetNoDataValue()
    # floats without a value for "no data" get NaN, pictures with a mask keep one
    assert before == after or (before is None and (np.isnan(after) or other.GetMaskFlags() & gdal.GMF_PER_DATASET))
    # a pixel is empty where any of its bands is, as QGIS draws it
    bands = [coarse.GetRasterBand(number) for number in range(1, len(output.bands) + 1)]
    valid = np.all([band.GetMaskBand().ReadAsArray() > 0 for band in bands], axis=0)
    still = other.GetMaskBand().ReadAsArray() > 0
    factor = request.factor
    np.testing.assert_array_equal(still, np.kron(valid, np.ones((factor, factor), bool)))
    before, after = one.ReadAsArray().astype(float)[valid], other.ReadAsArray().astype(float)[still]
    reach = max(before.max() - before.min(), 1e-9)
    # the mean of what is new is that of what was there
    mean = before.mean()
    assert abs(after.mean() - mean) <= max(0.02 * reach, 1.0 if "int" in output.dtype else 0)


@pytest.mark.parametrize("name", names())
def test_every_kind_of_raster_gets_finer_or_is_refused_with_a_code(run, shared_data, tmp_path, name):
    source = tmp_path / name
    if "rotated" in name:
        shutil.copyfile(shared_data / "test_rasters" / name, source)
    else:
        crop(shared_data / "test_rasters" / name, source)
    try:
        request, result = run(
            SuperResolveAlgorithm(), INPUT=str(source), FACTOR=2, MODEL="tiny-superresolve", STEPS=2, SEED=3
        )
    except Problem as problem:
        assert any(word in name for word in ("palette", "rotated", "complex")), problem.failure
        assert problem.failure.code.value == "UNSUPPORTED_RASTER" and problem.failure.hint
        return
    (output,) = result.outputs
    coarse = QgsRasterLayer(str(source), "x", "gdal")
    assert output.grid.shape == (2 * coarse.height(), 2 * coarse.width())
    assert_on_grid(output.path, output.grid)
    c, a, _, f, _, e = gdal.Open(str(source)).GetGeoTransform()
    assert output.grid.transform == pytest.approx((a / 2, 0, c, 0, e / 2, f), rel=1e-12)
    assert_finer(source, output, request)


@pytest.mark.parametrize("crs", ["EPSG:3031", LAEA, "EPSG:32660"])
def test_a_layer_gets_finer_on_its_own_grid(run, tmp_path, crs):
    path = str(tmp_path / "source.tif")
    file = gdal.GetDriverByName("GTiff").Create(path, 33, 21, 2, gdal.GDT_Float32)
    file.SetGeoTransform((830000.5, 10, 0, 500000.25, 0, -10))
    file.SetProjection(QgsCoordinateReferenceSystem(crs).toWkt())
    for band in (1, 2):
        data = np.linspace(0, band, 33 * 21).astype("float32")
        file.GetRasterBand(band).WriteRaster(0, 0, 33, 21, data.tobytes())
    file = None
    request, result = run(
        SuperResolveAlgorithm(), INPUT=path, FACTOR=4, MODEL="tiny-superresolve", STEPS=2, SAMPLES=2, SPREAD="x.tif"
    )
    assert [output.role for output in result.outputs] == [Role.SAMPLE, Role.SAMPLE, Role.SPREAD]
    for output in result.outputs:
        assert_on_grid(output.path, output.grid)
        assert output.grid.transform == (2.5, 0, 830000.5, 0, -2.5, 500000.25)
    assert_finer(path, result.outputs[0], request)
