"""A model is refused or given up for its terms, its list, its host, its bytes or the disk, and that is said."""

from __future__ import annotations

import argparse
import errno
import os

import httpx2
import pytest
from afterimage.engine import faults
from afterimage.engine.contract import Installed
from afterimage.engine.errors import (
    DiskFull,
    DownloadDamaged,
    DownloadFailed,
    EngineError,
    InvalidRequest,
    LicenceNotAccepted,
    OutputNotWritable,
)
from afterimage.engine.store import catalogue, command, get, install, places
from afterimage.engine.store.http import Patience, client
from afterimage.engine.store.turn import alone

from .conftest import REPOSITORY, UNET, VAE


def test_nothing_is_asked_before_the_terms_are_accepted(text2earth, download, settings):
    for wrong in ("", "yes", catalogue.terms_digest(catalogue.find("rsedit"))):
        with pytest.raises(LicenceNotAccepted):
            download("text2earth", wrong)
    assert not text2earth.headers and not (settings.store / places.PARTIAL).exists()
    download("text2earth", catalogue.find("text2earth").terms)


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
