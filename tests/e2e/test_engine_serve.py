"""The real engine process, over its real pipe."""

from __future__ import annotations

import json
import os
import time

import rasterio
from afterimage.engine.contract import Ready, Submit


def read(path):
    with rasterio.open(path) as file:
        return file.read(), file.dataset_mask() > 0


def test_a_job_becomes_a_layer(start_engine, make_job, tmp_path):
    folder = make_job(samples=2, output=tmp_path / "out" / "picture.tif", date="2024-06-01")
    (tmp_path / "out").mkdir()
    engine = start_engine("serve")
    assert isinstance(engine.event(), Ready)
    engine.send(Submit("job", str(folder)))
    assert type(engine.event()).__name__ == "Started"
    result = engine.until("Succeeded", "Failed").result
    assert [output.sample for output in result.outputs] == [1, 2]
    for output in result.outputs:
        with rasterio.open(output.path) as file:
            assert file.shape == (192, 256) and file.crs.to_epsg() == 32633
            assert file.tags()["AI_GENERATED"] == "YES"
            assert json.loads(file.tags(ns="AFTERIMAGE")["PROVENANCE"])["prompt"] == "a forest"
    item = json.loads((tmp_path / "out" / "picture.stac.json").read_text())
    assert item["properties"]["datetime"] == "2024-06-01T00:00:00Z"
    assert sorted(os.listdir(tmp_path / "out")) == [
        "picture.stac.json",
        "picture.tif",
        "picture_2.stac.json",
        "picture_2.tif",
    ]
    engine.send(Submit("job", str(folder)))
    assert engine.until("Succeeded").result == result
    assert engine.end() == 0


def test_it_ends_when_its_input_ends(start_engine, make_job):
    engine = start_engine("serve", NULL_CHUNK_SECONDS="1")
    engine.event()
    engine.send(Submit("job", str(make_job())))
    engine.until("Progressed")
    began = time.monotonic()
    assert engine.end() == 0
    assert time.monotonic() - began < 5
