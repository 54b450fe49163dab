"""Rasters come in hardened and as they are."""

from __future__ import annotations

import math
import os
import warnings

import numpy as np
import pytest
import rasterio
from afterimage.engine.contract import GeoBox, Source, Window
from afterimage.engine.errors import (
    EngineError,
    InvalidRequest,
    JobCancelled,
    SourceUnreadable,
    UnknownCrs,
    UnsupportedGrid,
    UnsupportedRaster,
)
from afterimage.engine.raster import SourceRaster
from afterimage.engine.raster import source as reading

from .conftest import UTM, numbers


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_pixels_are_read_as_they_are(make_raster, tmp_path, dtype):
    pixels = numbers(dtype, 13)
    make_raster(pixels)
    with SourceRaster(tmp_path, Source("source.tif", bands=(4, 3, 2))) as source:
        assert source.grid == GeoBox("EPSG:32633", UTM, (40, 50))
        assert source.profile.dtype == dtype and source.bands == (4, 3, 2)
        part = source.read(Window(5, 6, 7, 8))
        assert np.array_equal(part.pixels, pixels[[3, 2, 1], 5:12, 6:14]) and part.valid.all()


def test_outside_of_the_raster_there_is_no_data(make_raster, tmp_path):
    pixels = numbers("uint8")
    make_raster(pixels)
    with SourceRaster(tmp_path, Source("source.tif")) as source:
        part = source.read(Window(-3, 45, 10, 10))
        assert np.array_equal(part.pixels[:, 3:, :5], pixels[:, :7, 45:])
        assert part.valid[3:, :5].all() and part.valid.sum() == 35
        assert not part.pixels[:, :3].any() and part.grid.transform[5] == 5000030.0
        assert not source.read(Window(1000, 1000, 4, 4)).valid.any()


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("int16", -9999), ("float32", -3.4028234663852886e38)])
def test_nodata_is_no_data(make_raster, tmp_path, dtype, nodata):
    pixels = numbers(dtype)
    pixels[1, 4, 4] = nodata
    make_raster(pixels, nodata=nodata)
    with SourceRaster(tmp_path, Source("source.tif")) as source:
        part = source.read(source.grid.window)
        assert not part.valid[4, 4] and part.valid.sum() == part.valid.size - 1
        assert source.profile.nodata == pytest.approx(nodata)


def test_not_a_number_is_no_data_with_and_without_nodata(make_raster, tmp_path):
    pixels = numbers("float32")
    pixels[0, 0, 0], pixels[1, 1, 1], pixels[2, 2, 2] = np.nan, np.inf, -9999
    for name, nodata, missing in (("a.tif", None, 2), ("b.tif", -9999, 3), ("c.tif", np.nan, 2)):
        make_raster(pixels, name=name, nodata=nodata)
        with SourceRaster(tmp_path, Source(name)) as source:
            assert (~source.read(source.grid.window).valid).sum() == missing
            assert source.profile.nodata is not None


def test_a_nodata_value_that_the_type_does_not_have_is_dropped(make_raster, tmp_path):
    path = make_raster(numbers("uint8"))
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="x", a="b")
    raw = path.read_bytes()
    assert raw
    # GDAL refuses to write one; a file that says so comes from elsewhere
    from afterimage.engine.raster.source import _in_type, _one_nodata

    assert _one_nodata([-9999.0], "uint8", has_mask=False) is None
    assert _one_nodata([float("nan")], "int16", has_mask=False) is None
    assert not (np.array([0, 241], np.uint8) == _in_type(-9999.0, "uint8")).any()


def test_an_alpha_band_and_a_mask_are_where_data_is_and_never_data(make_raster, tmp_path):
    pixels = numbers("uint8", 4)
    pixels[3] = 255
    pixels[3, :10] = 0
    make_raster(pixels, name="alpha.tif", photometric="rgb", alpha="yes")
    with SourceRaster(tmp_path, Source("alpha.tif")) as source:
        assert source.bands == (1, 2, 3) and source.profile.colors == ("red", "green", "blue")
        valid = source.read(source.grid.window).valid
        assert not valid[:10].any() and valid[10:].all()
        assert source.profile.nodata is None
    with pytest.raises(InvalidRequest):
        SourceRaster(tmp_path, Source("alpha.tif", bands=(4,)))
    mask = np.ones((40, 50), bool)
    mask[:, :7] = False
    make_raster(pixels[:3], name="mask.tif", mask=mask)
    with SourceRaster(tmp_path, Source("mask.tif")) as source:
        assert np.array_equal(source.read(source.grid.window).valid, mask)
        assert np.array_equal(source.sample().valid, mask)


