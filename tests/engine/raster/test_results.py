"""Results go out whole, on the asked grid, in their own type, and show only once they are verified."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import rasterio
from afterimage.engine import faults
from afterimage.engine.contract import GeoBox, Window
from afterimage.engine.errors import JobCancelled, OutputDamaged
from afterimage.engine.raster import Parts, Profile, Raster, gsd, lonlat, prepare, publish, tiled, to_pyproj

from .conftest import LAEA, RNG, UTM, numbers


@pytest.fixture(autouse=True)
def disarmed():
    yield
    faults.arm("")


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


def test_what_lies_in_the_scratch_folder_is_cleared_files_and_folders(tmp_path):
    (tmp_path / "s" / "windows").mkdir(parents=True)
    (tmp_path / "s" / "windows" / "s1_p0_r0_c0").write_bytes(b"left by another process")
    (tmp_path / "s" / "warped.blocks").write_bytes(b"of a killed run")
    pixels = RNG.integers(0, 255, (1, 70, 60), np.uint8)
    parts = parts_of(pixels, np.ones((70, 60), bool), GeoBox("EPSG:32633", UTM, (70, 60)))
    path = assemble(tmp_path, parts, GeoBox("EPSG:32633", UTM, (70, 60)), Profile("uint8", ("a",)))
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(), pixels)
    assert not list((tmp_path / "s").iterdir())


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
