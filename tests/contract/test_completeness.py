"""One word per idea in five places: a task has a request, an engine file, a panel, an algorithm, and tests of each."""

import re
import typing
from pathlib import Path

import pytest
from afterimage.engine.contract import ErrorCode, Request

ROOT = Path(__file__).resolve().parents[2]
TASKS = [kind.__name__ for kind in typing.get_args(Request)]


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "place",
    [
        "engine/tasks/{}.py",
        "plugin/panels/{}.py",
        "plugin/processing/{}.py",
        "tests/engine/tasks/test_{}.py",
        "tests/plugin/panels/test_{}.py",
    ],
)
def test_a_task_is_in_every_place(task, place):
    assert (ROOT / place.format(snake(task))).is_file()


@pytest.mark.parametrize("task", TASKS)
def test_some_test_runs_its_algorithm(task):
    files = [path for folder in ("plugin", "qgis", "e2e") for path in (ROOT / "tests" / folder).rglob("test_*.py")]
    assert any(f"afterimage:{task.lower()}" in path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("task", TASKS)
def test_the_guide_tells_about_every_task(task):
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert f"afterimage:{task.lower()}" in text


@pytest.mark.parametrize("code", list(ErrorCode), ids=lambda code: code.value)
def test_the_guide_says_what_to_do_about_every_error(code):
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert len(re.findall(rf"^\| `{code.value}` \| .+ \| .+ \|$", text, re.MULTILINE)) == 1


def test_the_guide_names_every_model_that_ships():
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    section = text[text.index("\n## Models") : text.index("\n## Privacy")]
    shipped = {path.parent.name for path in (ROOT / "resources" / "models").glob("*/card.json")}
    assert shipped and all(f"`{name}`" in section for name in shipped)


@pytest.mark.parametrize("code", list(ErrorCode), ids=lambda code: code.value)
def test_every_error_has_a_place_that_raises_it(code):
    used = re.compile(rf"\bErrorCode\.{code.value}\b")
    files = [path for folder in ("engine", "plugin") for path in (ROOT / folder).rglob("*.py")]
    assert any(used.search(path.read_text(encoding="utf-8")) for path in files)
