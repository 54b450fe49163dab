"""What a team does when its hands draw, fail, die and come back: the same tiles, or a code and a next step."""

from __future__ import annotations

import random
import threading
from collections import deque

import numpy as np
import pytest
from afterimage.engine.context import JobContext
from afterimage.engine.contract import ErrorCode, Failure
from afterimage.engine.crew.alone import Alone
from afterimage.engine.crew.base import FailedElsewhere
from afterimage.engine.crew.messages import Begun, Broken, Drawn, Lost, Reached, Way
from afterimage.engine.crew.team import DEATHS, Team
from afterimage.engine.crew.worker import fingerprint
from afterimage.engine.errors import JobCancelled, OutputDamaged, WorkersLost
from afterimage.engine.finished import Finished, NotCommitted
from afterimage.engine.journal import JobFolder
from afterimage.engine.settings import Settings


class Scripted:
    """Hands in this process; ``does(hand, piece)`` may answer in the place of drawing."""

    def __init__(self, count, does=lambda hand, piece: None, seed=None):
        self.count, self.does, self.rng = count, does, random.Random(seed)
        self.waiting, self.left, self.number, self.closed = deque(), set(), 0, False
        self.given = []

    def call(self):
        for _ in range(self.count):
            self.start()

    def start(self):
        self.number += 1
        self.left.add(f"w{self.number}")
        return f"w{self.number}"

    def begin(self, finished, pieces):
        self.finished, self.pieces = finished, pieces
        self.ctx = JobContext("job", lambda event: None, threading.Event(), None)
        self.waiting.extend((hand, Begun()) for hand in sorted(self.left))

    def give(self, hand, piece, run):
        self.given.append((hand, piece))
        answers = self.does(hand, piece)
        if answers is None:
            answers = [Reached(0.5), Drawn(fingerprint(self.finished.draw(*piece, self.ctx)))]
        self.waiting.extend((hand, answer) for answer in answers)

    def next(self, seconds):
        if not self.waiting:
            return None
        at = self.rng.randrange(len(self.waiting)) if self.rng.random() < 0.5 else 0
        hand = self.waiting[at][0]
        # of one hand in order, of several in any
        first = next(i for i, (other, _) in enumerate(self.waiting) if other == hand)
        told = self.waiting[first]
        del self.waiting[first]
        if isinstance(told[1], Lost):
            self.left.discard(hand)
            self.waiting.append((self.start(), Begun()))
        return told

    def dismiss(self, hand):
        self.left.discard(hand)
        return bool(self.left)

    def close(self):
        self.closed = True


@pytest.fixture
def bench(null_engine, make_job):
    """Draws a job with a crew: ``bench(crew, name)`` -> its pieces; the events lie in ``bench.events``."""

    class Bench:
        def __init__(self):
            self.events, self.cancelled = [], threading.Event()

        def open(self, name="job", samples=2, **more):
            folder = JobFolder(make_job(name, samples=samples, **more))
            model = null_engine.load("null")
            ctx = JobContext(name, self.events.append, self.cancelled, folder.previews)
            work = null_engine.plan_generate(folder.job.request, folder, model, ctx)
            return folder, Finished(folder.job, work, folder), ctx

        def __call__(self, crew, name="job", samples=2):
            self.folder, self.finished, ctx = self.open(name, samples)
            with crew:
                return [piece for piece in crew.draw(self.finished, self.finished.missing(), ctx)]

        def tiles(self):
            return {path.name: path.read_bytes() for path in (self.folder.path / "tiles").iterdir()}

    return Bench()


def team(*given, **more):
    return Team(Scripted(*given, **more), Settings(device="cpu", threads=1), is_elsewhere=False)


@pytest.fixture
def alone(bench):
    bench(Alone(Settings(device="cpu", threads=1)), "alone")
    return bench.tiles()


@pytest.mark.parametrize("count", [1, 2, 4, 40])
def test_any_number_of_hands_in_any_order_leaves_the_same_tiles(bench, alone, count):
    for seed in range(25):
        crew = team(count, seed=seed)
        pieces = bench(crew, f"job{seed}")
        assert bench.tiles() == alone and len(pieces) == len(set(pieces)) == len(alone)
        assert crew._hands.closed


def test_hands_that_die_cost_no_more_than_what_they_were_at(bench, alone):
    rng = random.Random(3)
    crew = team(3, does=lambda hand, piece: [Lost("it was killed")] if rng.random() < 0.2 else None)
    bench(crew)
    died = len(crew._hands.given) - len(alone)
    assert bench.tiles() == alone and died >= 3 and not bench.finished.gaps()


