"""The content of a picture: read once a job from a whole raster, wherever it lies, and told to every window."""

import json

import numpy as np
import pytest
import rasterio
import torch
from afterimage.engine.__main__ import main
from afterimage.engine.contract import Control, Generate, GeoBox, Job, Sampling, Source, Window, dumps
from afterimage.engine.controls import maps
from afterimage.engine.diffusion.noise import field
from afterimage.engine.errors import InvalidRequest, SourceEmpty
from afterimage.engine.models.base import Scene
from afterimage.engine.models.crs_diff import FOREIGN_TOWER, QUALITY, metadata_vector
from afterimage.engine.models.picture import load_model
from afterimage.engine.models.published import open_model
from afterimage.engine.store.install import install
from afterimage.engine.store.wish import Wish
from afterimage.engine.tasks import generate
from afterimage.engine.tasks.controls import Controls

GRID = GeoBox("EPSG:32633", (1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0), (128, 128))
#: As far from the grid as can be.
ELSEWHERE = {"crs": "EPSG:32720", "transform": (3.0, 0.0, 300_000.0, 0.0, -3.0, 7_000_000.0)}
CONTENT = Control("content", Source("source.tif", "a harbour elsewhere"))


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(6)
    return (rng.integers(20, 220, (3, 10, 12)).repeat(9, 1).repeat(9, 2) + rng.integers(0, 30, (3, 90, 108))).astype(
        np.uint8
    )


@pytest.fixture
def read(tmp_path, card):
    def make(*controls):
        kinds = ("roads", "content")
        return Controls(tmp_path, controls, GRID, card(controls=kinds, uses=("content_strength",)))

    return make


def test_the_whole_raster_is_read_wherever_it_lies(read, make_raster, picture):
    make_raster(picture, **ELSEWHERE)
    controls = read(CONTENT)
    assert np.array_equal(controls.picture().numpy(), picture) and controls.picture().dtype == torch.uint8
    assert controls.read(GRID.window) == {}, "no window sees it"
    (given,) = controls.inputs
    assert (given.name, given.grid.crs, given.grid.shape) == ("a harbour elsewhere", "EPSG:32720", (90, 108))
    assert len(given.sha256) >= 64


def test_without_content_there_is_no_picture(read, make_raster, picture):
    make_raster(picture, crs=GRID.crs, transform=GRID.transform)
    controls = read(Control("roads", Source("source.tif")))
    assert controls.picture() is None and controls.content_grid is None


def test_other_types_are_stretched_and_gaps_are_black(read, make_raster):
    pixels = np.linspace(1000, 9000, 400).astype(np.uint16)[None, None].repeat(40, 1)
    mask = np.ones((40, 400), bool)
    mask[:10] = False
    make_raster(pixels, mask=mask, **ELSEWHERE)
    found = read(CONTENT).picture().numpy()
    assert found.shape == (3, 40, 400) and (found[0] == found[2]).all() and not found[:, :10].any()
    assert found[0, 20, 0] == 0 and found[0, 20, -1] == 255 and found[0, 20, 200] in range(124, 132)


def test_a_very_large_raster_is_read_coarsely(read, make_raster, picture, monkeypatch):
    monkeypatch.setattr(maps, "CONTENT_SIDE", 54)
    make_raster(picture, **ELSEWHERE)
    found = read(CONTENT).picture().numpy()
    mean = picture.reshape(3, 45, 2, 54, 2).mean((2, 4))
    assert found.shape == mean.shape and np.abs(found - mean).max() <= 1


def test_a_raster_without_data_is_refused(read, make_raster, picture):
    make_raster(picture, mask=np.zeros(picture.shape[1:], bool), **ELSEWHERE)
    with pytest.raises(SourceEmpty, match="a harbour elsewhere for content: It holds no data"):
        read(CONTENT)


def test_only_content_has_a_strength(read, make_raster, picture):
    make_raster(picture, crs=GRID.crs, transform=GRID.transform)
    read(Control("content", Source("source.tif"), strength=0.5))
    with pytest.raises(InvalidRequest, match="knows no strength of roads"):
        read(Control("roads", Source("source.tif"), strength=0.5))


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(crs_checkpoint, save_tower, tmp_path_factory):
    """CRS-Diff's reference checkpoint with a tiny tower, imported."""
    store = tmp_path_factory.mktemp("store")
    tower = save_tower(tmp_path_factory.mktemp("tower"))
    install(crs_checkpoint, None, Wish("crs", window=128, tower=tower), store, lambda notice: None)
    return store / "crs"


