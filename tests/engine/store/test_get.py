"""A public model is fetched whole and unchanged, or not at all; what has arrived is never fetched again."""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

import httpx2
import pytest
from afterimage.engine import faults
from afterimage.engine.contract import ErrorCode, Fetching, Files, Installed, Notice, Offers, Refused, Removed, loads
from afterimage.engine.errors import (
    DiskFull,
    DownloadDamaged,
    DownloadFailed,
    EngineError,
    InvalidRequest,
    LicenceNotAccepted,
    OutputNotWritable,
)
from afterimage.engine.models.catalog import CARD
from afterimage.engine.models.published import examine
from afterimage.engine.models.weights import check_files
from afterimage.engine.store import catalogue, command, get, install, places, unpack
from afterimage.engine.store.http import Patience, client
from afterimage.engine.store.turn import alone

REPOSITORY = "lcybuaa/Text2Earth"
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def text2earth(hub, parity):
    """The tiny checkpoint where the real one is, with what a real repository has beside it."""
    hub.put(REPOSITORY, parity / "text2earth")
    hub.files[REPOSITORY] |= {
        "pipeline_text2earth_diffusion.py": b"raise SystemExit",
        "unet/diffusion_pytorch_model.bin": b"a pickle that is not needed",
        "README.md": b"words",
    }
    return hub


def test_a_model_is_fetched_verified_and_installed(text2earth, fetch_model, settings):
    notices = fetch_model("text2earth")
    files, *_, installed = notices
    assert isinstance(files, Files) and files.commit == text2earth.commit and files.free > 0
    assert {file.path for file in files.files} >= {UNET, VAE, "model_index.json", "tokenizer/vocab.json"}
    assert not [file.path for file in files.files if "inpainting" in file.path], "another model beside it"
    steps = [notice for notice in notices if isinstance(notice, Fetching)]
    assert [step.done for step in steps if step.stage == "fetching"][-1] == steps[0].total
    assert {step.stage for step in steps} == {"fetching", "checking", "installing"}
    assert isinstance(installed, Installed)
    folder = settings.store / "text2earth"
    assert loads(type(installed.card), (folder / CARD).read_bytes()) == installed.card
    assert installed.card.origin == f"huggingface:{REPOSITORY}@{text2earth.commit}"
    check_files(folder, installed.card.weights)
    assert set(installed.card.weights) == {file.path for file in files.files}, "all of it decides what is drawn"
    assert examine(folder)["family"] == "text2earth"
    record = json.loads((folder / "origin.json").read_text("utf-8"))
    assert record["accepted"] == catalogue.find("text2earth").terms and record["accepted_at"] <= record["installed"]
    assert record["commits"] == f"{REPOSITORY}@{text2earth.commit}"
    assert not (settings.store / places.PARTIAL / "text2earth").exists()


def test_code_and_second_copies_are_not_fetched(text2earth, download, settings):
    there = [path for path in download("text2earth").rglob("*") if path.is_file()]
    assert {path.suffix for path in there} == {".safetensors", ".json", ".txt"}
    assert not {name for name, _ in text2earth.asked if name.endswith((".py", ".bin", ".md"))}


def test_nothing_is_asked_before_the_terms_are_accepted(text2earth, download, settings):
    for wrong in ("", "yes", catalogue.terms_digest(catalogue.find("rsedit"))):
        with pytest.raises(LicenceNotAccepted):
            download("text2earth", wrong)
    assert not text2earth.headers and not (settings.store / places.PARTIAL).exists()
    download("text2earth", catalogue.find("text2earth").terms)


