"""Memory that runs out while a tile is drawn: the model takes less, the tile is drawn once more, the rest stays."""

from __future__ import annotations

import dataclasses
import json
import threading

import numpy as np
import pytest
import rasterio
import torch
from afterimage.engine import faults
from afterimage.engine.contract import ErrorCode, Generate, GeoBox, ModelCard, Sampling
from afterimage.engine.crew.opening import Ladder
from afterimage.engine.errors import NotFinite
from afterimage.engine.journal import JobFolder
from afterimage.engine.models.memory import RUNGS
from afterimage.engine.models.picture import PictureModel
from afterimage.engine.models.published import open_model
from afterimage.engine.runner import run
from afterimage.engine.settings import Settings
from afterimage.engine.tasks.plans import TASKS

SETTINGS = Settings(device="cpu", threads=1)
#: What means that memory is short, as torch, Python, Apple's GPUs and cuDNN say it.
SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:116] . DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


@pytest.fixture(autouse=True)
def no_faults():
    yield
    faults.arm("")


class Rungs:
    """A model with three ways to run, which remembers what it was asked."""

    def __init__(self, card):
        self.card, self.at, self.asked, self.type = card, 0, [], "float16"

    def __getattr__(self, name):
        return getattr(self.card, name)

    @property
    def memory(self):
        return f"rung{self.at} {self.type}"

    @property
    def memory_notice(self):
        return "Memory was short." if self.at else ""

    def settle(self, pinned=None):
        self.asked.append(pinned)
        if pinned:
            self.at, self.type = int(pinned[4]), pinned.split(" ")[1]
        return self.memory

    def lighten(self):
        self.at += self.at < 2
        self.asked.append("lighten")
        return self.asked.count("lighten") <= 2

    def widen(self):
        was, self.type = self.type, "bfloat16"
        return was != self.type


class Job:
    """Runs jobs of the null engine with such a model; ``fails`` maps the number of a drawing, from 1, to an error."""

    def __init__(self, null, fails=()):
        self.null, self.fails, self.drawn, self.models = null, dict(fails), [], []

    def cards(self, settings):
        return self.null.cards()

    def load(self, model_id, settings):
        self.models.append(Rungs(self.null.cards()[0]))
        return self.models[-1]

    def plan(self, request, folder, model, ctx):
        work = self.null.plan_generate(request, folder, model.card, ctx)

        def draw(chunk, sample, part):
            self.drawn.append(chunk)
            if len(self.drawn) in self.fails:
                raise self.fails[len(self.drawn)]
            return work.draw(chunk, sample, part)

        return dataclasses.replace(work, draw=draw)

    def __call__(self, folder):
        events = []
        self.drawn = []
        return run(folder, "job", events.append, threading.Event(), SETTINGS, self, {Generate: self.plan})


def pixels(ending):
    with rasterio.open(ending.result.outputs[0].path) as file:
        return file.read()


@pytest.mark.parametrize("error", SHORT, ids=lambda error: f"{type(error).__name__} {error}"[:30])
@pytest.mark.parametrize("number", [1, 2])
def test_the_tile_is_drawn_once_more_with_less_memory(null_engine, make_job, error, number):
    whole = pixels(Job(null_engine)(make_job("whole")))
    job, folder = Job(null_engine, {number: error}), make_job()
    ending = job(folder)
    assert type(ending).__name__ == "Succeeded"
    assert len(job.drawn) == 13 and job.drawn[number - 1] == job.drawn[number], "one tile twice, the others once"
    assert np.array_equal(pixels(ending), whole)
    assert ending.result.provenance.pins["memory"] == "rung1 float16"
    assert JobFolder(folder).pins()["memory"] == "rung1 float16"
    assert ending.result.notices == ("Memory was short.",)


def test_a_torn_tile_that_is_drawn_again_while_assembling_may_take_less_memory_too(null_engine, make_job):
    whole = pixels(Job(null_engine)(make_job("whole")))
    job, folder = Job(null_engine), make_job("torn")
    faults.arm("publish.before_cog:1:raise")
    assert type(job(folder)).__name__ == "Failed"
    faults.arm("")
    path = sorted((folder / "tiles").iterdir())[4]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    job.fails = {1: MemoryError()}
    ending = job(folder)
    assert type(ending).__name__ == "Succeeded" and len(job.drawn) == 2 and job.drawn[0] == job.drawn[1]
    assert np.array_equal(pixels(ending), whole) and ending.result.notices == ("Memory was short.",)
    assert JobFolder(folder).pins()["memory"] == "rung1 float16"


