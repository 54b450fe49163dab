"""A raster on another grid: the right place, the right mean, and the same pixel whatever the window."""

import math

import numpy as np
import pyproj
import pytest
from afterimage.engine.contract import GeoBox, Source, Window
from afterimage.engine.errors import InvalidRequest, UnsupportedRaster
from afterimage.engine.raster import AlignedRaster, SourceRaster, aligned

UTM = GeoBox("EPSG:32633", (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), (180, 240))
ANGLE = math.radians(20)
TURNED = (math.cos(ANGLE), math.sin(ANGLE), math.sin(ANGLE), -math.cos(ANGLE))


def turned(size, shape, x=500_900.0, y=4_999_100.0):
    a, b, d, e = (size * each for each in TURNED)
    return GeoBox("EPSG:32633", (a, b, x, d, e, y), shape)


def mercator(size, shape):
    x, y = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:3857", always_xy=True).transform(500_300.0, 4_999_700.0)
    return GeoBox("EPSG:3857", (size, 0.0, x, 0.0, -size, y), shape)


@pytest.fixture
def raster(make_raster):
    """A raster of this pixel type with a hole, and its pixels."""

    def make(dtype="uint8", bands=3, **options):
        kind = np.dtype(dtype)
        rng = np.random.default_rng(0)
        high = 120 if kind.itemsize == 1 else 30_000
        pixels = rng.integers(0, high, (bands, *UTM.shape)).astype(dtype)
        mask = np.ones(UTM.shape, bool)
        mask[60:100, 90:140] = False
        make_raster(pixels, mask=mask, **options)
        return pixels, mask

    return make


@pytest.mark.parametrize("resampling", ["picture", "classes"])
@pytest.mark.parametrize(
    "grid",
    [mercator(14.0, (90, 120)), mercator(3.0, (300, 300)), mercator(95.0, (30, 30)), turned(21.0, (70, 60))],
    ids=["about alike", "finer", "coarser", "turned"],
)
def test_a_pixel_is_the_same_in_any_window(tmp_path, raster, monkeypatch, grid, resampling):
    monkeypatch.setattr(aligned, "SIDE", 32)
    raster("float32" if grid.crs == "EPSG:32633" else "uint8")
    read = lambda: AlignedRaster(tmp_path, Source("source.tif"), grid, resampling)  # noqa: E731
    far = grid.window.pad(45)
    whole = read().read(far)
    assert whole.valid.any() and not whole.valid.all()
    rng = np.random.default_rng(1)
    again = read()
    for _ in range(25):
        row, col = (int(rng.integers(-45, size + 5)) for size in grid.shape)
        window = Window(row, col, int(rng.integers(1, 41)), int(rng.integers(1, 41)))
        part = again.read(window)
        rows, cols = window.relative_to(far).slices()
        assert part.grid == grid.crop(window)
        assert np.array_equal(part.pixels, whole.pixels[:, rows, cols])
        assert np.array_equal(part.valid, whole.valid[rows, cols])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_the_same_pixels_are_handed_through(tmp_path, raster, dtype):
    pixels, mask = raster(dtype)
    grid = UTM.crop(Window(-20, 30, 100, 250))
    part = AlignedRaster(tmp_path, Source("source.tif"), grid).read(Window(10, -5, 90, 260))
    wanted, valid = np.zeros((len(pixels), 90, 260), dtype), np.zeros((90, 260), bool)
    valid[10:90, 0:215] = mask[0:80, 25:240]
    wanted[:, 10:90, 0:215] = pixels[:, 0:80, 25:240]
    assert part.pixels.dtype == np.dtype(dtype)
    assert np.array_equal(part.valid, valid)
    assert np.array_equal(part.pixels, np.where(valid, wanted, 0))


def test_a_finer_raster_is_averaged_over_each_pixel(tmp_path, raster):
    pixels, mask = raster("float32")
    coarse = GeoBox("EPSG:32633", (40.0, 0.0, 500_000.0, 0.0, -40.0, 5_000_000.0), (45, 60))
    part = AlignedRaster(tmp_path, Source("source.tif"), coarse).read(coarse.window)
    means = pixels.reshape(3, 45, 4, 60, 4).mean(axis=(2, 4))
    known = mask.reshape(45, 4, 60, 4).mean(axis=(1, 3))
    assert np.array_equal(part.valid, known > 0.5)
    full = known == 1
    assert np.allclose(part.pixels[:, full], means[:, full], rtol=1e-5)


def test_gaps_are_left_out_of_means(tmp_path, make_raster):
    pixels = np.full((1, 40, 40), 100.0, np.float32)
    pixels[0, ::2, ::4] = -3.4e38  # fill that nobody declared
    make_raster(pixels)
    coarse = GeoBox("EPSG:32633", (35.0, 0.0, 500_003.0, 0.0, -35.0, 4_999_997.0), (11, 11))
    part = AlignedRaster(tmp_path, Source("source.tif"), coarse).read(coarse.window)
    assert part.valid.all()
    assert np.allclose(part.pixels, 100, rtol=1e-5)


