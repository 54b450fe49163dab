import os

import pytest
from afterimage.engine.contract import (
    PROTOCOL,
    Cancelled,
    Command,
    ErrorCode,
    Failed,
    Ready,
    Started,
    Submit,
    Succeeded,
    dumps,
    loads,
)
from afterimage.plugin import jobs
from afterimage.plugin.link.channel import Channel, ProcessChannel
from afterimage.plugin.link.client import RESTARTS, EngineClient
from afterimage.plugin.report import Problem


class FakeChannel(Channel):
    """The other side, played by the test."""

    def __init__(self):
        super().__init__()
        self.sent = []
        self.closed = False

    def open(self):
        pass

    def send(self, line):
        self.sent.append(loads(Command, line))

    def close(self, patience=0.0):
        self.closed = True

    def kill(self):
        self.ended.emit("killed")

    def notes(self):
        return "last words"

    def say(self, event):
        self.line_arrived.emit(dumps(event).encode())

    def ready(self, protocol=PROTOCOL):
        self.say(Ready(protocol, "0", "cpu"))


class Stage:
    """A client whose channels are fakes, and what it said."""

    def __init__(self, **more):
        self.channels = []
        self.events = []
        self.states = []
        self.client = EngineClient(self.open, restart_delay=0.0, **more)
        self.client.event_received.connect(self.events.append)
        self.client.state_changed.connect(self.states.append)

    def open(self):
        self.channels.append(FakeChannel())
        return self.channels[-1]

    @property
    def channel(self):
        return self.channels[-1]


@pytest.fixture
def stage(qgis_app):
    return Stage(grace=0.1)


def test_a_submit_starts_the_engine_and_waits_for_ready(stage):
    stage.client.submit("a", "/jobs/a")
    assert stage.states == ["starting"] and stage.channel.sent == []
    stage.channel.ready()
    assert stage.states == ["starting", "ready"] and stage.channel.sent == [Submit("a", "/jobs/a")]
    stage.client.submit("b", "/jobs/b")
    assert stage.channel.sent[-1] == Submit("b", "/jobs/b")
    assert len(stage.channels) == 1


def test_events_pass_in_order_and_those_of_jobs_that_are_over_do_not(stage):
    stage.client.submit("a", "/jobs/a")
    stage.channel.ready()
    for event in (Started("a"), Cancelled("a"), Started("a"), Started("unknown")):
        stage.channel.say(event)
    assert stage.events[1:] == [Started("a"), Cancelled("a")]
    assert stage.client.unfinished == ()


def test_noise_on_the_line_is_not_an_event(stage):
    stage.client.submit("a", "/jobs/a")
    stage.channel.ready()
    stage.channel.line_arrived.emit(b"Loading weights...")
    stage.channel.line_arrived.emit(b'{"type": "Unknown"}')
    assert len(stage.events) == 1 and stage.client.state == "ready"


def test_another_protocol_asks_for_an_update(stage):
    stage.client.submit("a", "/jobs/a")
    stage.channel.ready(PROTOCOL + 1)
    assert stage.client.state == "missing"
    assert stage.client.problem.code is ErrorCode.PROTOCOL_MISMATCH
    assert "Update engine" in stage.client.problem.hint
    assert [event.job for event in stage.events if isinstance(event, Failed)] == ["a", ""]


def test_no_engine_fails_what_was_submitted(qgis_app):
    def missing():
        raise Problem(ErrorCode.ENGINE_MISSING, "Not installed.", "Install it.")

    client, events = EngineClient(missing), []
    client.event_received.connect(events.append)
    client.submit("a", "/jobs/a")
    assert client.state == "missing"
    assert [(event.job, event.failure.code) for event in events] == [
        ("a", ErrorCode.ENGINE_MISSING),
        ("", ErrorCode.ENGINE_MISSING),
    ]


def test_a_crash_fails_the_running_job_and_takes_the_waiting_ones_along(stage, qtbot):
    stage.client.submit("a", "/jobs/a")
    stage.client.submit("b", "/jobs/b")
    stage.channel.ready()
    stage.channel.say(Started("a"))
    stage.channel.ended.emit("It crashed.")
    lost = stage.events[-1]
    assert (lost.job, lost.failure.code, lost.failure.resumable) == ("a", ErrorCode.ENGINE_LOST, True)
    assert "last words" in lost.failure.detail
    qtbot.waitUntil(lambda: len(stage.channels) == 2, timeout=1000)
    stage.channel.ready()
    assert stage.channel.sent == [Submit("b", "/jobs/b")]
    assert stage.states == ["starting", "ready", "starting", "ready"]


def test_a_crash_loop_gives_up(stage, qtbot):
    stage.client.submit("a", "/jobs/a")
    for _ in range(RESTARTS):
        count = len(stage.channels)
        stage.channel.ended.emit("It crashed.")
        qtbot.waitUntil(lambda count=count: len(stage.channels) == count + 1, timeout=1000)
    stage.channel.ended.emit("It crashed.")
    assert stage.client.state == "crashed" and len(stage.channels) == 1 + RESTARTS
    assert [event.job for event in stage.events] == ["a", ""]
    qtbot.wait(50)
    assert len(stage.channels) == 1 + RESTARTS
    stage.client.start()  # a person may try again
    assert len(stage.channels) == 2 + RESTARTS


