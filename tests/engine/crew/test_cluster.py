"""What a cluster tells when the connection to its scheduler breaks; ``tests/e2e`` has a real one."""

from __future__ import annotations

from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest
from afterimage.engine.contract import PROTOCOL, Window, dumps
from afterimage.engine.crew import cluster, member
from afterimage.engine.crew.messages import Begun, Drawn, Lost
from afterimage.engine.device import libraries
from afterimage.engine.errors import WorkersLost
from afterimage.engine.settings import Settings
from afterimage.engine.version import engine_version

HAND, PIECE = "tcp://10.0.0.2:4000", (1, Window(0, 0, 64, 64))
ABOUT = {**libraries(), "engine": engine_version(), "protocol": str(PROTOCOL), "device": "cpu", "processor": "any"}


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
        self.status, self.tasks = "running", []

    def sync(self, *question):
        return {"workers": {HAND: {"resources": {member.RESOURCE: 1}}}}

    def run(self, function, *, workers, on_error):
        return dict.fromkeys(workers, ABOUT)

    def submit(self, *call, **how):
        return self.tasks.pop(0)


@pytest.fixture
def client(monkeypatch):
    made = Client()
    monkeypatch.setattr(cluster, "_connect", lambda settings: made)
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
    hands.give(HAND, PIECE)
    client.status = "connecting"
    with pytest.raises(WorkersLost, match="scheduler was lost"):
        for _ in range(50):
            hands.next(0.01)


def test_a_connection_that_comes_back_costs_the_pieces_that_were_drawn_over_it(client, hands, broken):
    client.tasks = [broken, Task("finished", [dumps(Drawn("00"))])]
    hands.give(HAND, PIECE)
    hand, lost = told(hands)
    assert hand == HAND and isinstance(lost, Lost) and not lost.is_end
    assert told(hands) == (HAND, Begun())
    hands.give(HAND, PIECE)
    assert told(hands) == (HAND, Drawn("00"))
