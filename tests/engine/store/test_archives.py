"""A model that is an archive on Zenodo: of what is in it, what the model needs is installed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil

import pytest
from afterimage.engine.contract import Fetching
from afterimage.engine.errors import DiskFull, DownloadDamaged, OutputNotWritable
from afterimage.engine.models.published import examine
from afterimage.engine.store import get, places, unpack


@pytest.fixture
def archives(hub, parity):
    """DiffusionSat as Zenodo has it: an archive with training checkpoints in it, and one with a ControlNet."""

    def entries(folder, below):
        return {
            f"{below}/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix != ".npz" and "controlnet" not in path.parts[-2]
        }

    single = entries(parity / "diffusionsat", "finetune")
    drawn = {k: v for k, v in single.items() if k.startswith("finetune/unet/")}
    single |= {k.replace("/unet/", "/checkpoint-150000/unet/"): v for k, v in drawn.items()}
    single |= {k.replace("/unet/", "/checkpoint-50000/unet/"): v for k, v in drawn.items()}
    single |= {"finetune/optimizer.bin": b"z" * 5000, "finetune/code.py": b"raise SystemExit"}
    hub.archive("13751498", "finetune.zip", single)
    control = parity / "diffusionsat" / "controlnet_sr" / "controlnet"
    hub.archive("13756246", "controlnet.zip", {f"sr/controlnet/{p.name}": p.read_bytes() for p in control.iterdir()})
    return hub


def test_archives_of_zenodo(archives, fetch_model, settings):
    notices = fetch_model("diffusionsat-512")
    card = notices[-1].card
    assert "converting" in {notice.stage for notice in notices if isinstance(notice, Fetching)}
    assert notices[0].commit.startswith("md5:") and card.origin == f"zenodo:13751498@{notices[0].commit}"
    folder = settings.store / "diffusionsat-512"
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".txt"}
    assert {path.name for path in folder.glob("checkpoint-*")} == {"checkpoint-100000"}
    steered = fetch_model("diffusionsat-sentinel")[-1].card
    assert steered.tasks == ("SuperResolve",) and len(steered.source_bands) == 10
    assert examine(settings.store / "diffusionsat-sentinel")["kind"] == "2-D ControlNet"
    shutil.rmtree(folder)
    assert examine(settings.store / "diffusionsat-sentinel"), "its base went along with another model"


def test_a_damaged_archive(archives, download, settings):
    whole = archives.files["13751498"]["finetune.zip"]
    archives.files["13751498"]["finetune.zip"] = whole[:-200] + bytes(200)
    with pytest.raises(DownloadDamaged, match="archive"):
        download("diffusionsat-512")
    assert not (settings.store / "diffusionsat-512").exists()


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EACCES, OutputNotWritable)])
def test_a_disk_that_fills_up_while_unpacking(archives, download, settings, monkeypatch, number, error):
    def copy(*arguments):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as full:
        full.setattr(unpack.shutil, "copyfileobj", copy)
        with pytest.raises(error):
            download("diffusionsat-512")
    unpacked = settings.store / places.PARTIAL / "diffusionsat-512" / "unpacked"
    assert unpacked.exists()
    there = []
    check = places.check_space
    monkeypatch.setattr(places, "check_space", lambda *given: there.append(unpacked.exists()) or check(*given))
    download("diffusionsat-512")
    assert there[0] is False, "space is asked for that a half of before still takes"


def test_a_record_with_strange_entries(archives, settings):
    content = archives.files["13751498"]["finetune.zip"]
    entry = {"key": "finetune.zip", "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
    archives.told["/api/records/13751498"] = json.dumps({"files": [None, 1, "finetune.zip", [], entry]}).encode()
    assert [file.path for file in get.files("diffusionsat-512", settings.store).files] == ["finetune.zip"]
