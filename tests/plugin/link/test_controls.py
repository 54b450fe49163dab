"""The engine shows what a model will see of a job's layers, or says why not."""

import json

import pytest
from afterimage.engine.contract import ErrorCode
from afterimage.plugin.link.controls import seen_controls
from afterimage.plugin.report import Problem

SAYS = {
    "well": ['{"kind": "edges", "path": "/e.tif"}', '{"kind": "depth", "path": "/d.tif"}'],
    "refused": [
        json.dumps({"ok": False, "code": "EXTENT_TOO_LARGE", "message": "Too large.", "hint": "Draw a smaller extent."})
    ],
    "strange": ["{}"],
    "broken": ["{"],
    "nothing": [],
}


@pytest.fixture
def engine(qgis_app, tmp_path, monkeypatch):
    """Makes an engine that answers so, after so many seconds."""

    def make(says, seconds=0):
        program = tmp_path / "engine"
        lines = "\n".join(f"echo '{line}'" for line in SAYS[says])
        program.write_text(
            f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n[ {seconds} = 0 ] || exec sleep {seconds}\n{lines}\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("AFTERIMAGE_ENGINE_PYTHON", str(program))
        return tmp_path / "asked"

    return make


def test_each_control_comes_as_a_file(engine):
    asked = engine("well")
    assert seen_controls("/jobs/a", "/out", lambda: False) == {"edges": "/e.tif", "depth": "/d.tif"}
    assert asked.read_text().split()[-5:] == ["controls", "/jobs/a", "--out", "/out", "--watch-stdin"]


def test_the_engine_s_own_sentence_is_passed_on(engine):
    engine("refused")
    with pytest.raises(Problem, match="Too large") as caught:
        seen_controls("/jobs/a", "/out", lambda: False)
    assert caught.value.failure.code is ErrorCode.EXTENT_TOO_LARGE and caught.value.failure.hint


@pytest.mark.parametrize("says", ["strange", "broken", "nothing"])
def test_what_is_no_answer_is_an_engine_that_was_lost(engine, says):
    engine(says)
    with pytest.raises(Problem) as caught:
        seen_controls("/jobs/a", "/out", lambda: False)
    assert caught.value.failure.code is ErrorCode.ENGINE_LOST


def test_nobody_waits_for_what_is_no_longer_asked(engine):
    engine("well", seconds=60)
    looks = iter([False, False])
    assert seen_controls("/jobs/a", "/out", lambda: next(looks, True)) == {}
