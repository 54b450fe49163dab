"""Regions from a layer to pixels: ``qgis_process``, the real engine, a tiny model."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")

import numpy as np
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsGeometry,
    QgsRectangle,
)

#: 256 by 96 pixels of 10 m.
LEFT, BOTTOM, WIDTH, HEIGHT = 500000, 5000000, 2560, 960
EXTENT = f"{LEFT},{LEFT + WIDTH},{BOTTOM},{BOTTOM + HEIGHT} [EPSG:32633]"
#: Columns at either side whose windows see one region only: 128 to the border, less a window and what is blended.
ALONE = 40


@pytest.fixture
def zoning(tmp_path):
    """A file in degrees: the western half is to be a forest, the eastern a river, above that a lake without a text."""
    way = QgsCoordinateTransform(
        QgsCoordinateReferenceSystem("EPSG:32633"),
        QgsCoordinateReferenceSystem("EPSG:4326"),
        QgsCoordinateTransformContext(),
    )
    middle, top = LEFT + WIDTH / 2, BOTTOM + HEIGHT
    features = []
    for text, *corners in (
        ("forest", LEFT - 2000, BOTTOM - 2000, middle, top + 2000),
        ("river", middle, BOTTOM + 320, LEFT + WIDTH + 2000, top + 2000),
        (None, LEFT, BOTTOM, LEFT + WIDTH, top),
    ):
        ground = QgsGeometry.fromRect(QgsRectangle(*corners))
        ground = ground.densifyByCount(20)
        ground.transform(way)
        geometry = json.loads(ground.asJson(12))
        features.append({"type": "Feature", "properties": {"use": text}, "geometry": geometry})
    path = tmp_path / "zoning.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def drawn(qgis_process, target, *more):
    """(pixels, whether there are data) of a picture."""
    arguments = (f"--EXTENT={EXTENT}", "--RESOLUTION=10", "--STEPS=2", "--SEED=5", "--MODEL=tiny-generate")
    status, results, said = qgis_process("run", "afterimage:generate", *arguments, *more, f"--OUTPUT={target}")
    assert status == 0, said
    assert results["OUTPUT"] == str(target) and "Traceback" not in said
    file = gdal.Open(str(target))
    return file.ReadAsArray(), file.GetRasterBand(1).GetMaskBand().ReadAsArray() > 0


def test_each_polygon_is_drawn_from_its_own_text(qgis_process, zoning, tmp_path):
    given = (f"--REGIONS={zoning}", "--REGIONS_FIELD=use")
    both, _ = drawn(qgis_process, tmp_path / "both.tif", *given, "--PROMPT=Sea Lake")
    forest, everywhere = drawn(qgis_process, tmp_path / "forest.tif", "--PROMPT=Forest")
    assert everywhere.all() and both.shape == forest.shape == (3, 96, 256)
    np.testing.assert_array_equal(both[:, :, :ALONE], forest[:, :, :ALONE])
    assert (both[:, :, -ALONE:] != forest[:, :, -ALONE:]).mean() > 0.1
    inside, valid = drawn(qgis_process, tmp_path / "inside.tif", *given, "--REGIONS_ONLY=true")
    expected = np.ones((96, 256), bool)
    expected[64:, 128:] = False  # the river ends 32 pixels above the southern edge, and nothing says what is below
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(inside[:, :, :ALONE], forest[:, :, :ALONE])


def test_regions_that_cannot_be_drawn_are_refused_without_a_traceback(qgis_process, zoning, tmp_path):
    target = tmp_path / "x.tif"
    common = (
        "--RESOLUTION=10",
        "--MODEL=tiny-generate",
        "--PROMPT=Forest",
        f"--REGIONS={zoning}",
        f"--OUTPUT={target}",
    )
    for more, code in (
        ((f"--EXTENT={EXTENT}",), "INVALID_REQUEST"),  # there is no field "prompt"
        (("--EXTENT=600000,602000,5000000,5001000 [EPSG:32633]", "--REGIONS_FIELD=use"), "MASK_EMPTY"),
    ):
        status, _, said = qgis_process("run", "afterimage:generate", *common, *more)
        assert status != 0 and f"{code}: " in said and "Traceback" not in said and not target.exists()
