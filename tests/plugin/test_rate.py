import dataclasses

import pytest
from afterimage.engine.contract import (
    Edit,
    GeoBox,
    Input,
    Job,
    Mask,
    ModelCard,
    Output,
    Provenance,
    Regions,
    Result,
    Role,
    Source,
    dumps,
    estimate,
    loads,
)
from afterimage.plugin import rate


@pytest.fixture
def finished(request_):
    card = ModelCard(
        "m", "M", "", "f", "1", ("Generate",), ("red",), (1.0, 20.0), 64, 48, ("DDIM",), 10, gflop_per_window_step=50.0
    )
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), (512, 512))
    request = dataclasses.replace(request_, grid=grid, lattice=grid)
    text = dumps(Job("a", request))

    def make(seconds, text=text):
        record = Provenance("Generate", "m", {}, "", "", text, "", "", None, 1, "DDIM", 2, 1.0, (), grid, "0", "")
        return Result((Output("/r.tif", Role.SAMPLE, 1, grid, ("red", "green", "blue"), "uint8"),), record, (), seconds)

    return make, card, estimate(request, card, gflops=100.0)


def test_estimates_come_true_after_a_few_jobs(finished):
    make, card, whole = finished
    gflops = 1000.0
    for _ in range(20):
        gflops = rate.learn(gflops, make(whole.seconds), card)
    assert gflops == pytest.approx(100.0, rel=0.01)


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_short_jobs_teach_nothing(finished, seconds):
    make, card, _ = finished
    assert rate.learn(77.0, make(seconds), card) == 77.0


def test_an_edit_inside_polygons_teaches_nothing(finished, request_):
    make, card, _ = finished
    whole = Edit("m", Source("inputs/source.tif"), 10.0, "forest", request_.sampling)
    part = dataclasses.replace(whole, mask=Mask("inputs/mask.geojson"))
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), (512, 512))
    for request, learns in ((whole, True), (part, False)):
        result = make(100.0, text=dumps(Job("a", request)))
        record = dataclasses.replace(result.provenance, inputs=(Input("layer", "", grid),))
        result = dataclasses.replace(result, provenance=record)
        assert (rate.learn(77.0, result, card) != 77.0) is learns


def test_a_job_with_regions_teaches_nothing_however_few_texts_met(finished):
    make, card, _ = finished
    request = loads(Job, make(1.0).provenance.job).request
    for regions, learns in ((None, True), (Regions("inputs/regions.geojson", "Zoning", True), False)):
        result = make(100.0, text=dumps(Job("a", dataclasses.replace(request, regions=regions))))
        assert (rate.learn(77.0, result, card) != 77.0) is learns


def test_a_record_that_cannot_be_read_teaches_nothing(finished):
    make, card, _ = finished
    assert rate.learn(77.0, make(1000.0, text="{}"), card) == 77.0
