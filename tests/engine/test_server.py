"""The worker of the queue lives on, and every job that it takes has an ending."""

from __future__ import annotations

import threading

from afterimage.engine import runner
from afterimage.engine.contract import ErrorCode, Failed
from afterimage.engine.server import Queue
from afterimage.engine.settings import Settings


class Listener:
    """A channel that keeps what it is sent."""

    def __init__(self):
        self.events, self.has_two = [], threading.Event()

    def send(self, event):
        self.events.append(event)
        if len(self.events) == 2:
            self.has_two.set()


def test_a_job_that_raises_is_told_and_the_next_one_runs(monkeypatch):
    def broken(*_):
        raise RuntimeError("not told")

    monkeypatch.setattr(runner, "run", broken)
    listener = Listener()
    queue = Queue(listener, Settings(device="cpu"))
    queue.submit("a", "nowhere")
    queue.submit("b", "nowhere")
    assert listener.has_two.wait(10)
    assert [event.job for event in listener.events] == ["a", "b"]
    for event in listener.events:
        assert isinstance(event, Failed) and event.failure.code is ErrorCode.INTERNAL and event.failure.hint
    assert queue.close(5)
