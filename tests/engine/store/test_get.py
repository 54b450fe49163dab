"""A public model is fetched whole and unchanged, and what has arrived is never fetched again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from afterimage.engine.contract import ErrorCode, Fetching, Files, Installed, Notice, Offers, Refused, Removed, loads
from afterimage.engine.errors import DownloadFailed
from afterimage.engine.models.catalog import CARD
from afterimage.engine.models.published import examine
from afterimage.engine.models.weights import check_files
from afterimage.engine.store import catalogue, get, places
from afterimage.engine.store.http import Patience

from .conftest import REPOSITORY, UNET, VAE


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
