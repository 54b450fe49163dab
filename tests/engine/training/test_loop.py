"""A run that was killed goes on as if it had not been, and a budget is kept."""

import contextlib
import json

import pytest
import torch
from afterimage.engine.training import checkpoint
from afterimage.engine.training.checkpoint import find_checkpoint
from afterimage.engine.training.loop import Budget, run
from afterimage.engine.training.order import step_generator
from afterimage.engine.training.recipe import FOLDER, Recipe, read_recipe
from safetensors.torch import load_file
from torch import nn


class Killed(Exception):
    pass


class Line:
    """Fits y = 2 x + 1, and can be killed at a step."""

    def __init__(self, kill_at=None):
        torch.manual_seed(0)
        self.trained = nn.ModuleDict({"transformer_blocks": nn.ModuleList([nn.Linear(1, 4), nn.Linear(4, 1)])})
        self.kill_at = kill_at

    def loss(self, step):
        if step == self.kill_at:
            raise Killed
        x = torch.randn(16, 1, generator=step_generator(0, step))
        first, second = self.trained["transformer_blocks"]
        return (second(first(x)) - 2 * x - 1).square().mean()

    def validate(self, averaged):
        return {"size": float(sum(p.detach().square().sum() for p in averaged.parameters()))}

    def export(self, averaged, folder):
        folder.mkdir(parents=True, exist_ok=True)


def read(folder):
    """All tensors of the latest checkpoint."""
    found = find_checkpoint(folder)
    return {key: value for path in found.iterdir() for key, value in load_file(path).items()}


@pytest.mark.parametrize("muon", [0.0, 0.01])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, muon):
    recipe = Recipe("line", "line", "line", {}, 16, 0.01, muon_learning_rate=muon, warmup=5)
    every = Budget(steps=30, report_every=0.0)
    run(recipe, Line(), tmp_path / "whole", every)
    with pytest.raises(Killed):
        run(recipe, Line(kill_at=17), tmp_path / "killed", every)
    run(recipe, Line(), tmp_path / "killed", every, resume=True)
    whole, resumed = (read(tmp_path / name) for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    recipe = Recipe("line", "line", "line", {}, 16, 0.01)
    run(recipe, Line(), tmp_path, Budget(steps=5))
    before = read(tmp_path)

    def die(*_):
        raise Killed

    monkeypatch.setattr("os.replace", die)
    with pytest.raises(Killed):
        run(recipe, Line(), tmp_path, Budget(steps=9), resume=True)
    monkeypatch.undo()
    assert find_checkpoint(tmp_path).name == "checkpoint-5"
    assert all(torch.equal(value, before[key]) for key, value in read(tmp_path).items())
    run(recipe, Line(), tmp_path, Budget(steps=9), resume=True)
    assert [path.name for path in tmp_path.glob("checkpoint*")] == ["checkpoint-9"]


def test_a_kill_while_the_same_step_is_saved_again_leaves_it(tmp_path, monkeypatch):
    recipe = Recipe("line", "line", "line", {}, 16, 0.01)
    run(recipe, Line(), tmp_path, Budget(steps=5))
    before, trained = read(tmp_path), Line().trained

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr("os.replace", die)
        checkpoint.save_checkpoint(tmp_path, trained, trained, [], {"step": 5, "seconds": 0.0})
    assert find_checkpoint(tmp_path).name == "checkpoint-5"
    assert all(torch.equal(value, before[key]) for key, value in read(tmp_path).items())


def test_a_checkpoint_is_cut_into_small_files(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARD", 40)
    recipe = Recipe("line", "line", "line", {}, 16, 0.01)
    run(recipe, Line(), tmp_path, Budget(steps=5))
    assert len(list(find_checkpoint(tmp_path).iterdir())) > 3
    assert all(sum(v.nbytes for v in load_file(path).values()) <= 40 for path in find_checkpoint(tmp_path).iterdir())
    assert run(recipe, Line(), tmp_path, Budget(steps=6), resume=True)["step"] == 6


def test_another_run_is_not_overwritten(tmp_path):
    recipe = Recipe("line", "line", "line", {}, 16, 0.01)
    run(recipe, Line(), tmp_path, Budget(steps=2))
    with pytest.raises(FileExistsError, match="resume"):
        run(recipe, Line(), tmp_path, Budget(steps=2))


def test_the_log_has_a_line_for_each_report_and_a_plot(tmp_path):
    recipe = Recipe("line", "line", "line", {}, 16, 0.01)
    last = run(recipe, Line(), tmp_path, Budget(steps=6, report_every=0.0))
    lines = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1] == last and last["images"] == 96
    assert (tmp_path / "log.png").stat().st_size > 1000


def test_time_ends_a_run():
    budget = Budget(minutes=2)
    assert budget.part_spent(10, 60) == pytest.approx(0.5)
    assert budget.part_spent(10, 121) > 1


def test_every_recipe_is_named_as_its_file():
    for path in FOLDER.glob("*.json"):
        assert read_recipe(path.stem).name == path.stem
    with pytest.raises(FileNotFoundError, match="superresolve"):
        read_recipe("nothing")
