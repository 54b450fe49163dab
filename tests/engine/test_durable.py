"""Who may do what with a file is decided by the folder that it was made in: results keep the rights of theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from afterimage.engine import durable


def test_a_folder_that_hands_down_other_rights_gets_its_files_made_there(tmp_path, monkeypatch):
    inner, outer = tmp_path / "in", tmp_path / "out"
    inner.mkdir()
    outer.mkdir()
    assert durable.can_move(inner, outer) == (os.name != "nt")
    assert not durable.can_move(inner, tmp_path / "nowhere")
    assert not list(inner.iterdir()) and not list(outer.iterdir())
    if os.name != "nt":
        monkeypatch.setattr(durable, "_rights", lambda path: (path.touch(), path.parent.name)[1])
        assert not durable.can_move(inner, outer)
        monkeypatch.undo()
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(18, "another disk")))
        assert not durable.can_move(inner, outer)
        assert not list(inner.iterdir()) and not list(outer.iterdir())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root may give a folder another group")
def test_a_shared_folder_keeps_its_group(start, make_job, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, 12345)
    shared.chmod(0o2775)
    assert not durable.can_move(tmp_path, shared)
    ending = start(make_job("job", output=shared / "out.tif"))
    assert Path(ending.result.outputs[0].path).stat().st_gid == 12345
