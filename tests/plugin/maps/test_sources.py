"""Layers reach the job folder pixel by pixel as they are, or are refused with a code and a next step."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

from afterimage.engine.contract import ErrorCode, Window
from afterimage.plugin.maps.sources import describe, prepare, require_kept
from afterimage.plugin.maps.temporal import set_layer_date
from afterimage.plugin.report import Problem
from osgeo import gdal, osr
from qgis.core import Qgis, QgsCoordinateReferenceSystem, QgsRasterLayer, QgsRasterRange, QgsTask, QgsVectorLayer

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "test_rasters"
REFUSED = {
    "nlcd_palette_u8_utm12n.tif": ErrorCode.UNSUPPORTED_RASTER,
    "palette_i8_laea.tif": ErrorCode.UNSUPPORTED_RASTER,
    "rotated_u8_nocrs.tif": ErrorCode.UNSUPPORTED_RASTER,
    "sar_vv_complex64_utm31n.tif": ErrorCode.UNSUPPORTED_RASTER,
}

pytestmark = pytest.mark.usefixtures("qgis_app")


def pixels(path, bands=()):
    file = gdal.Open(str(path))
    bands = bands or range(1, file.RasterCount + 1)
    return np.stack([file.GetRasterBand(band).ReadAsArray() for band in bands])


def valid(path, band=1):
    file = gdal.Open(str(path))  # a band lives no longer than its file
    return file.GetRasterBand(band).GetMaskBand().ReadAsArray() > 0


def nodata(path, band=1):
    file = gdal.Open(str(path))
    return file.GetRasterBand(band).GetNoDataValue()


def written(layer, folder, bands=()):
    export = prepare(layer, bands)
    export.write(str(folder), lambda: False)
    return folder / export.source.path, export


def refusal(layer, bands=(), folder=None):
    with pytest.raises(Problem) as caught:
        export = prepare(layer, bands)
        if folder is not None:
            export.write(str(folder), lambda: False)
    assert caught.value.failure.message.endswith(".") and caught.value.failure.hint.endswith(".")
    return caught.value.failure.code


def rows():
    if not SHARED.is_dir():
        return [pytest.param("", marks=pytest.mark.shared)]
    with open(SHARED / "manifest.csv", newline="") as file:
        return [pytest.param(row["file"], id=row["file"], marks=pytest.mark.shared) for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", rows())
def test_every_kind_of_raster_is_copied_exactly_or_refused(name, shared_data, tmp_path):
    original = tmp_path / name
    shutil.copyfile(shared_data / "test_rasters" / name, original)
    layer = QgsRasterLayer(str(original), name, "gdal")
    if name in REFUSED:
        assert refusal(layer) is REFUSED[name]
        return
    info = describe(layer)
    path, export = written(layer, tmp_path / "job")
    source, copy = gdal.Open(str(original)), gdal.Open(str(path))
    assert info.grid == export.grid and info.itemsize == export.itemsize
    assert copy.RasterCount == len(info.data_bands) == export.count
    np.testing.assert_array_equal(pixels(path), pixels(original, info.data_bands))
    np.testing.assert_array_equal(valid(path), valid(original))
    assert copy.GetRasterBand(1).DataType == source.GetRasterBand(1).DataType
    assert copy.GetGeoTransform() == source.GetGeoTransform()
    assert info.grid.shape == (source.RasterYSize, source.RasterXSize)
    a, b, c, d, e, f = info.grid.transform
    assert (c, a, b, f, d, e) == source.GetGeoTransform()
    assert copy.GetSpatialRef().IsSame(source.GetSpatialRef())
    for band in info.data_bands:
        one, other = source.GetRasterBand(band), copy.GetRasterBand(band)
        assert (one.GetScale() or 1, one.GetOffset() or 0) == (other.GetScale() or 1, other.GetOffset() or 0)
        assert one.GetNoDataValue() == other.GetNoDataValue()
    assert info.gsd > 0 and export.source.bands == ()
    assert [item.name for item in path.parent.iterdir()] == ["source.tif"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_types_and_bands_stay(layer, ramp, tmp_path, dtype, bands):
    data = ramp(bands, dtype=dtype)
    source = layer(data, nodata=7)
    path, export = written(source, tmp_path)
    np.testing.assert_array_equal(pixels(path), data)
    np.testing.assert_array_equal(valid(path, bands), data[-1] != 7)
    assert nodata(path, bands) == 7
    assert (describe(source).dtype, describe(source).nodata, export.itemsize) == (dtype, 7, data.itemsize)


@pytest.mark.parametrize(
    "transform",
    [
        (500000.123, 0.14981552941953233, 0, 4311669.7657353515, 0, -0.1499978958645129),
        (-0.7818936232976315, 8.983152841195215e-05, 0, 38.1, 0, -8.983152841195215e-05),
        (1e7 / 3, 1 / 3, 0, 1e7 / 7, 0, -1 / 7),
    ],
)
def test_pixels_do_not_shift_whatever_the_grid(layer, ramp, tmp_path, transform):
    data = ramp(1, 517, 4099, "float64")
    crs = "EPSG:4326" if transform[1] < 1e-3 else "EPSG:32613"
    path, _ = written(layer(data, transform=transform, crs=crs), tmp_path)
    np.testing.assert_array_equal(pixels(path), data)
    assert gdal.Open(str(path)).GetGeoTransform() == transform


def test_only_the_asked_bands_take_space_and_all_keep_their_numbers(layer, ramp, tmp_path):
    data = ramp(13, 512, 512, "uint16")
    path, export = written(layer(data), tmp_path, (4, 3, 2))
    assert export.source.bands == (4, 3, 2) and export.count == 3
    np.testing.assert_array_equal(pixels(path, (4, 3, 2)), data[[3, 2, 1]])
    assert path.stat().st_size < 1.1 * data[:3].nbytes


def test_alpha_and_masks_become_a_mask(layer, ramp, tmp_path):
    data = ramp(4)
    data[3] = 255
    data[3, :10] = 0
    source = layer(data, edit=lambda file: file.GetRasterBand(4).SetColorInterpretation(gdal.GCI_AlphaBand))
    path, _ = written(source, tmp_path)
    assert describe(source).data_bands == (1, 2, 3)
    np.testing.assert_array_equal(pixels(path), data[:3])
    np.testing.assert_array_equal(valid(path), data[3] > 0)


def test_an_alpha_band_in_the_middle_shifts_no_band(layer, ramp, tmp_path):
    data = ramp(4)
    source = layer(data, edit=lambda file: file.GetRasterBand(2).SetColorInterpretation(gdal.GCI_AlphaBand))
    path, export = written(source, tmp_path)
    assert export.source.bands == (1, 3, 4)
    np.testing.assert_array_equal(pixels(path, (1, 3, 4)), data[[0, 2, 3]])


def test_values_that_the_person_declared_empty_are_empty(layer, ramp, tmp_path):
    data = ramp(1, dtype="int16")
    source = layer(data, nodata=1)
    source.dataProvider().setUserNoDataValue(1, [QgsRasterRange(100, 200)])
    path, _ = written(source, tmp_path)
    np.testing.assert_array_equal(pixels(path), data)
    np.testing.assert_array_equal(valid(path), (data[0] != 1) & ~((data[0] >= 100) & (data[0] <= 200)))


@pytest.mark.parametrize(
    ("scale", "offset", "declared", "empty"),
    [
        (0.0001, 0, QgsRasterRange(1.0, 1.0), [10000]),
        (0.0001, 0, QgsRasterRange(0.1234, 0.1234), [1234]),  # in QGIS's 32-bit floats 0.12340000271797
        (0.0001, -0.1, QgsRasterRange(0.0, 0.0), [1000]),  # 1.4e-17, as doubles go
        (0.0001, 0, QgsRasterRange(0.1, 0.1234, QgsRasterRange.BoundsType.Exclusive), [1001, 1233]),
        (-0.0001, 0, QgsRasterRange(float("nan"), -0.1234), [1234, 1235, 10000, 65535]),
    ],
)
def test_values_declared_empty_are_meant_as_they_are_shown_on_a_scaled_raster(
    layer, tmp_path, scale, offset, declared, empty
):
    def scaled(file):
        file.GetRasterBand(1).SetScale(scale)
        file.GetRasterBand(1).SetOffset(offset)

    data = np.array([[[0, 1, 1000, 1001, 1233, 1234, 1235, 10000, 65535]]], "uint16")
    source = layer(data, edit=scaled)
    source.dataProvider().setUserNoDataValue(1, [declared])
    block = source.dataProvider().block(1, source.extent(), source.width(), source.height())
    path, _ = written(source, tmp_path)
    np.testing.assert_array_equal(pixels(path), data)
    assert data[0][~valid(path)].tolist() == empty
    if declared.bounds() == QgsRasterRange.BoundsType.IncludeMinAndMax:  # in 32 bits 0.1 lies inside "above 0.1"
        assert {value for col, value in enumerate(data[0, 0].tolist()) if block.isNoData(0, col)} <= set(empty)


def test_two_writers_of_one_source_do_not_meet(layer, ramp, tmp_path):
    data = ramp(1)
    export = prepare(layer(data))
    asked = []

    def cancelled():  # the first writer is cancelled, and a second one is there and done before it notices
        if not asked:
            asked.append(list((tmp_path / "inputs").glob("*.part.tif")))
            export.write(str(tmp_path), lambda: False)
            assert asked[0] and all(part.exists() for part in asked[0])
        return True

    export.write(str(tmp_path), cancelled)
    np.testing.assert_array_equal(pixels(tmp_path / export.source.path), data)
    assert not list((tmp_path / "inputs").glob("*.part.tif"))


def test_a_nodata_value_that_the_person_switched_off_is_data(layer, ramp, tmp_path):
    source = layer(ramp(1), nodata=7)
    source.dataProvider().setUseSourceNoDataValue(1, False)
    path, _ = written(source, tmp_path)
    assert nodata(path) is None
    assert valid(path).all()


def test_scaled_values_stay_as_they_are_stored(layer, ramp, tmp_path):
    def scale(file):
        file.GetRasterBand(1).SetScale(0.0001)
        file.GetRasterBand(1).SetOffset(100000)  # QGIS's 32-bit floats would lose the values

    data = ramp(1, dtype="int16")
    path, export = written(layer(data, edit=scale), tmp_path)
    np.testing.assert_array_equal(pixels(path), data)
    file = gdal.Open(str(path))
    band = file.GetRasterBand(1)
    assert (band.GetScale(), band.GetOffset(), export.itemsize) == (0.0001, 100000, 2)


def test_a_south_up_raster_is_turned_not_resampled(layer, ramp, tmp_path):
    data = ramp(1)
    source = layer(data, transform=(500000, 10, 0, 4999600, 0, 10))
    try:
        path, _ = written(source, tmp_path)
    except Problem as problem:  # some versions of QGIS show it on another grid
        assert problem.failure.code is ErrorCode.UNSUPPORTED_RASTER
        return
    np.testing.assert_array_equal(pixels(path), data[:, ::-1])
    assert gdal.Open(str(path)).GetGeoTransform() == (500000, 10, 0, 5000000, 0, -10)


def test_a_virtual_raster_over_files_works(raster, ramp, tmp_path):
    data = ramp(3, 64, 64, "uint16")
    left = raster(data, name="left.tif")
    right = raster(data, name="right.tif", transform=(500640, 10, 0, 5000000, 0, -10))
    gdal.BuildVRT(str(tmp_path / "both.vrt"), [left, right]).FlushCache()
    path, _ = written(QgsRasterLayer(str(tmp_path / "both.vrt"), "both", "gdal"), tmp_path / "job")
    np.testing.assert_array_equal(pixels(path), np.concatenate([data, data], axis=2))


def test_a_custom_crs_and_the_polar_one_stay(layer, ramp, tmp_path):
    for number, name in enumerate(("EPSG:3031", "PROJ:+proj=laea +lat_0=47 +lon_0=7.5 +x_0=3 +datum=WGS84")):
        source = layer(ramp(), name=f"{number}.tif", transform=(1000, 10, 0, 2000, 0, -10), crs=name)
        assert source.crs().isValid()
        path, export = written(source, tmp_path / str(number))
        found = osr.SpatialReference()
        found.SetFromUserInput(export.grid.crs)
        assert gdal.Open(str(path)).GetSpatialRef().IsSame(found)
        assert export.gsd == pytest.approx(10, rel=0.03)


def test_the_date_of_the_layer_is_the_date_of_the_source(layer, ramp):
    source = layer(ramp())
    assert prepare(source).source.date is None and describe(source).date is None
    set_layer_date(source, "2024-06-30")
    assert prepare(source).source.date == describe(source).date == "2024-06-30"


def test_what_cannot_be_a_source_is_refused_with_a_code_and_a_next_step(layer, raster, ramp, tmp_path):
    assert refusal(None) is ErrorCode.SOURCE_UNREADABLE
    assert refusal(QgsVectorLayer("Point?crs=EPSG:4326", "points", "memory")) is ErrorCode.UNSUPPORTED_RASTER
    assert refusal(QgsRasterLayer(str(tmp_path / "nowhere.tif"), "gone", "gdal")) is ErrorCode.SOURCE_UNREADABLE
    tiles = "type=xyz&url=https://tiles.invalid/%7Bz%7D/%7Bx%7D/%7By%7D.png&zmin=0&zmax=19"
    assert refusal(QgsRasterLayer(tiles, "tiles", "wms")) is ErrorCode.UNSUPPORTED_RASTER
    no_crs = layer(ramp(), crs=None, name="nocrs.tif")
    no_crs.setCrs(QgsCoordinateReferenceSystem())
    assert refusal(no_crs) is ErrorCode.UNKNOWN_CRS
    assert refusal(layer(ramp(dtype="uint8").astype("complex64"), name="c.tif")) is ErrorCode.UNSUPPORTED_RASTER
    turned = layer(ramp(), name="t.tif", transform=(500000, 10, 2, 5000000, 2, -10))
    assert refusal(turned) is ErrorCode.UNSUPPORTED_RASTER
    assert refusal(layer(ramp(), name="b.tif"), (1, 9)) is ErrorCode.INVALID_REQUEST
    assert refusal(layer(ramp(), name="d.tif"), (1, 1)) is ErrorCode.INVALID_REQUEST
    points = [
        gdal.GCP(500000, 5000000, 0, 0, 0),
        gdal.GCP(500500, 5000000, 0, 50, 0),
        gdal.GCP(500000, 4999600, 0, 0, 40),
    ]
    points.append(gdal.GCP(500510, 4999600, 0, 50, 40))
    wkt = QgsCoordinateReferenceSystem("EPSG:32633").toWkt()
    by_points = raster(ramp(), name="g.tif", transform=None, crs=None, edit=lambda file: file.SetGCPs(points, wkt))
    assert refusal(QgsRasterLayer(by_points, "gcp", "gdal")) is ErrorCode.UNSUPPORTED_RASTER


def test_a_rotated_raster_that_is_too_far_away_to_look_at_first_is_refused_when_it_is_read(raster, ramp, tmp_path):
    path = raster(ramp(), transform=(500000, 10, 2, 5000000, 2, -10))
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", Path(path).parent, Path(path).name)
    source = QgsRasterLayer(f"/vsizip/{archive}/r.tif", "far", "gdal")
    assert source.isValid()
    assert refusal(source, folder=tmp_path / "job") is ErrorCode.UNSUPPORTED_RASTER


def test_signed_bytes_are_refused(layer, ramp):
    source = layer(ramp(), options=("PIXELTYPE=SIGNEDBYTE",))
    if source.dataProvider().sourceDataType(1) == Qgis.DataType.Byte and int(gdal.VersionInfo()) < 3070000:
        assert refusal(source) is ErrorCode.UNSUPPORTED_RASTER


@pytest.mark.parametrize("kind", ["nodata", "nan", "alpha"])
def test_a_raster_without_any_data_is_refused_and_leaves_nothing(layer, tmp_path, kind):
    if kind == "alpha":
        data = np.zeros((4, 20, 20), "uint8")
        source = layer(data, edit=lambda file: file.GetRasterBand(4).SetColorInterpretation(gdal.GCI_AlphaBand))
    else:
        data = np.full((1, 20, 20), np.nan if kind == "nan" else -9999, "float32")
        source = layer(data, nodata=-9999)
    job = tmp_path / "job"
    assert refusal(source, folder=job) is ErrorCode.SOURCE_EMPTY
    assert list(job.rglob("*.tif")) == []


def test_a_file_that_is_cut_off_is_refused(raster, ramp, tmp_path):
    path = Path(raster(ramp(3, 600, 600, "uint16"), options=("TILED=YES", "COMPRESS=DEFLATE")))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = QgsRasterLayer(str(path), "cut", "gdal")
    assert refusal(source, folder=tmp_path / "job") is ErrorCode.SOURCE_UNREADABLE


def test_cancelling_leaves_nothing(layer, ramp, tmp_path):
    calls = []
    prepare(layer(ramp(3, 1000, 300))).write(str(tmp_path / "job"), lambda: calls.append(1) or len(calls) > 2)
    assert list((tmp_path / "job").rglob("*.tif")) == []


def test_a_folder_that_cannot_be_written_is_a_problem(layer, ramp, tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "inputs").write_text("in the way")
    with pytest.raises(Problem) as caught:
        prepare(layer(ramp())).write(str(tmp_path / "job"), lambda: False)
    assert caught.value.failure.code is ErrorCode.OUTPUT_NOT_WRITABLE


def test_it_is_written_on_another_thread(layer, ramp, tmp_path, qtbot):
    from qgis.core import QgsApplication

    data = ramp(3, 700, 900, "uint16")
    export = prepare(layer(data, nodata=9))
    task = QgsTask.fromFunction("write", lambda task: export.write(str(tmp_path / "job"), task.isCanceled))
    with qtbot.waitSignal(task.taskCompleted, timeout=20000):
        QgsApplication.taskManager().addTask(task)
    np.testing.assert_array_equal(pixels(tmp_path / "job" / "inputs" / "source.tif"), data)


def test_a_disk_without_space_is_said_before_anything_is_written(layer, ramp, tmp_path, monkeypatch):
    export = prepare(layer(ramp()))
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(Problem) as caught:
        export.write(str(tmp_path / "job"), lambda: False)
    assert caught.value.failure.code is ErrorCode.DISK_FULL
    assert list((tmp_path / "job").rglob("*.tif")) == []


@pytest.mark.parametrize("step", [1.1e6, 3e6])
def test_pixels_of_a_thousand_kilometres_are_refused_with_what_to_do(layer, ramp, step):
    huge = layer(ramp(1, 4, 4), crs="EPSG:3857", transform=(-2 * step, step, 0, 2 * step, 0, -step))
    for ask in (describe, prepare):
        with pytest.raises(Problem) as caught:
            ask(huge)
        assert caught.value.failure.code is ErrorCode.UNSUPPORTED_GRID and caught.value.failure.hint


def test_a_mosaic_comes_from_the_files_in_it(raster, ramp, tmp_path):
    part, mosaic = raster(ramp(1)), str(tmp_path / "mosaic.vrt")
    gdal.BuildVRT(mosaic, [part]).FlushCache()
    files = describe(QgsRasterLayer(mosaic, "mosaic", "gdal")).files
    assert {os.path.realpath(file) for file in files} >= {os.path.realpath(mosaic), os.path.realpath(part)}
    with pytest.raises(Problem) as caught:
        require_kept(files, (str(tmp_path / "new.tif"), part))
    assert caught.value.failure.code is ErrorCode.OUTPUT_NOT_WRITABLE
    require_kept(files, (str(tmp_path / "new.tif"),))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_part_of_a_layer_is_written_under_its_own_name_on_the_layer_s_pixels(layer, ramp, tmp_path, dtype):
    values = ramp(bands=4, height=300, dtype=dtype)
    whole, window = layer(values), Window(3, 7, 290, 20)
    export = prepare(whole, (3, 1), "inputs/source_2.tif", window)
    export.write(str(tmp_path / "job"), lambda: False)
    written = tmp_path / "job" / "inputs" / "source_2.tif"
    assert export.source.path == "inputs/source_2.tif" and os.listdir(written.parent) == ["source_2.tif"]
    assert np.array_equal(pixels(written, (3, 1)), values[[2, 0], 3:293, 7:27])
    assert gdal.Open(str(written)).GetGeoTransform() == (500070, 10, 0, 4999970, 0, -10)
    assert export.grid == prepare(whole).grid.crop(window) and export.gsd == pytest.approx(10, rel=0.001)


def test_a_part_without_data_is_refused_even_where_the_rest_has_some(layer, ramp, tmp_path):
    values = ramp()
    values[:, :20] = 0
    export = prepare(layer(values, nodata=0), window=Window(0, 0, 20, 50))
    with pytest.raises(Problem) as caught:
        export.write(str(tmp_path), lambda: False)
    assert caught.value.failure.code is ErrorCode.SOURCE_EMPTY