@pytest.mark.parametrize("grid", [mercator(14.0, (90, 120)), turned(9.0, (60, 50))], ids=["mercator", "turned"])
def test_pixels_lie_where_they_belong(tmp_path, make_raster, grid):
    """A raster whose numbers are its own coordinates tells where each pixel was taken from."""
    rows, cols = np.mgrid[0 : UTM.height, 0 : UTM.width] + 0.5
    make_raster(np.stack([cols, rows]).astype(np.float64))
    part = AlignedRaster(tmp_path, Source("source.tif"), grid).read(grid.window)
    centre_rows, centre_cols = np.mgrid[0 : grid.height, 0 : grid.width] + 0.5
    a, b, c, d, e, f = grid.transform
    x, y = a * centre_cols + b * centre_rows + c, d * centre_cols + e * centre_rows + f
    x, y = pyproj.Transformer.from_crs(grid.crs, UTM.crs, always_xy=True).transform(x, y)
    wanted_col, wanted_row = (x - 500_000) / 10, (5_000_000 - y) / 10
    inner = (wanted_col > 1) & (wanted_row > 1) & (wanted_col < UTM.width - 1) & (wanted_row < UTM.height - 1)
    assert inner.sum() > 500 and part.valid[inner].all()
    assert np.abs(part.pixels[0] - wanted_col)[inner].max() < 0.01
    assert np.abs(part.pixels[1] - wanted_row)[inner].max() < 0.01
    outside = (wanted_col < -1) | (wanted_row < -1) | (wanted_col > UTM.width + 1) | (wanted_row > UTM.height + 1)
    assert not part.valid[outside].any()


def test_classes_are_not_mixed(tmp_path, make_raster):
    rng = np.random.default_rng(2)
    palette = np.array([[255, 0, 0], [255, 255, 0], [0, 0, 255], [159, 129, 183]], np.uint8)
    pixels = palette[rng.integers(0, 4, UTM.shape)].transpose(2, 0, 1)
    make_raster(pixels)
    grid = mercator(33.0, (60, 60))
    part = AlignedRaster(tmp_path, Source("source.tif"), grid, "classes").read(grid.window)
    assert {tuple(color) for color in part.pixels[:, part.valid].T.tolist()} == {
        tuple(c) for c in palette.tolist()
    } and part.valid.sum() > 1000
    mixed = AlignedRaster(tmp_path, Source("source.tif"), grid).read(grid.window)
    assert len({tuple(color) for color in mixed.pixels[:, mixed.valid].T.tolist()}) > 100


def test_the_bands_that_are_asked_for_and_the_original(tmp_path, raster):
    pixels, _ = raster("uint16")
    source = Source("source.tif", bands=(3, 1))
    read = AlignedRaster(tmp_path, source, UTM)
    assert read.bands == (3, 1) and read.original == UTM and read.profile.dtype == "uint16"
    assert np.array_equal(read.read(Window(0, 0, 20, 20)).pixels, pixels[[2, 0], :20, :20])
    with SourceRaster(tmp_path, source) as file:
        assert read.sha256() == file.sha256()
        assert np.array_equal(read.sample().pixels, file.sample().pixels)
    with pytest.raises(InvalidRequest):
        AlignedRaster(tmp_path, Source("source.tif", bands=(4,)), UTM)


def test_a_raster_elsewhere_has_no_data_here(tmp_path, raster):
    raster()
    for grid in (
        GeoBox("EPSG:32633", (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_000_000.0), (50, 50)),
        GeoBox("EPSG:4326", (0.001, 0.0, -70.0, 0.0, -0.001, -33.0), (50, 50)),
        turned(4.0, (50, 50), x=700_000.0),
    ):
        part = AlignedRaster(tmp_path, Source("source.tif"), grid).read(grid.window.pad(10))
        assert not part.valid.any() and not part.pixels.any()


def test_the_date_line_is_no_border(tmp_path, make_raster):
    """A raster of the whole world, numbered by longitude, under a grid that crosses its edge."""
    lon = np.arange(-179.5, 180, 1.0)
    make_raster(np.broadcast_to(lon, (1, 180, 360)).astype(np.float32).copy(), crs="EPSG:4326",
                transform=(1.0, 0.0, -180.0, 0.0, -1.0, 90.0))  # fmt: skip
    grid = GeoBox("EPSG:3832", (50_000.0, 0.0, 3_000_000.0, 0.0, -50_000.0, 500_000.0), (20, 20))  # centred on 150 E
    part = AlignedRaster(tmp_path, Source("source.tif"), grid, "classes").read(grid.window)
    x = 3_025_000.0 + 50_000.0 * np.arange(20)
    wanted, _ = pyproj.Transformer.from_crs("EPSG:3832", "EPSG:4326", always_xy=True).transform(x, np.zeros(20))
    assert part.valid.all() and wanted.min() < -170 and wanted.max() > 175
    assert np.abs(part.pixels[0] - wanted).max() <= 0.51


def test_places_that_one_of_the_two_does_not_have_hold_no_data(tmp_path, make_raster):
    make_raster(np.ones((1, 180, 360), np.uint8), crs="EPSG:4326", transform=(1.0, 0.0, -180.0, 0.0, -1.0, 90.0))
    ortho = pyproj.CRS.from_proj4("+proj=ortho +lat_0=40 +lon_0=10 +R=6371000").to_wkt()
    grid = GeoBox(ortho, (100_000.0, 0.0, -7_000_000.0, 0.0, -100_000.0, 7_000_000.0), (140, 140))
    part = AlignedRaster(tmp_path, Source("source.tif"), grid).read(grid.window)
    rows, cols = np.mgrid[0:140, 0:140] + 0.5
    radius = np.hypot(cols - 70, rows - 70) * 100_000
    assert part.valid[radius < 6_000_000].all() and not part.valid[radius > 6_600_000].any()


def test_a_raster_far_too_fine_is_refused(tmp_path, raster, monkeypatch):
    raster()
    monkeypatch.setattr(aligned, "SOURCE_LIMIT", 500)
    grid = GeoBox("EPSG:32633", (900.0, 0.0, 500_000.0, 0.0, -900.0, 5_000_000.0), (2, 2))
    with pytest.raises(UnsupportedRaster) as refusal:
        AlignedRaster(tmp_path, Source("source.tif"), grid).read(grid.window)
    assert "coarser" in refusal.value.hint