def test_scale_offset_names_and_units_survive(make_raster, tmp_path):
    path = make_raster(numbers("int16"))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)
        file.descriptions = ("B4", "B3", "B2")
        file.set_band_unit(1, "K")
    with SourceRaster(tmp_path, Source("source.tif", bands=(1, 3))) as source:
        profile = source.profile
    assert (profile.scales, profile.offsets, profile.bands, profile.units) == (
        (0.1, 0.3),
        (1.0, 3.0),
        ("B4", "B2"),
        ("K", ""),
    )


def test_the_hash_is_of_what_is_used(make_raster, tmp_path):
    pixels = numbers("uint8")
    make_raster(pixels, name="a.tif")
    make_raster(pixels, name="b.tif", compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    other = pixels.copy()
    other[2, 20, 20] += 1
    make_raster(other, name="c.tif")

    def sha(name, bands=()):
        with SourceRaster(tmp_path, Source(name, bands=bands)) as source:
            return source.sha256()

    assert sha("a.tif") == sha("b.tif") != sha("c.tif")
    assert sha("a.tif", (1, 2)) == sha("c.tif", (1, 2)) != sha("a.tif", (2, 1))


def test_hashing_reads_whole_blocks_and_can_be_stopped(make_raster, tmp_path, monkeypatch):
    pixels = numbers("uint8", shape=(100, 50))
    make_raster(pixels, name="a.tif", tiled=True, blockxsize=16, blockysize=16)
    make_raster(pixels, name="b.tif", blockysize=1)
    with SourceRaster(tmp_path, Source("a.tif")) as a, SourceRaster(tmp_path, Source("b.tif")) as b:
        whole = b.sha256()
        monkeypatch.setattr(reading, "_PART", 6000)
        assert (a._rows_at_once(), b._rows_at_once()) == (32, 40)
        assert a.sha256() == b.sha256() == whole
        monkeypatch.setattr(reading, "_PART_LIMIT", 600)
        assert a._rows_at_once() == 40 and a.sha256() == whole
        with pytest.raises(JobCancelled):
            a.sha256(iter_raising(JobCancelled()))


def test_sampling_in_parts_is_sampling_and_can_be_stopped(make_raster, tmp_path, monkeypatch):
    make_raster(numbers("uint16", 2, (2999, 2600)), tiled=True, blockxsize=64, blockysize=64)
    with SourceRaster(tmp_path, Source("source.tif")) as source:
        with pytest.raises(JobCancelled):
            source.sample(iter_raising(JobCancelled()))
        parts = source.sample()
        monkeypatch.setattr(reading, "_SAMPLE_PARTS", 1)
        whole = source.sample()
    assert parts.pixels.shape == whole.pixels.shape == (2, 1000, 867) and parts.valid.all()
    assert np.array_equal(parts.pixels[:, :300], whole.pixels[:, :300])


def iter_raising(error):
    parts = iter(range(2))

    def check():
        if next(parts):
            raise error

    return check


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fill_that_nobody_declared_is_no_data(make_raster, tmp_path, dtype):
    pixels = numbers(dtype, 2)
    pixels[0, :4, :5], pixels[1, 30, 30], pixels[1, 31, 31] = -3.4e38, np.inf, np.nan
    make_raster(pixels)
    with SourceRaster(tmp_path, Source("source.tif")) as source:
        valid = source.sample().valid
        assert not valid[:4, :5].any() and not valid[30, 30] and not valid[31, 31] and valid.sum() == 2000 - 22
        assert math.isnan(source.profile.nodata)


def test_a_large_raster_is_sampled_small(make_raster, tmp_path):
    make_raster(numbers("uint8", 1, (1500, 2600)))
    with SourceRaster(tmp_path, Source("source.tif")) as source:
        sample = source.sample()
    assert max(sample.grid.shape) <= 1024 and sample.valid.all()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("complex", UnsupportedRaster),
        ("palette", UnsupportedRaster),
        ("no crs", UnknownCrs),
        ("not georeferenced", UnsupportedGrid),
        ("text", SourceUnreadable),
        ("empty", SourceUnreadable),
        ("folder", SourceUnreadable),
        ("absent", SourceUnreadable),
        ("png", SourceUnreadable),
        ("truncated", SourceUnreadable),
        ("bomb", UnsupportedRaster),
    ],
)
def test_what_is_no_picture_is_refused(make_raster, tmp_path, kind, error):
    path = tmp_path / "source.tif"
    if kind == "complex":
        make_raster(numbers("complex64", 1))
    elif kind == "palette":
        make_raster(numbers("uint8", 1), photometric="palette")
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {i: (i, 0, 0, 255) for i in range(256)})
    elif kind == "no crs":
        make_raster(numbers("uint8"), crs=None)
    elif kind == "not georeferenced":
        make_raster(numbers("uint8"), transform=None)
    elif kind == "text":
        path.write_text("not a raster")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "png":
        with warnings.catch_warnings(), rasterio.MemoryFile() as memory:
            warnings.simplefilter("ignore")
            with memory.open(driver="PNG", count=1, height=4, width=4, dtype="uint8") as file:
                file.write(numbers("uint8", 1, (4, 4)))
            path.write_bytes(memory.read())
    elif kind == "truncated":
        make_raster(numbers("uint8", 3, (300, 300)), tiled=True, blockxsize=16, blockysize=16)
        path.write_bytes(path.read_bytes()[:60_000])
    elif kind == "bomb":
        make_raster_bomb(path)
    with pytest.raises(error) as caught, SourceRaster(tmp_path, Source("source.tif")) as source:
        source.read(source.grid.window)
    assert str(tmp_path) not in caught.value.message and caught.value.hint