def test_no_token_is_sent_and_redirects_are_followed(text2earth, download, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text2earth.faults[UNET] = ["redirect"]
    download("text2earth")
    sent = [name.lower() for headers in text2earth.headers for name in headers]
    assert "authorization" not in sent and "cookie" not in sent
    assert not any("hf_secret" in value for headers in text2earth.headers for value in headers.values())


@pytest.mark.parametrize("fault", ["cut:9000", "stall:9000", "busy"])
def test_a_host_that_stops_is_asked_again_for_the_rest(text2earth, download, fault):
    text2earth.faults[UNET] = [fault, fault]
    download("text2earth")
    ranges = [span for name, span in text2earth.asked if name == UNET]
    assert ranges == (["", "", ""] if fault == "busy" else ["", "bytes=9000-", "bytes=18000-"])


@pytest.mark.parametrize("fault", ["416", "shifted", "whole", "changed"])
def test_a_host_that_cannot_go_on_is_asked_from_the_start(text2earth, download, fault):
    text2earth.faults[UNET] = ["cut:9000", fault]
    download("text2earth")
    ranges = [span for name, span in text2earth.asked if name == UNET]
    assert ranges == ["", "bytes=9000-"] + ([] if fault == "whole" else [""])


def test_a_beginning_of_other_bytes_is_fetched_once_more(text2earth, download, settings):
    folder = settings.store / places.PARTIAL / "text2earth" / "files" / "unet"
    folder.mkdir(parents=True)
    (folder / "diffusion_pytorch_model.safetensors.part").write_bytes(b"x" * 9000)
    download("text2earth")
    assert [span for name, span in text2earth.asked if name == UNET] == ["bytes=9000-", ""]


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("bytes", DownloadDamaged, "other bytes"),
        ("short", DownloadDamaged, "its record says"),
        ("long", DownloadDamaged, "its record says"),
        ("html", DownloadDamaged, "web page"),
        ("gone", DownloadFailed, "does not have"),
    ],
)
def test_what_is_not_what_the_record_says_is_not_kept(text2earth, download, settings, fault, error, says):
    text2earth.faults[UNET] = [fault]
    with pytest.raises(error, match=says) as told:
        download("text2earth")
    assert told.value.hint and "/" not in told.value.message.replace(UNET, "")
    partial = settings.store / places.PARTIAL / "text2earth"
    assert not (partial / "files" / UNET).exists() and not (settings.store / "text2earth").exists()
    assert catalogue.state("text2earth", settings.store) == "partial"
    download("text2earth")  # the host has mended it
    assert [name for name, _ in text2earth.asked].count(VAE) == 1, "what was there was fetched again"


@pytest.mark.parametrize("fault", ["416", "stall:0", "busy", "cut:0"])
def test_a_host_that_never_goes_on_is_given_up(text2earth, download, fault):
    text2earth.faults[UNET] = [fault] * 20
    with pytest.raises((DownloadFailed, DownloadDamaged)):
        download("text2earth")
    assert [name for name, _ in text2earth.asked].count(UNET) == 4


def test_the_commit_is_pinned_at_the_first_answer(text2earth, download, settings):
    text2earth.faults[UNET] = ["gone"]
    with pytest.raises(DownloadFailed):
        download("text2earth")
    state = json.loads((settings.store / places.PARTIAL / "text2earth" / "state.json").read_text())
    assert state["commits"] == {REPOSITORY: text2earth.commit}
    text2earth.headers.clear()
    text2earth.commit = "f" * 40  # the stub has no other: the pinned one is asked for, and is not there
    with pytest.raises(DownloadFailed, match="does not have"):
        download("text2earth")


def test_other_hashes_at_the_same_commit_are_refused(text2earth, download):
    text2earth.faults[UNET] = ["gone"]
    with pytest.raises(DownloadFailed):
        download("text2earth")
    text2earth.files[REPOSITORY][UNET] = text2earth.files[REPOSITORY][UNET][::-1]
    with pytest.raises(DownloadDamaged, match="at the same commit"):
        download("text2earth")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"<html>Sign in</html>", "something else"),
        (b"[]", "something else"),
        (b'{"sha": "main", "siblings": []}', "record"),
        (b'{"sha": "' + b"0" * 40 + b'", "siblings": []}', "does not have the files"),
        (b'{"sha": "' + b"0" * 40 + b'", "siblings": [{"rfilename": "unet/config.json"}]}', "no size or hash"),
        (
            b'{"sha": "' + b"0" * 40 + b'", "siblings": [{"rfilename": "unet/config.json", "size": 1, "blobId": "'
            + b"0" * 64 + b'"}]}',
            "no size or hash",
        ),
        (
            b'{"sha": "' + b"0" * 40 + b'", "siblings": [{"rfilename": "unet/config.json", "lfs": {"size": 1, '
            b'"sha256": "' + b"0" * 40 + b'"}}]}',
            "no size or hash",
        ),
        (
            b'{"sha": "' + b"0" * 40 + b'", "siblings": [{"rfilename": "../unet/config.json", "size": 1, "blobId": "'
            + b"0" * 40 + b'"}]}',
            "outside",
        ),
    ],
)  # fmt: skip
def test_a_list_that_is_none(text2earth, download, answer, says):
    text2earth.told[f"/api/models/{REPOSITORY}/revision/main"] = answer
    with pytest.raises(EngineError, match=says):
        download("text2earth")


