"""Rasters come in hardened and as they are, and go out whole, on the asked grid, in their own type."""

from __future__ import annotations

import itertools
import math
import os
import warnings

import numpy as np
import pytest
import rasterio
from afterimage.engine import faults
from afterimage.engine.contract import GeoBox, Source, Window
from afterimage.engine.errors import (
    EngineError,
    InvalidRequest,
    JobCancelled,
    OutputDamaged,
    SourceUnreadable,
    UnknownCrs,
    UnsupportedGrid,
    UnsupportedRaster,
)
from afterimage.engine.raster import (
    Parts,
    Profile,
    Raster,
    SourceRaster,
    check_grid,
    footprint,
    gsd,
    lonlat,
    prepare,
    publish,
    tiled,
    to_pyproj,
    to_rasterio,
)
from afterimage.engine.raster import source as reading

UTM = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
RNG = np.random.default_rng(0)
LAEA = (
    'PROJCS["here",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",{lat}],'
    'PARAMETER["longitude_of_center",{lon}],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)


@pytest.fixture(autouse=True)
def disarmed():
    yield
    faults.arm("")


def numbers(dtype, bands=3, shape=(40, 50)):
    return RNG.integers(1, 120, (bands, *shape)).astype(dtype)


# --- what comes in


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


# --- where it lies


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3031", "ESRI:54009", LAEA.format(lon=0, lat=0)])
def test_codes_and_wkt_are_crs(crs):
    assert to_pyproj(crs) and to_rasterio(crs)


@pytest.mark.parametrize(
    "crs",
    [
        "",
        " ",
        "http://127.0.0.1:9/crs",
        "https://example.com/crs.wkt",
        "file:///etc/passwd",
        "/etc/passwd",
        "crs.prj",
        "+proj=utm +zone=33",
        "urn:ogc:def:crs:EPSG::32633",
        "WGS84",
        "epsg:32633",
        "EPSG:32633 ",
        "EPSG:999999",
        "EPSG:",
        "EPSG:32633\nPROJCS[",
        "PROJCS[",
        'PROJCS["x"]',
        "PROJCRS" + "[" * 70_000,
        "+init=epsg:4326",
        '{"type": "GeographicCRS"}',
        "ESRI::https://example.com/crs.prj",
        "IGNF:../../x",
        "EPSG:4326+http://x",
        "OGC:CRS84h\0",
    ],
)
def test_free_text_is_no_crs(crs, monkeypatch):
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a CRS opened a connection"))
    for parse in (to_pyproj, to_rasterio):
        with pytest.raises(UnknownCrs):
            parse(crs)


def test_a_crs_without_code_survives_a_file(make_raster, tmp_path):
    make_raster(numbers("uint8"), crs=LAEA.format(lon=12.5, lat=-33.25), transform=(3.0, 0, -60, 0, -3.0, 60))
    with SourceRaster(tmp_path, Source("source.tif")) as source:
        assert source.grid.crs.startswith("PROJCRS[")
        assert lonlat(source.grid) == pytest.approx((12.5, -33.25), abs=1e-3)
        check_grid(source.grid)


@pytest.mark.parametrize(
    ("grid", "metres"),
    [
        (GeoBox("EPSG:32633", UTM, (100, 100)), (10.0, 10.0)),
        (GeoBox("EPSG:3857", (20.0, 0, 0, 0, -20.0, 8399737.9), (4, 4)), (10.03, 10.03)),  # 60 degrees north
        (GeoBox("EPSG:4326", (0.001, 0, 10, 0, -0.001, 60.002), (4, 4)), (55.8, 111.4)),
        (GeoBox("EPSG:3031", (30.0, 0, -60, 0, -30.0, 60), (4, 4)), (30.8, 30.8)),  # scale 0.97 at the pole
        (GeoBox("EPSG:2263", (10.0, 0, 984000, 0, -10.0, 204000), (4, 4)), (3.048, 3.048)),  # feet
        (GeoBox("EPSG:32633", (6.0, 8.0, 500000, 8.0, -6.0, 5000000), (4, 4)), (10.0, 10.0)),  # rotated
    ],
)
def test_a_pixel_is_measured_on_the_ground(grid, metres):
    assert gsd(grid) == pytest.approx(metres, rel=0.01)


def test_what_is_not_on_the_ground_is_refused():
    engineering = 'ENGCRS["site",EDATUM["x"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
    for crs in (engineering, 'LOCAL_CS["site",UNIT["metre",1]]'):
        with pytest.raises((UnsupportedGrid, UnknownCrs)):
            gsd(GeoBox(crs, UTM, (4, 4)))
        with pytest.raises((UnsupportedGrid, UnknownCrs)):
            check_grid(GeoBox(crs, UTM, (4, 4)))
    with pytest.raises(UnsupportedGrid):
        gsd(GeoBox("EPSG:32633", (1e9, 0, 1e12, 0, -1e9, 1e12), (4, 4)))


def test_a_footprint_over_the_antimeridian_has_two_parts():
    rings = footprint(GeoBox("EPSG:4326", (0.5, 0, 178, 0, -0.5, 10), (4, 8)))
    assert len(rings) == 2
    assert sorted((min(x for x, _ in ring), max(x for x, _ in ring)) for ring in rings) == [(-180, -178), (178, 180)]
    assert all(ring[0] == ring[-1] for ring in rings)


def test_a_footprint_around_a_pole_has_all_longitudes():
    (ring,) = footprint(GeoBox("EPSG:3031", (1000.0, 0, -50000, 0, -1000.0, 50000), (100, 100)))
    assert min(x for x, _ in ring) == -180 and max(x for x, _ in ring) == 180
    assert min(y for _, y in ring) == -90 and max(y for _, y in ring) < -89


def test_a_footprint_is_where_the_grid_is():
    (ring,) = footprint(GeoBox("EPSG:32633", UTM, (100, 100)))
    assert min(x for x, _ in ring) == pytest.approx(15.0, abs=1e-6)
    assert max(y for _, y in ring) == pytest.approx(45.153, abs=1e-3)


# --- what goes out


def parts_of(pixels, valid, grid, side=64, offset=(0, 0)):
    """Chunks that do not begin on the file's blocks."""
    rows = sorted({0, grid.height, *range(offset[0], grid.height, side)})
    cols = sorted({0, grid.width, *range(offset[1], grid.width, side)})
    for r0, r1 in itertools.pairwise(rows):
        for c0, c1 in itertools.pairwise(cols):
            window = Window(r0, c0, r1 - r0, c1 - c0)
            yield window, Raster(pixels[:, r0:r1, c0:c1], valid[r0:r1, c0:c1], grid.crop(window))


def assemble(tmp_path, parts, drawn, profile, result=None, tell=lambda fraction: None, record="{}"):
    known = dict(parts)
    whole = Parts(tuple(known), known.__getitem__)
    pending = prepare(
        tmp_path / "out.tif", whole, drawn, result or drawn, profile, {"A": "1"}, record, tmp_path / "s", tell
    )
    publish(pending)
    return tmp_path / "out.tif"


@pytest.mark.parametrize(
    "profile",
    [
        Profile("uint8", ("red", "green", "blue"), colors=("red", "green", "blue")),
        Profile("uint8", ("r", "g", "b", "nir"), 0.0, colors=("red", "green", "blue", "undefined")),
        Profile("uint16", tuple(f"B{i}" for i in range(13)), 0.0, scales=(1e-4,) * 13, offsets=(-0.1,) * 13),
        Profile("int16", ("a",), -9999.0, units=("K",)),
        Profile("int8", ("a", "b")),
        Profile("float32", ("a", "b"), float("nan")),
        Profile("float64", ("a",), -3.4e38),
        Profile("uint32", ("a",)),
    ],
    ids=lambda profile: f"{profile.dtype}x{len(profile.bands)}",
)
def test_a_result_is_whole_and_in_its_own_type(tmp_path, profile):
    grid = GeoBox("EPSG:32633", UTM, (600, 540))
    pixels = RNG.integers(0, 120, (len(profile.bands), *grid.shape)).astype(profile.dtype)
    valid = RNG.random(grid.shape) > 0.2
    record = '{"prompt":"Wälder <&> 森林"}'
    path = assemble(tmp_path, parts_of(pixels, valid, grid, 256, (100, 30)), grid, profile, record=record)
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and file.overviews(1)
        assert file.tags(ns="AFTERIMAGE")["PROVENANCE"] == record and file.tags()["A"] == "1"
        assert set(file.dtypes) == {profile.dtype} and file.descriptions == profile.bands
        assert file.crs.to_epsg() == 32633 and tuple(file.transform)[:6] == UTM
        assert (file.dataset_mask() > 0).sum() >= valid.sum() and not file.read_masks(1)[~valid].any()
        found = file.read()
        if profile.nodata is None:
            assert np.array_equal(file.dataset_mask() > 0, valid) and file.nodata is None
        else:
            assert file.nodata == pytest.approx(profile.nodata, nan_ok=True)
        if profile.scales:
            assert file.scales == profile.scales and file.offsets == profile.offsets
        if profile.units:
            assert file.units == profile.units
        if profile.nodata == 0:
            pixels = np.where(pixels == 0, 1, pixels)
        assert np.array_equal(found[:, valid], pixels[:, valid])
        names = [color.name for color in file.colorinterp]
        assert "alpha" not in names and (names[:3] == ["red", "green", "blue"]) == (profile.colors[:1] == ("red",))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.tif", "s"]
    assert not list((tmp_path / "s").iterdir())


def smooth(grid, crs="EPSG:4326"):
    """A picture that is a smooth function of longitude and latitude, bytes."""
    from pyproj import Transformer

    rows, cols = np.mgrid[0 : grid.height, 0 : grid.width] + 0.5
    a, b, c, d, e, f = grid.transform
    transformer = Transformer.from_crs(to_pyproj(grid.crs), crs, always_xy=True)
    lon, lat = transformer.transform(a * cols + b * rows + c, d * cols + e * rows + f)
    return lon, lat


@pytest.mark.parametrize(
    ("drawn", "result"),
    [
        (
            GeoBox("EPSG:32633", (10.0, 0, 499000, 0, -10.0, 5006000), (700, 700)),
            GeoBox("EPSG:4326", (1.2e-4, 0, 15.0, 0, -9e-5, 45.2), (600, 580)),
        ),
        (
            GeoBox(LAEA.format(lon=180, lat=-17), (50.0, 0, -15000, 0, -50.0, 15000), (600, 600)),
            GeoBox("EPSG:4326", (0.0005, 0, 179.88, 0, -0.0005, -16.9), (400, 480)),
        ),
        (
            GeoBox("EPSG:3031", (100.0, 0, -30000, 0, -100.0, 30000), (600, 600)),
            GeoBox("EPSG:4326", (0.05, 0, 20.0, 0, -0.0005, -89.85), (200, 400)),
        ),
        (
            GeoBox(LAEA.format(lon=15, lat=45), (10.0, 0, -4000, 0, -10.0, 4000), (800, 800)),
            GeoBox("EPSG:3857", (14.0 * 0.8, 14.0 * 0.6, 1668000, 14.0 * 0.6, -14.0 * 0.8, 5621500), (256, 256)),
        ),
    ],
    ids=["utm to degrees", "over the antimeridian", "polar", "rotated"],
)
def test_a_warped_result_lies_where_it_was_drawn(tmp_path, drawn, result):
    """The picture is its own longitude and latitude: what is read at a pixel says where it was drawn."""
    lon, lat = smooth(drawn)
    middle = lonlat(drawn)[0]
    east = np.mod(lon - middle + 180, 360) - 180 if drawn.crs != "EPSG:3031" else lon
    pixels = np.stack([east, lat]).astype(np.float64)
    profile = Profile("float64", ("lon", "lat"), -9999.0)
    valid = np.ones(drawn.shape, bool)
    path = assemble(tmp_path, parts_of(pixels, valid, drawn, 256), drawn, profile, result)
    with rasterio.open(path) as file:
        found, valid = file.read(), file.dataset_mask() > 0
        assert file.shape == result.shape and tuple(file.transform)[:6] == pytest.approx(result.transform)
    there_lon, there_lat = smooth(result)
    expected = np.mod(there_lon - middle + 180, 360) - 180 if drawn.crs != "EPSG:3031" else there_lon
    assert valid.mean() > 0.95
    inner = valid.copy()
    inner[:3], inner[-3:], inner[:, :3], inner[:, -3:] = False, False, False, False
    metres = 6371000 * math.pi / 180
    error_north = np.abs(found[1] - there_lat)[inner].max() * metres
    error_east = (np.abs(found[0] - expected) * np.cos(np.radians(there_lat)))[inner].max() * metres
    limit = 0.002 * max(gsd(drawn))
    assert error_north < limit and error_east < limit


def test_a_coarser_result_is_averaged(tmp_path):
    drawn = GeoBox("EPSG:32633", UTM, (256, 256))
    result = GeoBox("EPSG:32633", (20.0, 0, 500000, 0, -20.0, 5000000), (128, 128))
    stripes = np.zeros((1, 256, 256), np.uint8)
    stripes[:, ::2] = 200
    path = assemble(
        tmp_path, parts_of(stripes, np.ones((256, 256), bool), drawn), drawn, Profile("uint8", ("a",)), result
    )
    with rasterio.open(path) as file:
        assert np.abs(file.read(1)[4:-4].astype(int) - 100).max() <= 3


def test_gaps_stay_gaps_when_warped(tmp_path):
    drawn = GeoBox("EPSG:32633", (10.0, 0, 499000, 0, -10.0, 5006000), (700, 700))
    result = GeoBox("EPSG:4326", (1.2e-4, 0, 15.0, 0, -9e-5, 45.2), (600, 580))
    valid = np.ones(drawn.shape, bool)
    valid[300:400, 300:400] = False
    pixels = np.full((1, *drawn.shape), 100, np.uint8)
    for nodata in (None, 0.0):
        path = assemble(tmp_path, parts_of(pixels, valid, drawn), drawn, Profile("uint8", ("a",), nodata), result)
        with rasterio.open(path) as file:
            there = file.dataset_mask() > 0
            assert 0.02 < (~there).mean() < 0.1
            assert set(np.unique(file.read(1)[there])) == {100}, "gaps do not bleed into the picture"


def test_a_valid_pixel_never_holds_nodata():
    for dtype, nodata, neighbour in (
        ("uint8", 255, 254),
        ("uint8", 0, 1),
        ("int16", -9999, -9998),
        ("float32", 5, None),
    ):
        raster = Raster(
            np.full((1, 2, 2), nodata, dtype),
            np.array([[True, True], [False, True]]),
            GeoBox("EPSG:32633", UTM, (2, 2)),
        )
        filled = Profile(dtype, ("a",), nodata).fill(raster)
        assert filled[0, 1, 0] == nodata and (filled[0] == nodata).sum() == 1
        if neighbour is not None:
            assert filled[0, 0, 0] == neighbour


@pytest.mark.parametrize("moment", ["publish.before_cog", "publish.after_cog"])
def test_until_it_is_verified_nothing_shows(tmp_path, moment):
    grid = GeoBox("EPSG:32633", UTM, (80, 80))
    (tmp_path / "out.tif").write_bytes(b"old")
    faults.arm(f"{moment}:1:enospc")
    with pytest.raises(OSError):
        assemble(
            tmp_path,
            parts_of(numbers("uint8", 1, (80, 80)), np.ones((80, 80), bool), grid),
            grid,
            Profile("uint8", ("a",)),
        )
    assert (tmp_path / "out.tif").read_bytes() == b"old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.tif", "s"]