def test_what_a_hand_committed_before_it_died_is_not_drawn_again(bench, alone):
    crew = team(2)

    def does(hand, piece):
        if len(crew._hands.given) != 3:
            return None
        crew._hands.finished.draw(*piece, crew._hands.ctx)
        return [Lost("it was killed between commit and answer")]

    crew._hands.does = does
    bench(crew)
    assert bench.tiles() == alone and len(crew._hands.given) == len(alone)


def test_a_piece_that_takes_three_hands_with_it_is_left_out(bench, alone):
    _, finished, _ = bench.open()
    poison = finished.missing()[5]
    crew = team(2, does=lambda hand, piece: [Lost("it was killed")] if piece == poison else None)
    pieces = bench(crew)
    assert [given for _, given in crew._hands.given].count(poison) == DEATHS
    assert len(pieces) == len(set(pieces)) == finished.total
    assert bench.finished.gaps() == [poison]
    empty = bench.finished.committed(*poison)
    assert not empty.valid.any() and not empty.pixels.any()
    others = {name: data for name, data in bench.tiles().items() if data != alone[name]}
    assert len(others) == 1, "all others are as they are without it"
    assert not bench.finished.missing(), "a resumed job does not try again"


def test_hands_that_die_over_and_over_end_the_job(bench):
    with pytest.raises(WorkersLost) as failed:
        bench(team(2, does=lambda hand, piece: [Lost("it was ended by SIGKILL")]))
    assert "SIGKILL" in str(failed.value) and failed.value.failure().resumable
    assert failed.value.failure().code is ErrorCode.WORKERS_LOST
    assert not bench.finished.gaps() and len(bench.finished.missing()) == bench.finished.total


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("hands", [1, 2])
def test_a_broken_machine_leaves_no_gap_however_few_chunks_are_left(bench, alone, number, hands):
    def killed(hand, piece):
        return [Lost("it was ended by SIGKILL")]

    folder, finished, ctx = bench.open()
    todo = finished.missing()[:number]
    for _ in ("begun", "resumed"):
        with pytest.raises(WorkersLost), team(hands, does=killed) as crew:
            list(crew.draw(finished, todo, ctx))
        assert not finished.gaps() and finished.missing()[:number] == todo
    for piece in finished.missing()[number:]:
        finished.draw(*piece, ctx)
    with pytest.raises(WorkersLost), team(hands, does=killed) as crew:  # what shows that the machine draws fails too
        list(crew.draw(finished, todo, ctx))
    assert not finished.gaps() and finished.missing() == todo
    with team(hands) as crew:
        assert sorted(map(str, crew.draw(finished, todo, ctx))) == sorted(map(str, todo))
    assert {path.name: path.read_bytes() for path in (folder.path / "tiles").iterdir()} == alone


def test_the_last_try_of_a_piece_has_the_machine_for_itself(bench):
    _, finished, _ = bench.open()
    poison = finished.missing()[1]
    at_work, beside = {}, []
    crew = team(3, seed=7)

    def does(hand, piece):
        at_work[hand] = piece
        if piece != poison:
            return None
        busy = {other for other, answer in crew._hands.waiting if isinstance(answer, (Drawn, Lost))}
        beside.append(len(busy))
        return [Lost("it was killed")]

    crew._hands.does = does
    bench(crew)
    assert len(beside) == DEATHS and beside[0] > 0 and beside[-1] == 0


def test_who_only_leaves_takes_no_piece_along(bench, alone):
    _, finished, _ = bench.open()
    unlucky = finished.missing()[5]
    crew = team(2)

    def does(hand, piece):
        tries = [given for _, given in crew._hands.given].count(unlucky)
        return [Lost("it is not at the scheduler any more", is_end=False)] if piece == unlucky and tries < 6 else None

    crew._hands.does = does
    bench(crew)
    assert bench.tiles() == alone and not bench.finished.gaps()


def test_a_note_of_a_gap_counts_only_for_its_work_and_while_there_is_one(bench):
    folder, finished, ctx = bench.open()
    first, second = finished.missing()[:2]
    finished.leave_out(*first)
    folder.leave_out(*second, finished.key)  # a crash before its tile
    assert finished.gaps() == [first] and second in finished.missing()
    finished.draw(*second, ctx)
    assert finished.gaps() == [first]
    assert folder.left_out("another") == []
    assert folder.try_again() and finished.gaps() == [] and first in finished.missing()
    assert not folder.try_again()


