"""Which crew a job gets: what a person said, else what the job is worth on this machine."""

from __future__ import annotations

import dataclasses

import pytest
from afterimage.engine.contract import Generate, GeoBox, Sampling
from afterimage.engine.crew import choice
from afterimage.engine.crew.alone import Alone
from afterimage.engine.crew.processes import Processes
from afterimage.engine.crew.team import Team
from afterimage.engine.errors import SchedulerUnreachable
from afterimage.engine.journal import JobFolder
from afterimage.engine.settings import Settings

SETTINGS = Settings(device="cpu")


@pytest.fixture
def card(null_engine):
    return dataclasses.replace(null_engine.cards()[0], memory_mb=1000)


@pytest.fixture
def muster(make_job, card, monkeypatch):
    """The crew of a job: ``muster(settings, side=..., free=...)``; no process starts before its ``with`` block."""
    monkeypatch.setattr(choice, "cores", lambda: 4)

    def muster(settings=SETTINGS, side=2048, free=64_000, samples=1, pins=(), memory=1000):
        monkeypatch.setattr(choice, "free_main_memory", lambda: None if free is None else free * 10**6)
        grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (side, side))
        request = Generate("null", grid, grid, 10.0, "", Sampling(1, 1, "null", samples=samples))
        folder = JobFolder(make_job(request=request))
        folder.forget_pins()
        for name, value in dict(pins).items():
            folder.pin(name, value)
        return choice.muster(folder.job, folder, dataclasses.replace(card, memory_mb=memory), settings)

    return muster


def count(crew):
    assert isinstance(crew, Team) and isinstance(crew._hands, Processes) and crew.settings.threads == 1
    return crew._hands.count


def test_a_large_job_gets_a_process_for_each_core(muster):
    assert count(muster()) == 4
    assert count(muster(Settings(device="cpu", threads=1))) == 4


@pytest.mark.parametrize(("side", "samples", "expected"), [(512, 1, 2), (768, 1, 4), (256, 4, 2)])
def test_each_process_has_two_chunks_at_least(muster, side, samples, expected):
    assert count(muster(side=side, samples=samples)) == expected


def test_small_jobs_are_drawn_by_the_engine_with_its_threads(muster):
    crew = muster(side=256)
    assert isinstance(crew, Alone) and crew.settings == SETTINGS


def test_processes_fit_into_the_memory_that_is_free(muster):
    assert count(muster(free=3500)) == 2, "one more plans"
    assert isinstance(muster(free=2500), Alone)
    assert isinstance(muster(free=None), Alone) and isinstance(muster(memory=0), Alone)


def test_what_a_person_says_counts(muster):
    assert count(muster(Settings(device="cpu", workers=3), side=600, free=1)) == 3
    one = muster(Settings(device="cpu", workers=1, threads=2))
    assert isinstance(one, Alone) and one.settings.threads == 1, "so that it draws what several draw"
    assert isinstance(muster(Settings(device="cpu", threads=2)), Alone)


def test_never_more_processes_than_chunks_nor_more_threads_than_cores(muster):
    assert count(muster(Settings(device="cpu", workers=9), side=300)) == 4
    assert count(muster(Settings(device="cpu", workers=9), side=2048)) == 9, "as one says, where there is work"
    assert count(muster(Settings(device="cpu", workers=4), pins={"device": "cpu", "threads": "2"})) == 2
    assert count(muster(Settings(device="cpu", workers=4), pins={"device": "cpu", "threads": "8"})) == 1


def test_a_gpu_is_used_by_one(muster):
    assert isinstance(muster(Settings(device="cuda", workers=2)), Alone)


def test_a_job_goes_on_as_it_was_begun(muster):
    assert isinstance(muster(pins={"device": "cpu", "threads": "2"}), Alone)
    assert count(muster(pins={"device": "cpu", "threads": "1"})) == 4


def test_a_scheduler_that_is_not_there_is_told(muster):
    with pytest.raises(SchedulerUnreachable) as failed:
        muster(Settings(scheduler="nonsense://nowhere"))
    assert failed.value.hint and failed.value.resumable
