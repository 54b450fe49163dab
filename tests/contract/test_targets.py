"""Which files a job leaves behind: the engine writes them, the plugin looks at them beforehand."""

import pytest
from afterimage.engine.contract import Generate, GeoBox, Sampling, Source, SuperResolve, target_paths

GRID = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (64, 64))


def finer(samples, spread=False, mean=False):
    sampling = Sampling(1, 1, "DDIM", samples=samples)
    return SuperResolve("m", Source("inputs/source.tif"), 2, 10.0, sampling, spread, mean=mean)


@pytest.mark.parametrize(
    ("request_", "output", "spread", "expected"),
    [
        (finer(1), "/d/scene.tif", "", ("/d/scene.tif",)),
        (finer(1), "/d/scene.tif", "/d/s.tif", ("/d/scene.tif",)),
        (finer(3), "/d.e/scene", "", ("/d.e/scene", "/d.e/scene_2", "/d.e/scene_3")),
        (finer(2, True), "/d/a.b.tif", "", ("/d/a.b.tif", "/d/a.b_2.tif", "/d/a.b_spread.tif")),
        (finer(2, True), "/d/scene.tif", "/e/s.tif", ("/d/scene.tif", "/d/scene_2.tif", "/e/s.tif")),
        (finer(2, True), "", "/e/s.tif", ("/e/s.tif",)),
        (finer(2, True), "", "", ()),
        (Generate("m", GRID, GRID, 10.0, "sea", Sampling(1, 1, "DDIM", samples=2)), "a.tif", "b", ("a.tif", "a_2.tif")),
    ],
)
def test_every_file_has_its_name(request_, output, spread, expected):
    assert target_paths(request_, output, spread) == expected


@pytest.mark.parametrize(
    ("request_", "output", "mean", "expected"),
    [
        (finer(1), "/d/scene.tif", "/e/m.tif", ("/d/scene.tif",)),
        (finer(1, mean=True), "/d/a.b.tif", "", ("/d/a.b.tif", "/d/a.b_mean.tif")),
        (finer(2, True, True), "/d/a.tif", "/e/m.tif", ("/d/a.tif", "/d/a_2.tif", "/e/m.tif", "/d/a_spread.tif")),
        (finer(1, mean=True), "", "/e/m.tif", ("/e/m.tif",)),
        (finer(1, mean=True), "", "", ()),
    ],
)
def test_the_mean_comes_after_the_samples_and_before_the_spread(request_, output, mean, expected):
    assert target_paths(request_, output, mean_output=mean) == expected
