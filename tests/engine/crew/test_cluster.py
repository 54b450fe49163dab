"""What a cluster tells when the connection to its scheduler breaks; ``tests/e2e`` has a real one."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest
from afterimage.engine.contract import PROTOCOL, Window, dumps
from afterimage.engine.crew import cluster, member
from afterimage.engine.crew.messages import Begun, Drawn, Lost
from afterimage.engine.errors import JobCancelled, WorkerMismatch, WorkersLost
from afterimage.engine.settings import Settings
from afterimage.engine.version import engine_version

HAND, PIECE = "tcp://10.0.0.2:4000", (1, Window(0, 0, 64, 64))
ABOUT = {
    **member.versions(),
    "name": "a",
    "ended": "",
    "device": "cpu",
    "processor": "any",
    "engine": engine_version(),
    "protocol": str(PROTOCOL),
}


class Task:
    """A future of Dask; ``results`` are its answers one after the other, errors among them."""

    def __init__(self, status, *results):
        self.status, self.results = status, list(results)

    def add_done_callback(self, told):
        told(self)

    def result(self, timeout):
        found = self.results.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


class Client:
    """A client of Dask with one worker."""

    def __init__(self):
        self.status, self.tasks, self.asked = "running", [], []
        self.abouts, self.dask = {HAND: ABOUT}, {"python": member.speaks()["python"] + ".9.final.0"}
        self.waits = threading.Event()

    def sync(self, *question):
        self.waits.wait()
        return {"workers": {hand: {"resources": {member.RESOURCE: 1}} for hand in self.abouts}}

    def get_versions(self):
        told = {"host": self.dask, "packages": {"distributed": member.speaks()["distributed"]}}
        return {"workers": dict.fromkeys(self.abouts, told)}

    def run(self, function, *, workers, on_error):
        self.waits.wait()
        self.asked.extend(workers)
        return {hand: self.abouts[hand] for hand in workers}

    def close(self, timeout):
        self.waits.wait()

    def submit(self, *call, **how):
        return self.tasks.pop(0)


@pytest.fixture
def client(monkeypatch):
    made = Client()
    made.waits.set()
    monkeypatch.setattr(cluster, "_connect", lambda settings, check: made)
    monkeypatch.setattr(cluster, "_INTERVAL", 0.01)
    return made


@pytest.fixture
def hands(client, tmp_path):
    made = cluster.Cluster(tmp_path, Settings())
    made.muster()
    made.begin(SimpleNamespace(key="key"), 1)
    assert made.next(0) == (HAND, Begun())
    return made


@pytest.fixture(
    params=[
        pytest.param(lambda: Task("cancelled"), id="while it is drawn"),
        pytest.param(lambda: Task("finished", CancelledError()), id="while the answer is asked for"),
        pytest.param(lambda: Task("finished", OSError("closed"), CancelledError()), id="while the answer is sent"),
    ]
)
def broken(request):
    return request.param()


def told(hands):
    """The next that is told."""
    return next(found for found in iter(lambda: hands.next(0.01), ()) if found is not None)


def test_a_scheduler_that_is_lost_ends_in_its_code(client, hands, broken):
    client.tasks = [broken]
    hands.give(HAND, PIECE, (PIECE, PIECE))
    client.status = "connecting"
    with pytest.raises(WorkersLost, match="scheduler was lost"):
        for _ in range(50):
            hands.next(0.01)


def test_a_connection_that_comes_back_costs_the_pieces_that_were_drawn_over_it(client, hands, broken):
    client.tasks = [broken, Task("finished", [dumps(Drawn("00"))])]
    hands.give(HAND, PIECE, (PIECE, PIECE))
    hand, lost = told(hands)
    assert hand == HAND and isinstance(lost, Lost) and not lost.is_end
    assert told(hands) == (HAND, Begun())
    hands.give(HAND, PIECE, (PIECE, PIECE))
    assert told(hands) == (HAND, Drawn("00"))


def test_a_task_that_dask_has_forgotten_without_a_word_is_given_back(client, hands):
    task = Task("pending")
    task.add_done_callback = lambda told: None
    client.tasks = [task]
    hands.give(HAND, PIECE, (PIECE, PIECE))
    assert hands.next(0.05) is None
    task.status = "lost"
    hand, lost = told(hands)
    assert hand == HAND and isinstance(lost, Lost) and not lost.is_end


def drawing(client, hands):
    """A worker in the middle of a piece."""
    task = Task("pending")
    task.add_done_callback = lambda told: None
    client.tasks = [task]
    hands.give(HAND, PIECE, (PIECE, PIECE))


def test_a_worker_that_leaves_has_ended_only_if_its_successor_says_so(client, hands):
    drawing(client, hands)
    client.abouts = {"tcp://10.0.0.2:4001": {**ABOUT, "name": "b", "ended": "a"}}
    hand, lost = told(hands)
    assert hand == HAND and lost.is_end
    assert told(hands) == ("tcp://10.0.0.2:4001", Begun())


def test_a_worker_without_a_successor_only_left(client, hands, monkeypatch):
    drawing(client, hands)
    client.abouts = {"tcp://10.0.0.3:4001": {**ABOUT, "name": "c"}}
    assert told(hands) == ("tcp://10.0.0.3:4001", Begun())
    assert hands.next(0.05) is None, "its piece waits for the successor"
    monkeypatch.setattr(cluster, "SUCCESSOR", 0.05)
    hand, lost = told(hands)
    assert hand == HAND and not lost.is_end


def test_no_code_is_sent_to_another_python(client, tmp_path):
    client.dask = {"python": "3.6.1.final.0"}
    with pytest.raises(WorkerMismatch, match=r"has python 3\.6"):
        cluster.Cluster(tmp_path, Settings()).muster()
    assert client.asked == []


def test_a_scheduler_that_does_not_answer_keeps_nobody_waiting(client, tmp_path, hands):
    drawing(client, hands)
    client.waits.clear()
    began = time.monotonic()
    while time.monotonic() < began + 0.3:
        before = time.monotonic()
        assert hands.next(0.05) is None
        assert time.monotonic() - before < 1.0, "the person's stop is looked for between two of these"
    began = time.monotonic()
    hands.close()
    hands.close()
    assert time.monotonic() - began < 3.0
    stopped = threading.Event()

    def check():
        if stopped.is_set():
            raise JobCancelled

    threading.Timer(0.2, stopped.set).start()
    began = time.monotonic()
    with pytest.raises(JobCancelled):
        cluster.Cluster(tmp_path, Settings(), check).muster()
    assert time.monotonic() - began < 2.0
    client.waits.set()


@pytest.mark.parametrize(
    ("scheduler", "tls", "is_open"),
    [
        ("tcp://127.0.0.1:8786", "", False),
        ("tcp://localhost:8786", "", False),
        ("tcp://[::1]:8786", "", False),
        ("tcp://10.0.0.1:8786", "", True),
        ("tls://10.0.0.1:8786", "ca.pem", False),
    ],
)
def test_a_scheduler_that_others_reach_without_tls_is_warned_of(caplog, scheduler, tls, is_open):
    with caplog.at_level(logging.WARNING):
        member.warn_if_open(Settings(scheduler=scheduler, tls_ca=tls))
    assert bool(caplog.records) == is_open


def test_a_member_listens_on_the_side_of_its_scheduler():
    assert member.facing("tcp://127.0.0.1:8786") == "127.0.0.1"