@pytest.fixture(scope="module")
def model(folder):
    from afterimage.engine.contract import ModelCard, loads

    return load_model(loads(ModelCard, (folder / "card.json").read_bytes()), folder, torch.device("cpu"))


def asked_for(grid=GRID, controls=(CONTENT,), guidance=7.5):
    sampling = Sampling(seed=5, steps=2, scheduler="DDIM", guidance_scale=guidance)
    return Generate("crs", grid, grid, 1.0, "a harbour", sampling, date="2017-02-11", controls=controls)


def test_the_task_draws_what_python_draws_with_the_vector(bench, make_raster, picture, model, folder):
    make_raster(picture, **ELSEWHERE)
    strong = Control("content", CONTENT.source, strength=1.5)
    network = open_model(folder)
    content = network.tower.vector(torch.from_numpy(picture))
    noise = field(5, 0, Window(0, 0, 16, 16), 4)[None]
    told = dict(
        prompt=f"a harbour, {QUALITY}",
        negative_prompt="",
        guidance_scale=7.5,
        metadata=metadata_vector(year=2017, month=2, day=11, gsd=1.0),
    )
    drawn = []
    for controls, more in (
        ((CONTENT,), {"content": content}),
        ((strong,), {"content": content, "content_strength": 1.5}),
        ((), {}),
    ):
        made, _ = bench.make(generate, asked_for(controls=controls), model)
        sampled = network.sample(noise, 2, **told, **more)
        expected = (network.decode(sampled.latents)[0].clamp(0, 1) * 255).round().byte().numpy()
        # the task weighs its windows, here by a number over itself: a pixel in some ten thousand is rounded elsewhere
        off = np.abs(made.astype(int) - expected)
        assert off.max() <= 1 and (off > 0).mean() < 1e-4
        drawn.append(made)
    assert (drawn[0] != drawn[2]).mean() > 0.05 and (drawn[0] != drawn[1]).mean() > 0.05


def test_the_picture_is_read_once_for_all_windows(bench, make_raster, picture, model, asked, monkeypatch):
    make_raster(picture, **ELSEWHERE)
    read = []
    vector = type(model.network.tower).vector
    monkeypatch.setattr(type(model.network.tower), "vector", lambda self, given: read.append(1) or vector(self, given))
    wide = GeoBox(GRID.crs, GRID.transform, (128, 300))
    work = bench.plan(generate, asked_for(wide), model)
    bench.draw(work)
    assert len(read) == 1 and len(asked) >= 2
    expected = vector(model.network.tower, torch.from_numpy(picture))
    assert all(torch.equal(told["content"], expected) for told in asked)


def test_the_run_says_that_another_tower_read_it(bench, make_raster, picture, model):
    make_raster(picture, **ELSEWHERE)
    work = bench.plan(generate, asked_for(), model)
    assert FOREIGN_TOWER in work.notices
    assert [given.name for given in work.inputs] == ["a harbour elsewhere"]
    assert FOREIGN_TOWER not in bench.plan(generate, asked_for(controls=()), model).notices


def test_in_guidance_the_null_branch_has_none(model, picture):
    content = model.network.tower.vector(torch.from_numpy(picture))
    null, conditional = model.network.branches(1, content=content, size=(128, 128))
    assert not null.told["content"].any() and torch.equal(conditional.told["content"], content)


def test_a_model_without_a_tower_is_not_told_of_content(crs_checkpoint, picture):
    network = open_model(crs_checkpoint)
    with pytest.raises(InvalidRequest, match="no image tower"):
        network.asked(Scene("a harbour", content=torch.from_numpy(picture)))


def test_what_the_model_will_see_can_be_looked_at(folder, make_raster, picture, tmp_path, monkeypatch, capsys):
    make_raster(picture, **ELSEWHERE)
    monkeypatch.setenv("AFTERIMAGE_STORE", str(folder.parent))
    (tmp_path / "request.json").write_text(dumps(Job("job", asked_for())))
    assert main(["controls", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert line["kind"] == "content"
    with rasterio.open(line["path"]) as file:
        assert np.array_equal(file.read(), picture) and file.crs.to_epsg() == 32720
