"""Polygons on a grid: centres decide, windows agree, and what is no polygon is refused."""

import json

import numpy as np
import pytest
from afterimage.engine.contract import GeoBox, Mask, Window
from afterimage.engine.errors import MaskUnreadable
from afterimage.engine.raster import Polygons

GRID = GeoBox("EPSG:32633", (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), (120, 150))


def write(folder, *geometries, **changes):
    features = [{"type": "Feature", "properties": {"name": "x"}, "geometry": geometry} for geometry in geometries]
    collection = {"type": "FeatureCollection", "features": features, **changes}
    (folder / "mask.geojson").write_text(json.dumps(collection), encoding="utf-8")


def ring(*corners):
    return [list(GRID.to_map(*corner)) for corner in corners]


def inside(folder, window=GRID.window):
    return Polygons(folder, Mask("mask.geojson"), GRID).inside(window)


def test_a_pixel_belongs_to_a_polygon_if_its_centre_does(tmp_path):
    outline = ring((10, 20), (30.6, 20), (30.6, 40.4), (10, 40.4), (10, 20))
    hole = ring((15, 25), (18, 25), (18, 28), (15, 28), (15, 25))
    write(tmp_path, {"type": "Polygon", "coordinates": [outline, hole]})
    expected = np.zeros(GRID.shape, bool)
    expected[20:40, 10:31] = True
    expected[25:28, 15:18] = False
    assert np.array_equal(inside(tmp_path), expected)


def test_several_parts_and_features_are_one_and_heights_count_for_nothing(tmp_path):
    squares = [ring((c, c), (c + 5, c), (c + 5, c + 5), (c, c + 5), (c, c)) for c in (3, 6, 50)]
    squares[0] = [[*corner, 312.5] for corner in squares[0]]
    multi = {"type": "MultiPolygon", "coordinates": [[squares[1]], [squares[2]]]}
    write(tmp_path, {"type": "Polygon", "coordinates": [squares[0]]}, multi, None)
    found = inside(tmp_path)
    assert found.sum() == 3 * 25 - 2 * 2 and found[7, 7] and found[52, 52]


def test_the_bounds_are_the_pixels_around_all_polygons_on_the_grid(tmp_path):
    def bounds(*outlines):
        write(tmp_path, *({"type": "Polygon", "coordinates": [ring(*outline)]} for outline in outlines))
        return Polygons(tmp_path, Mask("mask.geojson"), GRID).bounds(GRID.window)

    small = [(10.2, 20.7), (30.6, 20.7), (30.6, 40.4), (10.2, 20.7)]
    assert bounds(small) == Window(20, 10, 21, 21)
    assert bounds(small, [(-50, -50), (-40, -50), (-40, -40), (-50, -50)]) == Window(20, 10, 21, 21)
    assert bounds(small, [(140, 5), (400, 5), (400, 500), (140, 5)]) == Window(5, 10, 115, 140)
    assert bounds([(-50, -50), (-40, -50), (-40, -40), (-50, -50)]) == bounds() == GRID.window


def test_windows_of_any_place_agree_with_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    stars = []
    for _ in range(30):
        x, y = rng.uniform(-20, 160, 2)
        corners = [(x + rng.uniform(-30, 30), y + rng.uniform(-30, 30)) for _ in range(rng.integers(3, 9))]
        corners = [(round(c * 2) / 2, round(r * 2) / 2) for c, r in corners]  # so that edges run through centres
        stars.append({"type": "Polygon", "coordinates": [ring(*corners, corners[0])]})
    write(tmp_path, *stars)
    polygons = Polygons(tmp_path, Mask("mask.geojson"), GRID)
    far = Window(-64, -64, 256, 300)
    whole = polygons.inside(far)
    assert whole.any() and not whole.all()
    for _ in range(60):
        row, col = rng.integers(-64, 150, 2)
        window = Window(int(row), int(col), int(rng.integers(1, 41)), int(rng.integers(1, 41)))
        rows, cols = window.relative_to(far).slices()
        assert np.array_equal(polygons.inside(window), whole[rows, cols])


def test_a_turned_grid_has_its_polygons_turned(tmp_path):
    turned = GeoBox("EPSG:32633", (8.0, 6.0, 500_000.0, 6.0, -8.0, 5_000_000.0), (60, 60))
    corners = [list(turned.to_map(*corner)) for corner in ((10, 20), (30, 20), (30, 50), (10, 50), (10, 20))]
    write(tmp_path, {"type": "Polygon", "coordinates": [corners]})
    found = Polygons(tmp_path, Mask("mask.geojson"), turned).inside(turned.window)
    assert found[20:50, 10:30].all() and found.sum() == 600


def test_a_polygon_as_wide_as_the_world_covers_all(tmp_path):
    far = 1e12
    corners = [[-far, -far], [far, -far], [far, far], [-far, far], [-far, -far]]
    write(tmp_path, {"type": "Polygon", "coordinates": [corners]})
    assert inside(tmp_path).all()


SQUARE = ring((0, 0), (5, 0), (5, 5), (0, 0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"type": "Feature"}',
        '{"type": "FeatureCollection"}',
        '{"type": "FeatureCollection", "features": 3}',
        '{"type": "FeatureCollection", "features": [{"geometry": {"type": "Polygon"}}]}',
        '{"type": "FeatureCollection", "features": [{"geometry": {"type": "Point", "coordinates": [0, 0]}}]}',
        '{"type": "FeatureCollection", "features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0]]]}}]}',
        '{"type": "FeatureCollection", "features": [{"geometry": {"type": "Polygon", "coordinates": [[["a", 0], [1, 1],'
        " [2, 0]]]}}]}",
        json.dumps(
            {"type": "FeatureCollection", "features": [{"geometry": {"type": "Polygon", "coordinates": SQUARE}}]}
        ),
        '{"type": "FeatureCollection", "features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, NaN],'
        " [2, 0], [0, 0]]]}}]}",
        *(
            json.dumps({"type": "FeatureCollection", "features": [{"geometry": {"type": kind, "coordinates": cut}}]})
            for kind, cut in (
                ("Polygon", [[]]),
                ("Polygon", [[[1]]]),
                ("Polygon", [[[], [1, 1], [2, 2]]]),
                ("MultiPolygon", [[[]]]),
            )
        ),
        "[" * 100_000,
    ],
)
def test_what_is_no_collection_of_polygons_is_refused(tmp_path, text):
    (tmp_path / "mask.geojson").write_text(text, encoding="utf-8")
    with pytest.raises(MaskUnreadable) as refusal:
        Polygons(tmp_path, Mask("mask.geojson"), GRID)
    assert refusal.value.hint and str(tmp_path) not in refusal.value.message


def test_files_outside_the_job_folder_are_not_opened(tmp_path):
    (tmp_path / "job").mkdir()
    write(tmp_path, {"type": "Polygon", "coordinates": [SQUARE]})
    (tmp_path / "job" / "link.geojson").symlink_to(tmp_path / "mask.geojson")
    for name in ("../mask.geojson", str(tmp_path / "mask.geojson"), "link.geojson", "", "absent.geojson"):
        with pytest.raises(MaskUnreadable):
            Polygons(tmp_path / "job", Mask(name), GRID)
