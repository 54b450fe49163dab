"""Where a raster lies: what counts as a CRS, how large its pixels are on the ground, its footprint."""

from __future__ import annotations

import pytest
from afterimage.engine.contract import GeoBox, Source
from afterimage.engine.errors import UnknownCrs, UnsupportedGrid
from afterimage.engine.raster import SourceRaster, check_grid, footprint, gsd, lonlat, to_pyproj, to_rasterio

from .conftest import LAEA, UTM, numbers


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