def test_the_failure_of_a_hand_is_the_jobs(bench):
    failure = Failure(ErrorCode.DISK_FULL, "The disk is full.", "Free some space.", resumable=True)
    with pytest.raises(FailedElsewhere) as failed:
        bench(team(2, does=lambda hand, piece: [Broken(failure)]))
    assert failed.value.failure("trace") == failure


def test_short_memory_takes_one_hand_less_until_none_is_left(bench, alone):
    short = Failure(ErrorCode.OUT_OF_MEMORY, "Not enough memory.", "Close something.")
    crew = team(3, does=lambda hand, piece: None if hand == "w2" else [Broken(short)])
    bench(crew)
    assert bench.tiles() == alone and crew._hands.left == {"w2"}
    with pytest.raises(FailedElsewhere):
        bench(team(2, does=lambda hand, piece: [Broken(short)]), "none")


def test_who_has_other_models_is_done_without(bench, alone):
    other = Failure(ErrorCode.WORKER_MISMATCH, "A worker plans this job otherwise.", "Give all the same models.")
    crew = team(3, does=lambda hand, piece: [Broken(other)] if hand == "w3" else None)
    bench(crew)
    assert bench.tiles() == alone and any("plans this job otherwise" in notice for notice in crew.notices)
    with pytest.raises(FailedElsewhere, match="otherwise"):
        bench(team(2, does=lambda hand, piece: [Broken(other)]), "none")


def test_hands_are_let_go_as_soon_as_all_is_drawn(bench):
    _, finished, ctx = bench.open()
    with team(2) as crew:
        list(crew.draw(finished, finished.missing(), ctx))
        assert crew._hands.closed and crew._hands.pieces == finished.total


def test_hands_that_cannot_all_be_called_are_let_go():
    crew = team(2)
    crew._hands.start = lambda: {}[0]
    with pytest.raises(KeyError), crew:
        pass
    assert crew._hands.closed


def test_what_does_not_lie_in_the_folder_was_not_drawn(bench):
    with pytest.raises(OutputDamaged, match="does not hold it"):
        bench(team(1, does=lambda hand, piece: [Drawn("0" * 64)]))


def test_a_way_that_memory_took_is_pinned_and_told(bench):
    crew = team(1, does=lambda hand, piece: None)
    draws = crew._hands.does
    crew._hands.does = lambda hand, piece: (
        crew._hands.waiting.append((hand, Way("tiles", "Memory was short."))),
        draws(hand, piece),
    )[1]
    bench(crew)
    assert bench.folder.pins()["memory"] == "tiles" and "Memory was short." in crew.notices


def test_cancelling_is_seen_between_two_messages(bench):
    bench.cancelled.set()
    crew = team(2)
    with pytest.raises(JobCancelled):
        bench(crew)
    assert crew._hands.closed


def test_progress_of_all_together_only_rises_and_finished_pieces_are_shown(bench):
    bench(team(4, seed=1))
    told = [event.fraction for event in bench.events if type(event).__name__ == "Progressed"]
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)
    assert any(type(event).__name__ == "Previewed" for event in bench.events)


def test_where_others_draw_a_damaged_tile_is_not_drawn_here(bench):
    folder, finished, ctx = bench.open()
    piece, other = finished.missing()[:2]
    finished.draw(*piece, ctx)
    finished.draw(*other, ctx)
    path = min((folder.path / "tiles").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    planner = Finished(folder.job, finished.work, folder, is_here=False)
    with pytest.raises(OutputDamaged) as failed:
        planner.read(*piece, ctx)
    assert failed.value.failure().resumable and piece in finished.missing() and other not in finished.missing()


def test_a_tile_that_cannot_be_written_for_want_of_memory_does_not_change_how_the_rest_is_drawn(bench, monkeypatch):
    folder, finished, ctx = bench.open()
    tried, writing = [], []
    finished = Finished(folder.job, finished.work, folder, lambda error: bool(tried.append(error)))

    def write(*given):
        writing.append(given)
        raise MemoryError

    monkeypatch.setattr(finished._tiles, "write", write)
    with pytest.raises(NotCommitted), finished.in_background():
        for piece in finished.missing():
            finished.draw(*piece, ctx)
    assert not tried and len(writing) == 1, "and nothing is written after it"


def test_nothing_missing_needs_nobody(bench):
    bench(team(2))
    crew = team(2, does=lambda hand, piece: pytest.fail("drawn again"))
    assert bench(crew) == []


def test_samples_that_are_not_valid_count_as_such(bench):
    _, finished, _ = bench.open("one", samples=1)
    piece = finished.missing()[0]
    finished.leave_out(*piece)
    assert np.array_equal(finished.committed(*piece).valid, np.zeros((piece[1].height, piece[1].width), bool))
