"""What runs the networks: measured once, remembered, and only what draws the same as eager."""

from __future__ import annotations

import dataclasses
import json
import os
import threading

import pytest
import torch
from afterimage.engine import runner
from afterimage.engine.backends import cache, choice, export, ways
from afterimage.engine.backends.names import available
from afterimage.engine.contract import ErrorCode, Failed, Generate, GeoBox, Job, Sampling, Succeeded, dumps
from afterimage.engine.doctor import examine
from afterimage.engine.errors import InvalidRequest
from afterimage.engine.journal import JobFolder
from afterimage.engine.models import catalog
from afterimage.engine.settings import Settings

MODELS = ("tiny-generate", "tiny-superresolve")
#: More work than any measurement is worth.
MUCH = 1e9

needs_onnxruntime = pytest.mark.skipif("onnxruntime" not in available("cpu"), reason="onnxruntime is not installed")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings(tmp_path):
    return Settings(device="cpu", threads=1, cache=tmp_path / "cache")


@pytest.fixture
def trials(monkeypatch):
    """How many backends were made to be looked at."""
    made = []
    kept = choice.make_way
    monkeypatch.setattr(choice, "make_way", lambda name, *rest: made.append(name) or kept(name, *rest))
    return made


class Off:
    """A backend whose numbers are off."""

    def __init__(self, module, by):
        self._module, self._by = module, by

    def __call__(self, *inputs):
        return self._module(*inputs) + self._by


@pytest.mark.parametrize("name", MODELS)
def test_every_backend_here_draws_what_eager_draws(name, settings):
    model = catalog.load(name, settings)
    found = choice.measure(model, settings)
    assert not found.refused and set(found.outputs) == set(available("cpu")) - {"eager"}
    assert max(found.outputs.values()) <= choice.OUTPUT_TOLERANCE
    for backend in found.outputs:
        eager, other = model.picture(), catalog.load(name, dataclasses.replace(settings, backend=backend)).picture()
        assert eager.std() > 0.01
        assert (eager - other).abs().max() <= choice.PICTURE_TOLERANCE


def test_the_tolerance_of_an_output_is_what_makes_one_of_255_in_a_run_of_ddim(settings):
    """With a network that sees nothing of its errors: they add up by the angle of the schedule, whatever the steps."""
    from afterimage.engine.diffusion.loop import sample

    model = catalog.load("tiny-generate", settings)
    for steps in (3, 20):
        ends = [
            sample(
                lambda x, t, by=by: torch.full_like(x, by),
                model.scheduler("DDIM"),
                steps,
                lambda stream: torch.zeros(1, 4, 8, 8),
            )
            for by in (0.0, choice.OUTPUT_TOLERANCE * 5)
        ]
        assert 0.8 * choice.PICTURE_TOLERANCE < (ends[1] - ends[0]).abs().max() <= choice.PICTURE_TOLERANCE


def test_a_short_job_is_not_worth_a_measurement_and_a_long_one_makes_it_for_all_that_follow(settings, trials):
    assert choice.choose(catalog.load("tiny-generate", settings), settings, 1.0) == "eager"
    assert not trials
    model = catalog.load("tiny-generate", settings)
    chosen = choice.choose(model, settings, MUCH)
    assert trials and chosen == model.networks.backend == choice.remembered(model, settings).backend
    trials.clear()
    assert choice.choose(catalog.load("tiny-generate", settings), settings, 1.0) == chosen
    assert not trials


def test_other_threads_or_another_model_are_measured_anew(settings):
    model = catalog.load("tiny-generate", settings)
    choice.measure(model, settings)
    assert choice.remembered(catalog.load("tiny-superresolve", settings), settings) is None
    torch.set_num_threads(2)
    assert choice.remembered(model, settings) is None


@pytest.mark.parametrize(("by", "kind"), [(0.1, "numbers"), (float("nan"), "numbers")])
def test_what_gives_other_numbers_is_not_taken_and_that_is_logged(settings, monkeypatch, caplog, by, kind):
    monkeypatch.setattr(choice, "make_way", lambda name, module, *_: Off(module, by))
    model = catalog.load("tiny-generate", settings)
    assert choice.choose(model, settings, MUCH) == "eager"
    assert set(choice.remembered(model, settings).refused) == set(available("cpu")) - {"eager"}
    assert kind in caplog.text


def test_what_draws_another_picture_is_not_taken_however_near_its_numbers_are(settings, monkeypatch, caplog):
    """A decoder that is off: the denoiser's output cannot tell."""
    model = catalog.load("tiny-generate", settings)
    take = model.networks.take

    def broken(backend, cache):
        take(backend, cache)
        if backend != "eager":
            decoder = model.networks.parts["decoder"]
            decoder.take(Off(decoder.module, 0.01))

    monkeypatch.setattr(model.networks, "take", broken)
    monkeypatch.setattr(choice, "WORTHWHILE", 0.0)
    found = choice.measure(model, settings)
    assert found.backend == "eager" and found.refused
    assert all(2.5 < found.pictures[name] < 2.6 for name in found.refused)
    assert "of 255" in caplog.text
    monkeypatch.undo()
    with pytest.raises(InvalidRequest, match="of 255"):
        choice.take(model, dataclasses.replace(settings, backend=next(iter(found.refused))))


def test_what_does_not_run_here_is_not_taken(settings, monkeypatch, caplog):
    def fail(*_):
        raise ImportError("DLL load failed")

    monkeypatch.setattr(choice, "make_way", fail)
    assert choice.choose(catalog.load("tiny-generate", settings), settings, MUCH) == "eager"
    assert "does not run here (ImportError)" in caplog.text