def test_a_cancel_before_the_engine_is_ready_needs_no_engine(stage):
    stage.client.submit("a", "/jobs/a")
    stage.client.cancel("a")
    assert stage.events == [Cancelled("a")]
    stage.channel.ready()
    assert stage.channel.sent == []


def test_a_cancel_that_is_not_answered_ends_the_engine_but_not_the_other_jobs(stage, qtbot):
    stage.client.submit("a", "/jobs/a")
    stage.client.submit("b", "/jobs/b")
    stage.channel.ready()
    stage.channel.say(Started("a"))
    stage.client.cancel("a")
    stage.client.cancel("a")
    qtbot.waitUntil(lambda: len(stage.channels) == 2, timeout=2000)
    assert stage.events[-1] == Cancelled("a")
    stage.channel.ready()
    assert stage.channel.sent == [Submit("b", "/jobs/b")]


def test_a_job_that_runs_beside_an_unanswered_cancel_is_submitted_again(stage, qtbot):
    stage.client.submit("a", "/jobs/a")
    stage.client.submit("b", "/jobs/b")
    stage.channel.ready()
    stage.channel.say(Started("a"))
    stage.client.cancel("b")
    qtbot.waitUntil(lambda: len(stage.channels) == 2, timeout=2000)
    stage.channel.ready()
    assert stage.channel.sent == [Submit("a", "/jobs/a")]


def test_an_answered_cancel_leaves_the_engine_alone(stage, qtbot):
    stage.client.submit("a", "/jobs/a")
    stage.channel.ready()
    stage.client.cancel("a")
    stage.channel.say(Cancelled("a"))
    qtbot.wait(200)
    assert len(stage.channels) == 1 and stage.client.state == "ready"


def test_an_engine_that_never_gets_ready_is_ended(qgis_app, qtbot):
    stage = Stage(ready_within=0.05)
    stage.client.start()
    qtbot.waitUntil(lambda: stage.client.state == "crashed", timeout=5000)
    assert len(stage.channels) == 1 + RESTARTS


def test_stop_closes_and_forgets(stage, qtbot):
    stage.client.submit("a", "/jobs/a")
    stage.channel.ready()
    channel = stage.channel
    stage.client.stop()
    assert channel.closed and stage.client.state == "stopped" and stage.client.unfinished == ()
    qtbot.wait(50)
    assert len(stage.channels) == 1


def test_a_listener_that_fails_does_not_end_the_supervision(stage):
    stage.client.submit("a", "/jobs/a")
    stage.channel.ready()
    stage.client._ready = None  # any mistake in handling an event
    stage.channel.ready()
    stage.channel.say(Started("a"))
    assert stage.events[-1] == Started("a")


@pytest.fixture
def process(qgis_app, fake_python, tmp_path, draft):
    """A client over real processes of the fake engine."""

    class Real:
        def submit(self, title):
            id, folder = jobs.create_folder(str(tmp_path / "jobs"), draft(title))
            self.client.submit(id, folder)
            return id

        def of(self, id):
            return [event for event in self.events if getattr(event, "job", None) == id]

    real = Real()
    real.events = []
    real.client = EngineClient(lambda: ProcessChannel(fake_python), restart_delay=0.01, grace=0.5)
    real.client.event_received.connect(real.events.append)
    yield real
    real.client.stop()


def test_a_job_runs_over_a_process(process, qtbot):
    job = process.submit("plain")
    qtbot.waitUntil(lambda: job not in process.client.unfinished, timeout=15000)
    kinds = [type(event).__name__ for event in process.of(job)]
    assert kinds[0] == "Started" and kinds[-1] == "Succeeded" and "Previewed" in kinds


def test_a_killed_process_is_replaced(process, qtbot):
    lost, fine = process.submit("crash"), process.submit("plain")
    qtbot.waitUntil(lambda: not process.client.unfinished, timeout=15000)
    assert process.of(lost)[-1].failure.code is ErrorCode.ENGINE_LOST
    assert "about to crash" in process.of(lost)[-1].failure.detail
    assert isinstance(process.of(fine)[-1], Succeeded)


def test_a_stubborn_process_is_killed_after_the_grace_period(process, qtbot):
    job = process.submit("slow stubborn")
    qtbot.waitUntil(lambda: bool(process.of(job)), timeout=15000)
    pid = process.client._channel.pid
    process.client.cancel(job)
    qtbot.waitUntil(lambda: not process.client.unfinished, timeout=3000)
    assert process.of(job)[-1] == Cancelled(job)
    assert not os.path.exists(f"/proc/{pid}")


def test_stop_leaves_no_process(process, qtbot):
    process.submit("slow")
    qtbot.waitUntil(lambda: process.client.state == "ready", timeout=15000)
    pid = process.client._channel.pid
    process.client.stop()
    assert not os.path.exists(f"/proc/{pid}")
