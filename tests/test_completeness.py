"""One word per idea in five places: names the row that somebody forgot. Reads files only, so it runs in any Python."""

from __future__ import annotations

import ast
import json
import re
import typing
from pathlib import Path

import pytest
from afterimage.engine import contract

ROOT = Path(__file__).resolve().parent.parent
TASKS = [kind.__name__ for kind in typing.get_args(contract.Request)]


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def text_of(folder: str) -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted((ROOT / folder).rglob("*.py")))


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_file_in_the_engine(task):
    path = ROOT / "engine" / "tasks" / f"{snake(task)}.py"
    assert path.is_file(), f"{task} has no engine/tasks/{path.name}"
    functions = {node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}
    assert "plan" in functions, f"engine/tasks/{path.name} has no plan()"
    rows = ROOT / "engine" / "tasks" / "__init__.py"
    assert re.search(rf"\b{task}: {snake(task)}\.plan\b", rows.read_text("utf-8")), f"TASKS has no row for {task}"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_panel(task):
    assert (ROOT / "plugin" / "panels" / f"{snake(task)}.py").is_file(), f"{task} has no plugin/panels/{snake(task)}.py"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_algorithm(task):
    path = ROOT / "plugin" / "processing" / f"{snake(task)}.py"
    assert path.is_file(), f"{task} has no plugin/processing/{snake(task)}.py"
    assert f'"{task.lower()}"' in path.read_text("utf-8"), f"no algorithm afterimage:{task.lower()}"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_sample_on_the_wire(task):
    path = ROOT / "tests" / "data" / "wire" / f"{snake(task)}.json"
    assert path.is_file(), f"{task} has no tests/data/wire/{path.name}"
    assert json.loads(path.read_text("utf-8"))["type"] == task


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_tests(task):
    found = sorted((ROOT / "tests").rglob(f"test_*{snake(task)}*.py"))
    assert found, f"no test file named after {snake(task)}"


def test_no_file_stands_for_a_task_that_there_is_not():
    for folder in ("engine/tasks", "plugin/panels", "plugin/processing"):
        for path in (ROOT / folder).glob("*.py"):
            assert path.stem not in {"forecast", "edit", "synthesize", "train"} - {snake(task) for task in TASKS}


def test_every_model_that_ships_has_a_card_that_its_files_fit():
    import hashlib

    cards = sorted((ROOT / "resources" / "models").glob("*/card.json"))
    for path in cards:
        card = contract.loads(contract.ModelCard, path.read_bytes())
        assert path.parent.name == card.id, f"{path.parent.name} holds the card of {card.id}"
        assert (ROOT / "engine" / "models" / f"{card.family}.py").is_file(), f"no family {card.family}"
        assert set(card.tasks) <= set(TASKS) and card.pickable and card.weights and card.licence
        for name, sha256 in card.weights.items():
            found = hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
            assert found == sha256.removeprefix("sha256:"), f"{card.id}: {name}"
    covered = {task for path in cards for task in contract.loads(contract.ModelCard, path.read_bytes()).tasks}
    assert covered == set(TASKS), f"no model ships for {set(TASKS) - covered}"


def test_every_error_code_of_the_engine_has_a_class():
    named = set(re.findall(r"code = ErrorCode\.(\w+)", (ROOT / "engine" / "errors.py").read_text("utf-8")))
    elsewhere = {"ENGINE_MISSING", "ENGINE_LOST", "PROTOCOL_MISMATCH", "INTERNAL"}
    assert {code.value for code in contract.ErrorCode} == named | elsewhere