def test_where_there_is_enough_nothing_is_told(null_engine, make_job):
    ending = Job(null_engine)(make_job())
    assert ending.result.provenance.pins["memory"] == "rung0 float16" and ending.result.notices == ()


def test_at_the_bottom_it_says_so_and_can_be_resumed(null_engine, make_job):
    folder = make_job()
    job = Job(null_engine, {3: MemoryError(), 4: MemoryError(), 5: MemoryError()})
    ending = job(folder)
    assert type(ending).__name__ == "Failed" and ending.failure.code is ErrorCode.OUT_OF_MEMORY
    assert ending.failure.hint and ending.failure.resumable
    assert len(list((folder / "tiles").iterdir())) == 2
    job.fails = {}
    ending = job(folder)
    assert type(ending).__name__ == "Succeeded" and len(job.drawn) == 10, "two tiles were there already"
    assert job.models[-1].asked == ["rung2 float16"], "it goes on where it was"
    assert ending.result.provenance.pins["memory"] == "rung2 float16"


def test_numbers_beyond_the_range_of_half_precision_get_a_wider_one(null_engine, make_job):
    job = Job(null_engine, {2: NotFinite("The model drew numbers that are not finite.")})
    ending = job(make_job())
    assert ending.result.provenance.pins["memory"] == "rung0 bfloat16" and len(job.drawn) == 13
    job = Job(null_engine, {2: NotFinite("no"), 3: NotFinite("The model drew numbers that are not finite.")})
    ending = job(make_job("again"))
    assert ending.failure.code is ErrorCode.INTERNAL and "not finite" in ending.failure.message


def test_another_error_takes_nothing_away(null_engine, make_job):
    job = Job(null_engine, {2: RuntimeError("a kernel failed")})
    assert job(make_job()).failure.code is ErrorCode.INTERNAL
    assert job.models[0].asked == [None]


def test_what_a_tile_held_is_let_go_before_the_model_takes_another_way(null_engine, make_job, monkeypatch):
    alive, seen = [], []

    class Held:
        def __del__(self):
            alive.clear()

    def failing(request, folder, model, ctx):
        work = null_engine.plan_generate(request, folder, model.card, ctx)

        def draw(chunk, sample, part):
            if not seen:
                alive.append("held")
                held = Held()  # what a network's call would hold: feature maps
                raise MemoryError(f"with {type(held).__name__}")
            return work.draw(chunk, sample, part)

        return dataclasses.replace(work, draw=draw)

    lighten = Rungs.lighten
    monkeypatch.setattr(Rungs, "lighten", lambda self: seen.append(list(alive)) or lighten(self))
    job = Job(null_engine)
    job.plan = failing
    assert type(job(make_job())).__name__ == "Succeeded"
    assert seen == [[]]


# --- a published model, with a GPU's ladder on the CPU

CARD = ModelCard(
    id="published",
    name="Published",
    summary="",
    family="text2earth",
    version="1",
    tasks=("Generate",),
    bands=("red", "green", "blue"),
    gsd=(0.5, 128.0),
    window=64,
    stride=64,
    schedulers=("Euler", "DDIM"),
    steps=2,
    guidance_scale=4.0,
    uses=("prompt", "negative_prompt", "gsd"),
    whole=True,
)


class Published:
    """A catalogue of one model, whose calls fail as ``fails`` says: number of the call, from 1 -> error."""

    def __init__(self, folder, rungs, fails=()):
        self.folder, self.rungs, self.fails, self.opened, self.calls = folder, rungs, dict(fails), 0, 0
        self.model = None

    def open(self):
        self.opened += 1
        network = open_model(self.folder)
        forward = network.forward

        def counted(*args, **told):
            self.calls += 1
            if self.calls in self.fails:
                raise self.fails[self.calls]
            return forward(*args, **told)

        network.forward = counted
        return network

    def cards(self, settings):
        return (CARD,)

    def load(self, model_id, settings):
        self.model = PictureModel(CARD, self.open(), torch.device("cpu"), self.open)
        self.model.rungs = self.rungs
        return self.model

    def __call__(self, job):
        return run(job, "job", [].append, threading.Event(), SETTINGS, self, TASKS)


@pytest.fixture
def published(parity, make_reference):
    folder = make_reference(parity / "text2earth").folder
    return lambda rungs, fails=(): Published(folder, rungs, fails)