def make_raster_bomb(path):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=100_000,
        width=100_000,
        dtype="uint8",
        sparse_ok=True,
        tiled=True,
        crs="EPSG:32633",
        transform=rasterio.Affine(*UTM),
    ):
        pass
    assert path.stat().st_size < 10_000_000


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../outside.tif",
        "a/../../outside.tif",
        "/vsicurl/http://x/y.tif",
        "GTIFF_DIR:1:source.tif",
        "",
        "\0",
    ],
)
def test_a_name_outside_the_folder_is_refused(make_raster, tmp_path, name):
    make_raster(numbers("uint8"), name="outside.tif")
    folder = tmp_path / "job"
    folder.mkdir()
    with pytest.raises(SourceUnreadable):
        SourceRaster(folder, Source(name))


@pytest.mark.skipif(os.name == "nt", reason="no links and pipes there")
def test_links_are_followed_before_they_are_compared(make_raster, tmp_path):
    outside = make_raster(numbers("uint8"), name="outside.tif")
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "link.tif").symlink_to(outside)
    os.mkfifo(folder / "pipe.tif")
    for name in ("link.tif", "pipe.tif"):
        with pytest.raises(SourceUnreadable):
            SourceRaster(folder, Source(name))


def test_a_damaged_raster_is_read_or_refused_in_one_way(make_raster, tmp_path):
    """Flipped bytes and cuts anywhere: pixels, or one kind of error; the first bytes hold most of the structure."""
    whole = make_raster(numbers("uint16", 3), compress="deflate", nodata=0).read_bytes()
    rng, path, read = np.random.default_rng(5), tmp_path / "source.tif", 0
    for _ in range(int(os.environ.get("MUTATIONS", "300"))):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            at = rng.integers(8, 700 if rng.random() < 0.7 else len(content))
            content[at] = rng.integers(0, 256)
        path.write_bytes(content[: rng.integers(1, len(content))] if rng.random() < 0.2 else content)
        try:
            with SourceRaster(tmp_path, Source("source.tif")) as source:
                source.read(Window(0, 0, 20, 20))
                read += 1
        except EngineError:
            continue
    assert read


CANARY = 199


@pytest.mark.parametrize("kind", ["vrt", "vrt raw", "wms", "ovr", "pam overview", "pam statistics", "mask"])
def test_hostile_rasters_bring_no_byte_from_outside(make_raster, tmp_path, kind):
    """Source: reliability note, M4."""
    secret = make_raster(np.full((1, 64, 64), CANARY, np.uint8), name="secret.tif")
    folder = tmp_path / "job"
    folder.mkdir()
    path = folder / "source.tif"
    vrt = (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1">{}</VRTRasterBand>'
        "</VRTDataset>"
    )
    simple = f'<SimpleSource><SourceFilename relativeToVRT="0">{secret}</SourceFilename></SimpleSource>'
    if kind == "vrt":
        path.write_text(vrt.format(simple))
    elif kind == "vrt raw":
        raw = f'<SourceFilename relativeToVRT="0">{secret}</SourceFilename><ImageOffset>0</ImageOffset>'
        path.write_text(vrt.replace('band="1"', 'band="1" subClass="VRTRawRasterBand"').format(raw))
    elif kind == "wms":
        path.write_text(
            "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service></GDAL_WMS>"
        )
    else:
        make_raster(np.full((1, 64, 64), 7, np.uint8), folder=folder)
        if kind == "ovr":
            (folder / "source.tif.ovr").write_text(vrt.format(simple).replace("64", "32"))
        elif kind == "mask":
            (folder / "source.tif.msk").write_bytes(secret.read_bytes())
        else:
            item = f'<MDI key="OVERVIEW_FILE">{secret}</MDI>'
            if kind == "pam statistics":
                item = '<MDI key="STATISTICS_MINIMUM">199</MDI>'
            aux = f"<PAMDataset><Metadata domain='OVERVIEWS'>{item}</Metadata></PAMDataset>"
            (folder / "source.tif.aux.xml").write_text(aux)
    try:
        with SourceRaster(folder, Source("source.tif")) as source:
            whole = source.read(source.grid.window)
            seen = set(np.unique(whole.pixels)) | set(np.unique(source.sample().pixels))
            assert seen == {7} and whole.valid.all()
    except SourceUnreadable:
        assert kind in ("vrt", "vrt raw", "wms")