def test_a_host_that_is_not_there(hub, download, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadFailed, match="cannot be reached"):
        download("text2earth")


def test_space_is_looked_for_before_anything_is_fetched(text2earth, download, monkeypatch):
    monkeypatch.setattr(places, "free", lambda folder: places.SPARE + 1000)
    with pytest.raises(DiskFull, match="are needed"):
        download("text2earth")
    assert not text2earth.asked


def test_a_disk_that_fills_up(text2earth, download, monkeypatch, settings):
    faults.arm("fetch.before_write:2:enospc")
    try:
        with pytest.raises(DiskFull, match="disk is full"):
            download("text2earth")
    finally:
        faults.arm("")
    assert catalogue.state("text2earth", settings.store) == "partial"
    assert download("text2earth")


def test_a_model_that_needs_another(hub, download):
    with pytest.raises(InvalidRequest, match="needs Stable Diffusion"):
        download("geosynth-osm")
    assert not hub.headers


def test_a_second_process_waits_its_turn(text2earth, download, settings):
    with alone("text2earth", settings.store):
        with pytest.raises(DownloadFailed, match="already"):
            download("text2earth")


def test_nobody_fetches_or_removes_a_model_while_it_is_installed(text2earth, settings, fetch_model, monkeypatch):
    def put_together(folder, base, wish, store, tell):
        with pytest.raises(DownloadFailed, match="already") as told:
            fetch_model("text2earth")
        assert told.value.hint
        with pytest.raises(DownloadFailed, match="already"):
            command._remove(argparse.Namespace(id="text2earth"), settings)
        assert (folder / UNET).is_file()
        return catalogue.find("text2earth").card

    monkeypatch.setattr(install, "put_together", put_together)
    assert isinstance(fetch_model("text2earth")[-1], Installed)


@pytest.mark.parametrize("state", [b"", b"[]", b'{"hashes": 1}'])
def test_files_of_two_commits_are_never_mixed(text2earth, download, settings, state):
    download("text2earth")
    (settings.store / places.PARTIAL / "text2earth" / "state.json").write_bytes(state)
    text2earth.asked.clear()
    text2earth.commit = "f" * 40
    before = text2earth.files[REPOSITORY][VAE]
    text2earth.files[REPOSITORY][VAE] = before[:-1] + bytes([before[-1] ^ 1])
    folder = download("text2earth")
    assert (folder / VAE).read_bytes() == text2earth.files[REPOSITORY][VAE]
    assert [name for name, _ in text2earth.asked] == [VAE], "what is the same in both is kept"


