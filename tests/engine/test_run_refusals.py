"""What a run refuses before any work, and how it ends at an error: with a code, a sentence and a next step."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from afterimage.engine import errors, output
from afterimage.engine.contract import ErrorCode, Generate, GeoBox, Sampling
from afterimage.engine.device import is_available

from .conftest import SETTINGS, code, super_resolve

UTM = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)


def refused(start, folder):
    found = code(start(folder))
    assert not start.drawn
    assert not list(Path(folder).glob("tiles/*"))
    return found


def test_what_there_is_no_model_for(start, make_job):
    assert refused(start, make_job(model="nothing")) is ErrorCode.UNKNOWN_MODEL
    assert refused(start, make_job(scheduler="nothing")) is ErrorCode.UNKNOWN_SCHEDULER


def test_a_prompt_of_a_megabyte(start, make_job):
    assert refused(start, make_job(prompt="x" * 1_000_000)) is ErrorCode.PROMPT_TOO_LONG
    assert "x" * 100 not in start.events[-1].failure.message
    assert refused(start, make_job(prompt="x" * 10_000_000)) is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relative.tif", ErrorCode.INVALID_REQUEST),
        ("{tmp}/picture.png", ErrorCode.INVALID_REQUEST),
        ("{tmp}/picture", ErrorCode.INVALID_REQUEST),
        ("{tmp}/" + "x" * 240 + ".tif", ErrorCode.INVALID_REQUEST),
        ("{tmp}/absent/picture.tif", ErrorCode.OUTPUT_NOT_WRITABLE),
        ("{tmp}/folder.tif", ErrorCode.OUTPUT_NOT_WRITABLE),
        ("{tmp}/file.txt/picture.tif", ErrorCode.OUTPUT_NOT_WRITABLE),
    ],
)
def test_an_output_that_cannot_be_written(start, make_job, tmp_path, name, expected):
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "file.txt").write_text("")
    assert refused(start, make_job(output=name.format(tmp=tmp_path))) is expected


def test_a_crs_that_is_none(start, make_job):
    for crs in ("http://127.0.0.1:9/x", "EPSG:999999", ""):
        grid = GeoBox(crs, UTM, (64, 64))
        request = Generate("null", grid, grid, 10.0, "", Sampling(1, 1, "null"))
        assert refused(start, make_job(request=request)) is ErrorCode.UNKNOWN_CRS


def test_an_extent_without_pixels(start, make_job):
    folder = make_job()
    text = (folder / "request.json").read_text()
    for shape in ("[0,256]", "[192,0]", "[-1,5]"):
        (folder / "request.json").write_text(text.replace("[192,256]", shape))
        assert refused(start, folder) is ErrorCode.EMPTY_EXTENT


def test_a_lattice_that_cannot_be_warped(start, make_job):
    grid = GeoBox("EPSG:4326", (1e-4, 0, 15.0, 0, -1e-4, 45.2), (64, 64))
    for crs, expected in (("EPSG:999999", ErrorCode.UNKNOWN_CRS), ("EPSG:32633", ErrorCode.UNSUPPORTED_GRID)):
        lattice = GeoBox(crs, (1e9, 0, 1e12, 0, -1e9, 1e12), (64, 64))
        assert (
            refused(start, make_job(request=Generate("null", grid, lattice, 10.0, "", Sampling(1, 1, "null"))))
            is expected
        )


def test_too_small_a_disk(start, make_job, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(output.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    folder = make_job()
    assert refused(start, folder) is ErrorCode.DISK_FULL
    failure = start.events[-1].failure
    assert failure.resumable and "1 MB" in failure.message
    monkeypatch.undo()
    assert type(start(folder)).__name__ == "Succeeded"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text", ErrorCode.SOURCE_UNREADABLE),
        ("absent", ErrorCode.SOURCE_UNREADABLE),
        ("all nodata", ErrorCode.SOURCE_EMPTY),
        ("all nan", ErrorCode.SOURCE_EMPTY),
        ("complex", ErrorCode.UNSUPPORTED_RASTER),
        ("no crs", ErrorCode.UNKNOWN_CRS),
    ],
)
def test_a_source_that_is_none(start, make_job, make_raster, kind, expected):
    folder = make_job(request=super_resolve())
    ones = np.ones((1, 20, 20))
    if kind == "text":
        (folder / "source.tif").write_text("text")
    elif kind == "all nodata":
        make_raster((ones * 7).astype("uint8"), folder=folder, nodata=7)
    elif kind == "all nan":
        make_raster((ones * np.nan).astype("float32"), folder=folder)
    elif kind == "complex":
        make_raster(ones.astype("complex64"), folder=folder)
    elif kind == "no crs":
        make_raster(ones.astype("uint8"), folder=folder, crs=None)
    assert refused(start, folder) is expected


def test_a_folder_that_is_no_job(start, tmp_path):
    assert code(start(tmp_path)) is ErrorCode.JOB_FOLDER_DAMAGED
    assert code(start(tmp_path / "absent")) is ErrorCode.JOB_FOLDER_DAMAGED
    (tmp_path / "request.json").write_text('{"type":"Job","id":"a","request":{"type":"Evil"}}')
    assert code(start(tmp_path)) is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "cuda:x", "cuda:-1"])
def test_a_device_that_is_not_there(start, make_job, device):
    settings = dataclasses.replace(SETTINGS, device=device)
    assert not is_available(device)
    ending = start(make_job(), settings)
    assert code(ending) is ErrorCode.INVALID_REQUEST and device in ending.failure.message
    assert "cpu" in ending.failure.hint and not start.drawn


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), ErrorCode.OUT_OF_MEMORY),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), ErrorCode.OUT_OF_MEMORY),
        (OSError(122, "quota"), ErrorCode.DISK_FULL),
        (ModuleNotFoundError("torch"), ErrorCode.ENGINE_MISSING),
        (ValueError("/home/someone/secret"), ErrorCode.INTERNAL),
        (RecursionError(), ErrorCode.INTERNAL),
    ],
)
def test_any_error_gets_its_code(start, make_job, error, expected):
    def broken(part):
        raise error

    start.on_draw = broken
    assert code(start(make_job())) is expected
    assert "secret" not in start.events[-1].failure.message


def test_a_home_that_is_none_hides_nothing(start, make_job, monkeypatch):
    def broken(part):
        raise ValueError("a/b")

    start.on_draw = broken
    monkeypatch.setattr(errors.os.path, "expanduser", lambda path: "/")
    assert "a/b" in start(make_job()).failure.detail