def asked(side=64):
    grid = GeoBox("EPSG:32633", (2.0, 0.0, 500000.0, 0.0, -2.0, 5000000.0), (side, side))
    return Generate("published", grid, grid, 2.0, "fields", Sampling(1, 2, "Euler", 4.0))


def test_a_published_model_is_a_ladder_and_ours_are_not(published):
    from afterimage.engine.models import catalog

    assert isinstance(published(RUNGS).load("published", SETTINGS), Ladder)
    assert not isinstance(catalog.load("tiny-generate", SETTINGS), Ladder)


def test_the_cpu_draws_in_float32_until_memory_is_short(published, make_job):
    exact = published(RUNGS[-2:])
    first = exact(make_job("exact", request=asked()))
    assert first.result.provenance.pins["memory"] == "processor float32" and exact.opened == 1
    short = published(RUNGS[-2:], {1: MemoryError()})
    ending = short(make_job("short", request=asked()))
    assert ending.result.provenance.pins["memory"] == "processor-tiles float32"
    assert "tiles" in ending.result.notices[-1] and short.opened == 1


def test_down_the_ladder_of_a_gpu_to_exactly_what_the_processor_draws(published, make_job):
    exact = pixels(published(RUNGS[-2:])(make_job("exact", request=asked())))
    job = published(RUNGS, {1: torch.OutOfMemoryError("CUDA out of memory"), 2: torch.OutOfMemoryError("again")})
    ending = job(make_job("half", request=asked()))
    assert ending.result.provenance.pins["memory"] == "turns float16" and job.opened == 1
    assert "took turns" in ending.result.notices[-1]
    drawn = pixels(ending)
    assert np.abs(drawn.astype(int) - exact).mean() <= 0.5 and not np.array_equal(drawn, np.zeros_like(drawn))
    job = published(RUNGS, {number: torch.OutOfMemoryError("CUDA out of memory") for number in range(1, 5)})
    ending = job(make_job("down", request=asked()))
    assert ending.result.provenance.pins["memory"] == "processor float32"
    assert job.opened == 2, "float32 comes from the files, since half precision has lost digits"
    assert np.array_equal(pixels(ending), exact)


def test_at_the_bottom_of_the_ladder_of_a_gpu(published, make_job):
    folder = make_job(request=asked())
    job = published(RUNGS, {number: torch.OutOfMemoryError("CUDA out of memory") for number in range(1, 50)})
    ending = job(folder)
    assert ending.failure.code is ErrorCode.OUT_OF_MEMORY and ending.failure.resumable and ending.failure.hint
    assert json.loads((folder / "pins.json").read_text())["memory"] == "processor-tiles float32"
    assert job.calls == len(RUNGS)


def test_a_range_that_float16_leaves_is_met_by_bfloat16(published, make_job):
    job = published(RUNGS)
    load = job.load

    def overflowing(model_id, settings):
        model = load(model_id, settings)
        forward = model.network.forward
        model.network.forward = lambda *args, **told: forward(*args, **told) * torch.inf
        return model

    job.load = overflowing
    folder = make_job(request=asked())
    ending = job(folder)
    assert ending.result.provenance.pins["memory"] == "whole bfloat16" and job.opened == 2
    model = published(RUNGS).load("published", SETTINGS)
    assert model.settle("whole bfloat16") == "whole bfloat16", "a job that is resumed keeps the type"


def test_a_rung_that_does_not_fit_any_more_is_left(published, monkeypatch):
    from afterimage.engine.models import picture

    model = published(RUNGS).load("published", SETTINGS)
    monkeypatch.setattr(picture, "free_memory", lambda device: 10**12)
    monkeypatch.setattr(picture, "free_main_memory", lambda: 10**12)
    assert model.settle("parts float16") == "parts float16", "never a better one than was pinned"
    monkeypatch.setattr(picture, "free_memory", lambda device: 0)
    model = published(RUNGS).load("published", SETTINGS)
    assert model.settle("parts float16") == "processor float32"


def test_weights_that_do_not_fit_take_the_next_rung_at_once(published, monkeypatch):
    job = published(RUNGS)
    model = job.load("published", SETTINGS)
    place = model.network.place
    tried = []

    def full(rung, *more):
        tried.append(rung.name)
        if len(tried) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        place(rung, *more)

    model.network.place = full
    assert model.settle() == "turns float16" and tried == ["whole", "parts", "turns"]
