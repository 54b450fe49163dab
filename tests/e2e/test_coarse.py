"""A coarser level first, in real processes: one or two of them leave the same bytes, and say what they drew."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import rasterio
from afterimage.engine.contract import Generate, GeoBox, Job, Sampling, loads

pytestmark = pytest.mark.timeout(900)

GRID = GeoBox("EPSG:32633", (1.0, 0.0, 500100.0, 0.0, -1.0, 4999900.0), (90, 110))
PLACE = {"AFTERIMAGE_DEVICE": "cpu", "AFTERIMAGE_BACKEND": "eager", "AFTERIMAGE_THREADS": "2"}


@pytest.fixture(scope="module")
def models(parity, import_models):
    return import_models(sys.executable, {"text2earth": (str(parity / "text2earth"), "--window", "64")})


def test_one_and_two_processes_draw_the_same_bytes_from_a_coarser_level(start_engine, make_job, models):
    folder = models.folder("text2earth")
    request = Generate(
        "text2earth", GRID, GRID, 1.0, "a harbour", Sampling(7, 4, "Euler", 2.0), coarse=2, coarse_strength=0.5
    )
    found = {}
    for count in (1, 2):
        job = make_job(f"with{count}", request=request)
        engine = start_engine(
            "run", str(job), "--workers", str(count), null=False, AFTERIMAGE_STORE=str(folder.parent), **PLACE
        )
        ending = engine.until("Succeeded", "Failed", timeout=400)
        assert type(ending).__name__ == "Succeeded", ending
        assert loads(Job, ending.result.provenance.job).request == request
        with rasterio.open(ending.result.outputs[0].path) as file:
            found[count] = file.read()
    assert np.array_equal(found[1], found[2]) and found[1].std() > 5