def test_a_file_that_is_wanted_since_is_no_change_of_the_record(text2earth, download):
    download("text2earth")
    text2earth.files[REPOSITORY]["tokenizer/added_tokens.json"] = b"{}"
    assert (download("text2earth") / "tokenizer" / "added_tokens.json").read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EACCES, OutputNotWritable)]
)
def test_what_the_disk_says_of_other_files(text2earth, download, monkeypatch, number, error):
    def write(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(get.durable, "write", write)
    with pytest.raises(error) as told:
        download("text2earth")
    assert told.value.hint


def test_whoever_stops_reading_is_no_fault_of_the_disk(text2earth, settings):
    def tell(notice):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        get.download("text2earth", catalogue.find("text2earth").terms, settings, tell)


@pytest.mark.parametrize("to", ["http://host/b", "ftp://host/b", "//host/b"])
def test_a_host_does_not_lead_away_from_https(monkeypatch, to):
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return httpx2.Response(302, headers={"Location": to}) if request.url.path == "/a" else httpx2.Response(200)

    with client(Patience(), {}) as made:
        monkeypatch.setattr(made, "_transport_for_url", lambda url: httpx2.MockTransport(answer))
        if to.startswith("//"):
            assert made.get("https://host/a").status_code == 200 and asked[1] == "https://host/b"
            return
        with pytest.raises(DownloadFailed, match="not encrypted"):
            made.get("https://host/a")
    assert asked == ["https://host/a"]


def test_an_offer_of_several_repositories_and_of_one_folder(hub, settings):
    hub.files["Sonetto702/AeroGen"] = {"last.ckpt": b"x" * 3000, "layout.ckpt": b"y"}
    tokens = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
    hub.files["openai/clip-vit-large-patch14"] = {name: b"{}" for name in (*tokens, "pytorch_model.bin")}
    told = get.files("crs-diff", settings.store, Patience())
    assert {file.path for file in told.files} == {"last.ckpt", *(f"tokenizer/{name}" for name in tokens)}
    hub.files["BiliSakura/RSEdit-UNet-text-ablation"] = {
        "DGTRS-CLIP-ViT-L-14/unet/config.json": b"{}",
        "DGTRS-CLIP-ViT-L-14/unet/diffusion_pytorch_model.safetensors": b"x",
        "Remote-CLIP-ViT-L-14/unet/diffusion_pytorch_model.safetensors": b"y",
    }
    told = get.files("rsedit", settings.store, Patience())
    assert {file.path for file in told.files} == {"unet/config.json", UNET}
    assert not settings.store.exists(), "asking leaves nothing behind"


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


class Command:
    """The engine's command line, as the plugin runs it."""

    def __init__(self, root, store, **environment):
        self._root = root
        self._environment = {**os.environ, "AFTERIMAGE_STORE": str(store), "OMP_NUM_THREADS": "1", **environment}

    def start(self, *arguments):
        command = [sys.executable, "-I", str(self._root / "engine" / "launch.py"), "--log-level", "ERROR", "models"]
        return subprocess.Popen(
            [*command, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        )

    def run(self, *arguments):
        with self.start(*arguments) as process:
            out, _ = process.communicate(timeout=240)
        return process.returncode, [loads(Notice, line) for line in out.splitlines()]


def test_the_commands(root, text2earth, tmp_path):
    command = Command(root, tmp_path)
    status, (listed,) = command.run("offers")
    assert status == 0 and isinstance(listed, Offers) and not text2earth.headers
    offer = next(offer for offer in listed.offers if offer.card.id == "text2earth")
    assert offer.state == "available" and offer.terms
    status, (refused,) = command.run("get", "text2earth")
    assert status == 1 and isinstance(refused, Refused) and refused.id == "text2earth"
    assert refused.failure.code is ErrorCode.LICENCE_NOT_ACCEPTED and not text2earth.headers
    status, (files,) = command.run("files", "text2earth")
    assert status == 0 and isinstance(files, Files) and sum(file.done for file in files.files) == 0

    accept = ("--accept-terms", catalogue.terms_digest(offer))
    broken = Command(root, tmp_path, AFTERIMAGE_FAULT="fetch.before_write:6:kill")
    status, _ = broken.run("get", "text2earth", *accept)
    assert status == -signal.SIGKILL
    _, (listed,) = command.run("offers")
    assert next(offer for offer in listed.offers if offer.card.id == "text2earth").state == "partial"
    text2earth.asked.clear()
    status, (files, *_, installed) = command.run("get", "text2earth", *accept)
    assert status == 0 and isinstance(installed, Installed) and sum(file.done for file in files.files) > 0
    finished = {file.path for file in files.files if file.done == file.size}
    assert finished and not finished & {name for name, _ in text2earth.asked}

    text2earth.close()
    cards = json.loads(subprocess.run(
        [sys.executable, "-I", str(root / "engine" / "launch.py"), "models", "check", str(tmp_path / "text2earth")],
        capture_output=True, check=True, timeout=240,
    ).stdout)  # fmt: skip
    assert cards["ok"], "it runs without a network"
    status, (refused,) = command.run("get", "text2earth", *accept)
    assert status == 1 and "already" in refused.failure.message
    status, (removed,) = command.run("remove", "text2earth")
    assert status == 0 and removed == Removed("text2earth") and not (tmp_path / "text2earth").exists()
    status, (refused,) = command.run("remove", "text2earth")
    assert status == 1 and refused.failure.code is ErrorCode.UNKNOWN_MODEL


def test_the_end_of_input_cancels_in_the_middle_of_a_file(root, text2earth, tmp_path):
    text2earth.faults[UNET] = ["stall:9000"] * 9
    accept = catalogue.terms_digest(catalogue.find("text2earth"))
    with Command(root, tmp_path).start("get", "text2earth", "--accept-terms", accept, "--watch-stdin") as process:
        for line in process.stdout:
            if b'"fetching"' in line and UNET.encode() in line:
                break
        process.stdin.close()
        assert process.wait(30) == 2
    assert not (tmp_path / "text2earth").exists()
    text2earth.faults.clear()
    text2earth.asked.clear()
    status, notices = Command(root, tmp_path).run("get", "text2earth", "--accept-terms", accept)
    assert status == 0 and isinstance(notices[-1], Installed)
    assert next(span for name, span in text2earth.asked if name == UNET).startswith("bytes=")