@pytest.mark.parametrize("name", ["tensorflow", "compile"])
def test_a_backend_that_is_not_here_is_refused_before_work(settings, name):
    with pytest.raises(InvalidRequest, match=name) as caught:
        catalog.load("tiny-generate", dataclasses.replace(settings, backend=name))
    assert "eager" in caught.value.hint


def test_a_model_that_only_torch_runs_is_refused_to_others(settings):
    plain = type("Plain", (), {"card": catalog.cards(settings)[0], "device": torch.device("cpu")})()
    choice.take(plain, settings)
    assert choice.choose(plain, settings, MUCH) == "eager"
    with pytest.raises(InvalidRequest, match="cannot be run"):
        choice.take(plain, dataclasses.replace(settings, backend="channels_last"))


@needs_onnxruntime
def test_an_export_is_made_once_and_again_where_the_file_is_damaged(settings, monkeypatch):
    made = []
    kept = export._exported
    monkeypatch.setattr(export, "_exported", lambda *given: made.append(1) or kept(*given))
    asked = dataclasses.replace(settings, backend="onnxruntime")
    first = catalog.load("tiny-superresolve", asked).picture()
    assert len(made) == 1
    assert torch.equal(first, catalog.load("tiny-superresolve", asked).picture()) and len(made) == 1
    file = next(settings.cache.glob("*.onnx"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert torch.equal(first, catalog.load("tiny-superresolve", asked).picture()) and len(made) == 2


@needs_onnxruntime
def test_a_cache_that_cannot_be_written_to_costs_time_alone(settings, tmp_path):
    (tmp_path / "file").write_text("")
    asked = dataclasses.replace(settings, backend="onnxruntime", cache=tmp_path / "file" / "cache")
    assert catalog.load("tiny-superresolve", asked).picture().isfinite().all()


@needs_onnxruntime
def test_what_onnxruntime_does_not_take_is_a_runtime_error():
    with pytest.raises(RuntimeError, match="does not take"):
        ways._open(b"no network")


@needs_onnxruntime
def test_a_decoder_takes_squares_of_any_size(settings):
    eager = catalog.load("tiny-generate", settings)
    other = catalog.load("tiny-generate", dataclasses.replace(settings, backend="onnxruntime"))
    for side in (8, 12):
        z = torch.randn(1, 4, side, side)
        with torch.inference_mode():
            assert (eager.decode(z) - other.decode(z)).abs().max() < 1e-5
    assert len(list(settings.cache.glob("*.onnx"))) <= 3  # the denoiser and the decoder, not one for each size


def test_the_oldest_files_of_the_cache_go_first(tmp_path):
    kept = cache.Cache(tmp_path)
    for number in range(cache.KEPT + 3):
        kept.write(f"{number}", b"x")
        os.utime(tmp_path / f"{number}", (number, number))
    kept.write("last", b"y")
    assert len(list(tmp_path.iterdir())) == cache.KEPT
    assert kept.read("last") == b"y" and kept.read("0") is None


class TestJob:
    """What a job pins stays, as long as it is there."""

    def run(self, folder, settings):
        return runner.run(folder, "job", lambda event: None, threading.Event(), settings)

    @pytest.fixture
    def folder(self, tmp_path):
        box = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (64, 64))
        request = Generate("tiny-generate", box, box, 10.0, "Forest", Sampling(1, 2, "DDIM", 2.0))
        path = tmp_path / "job"
        path.mkdir()
        (path / "request.json").write_text(dumps(Job("job", request)), encoding="utf-8")
        return path

    def test_the_backend_is_in_the_provenance(self, folder, settings):
        ending = self.run(folder, dataclasses.replace(settings, backend="channels_last"))
        assert isinstance(ending, Succeeded) and ending.result.provenance.pins["backend"] == "channels_last"

    def test_a_resumed_job_keeps_it(self, folder, settings):
        asked = dataclasses.replace(settings, backend="channels_last", keep_tiles=True)
        self.run(folder, asked)
        (folder / "result.json").unlink()
        ending = self.run(folder, dataclasses.replace(settings, keep_tiles=True))
        assert ending.result.provenance.pins["backend"] == "channels_last"

    def test_a_job_whose_backend_is_gone_begins_anew(self, folder, settings):
        self.run(folder, dataclasses.replace(settings, keep_tiles=True))
        (folder / "result.json").unlink()
        pins = json.loads((folder / "pins.json").read_text())
        (folder / "pins.json").write_text(json.dumps(pins | {"backend": "compile"}))
        ending = self.run(folder, settings)
        assert isinstance(ending, Succeeded) and ending.result.provenance.pins["backend"] == "eager"

    def test_one_that_is_not_here_fails_before_work(self, folder, settings):
        ending = self.run(folder, dataclasses.replace(settings, backend="nothing"))
        assert isinstance(ending, Failed) and ending.failure.code == ErrorCode.INVALID_REQUEST
        assert "AFTERIMAGE_BACKEND" in ending.failure.hint
        assert "backend" not in JobFolder(folder).pins()


def test_the_doctor_tells_what_was_chosen_and_by_which_figures(settings, monkeypatch):
    cards = [dataclasses.replace(card, pickable=card.id in MODELS) for card in catalog.cards(settings)]
    monkeypatch.setattr(catalog, "cards", lambda settings: [card for card in cards if card.pickable])
    model = catalog.load("tiny-generate", settings)
    choice.measure(model, settings)
    report = examine(settings)
    told = {entry["id"]: entry["backend"] for entry in report["models"]}
    assert report["backends"] == list(available("cpu"))
    assert told["tiny-generate"] == dataclasses.asdict(choice.remembered(model, settings))
    assert told["tiny-superresolve"].startswith("eager, until")
    asked = examine(dataclasses.replace(settings, backend="channels_last"))
    assert {entry["backend"] for entry in asked["models"]} == {"channels_last"}
