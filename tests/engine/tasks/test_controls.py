"""Layers that guide a picture: what is refused, what the network is shown, and that windows agree."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from afterimage.engine.__main__ import main
from afterimage.engine.contract import Control, Generate, GeoBox, Job, Sampling, Source, Window, dumps
from afterimage.engine.controls import maps
from afterimage.engine.errors import (
    ExtentTooLarge,
    InvalidRequest,
    JobCancelled,
    RequestError,
    SourceEmpty,
    SourceUnreadable,
)
from afterimage.engine.tasks.controls import Controls

GRID = GeoBox("EPSG:32633", (2.0, 0.0, 500_000.0, 0.0, -2.0, 5_000_000.0), (160, 200))
PLACE = {"transform": (2.0, 0.0, 500_000.0, 0.0, -2.0, 5_000_000.0)}
KINDS = ("lines", "edges", "sketch", "roads", "depth", "land_use")


@pytest.fixture
def read(tmp_path, card):
    """Kind -> tensor of a window, or the controls themselves."""

    def make(*controls, grid=GRID, window=None, whole=False, check=lambda: None, **changes):
        made = Controls(tmp_path, controls, grid, card(**{"controls": KINDS, **changes}), check)
        return made if whole else made.read(window or grid.window)

    return make


def roof(background=60, bright=200, shape=(160, 200)):
    """A bright rectangle from row 40 to 100 and column 50 to 150."""
    pixels = np.full((1, *shape), background, np.uint8)
    pixels[0, 40:100, 50:150] = bright
    return pixels


def test_a_picture_of_bytes_is_taken_as_it_is(read, make_raster):
    pixels = np.random.default_rng(0).integers(0, 256, (3, *GRID.shape)).astype(np.uint8)
    make_raster(pixels, **PLACE)
    found = read(Control("sketch", Source("source.tif")))
    assert set(found) == {"sketch"} and found["sketch"].dtype == torch.float32
    assert np.array_equal(found["sketch"].numpy(), pixels.astype(np.float32) / np.float32(255))


def test_one_band_is_repeated_and_gaps_and_beyond_are_black(read, make_raster):
    pixels = roof(bright=255)
    mask = np.ones(GRID.shape, bool)
    mask[:, 120:] = False
    make_raster(pixels, mask=mask, **PLACE)
    found = read(Control("roads", Source("source.tif")), window=Window(-20, -10, 180, 230))["roads"].numpy()
    wanted = np.zeros((180, 230), np.float32)
    wanted[20:180, 10:130] = pixels[0, :, :120] / np.float32(255)
    assert found.shape == (3, 180, 230) and (found == wanted).all()


def test_numbers_of_other_types_are_stretched_over_the_whole_raster(read, make_raster):
    ramp = np.linspace(1000, 9000, 400).astype(np.uint16)
    make_raster(np.broadcast_to(ramp, (1, 160, 400)).copy(), **PLACE)
    left = read(Control("sketch", Source("source.tif")))["sketch"].numpy()
    right = read(Control("sketch", Source("source.tif")), window=Window(0, 200, 160, 200))["sketch"].numpy()
    row = np.concatenate([left[0, 0], right[0, 0]])
    assert row[0] == 0 and row[-1] == 1 and np.all(np.diff(row) >= 0)
    assert row[200] == pytest.approx(0.5, abs=0.01)


def test_colours_of_land_use_are_not_mixed(read, make_raster):
    palette = np.array([[255, 0, 0], [0, 0, 255], [255, 195, 128]], np.uint8)
    pixels = palette[np.random.default_rng(0).integers(0, 3, (500, 700))].transpose(2, 0, 1)
    make_raster(pixels, transform=(0.7, 0.0, 500_000.0, 0.0, -0.7, 5_000_000.0))
    found = read(Control("land_use", Source("source.tif")))["land_use"].numpy()
    colours = {tuple(np.rint(each * 255).astype(int)) for each in found.reshape(3, -1).T}
    assert colours == {tuple(each) for each in palette.astype(int).tolist()}


@pytest.mark.parametrize("derive", ["", "lines", "edges", "depth"])
def test_a_pixel_is_the_same_in_any_window(read, make_raster, derive, shared_picture):
    make_raster(shared_picture, crs="EPSG:32633", transform=(1.7, 0.4, 499_980.0, 0.4, -1.7, 5_000_010.0))
    kind = derive or "sketch"
    source = Source("source.tif", bands=(1,)) if derive == "depth" else Source("source.tif")
    controls = read(Control(kind, source, derive), whole=True)
    far = GRID.window.pad(30)
    whole = controls.read(far)[kind]
    assert whole.min() == 0 and whole.max() > 0.9
    rng = np.random.default_rng(0)
    again = read(Control(kind, source, derive), whole=True)
    for _ in range(12):
        row, col = int(rng.integers(-30, 150)), int(rng.integers(-30, 190))
        window = Window(row, col, int(rng.integers(1, 40)), int(rng.integers(1, 40)))
        rows, cols = window.relative_to(far).slices()
        assert torch.equal(again.read(window)[kind], whole[:, rows, cols])


@pytest.fixture
def shared_picture(root):
    """Three bands of bytes with roofs of every shade and noise."""
    rng = np.random.default_rng(5)
    pixels = rng.normal(90, 4, (3, 220, 260))
    for _ in range(25):
        row, col, height, width = (int(each) for each in rng.integers((0, 0, 20, 20), (200, 240, 60, 60)))
        pixels[:, row : row + height, col : col + width] += rng.integers(-70, 70, (3, 1, 1))
    return np.clip(pixels, 1, 254).astype(np.uint8)


def test_lines_are_the_straight_ones_and_white_on_black(read, make_raster):
    rng = np.random.default_rng(0)
    pixels = roof().astype(np.int64) + rng.integers(-3, 4, (1, *GRID.shape))
    make_raster(pixels.astype(np.uint8), **PLACE)
    found = read(Control("lines", Source("source.tif"), "lines"))["lines"]
    assert set(torch.unique(found).tolist()) == {0.0, 1.0}
    on = found[0] > 0
    outline = torch.zeros_like(on)
    outline[38:103, 48:153] = True
    outline[43:98, 53:148] = False
    assert not (on & ~outline).any()  # noise makes no lines
    for side in (
        on[38:43, 60:140].any(0),
        on[97:103, 60:140].any(0),
        on[50:90, 48:53].any(1),
        on[50:90, 147:153].any(1),
    ):
        assert side.float().mean() > 0.9


def test_edges_follow_what_is_round_too(read, make_raster):
    rows, cols = np.mgrid[0:160, 0:200]
    disc = np.hypot(rows - 80, cols - 100) < 12
    make_raster(np.where(disc, 220, 40).astype(np.uint8)[None].repeat(3, 0), **PLACE)
    edges = read(Control("edges", Source("source.tif"), "edges"))["edges"][0] > 0
    lines = read(Control("lines", Source("source.tif"), "lines"))["lines"][0] > 0
    radius = torch.from_numpy(np.hypot(rows - 80, cols - 100))
    assert edges.sum() > 40 and ((radius[edges] > 9) & (radius[edges] < 15)).all()
    assert not lines.any()


@pytest.mark.parametrize("derive", ["lines", "edges"])
def test_the_rim_of_the_data_is_no_line(read, make_raster, derive):
    mask = np.zeros(GRID.shape, bool)
    mask[20:140, 30:170] = True
    pixels = np.where(mask, 200, 0).astype(np.uint8)[None]
    make_raster(pixels, mask=mask, **PLACE)
    assert not read(Control(derive, Source("source.tif"), derive))[derive].any()
    mask[60:90, 60:90] = False  # and a roof beside a hole is still found
    pixels[0, 40:120, 100:150] = 90
    make_raster(pixels, mask=mask, name="other.tif", **PLACE)
    found = read(Control(derive, Source("other.tif"), derive))[derive][0] > 0
    assert found[38:122, 97:103].any() and not found[:, :95].any()


def test_windows_see_lines_beyond_the_extent(read, make_raster):
    make_raster(roof(), **PLACE)
    small = GRID.crop(Window(60, 70, 40, 40))  # inside the roof
    controls = read(Control("lines", Source("source.tif"), "lines"), grid=small, whole=True)
    assert not controls.read(small.window)["lines"][:, :30].any()
    assert controls.read(Window(-40, -40, 120, 130))["lines"].any()


def test_derived_maps_are_made_once(read, make_raster, tmp_path, monkeypatch):
    from afterimage.engine.controls import linework

    make_raster(roof(), **PLACE)
    calls = []
    real = linework.straight_lines
    monkeypatch.setattr(linework, "straight_lines", lambda *given: calls.append(1) or real(*given))
    control = Control("lines", Source("source.tif"), "lines")
    first = read(control)["lines"]
    assert torch.equal(read(control)["lines"], first) and len(calls) == 1
    assert [path.suffix for path in (tmp_path / "scratch" / "controls").iterdir()] == [".tif"]
    read(control, grid=GRID.crop(Window(0, 0, 100, 100)))
    make_raster(roof(background=90), **PLACE)
    read(control)
    assert len(calls) == 3


def test_an_extent_too_large_to_look_for_lines_in_is_refused(read, make_raster, monkeypatch):
    make_raster(roof(), **PLACE)
    monkeypatch.setattr(maps, "DERIVED_LIMIT", GRID.pixels)
    for derive in ("lines", "edges"):
        with pytest.raises(ExtentTooLarge, match="margin"):
            read(Control(derive, Source("source.tif"), derive))
    read(Control("depth", Source("source.tif"), "depth"))
    read(Control("lines", Source("source.tif")))


def test_high_ground_is_near(read, make_raster):
    rows, cols = np.mgrid[0:320, 0:400]
    heights = (1200 + 0.5 * cols + 0.1 * rows).astype(np.float32)[None]
    heights[0, 5, 5] = 9000  # one bad pixel does not make the land flat
    heights[0, :, 300:] = -9999
    make_raster(heights, nodata=-9999, **PLACE)
    found = read(Control("depth", Source("source.tif"), "depth"))["depth"]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert found[0, 80, 0] < 0.2 and found[0, 80, 199] > 0.9 and (found[0, 80].diff() >= 0).all()
    assert found[0, 20, 10] < 0.15
    beyond = read(Control("depth", Source("source.tif"), "depth"), window=Window(0, 290, 50, 20))["depth"]
    assert (beyond[0, :, 10:] == 0).all()


def test_even_ground_is_black(read, make_raster):
    make_raster(np.full((1, *GRID.shape), 512.0, np.float32), **PLACE)
    assert not read(Control("depth", Source("source.tif"), "depth"))["depth"].any()


def test_heights_that_are_no_whole_extent_span_it(read, make_raster):
    """Only the heights of the extent count, not those of the whole raster."""
    heights = np.broadcast_to(np.linspace(0, 4000, 1000), (1, 160, 1000)).astype(np.int16).copy()
    make_raster(heights, **PLACE)
    found = read(Control("depth", Source("source.tif"), "depth"))["depth"][0]
    assert found.min() == 0 and found.max() == 1


def test_where_a_control_came_from_is_told(read, make_raster, tmp_path):
    from afterimage.engine.raster import SourceRaster

    make_raster(roof(), name="a.tif", **PLACE)
    make_raster(roof(bright=255), name="b.tif", **PLACE)
    controls = read(
        Control("lines", Source("a.tif", "Orthophoto"), "lines"), Control("roads", Source("b.tif")), whole=True
    )
    assert [each.name for each in controls.inputs] == ["Orthophoto", "b.tif"]
    with SourceRaster(tmp_path, Source("a.tif")) as file:
        assert controls.inputs[0].sha256 == file.sha256() and controls.inputs[0].grid == file.grid


@pytest.mark.parametrize(
    ("control", "changes", "words"),
    [
        (Control("map", Source("source.tif")), {}, "It takes lines, edges, sketch, roads, depth, land use."),
        (Control("roads", Source("source.tif")), {"controls": ()}, "another"),
        (Control("roads", Source("source.tif"), strength=0.5), {}, "strength"),
        (Control("roads", Source("source.tif")), {"required": ("roads", "depth")}, "Choose one"),
        (Control("sketch", Source("source.tif"), "edges"), {}, "shows sketch"),
        (Control("roads", Source("source.tif", bands=(1, 2))), {}, "bands"),
        (Control("depth", Source("source.tif"), "depth"), {}, "bands"),
        (Control("roads", Source("source.tif", bands=(7,))), {}, "bands"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(read, make_raster, control, changes, words):
    make_raster(np.random.default_rng(0).integers(0, 255, (3, *GRID.shape)).astype(np.uint8), **PLACE)
    if words == "another":
        words = "choose a model that takes it"
    with pytest.raises(InvalidRequest) as refusal:
        read(control, **changes)
    assert words in refusal.value.message + refusal.value.hint


def test_a_strength_is_taken_where_the_model_knows_it(read, make_raster):
    make_raster(roof(), **PLACE)
    assert read(Control("roads", Source("source.tif"), strength=0.5), uses=("prompt", "control_strength"))


def test_a_missing_control_is_told_without_any(read):
    with pytest.raises(InvalidRequest, match="needs a layer of map"):
        read(controls=("map",), required=("map",))


def test_a_layer_that_is_elsewhere_or_empty_is_refused_and_named(read, make_raster):
    make_raster(roof(), transform=(2.0, 0.0, 700_000.0, 0.0, -2.0, 5_000_000.0))
    make_raster(roof(), mask=np.zeros(GRID.shape, bool), name="empty.tif", **PLACE)
    make_raster(roof(), crs=None, name="nowhere.tif", **PLACE)
    for name, error in (("source.tif", SourceEmpty), ("empty.tif", SourceEmpty), ("nowhere.tif", RequestError)):
        with pytest.raises(error) as refusal:
            read(Control("roads", Source(name, "Streets")))
        assert "Streets" in refusal.value.message and "roads" in refusal.value.message and refusal.value.hint
    with pytest.raises(SourceUnreadable, match="Streets"):
        read(Control("roads", Source("gone.tif", "Streets")))


def test_a_mask_of_zeros_and_ones_is_not_taken_for_a_picture(read, make_raster):
    make_raster(roof(background=0, bright=1), **PLACE)
    with pytest.raises(InvalidRequest, match="black to the model"):
        read(Control("roads", Source("source.tif")))
    make_raster(np.zeros((1, *GRID.shape), np.uint8), **PLACE)  # no road here is no mistake
    assert not read(Control("roads", Source("source.tif")))["roads"].any()


def test_a_cancel_stops_it(read, make_raster):
    make_raster(roof(), **PLACE)

    def cancelled():
        raise JobCancelled

    with pytest.raises(JobCancelled):
        read(Control("lines", Source("source.tif"), "lines"), check=cancelled)


@pytest.fixture
def job(tmp_path, card):
    """A job folder below a folder of models that holds one which is guided."""
    models = tmp_path / "models" / "guided"
    models.mkdir(parents=True)
    guided = card(id="guided", controls=KINDS, window=64, stride=48)
    (models / "card.json").write_text(dumps(guided), encoding="utf-8")
    folder = tmp_path / "job"
    folder.mkdir()
    request = Generate("guided", GRID, GRID, 10.0, "a town", Sampling(1, 2, "DDIM"))

    def make(*controls, **changes):
        given = dataclasses.replace(request, controls=controls, **changes)
        (folder / "request.json").write_text(dumps(Job("job", given)), encoding="utf-8")
        return ["--models", str(models.parent), "controls", str(folder), "--out", str(tmp_path / "shown")]

    return make


def test_what_the_model_will_see_is_written_as_pictures(job, make_raster, tmp_path, capsys):
    make_raster(roof(), folder=tmp_path / "job", name="photo.tif", **PLACE)
    make_raster(roof(bright=255), folder=tmp_path / "job", name="roads.tif", **PLACE)
    given = Control("lines", Source("photo.tif"), "lines"), Control("roads", Source("roads.tif"))
    assert main(job(*given)) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == ["lines", "roads"]
    seen = Controls(tmp_path / "job", given, GRID, _any_card()).read(GRID.window)
    for line in lines:
        with rasterio.open(line["path"]) as file:
            assert file.crs.to_epsg() == 32633 and tuple(file.transform)[:6] == GRID.transform
            assert [each.name for each in file.colorinterp] == ["red", "green", "blue"] and file.dtypes[0] == "uint8"
            assert np.array_equal(file.read(), np.rint(seen[line["kind"]].numpy() * 255))
            assert (file.read_masks(1) == 255).all()
    assert {path.name for path in (tmp_path / "shown").iterdir()} == {"lines.tif", "roads.tif"}


def test_a_preview_ends_with_its_input(job, root):
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import launch; from pathlib import Path;"
        "launch.register(Path(sys.argv[1]).parent); from afterimage.engine import __main__ as line;"
        "line._controls = lambda *_: print('at work', flush=True) or time.sleep(60); line.main(sys.argv[2:])"
    )
    words = [sys.executable, "-c", code, str(root / "engine"), *job(), "--watch-stdin"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == b"at work" and process.poll() is None
        process.stdin.close()
        assert process.wait(30) == 2


def test_a_preview_needs_no_torch(job, make_raster, tmp_path, root):
    make_raster(roof(), folder=tmp_path / "job", **PLACE)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import launch; from pathlib import Path;"
        "launch.register(Path(sys.argv[1]).parent); from afterimage.engine.__main__ import main;"
        "assert main(sys.argv[2:]) == 0; assert 'torch' not in sys.modules"
    )
    arguments = job(Control("edges", Source("source.tif"), "edges"))
    subprocess.run([sys.executable, "-c", code, str(root / "engine"), *arguments], check=True, timeout=120)
    assert (tmp_path / "shown" / "edges.tif").is_file()


def test_a_preview_lies_on_the_grid_that_the_model_draws_on(job, make_raster, tmp_path, capsys):
    """The model draws 8 to 12 m per pixel; asked for 6, it draws 8, and that is where it looks for lines."""
    make_raster(roof(), folder=tmp_path / "job", **PLACE)
    grid = GeoBox("EPSG:32633", (6.0, 0.0, 500_000.0, 0.0, -6.0, 5_000_000.0), (50, 60))
    assert main(job(Control("roads", Source("source.tif")), grid=grid, lattice=grid, gsd=6.0)) == 0
    with rasterio.open(json.loads(capsys.readouterr().out)["path"]) as file:
        assert file.transform.a == 8.0 and file.width > 60 * 6 / 8
    assert main(job(Control("roads", Source("source.tif")), grid=grid, lattice=grid, gsd=100.0)) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "UNSUPPORTED_RESOLUTION"


def _any_card():
    from afterimage.engine.contract import ModelCard

    return ModelCard(
        "x", "X", "", "x", "1", ("Generate",), ("red", "green", "blue"), (1.0, 4.0), 64, 48, ("DDIM",), 4,
        controls=KINDS,
    )  # fmt: skip


@pytest.mark.parametrize("wrong", ["elsewhere", "model", "folder"])
def test_a_refusal_is_the_last_line(job, make_raster, tmp_path, capsys, wrong):
    make_raster(roof(), folder=tmp_path / "job", transform=(2.0, 0.0, 700_000.0, 0.0, -2.0, 5_000_000.0))
    control = Control("roads", Source("source.tif", "Streets"))
    arguments = job(control, model="none") if wrong == "model" else job(control)
    if wrong == "folder":
        (tmp_path / "job" / "request.json").unlink()
    assert main(arguments) == 1
    out = capsys.readouterr().out
    report = json.loads(out.splitlines()[-1])
    assert report["ok"] is False and report["message"] and report["hint"]
    codes = {"elsewhere": "SOURCE_EMPTY", "model": "UNKNOWN_MODEL", "folder": "JOB_FOLDER_DAMAGED"}
    assert report["code"] == codes[wrong]
    assert str(tmp_path) not in out
