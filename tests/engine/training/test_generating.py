"""What is measured of a text-to-image model, on sets whose figures are known."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from afterimage.engine.contract import Measure
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings
from afterimage.engine.training import generating
from afterimage.engine.training.classifier import read_judge
from afterimage.engine.training.dihedral import turn
from afterimage.engine.training.drawing import cut, draw_like, draw_mosaics_like, draw_windows, to_bytes
from afterimage.engine.training.generating import Bench
from afterimage.engine.training.sheets import draw_generate_sheet
from PIL import Image


@pytest.fixture(scope="module")
def model():
    return catalog.load("tiny-generate", Settings(device="cpu", threads=1))


@pytest.fixture(scope="module")
def bench(plain_data, short_courses, tmp_path_factory):
    return Bench("eurosat", plain_data, tmp_path_factory.mktemp("work"), judge_seed=8)


def named(measures: tuple[Measure, ...]) -> dict[str, Measure]:
    return {measure.name.split(",")[0].split(":")[0]: measure for measure in measures}


def planted(bench, pixels, labels):
    """A set that claims to be generated."""
    return bench.examine(dataclasses.replace(bench.test.chips, pixels=pixels, labels=labels))


def test_a_judge_tells_plain_colours_and_is_read_again_from_its_file(bench, plain_data, tmp_path):
    assert bench.test.accuracy == 1.0
    first, again = (read_judge("eurosat", plain_data, tmp_path, seed=7) for _ in range(2))
    assert (tmp_path / "judge-eurosat-7.safetensors").is_file()
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(first(x), again(x))
    assert not torch.equal(read_judge("eurosat", plain_data, tmp_path, seed=8)(x), again(x))


def test_real_sets_share_no_image_and_have_the_classes_of_the_test_split(bench):
    train = bench.read("train")
    sets = bench.sets(train, 3)
    for part in sets:
        assert np.array_equal(np.bincount(part.chips.labels), np.bincount(bench.test.chips.labels))
    everything = np.concatenate([part.chips.pixels for part in sets]).reshape(45, -1)
    assert len(np.unique(everything, axis=0)) == 45
    with pytest.raises(ValueError, match="20 images of Forest were wanted, 16 there"):
        bench.sets(train, 4)


def test_images_asked_for_as_another_class_are_not_recognised(bench):
    test = bench.test.chips
    over, least = generating.recognised(
        bench, [planted(bench, test.pixels, np.where(test.labels == 0, 1, test.labels))]
    )
    assert over.value == pytest.approx(66.7) and "100.0 %" in over.reference
    assert least.value == 50.0 and least.on == "River 50, SeaLake 100"


def test_the_test_split_itself_is_at_no_distance(bench):
    real = bench.sets(bench.read("train"), 2)
    found = named(generating.distances(bench, [bench.test, bench.test], real, "train images"))
    assert found["Frechet distance in the judge's features"].value == pytest.approx(0, abs=1e-3)
    assert found["precision in the judge's features"].value == found["recall in the judge's features"].value == 1.0
    assert "as many train images: " in found["recall in the judge's features"].reference


def test_a_copy_of_a_training_image_is_noticed_however_it_is_turned(bench):
    train, test = bench.read("train"), bench.test.chips
    copies = torch.from_numpy(train.pixels[: len(test.labels)]).permute(0, 3, 1, 2)
    turned = turn(copies, 5).permute(0, 2, 3, 1).contiguous().numpy()
    by_pixels = generating.memorised(bench, [planted(bench, turned, train.labels[: len(test.labels)])], train)[1]
    assert by_pixels.value == 100.0 and "median distance 0.000" in by_pixels.reference
    by_features = generating.memorised(bench, [planted(bench, copies.permute(0, 2, 3, 1).numpy(), test.labels)], train)
    assert by_features[0].value == 100.0
    honest = generating.memorised(bench, [bench.examine(bench.read("val"))], train)
    assert all(measure.value <= 10 for measure in honest)


def test_a_classifier_taught_by_wrongly_named_images_fails_and_by_real_ones_does_not(bench):
    train = bench.read("train")
    real = bench.sets(train, 3)
    wrong = [planted(bench, part.chips.pixels, (part.chips.labels + 1) % 3) for part in real]
    score = generating.taught(bench, wrong, train)
    assert score.value <= 10 and generating.taught(bench, real, train).value >= 80
    assert re.findall(r"[\d.]+(?= %)", score.reference) == ["100.0"]


def test_a_grid_shows_in_the_figures(bench, model):
    test = bench.test.chips
    gridded = test.pixels.copy()
    gridded[:, ::8] //= 2
    measure = named(generating.structure(bench, [planted(bench, gridded, test.labels)], model))
    plain = named(generating.structure(bench, [bench.test], model))
    name = "gradient energy on the borders of 8x8 blocks over that elsewhere"
    assert measure[name].value > 2 * plain[name].value and plain[name].value < 1.5
    assert measure[name].reference == plain[name].reference


def test_drawn_sets_are_like_the_real_one_and_each_draw_is_another(bench, model):
    test = bench.test.chips
    one, again, other = (draw_like(model, test, draw) for draw in (0, 0, 1))
    assert one.pixels.shape == test.pixels.shape and np.array_equal(one.labels, test.labels)
    assert np.array_equal(one.pixels, again.pixels) and not np.array_equal(one.pixels, other.pixels)
    assert len(np.unique(one.pixels.reshape(len(test.labels), -1), axis=0)) == len(test.labels)


def test_a_set_can_be_cut_from_larger_windows(bench, model):
    test = bench.test.chips
    some = draw_like(model, test.take(np.flatnonzero(test.labels == 1)), 0, window=16)
    seed = 1_000_000 + 10_000
    windows = draw_windows(model, "river", 2, seed, window=16)
    assert windows.shape == (2, 3, 128, 128)
    assert np.array_equal(some.pixels, to_bytes(cut(windows, 64)[:5]))
    assert torch.equal(cut(windows, 64)[1], windows[0, :, :64, 64:])


def test_a_set_can_be_cut_from_blended_mosaics(bench, model):
    test = bench.test.chips
    some = test.take(np.flatnonzero(test.labels == 1))
    first, again, other = (draw_mosaics_like(model, some, draw) for draw in (0, 0, 1))
    assert first.pixels.shape == some.pixels.shape and np.array_equal(first.labels, some.labels)
    assert np.array_equal(first.pixels, again.pixels) and not np.array_equal(first.pixels, other.pixels)


def test_a_model_is_measured_from_end_to_end(bench, model, plain_data, tmp_path):
    measures = generating.measure_generate(model, plain_data, tmp_path, draws=2)
    whole = [measure for measure in measures if "cut from blended mosaics" not in measure.on]
    assert len(measures) == len(whole) + 6 and len({measure.name for measure in whole}) == len(whole)
    score = next(m for m in measures if m.name.startswith("classification accuracy score"))
    assert score.on == "45 generated images in 3 draws"  # as many as train has, and not the two of the others
    assert all(np.isfinite(measure.value) for measure in measures)
    assert (tmp_path / "judge-eurosat-8.safetensors").is_file()


def test_a_glance_takes_few_images_and_the_other_judge(model, plain_data, short_courses, tmp_path):
    measures = generating.glance(model, plain_data, tmp_path, per_class=4)
    assert measures[0].on == "12 generated images"
    assert [path.name for path in tmp_path.iterdir()] == ["judge-eurosat-7.safetensors"]


def test_a_sheet_has_a_row_for_each_class(model, plain_data, tmp_path):
    path = tmp_path / "images" / "sheet.jpg"
    draw_generate_sheet(model, plain_data, path)
    with Image.open(path) as sheet:
        assert sheet.size == (16 * 64 + 8 + 8 * 64, 3 * 64)
        pixels = np.asarray(sheet)
    assert pixels[:, 16 * 64 + 2 : 16 * 64 + 6].min() > 240  # the gap
    assert pixels[:, -64:].min() > 240  # the test split has five of each