@pytest.mark.parametrize("at", [40, 0.3, 0.6, 0.999])
def test_a_file_that_lost_a_block_on_its_way_is_found_out(tmp_path, monkeypatch, at):
    """A disk that swallows writes: a few bytes of the file are gone when it is read back."""
    from afterimage.engine.raster import cog

    grid = GeoBox("EPSG:32633", UTM, (600, 600))
    profile = Profile("uint8", ("a",), 0.0)
    pixels = numbers("uint8", 1, (600, 600))

    def lossy(path):
        content = bytearray(path.read_bytes())
        first = at if isinstance(at, int) else int(at * len(content))
        content[first : first + 16] = bytes(16)
        path.write_bytes(content)

    monkeypatch.setattr(cog, "sync", lossy)
    with pytest.raises(OutputDamaged):
        assemble(tmp_path, parts_of(pixels, np.ones((600, 600), bool), grid), grid, profile)
    assert not (tmp_path / "out.tif").exists() and len(list(tmp_path.iterdir())) == 1


def test_stopping_leaves_nothing(tmp_path):
    from afterimage.engine.errors import JobCancelled

    grid = GeoBox("EPSG:32633", UTM, (600, 600))
    calls = []

    def tell(fraction):
        calls.append(fraction)
        if len(calls) == 5:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        assemble(
            tmp_path,
            parts_of(numbers("uint8", 1, (600, 600)), np.ones((600, 600), bool), grid),
            grid,
            Profile("uint8", ("a",)),
            tell=tell,
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"] and not list((tmp_path / "s").iterdir())


def test_blocks_cover_a_grid_once():
    grid = GeoBox("EPSG:32633", UTM, (1030, 513))
    seen = np.zeros(grid.shape, int)
    for window in tiled.blocks(grid):
        seen[window.slices()] += 1
    assert (seen == 1).all()
