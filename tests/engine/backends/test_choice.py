"""What runs the networks: measured once, remembered, and only what draws the same as eager."""

from __future__ import annotations

import dataclasses
import json
import threading

import pytest
import torch
from afterimage.engine import runner
from afterimage.engine.backends import cache, choice, ways
from afterimage.engine.backends.names import BackendRefused, available
from afterimage.engine.contract import Cancelled, ErrorCode, Failed, Generate, GeoBox, Job, Sampling, Succeeded, dumps
from afterimage.engine.doctor import examine
from afterimage.engine.errors import InvalidRequest, JobCancelled
from afterimage.engine.journal import JobFolder
from afterimage.engine.models import catalog

from .conftest import MODELS, MUCH, needs_onnxruntime


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
    assert len(list(settings.cache.rglob("*.onnx"))) <= 3  # the denoiser and the decoder, not one for each size


def test_no_way_has_a_name_that_is_unknown(tmp_path):
    with pytest.raises(ValueError, match="tensorflow"):
        ways.make_way("tensorflow", torch.nn.Identity(), False, cache.Cache(tmp_path))


@pytest.mark.parametrize("error", [AttributeError("private"), MemoryError(), OSError("no disk"), ValueError("shape")])
def test_whatever_fails_while_measuring_leaves_the_job_eager(settings, monkeypatch, caplog, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(choice, "make_way", fail)
    model = catalog.load("tiny-generate", settings)
    assert choice.choose(model, settings, MUCH) == model.networks.backend == "eager"
    assert type(error).__name__ in caplog.text
    kept = choice.remembered(model, settings)
    assert (kept is None) == isinstance(error, (MemoryError, OSError)), "a disk that was full may have room next time"
    assert kept is None or not kept.refused
    monkeypatch.undo()
    choice.take(model, dataclasses.replace(settings, backend="channels_last"))
    assert model.networks.backend == "channels_last"


@needs_onnxruntime
def test_whatever_fails_with_what_was_chosen_before_leaves_the_job_eager(settings, monkeypatch, caplog):
    monkeypatch.setattr(choice, "WORTHWHILE", 0.0)
    monkeypatch.setattr(choice, "available", lambda device: ("eager", "onnxruntime"))
    model = catalog.load("tiny-superresolve", settings)
    assert choice.choose(model, settings, MUCH) == "onnxruntime"
    monkeypatch.setattr(ways, "onnx_of", lambda *_: b"no network")
    again = catalog.load("tiny-superresolve", settings)
    assert choice.choose(again, settings, MUCH) == again.networks.backend == "eager"
    assert "runs eagerly" in caplog.text and again.picture().isfinite().all()


@pytest.mark.parametrize(("error", "kind"), [(MemoryError(), MemoryError), (OSError("no disk"), BackendRefused)])
def test_what_failed_once_may_be_asked_for_again(settings, monkeypatch, error, kind):
    def fail(*_):
        raise error

    asked = dataclasses.replace(settings, backend="channels_last")
    monkeypatch.setattr(choice, "make_way", fail)
    with pytest.raises(kind):
        catalog.load("tiny-generate", asked)
    monkeypatch.undo()
    assert catalog.load("tiny-generate", asked).networks.backend == "channels_last"


@needs_onnxruntime
def test_errors_of_onnxruntime_on_the_way_are_runtime_errors(settings, monkeypatch):
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    class Session:
        def run(self, *_):
            raise Fail("an operator")

    assert not issubclass(Fail, RuntimeError)
    way = ways.OnnxRuntime(torch.nn.Identity(), False, cache.Cache(settings.cache))
    monkeypatch.setattr(way, "_session", lambda inputs: Session())
    with pytest.raises(RuntimeError, match=r"does not run the exported network: .*operator"):
        way(torch.zeros(1))


def test_measuring_can_be_cancelled(settings):
    asked = []

    def tell():
        asked.append(1)
        if len(asked) == 3:
            raise JobCancelled

    model = catalog.load("tiny-generate", settings)
    with pytest.raises(JobCancelled):
        choice.choose(model, settings, MUCH, tell)
    assert model.networks.backend == "eager" and choice.remembered(model, settings) is None


class TestPhases:
    """A card whose phases have windows of their own."""

    @pytest.fixture
    def phased(self, settings):
        def load(**changes):
            model = catalog.load("tiny-generate", dataclasses.replace(settings, **changes))
            model.card = dataclasses.replace(model.card, phases=((128, 96), (64, 48)))
            return model

        return load

    def test_each_window_is_looked_at(self, phased, settings, monkeypatch):
        shapes = []

        class Large(Off):
            def __call__(self, *inputs):
                shapes.append(inputs[0].shape[-1])
                return self._module(*inputs) + (0.1 if inputs[0].shape[-1] == 16 else 0.0)

        monkeypatch.setattr(choice, "make_way", lambda name, module, *_: Large(module, 0))
        found = choice.measure(phased(), settings)
        assert set(shapes) == {8, 16} and set(found.refused) == set(available("cpu")) - {"eager"}

    def test_other_windows_are_measured_anew(self, phased, settings):
        choice.measure(phased(), settings)
        assert choice.remembered(phased(), settings) is not None
        assert choice.remembered(catalog.load("tiny-generate", settings), settings) is None

    @needs_onnxruntime
    def test_each_window_is_exported_before_drawing(self, phased, settings, monkeypatch):
        monkeypatch.setattr(choice, "WORTHWHILE", 0.0)
        monkeypatch.setattr(choice, "available", lambda device: ("eager", "onnxruntime"))
        assert choice.choose(phased(), settings, MUCH) == "onnxruntime"
        model = phased()
        assert choice.choose(model, settings, 1.0) == "onnxruntime"
        monkeypatch.setattr(ways, "onnx_of", None)  # from here on nothing can be exported
        with torch.inference_mode():
            assert all(model.picture(side).isfinite().all() for side in (64, 128))


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

    @pytest.mark.parametrize("backend", ["compile", "tensorfow", "auto"])
    def test_a_job_whose_backend_is_gone_begins_anew(self, folder, settings, backend):
        self.run(folder, dataclasses.replace(settings, keep_tiles=True))
        (folder / "result.json").unlink()
        pins = json.loads((folder / "pins.json").read_text())
        (folder / "pins.json").write_text(json.dumps(pins | {"backend": backend}))
        ending = self.run(folder, settings)
        assert isinstance(ending, Succeeded) and ending.result.provenance.pins["backend"] == "eager"

    def test_a_job_whose_backend_is_refused_by_now_begins_anew(self, folder, settings, monkeypatch):
        """A driver or a library may have changed what it draws; nobody can undo a pin."""
        self.run(folder, dataclasses.replace(settings, backend="channels_last", keep_tiles=True))
        (folder / "result.json").unlink()
        for path in settings.cache.rglob("*.json"):
            path.unlink()
        kept = choice.make_way
        monkeypatch.setattr(
            choice, "make_way", lambda name, *rest: Off(rest[0], 0.1) if name == "channels_last" else kept(name, *rest)
        )
        asked = self.run(folder, dataclasses.replace(settings, backend="channels_last"))
        assert isinstance(asked, Failed) and "delete the folder" in asked.failure.hint
        ending = self.run(folder, settings)
        assert isinstance(ending, Succeeded) and ending.result.provenance.pins["backend"] == "eager"

    @pytest.mark.parametrize("backend", ["tensorfow", "compile", ""])
    def test_a_typo_is_pinned_for_nobody_who_draws_elsewhere(self, folder, settings, backend):
        with JobFolder(folder) as job:
            with pytest.raises(InvalidRequest, match="There is no backend"):
                runner._pin(job, dataclasses.replace(settings, backend=backend), True)
            assert "backend" not in job.pins()
            job.pin("backend", "tensorfow")
            assert runner._pin(job, settings, True).backend == "eager"
            job.forget_pins()
            assert runner._pin(job, dataclasses.replace(settings, backend="onnxruntime"), True).backend == "onnxruntime"

    def test_measuring_is_told_and_can_be_cancelled(self, folder, settings, monkeypatch):
        monkeypatch.setattr(choice, "WORTH_SECONDS", 0.0)
        told, cancelled = [], threading.Event()

        def emit(event):
            told.append(getattr(event, "stage", ""))
            if told[-1] == "measuring":
                cancelled.set()

        ending = runner.run(folder, "job", emit, cancelled, dataclasses.replace(settings, workers=1))
        assert isinstance(ending, Cancelled) and "measuring" in told and "denoising" not in told

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
