import hashlib
import json

import pytest
from afterimage.engine.contract import ErrorCode, Fetching, Files, Installed, Removed
from afterimage.plugin import settings
from afterimage.plugin.link.models import ModelCommand, models_channel
from qgis.core import QgsSettings


def outcome(qtbot, *words, **more):
    """Run a command to its end: notices on the way, answer, failure."""
    command = ModelCommand(*words, **more)
    notices = []
    command.progressed.connect(notices.append)
    with qtbot.waitSignal(command.ended, timeout=20000) as ended:
        command.start()
    return notices, *ended.args


def accepted(id):
    return hashlib.sha256(f"You use {id.capitalize()} for research only.".encode()).hexdigest()


def test_a_list_of_files_is_an_answer(qtbot, shop):
    notices, files, failure = outcome(qtbot, "files", "sketcher")
    assert notices == [] and failure is None and isinstance(files, Files)
    assert files.files[0].path == "unet/model.safetensors" and files.free > 0


def test_a_get_tells_how_far_it_is_and_ends_with_the_card(qtbot, shop):
    notices, answer, failure = outcome(qtbot, "get", "sketcher", "--accept-terms", accepted("sketcher"))
    assert failure is None and isinstance(answer, Installed) and answer.card.id == "sketcher"
    assert isinstance(notices[0], Files) and all(isinstance(notice, Fetching) for notice in notices[1:])
    assert notices[-1].stage == "installing" and (shop / "sketcher" / "card.json").is_file()
    _, answer, _ = outcome(qtbot, "remove", "sketcher")
    assert answer == Removed("sketcher") and not (shop / "sketcher").exists()


def test_a_refusal_is_a_failure_with_its_code(qtbot, shop, monkeypatch):
    _, answer, failure = outcome(qtbot, "get", "sketcher", "--accept-terms", "of other terms")
    assert answer is None and failure.code is ErrorCode.LICENCE_NOT_ACCEPTED
    monkeypatch.setenv("FAKE_STORE", "offline")
    _, answer, failure = outcome(qtbot, "files", "sketcher")
    assert answer is None and failure.code is ErrorCode.DOWNLOAD_FAILED and failure.hint


def test_a_process_that_dies_is_a_failure_that_can_be_gone_on_with(qtbot, shop, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "crash")
    _, answer, failure = outcome(qtbot, "get", "sketcher", "--accept-terms", accepted("sketcher"))
    assert answer is None and failure.code is ErrorCode.ENGINE_LOST and failure.resumable
    assert "about to crash" in failure.detail


def test_a_cancel_kills_the_process_and_is_no_failure(qtbot, shop, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "slow")
    command = ModelCommand("get", "sketcher", "--accept-terms", accepted("sketcher"))
    notices = []
    command.progressed.connect(notices.append)
    command.start()
    qtbot.waitUntil(lambda: len(notices) > 3, timeout=20000)
    with qtbot.waitSignal(command.ended, timeout=5000) as ended:
        command.cancel()
    assert ended.args == [None, None] and (shop / ".partial" / "sketcher").is_dir()
    said = len(notices)
    qtbot.wait(200)
    assert len(notices) == said


def test_without_an_engine_it_says_so(qtbot, shop, monkeypatch):
    monkeypatch.setenv(settings.PYTHON_VARIABLE, "/nowhere/python")
    _, answer, failure = outcome(qtbot, "files", "sketcher")
    assert answer is None and failure.code is ErrorCode.ENGINE_MISSING


@pytest.fixture
def proxy():
    stored = QgsSettings()
    values = {"proxyEnabled": True, "proxyType": "HttpProxy", "proxyHost": "proxy.example", "proxyPort": "8080"}
    for key, value in values.items():
        stored.setValue(f"proxy/{key}", value)
    yield "http://proxy.example:8080"
    for key in values:
        stored.remove(f"proxy/{key}")


@pytest.mark.parametrize(
    ("words", "is_online"), [(("files", "x"), True), (("get", "x"), True), (("remove", "x"), False)]
)
def test_only_what_reaches_the_network_gets_the_proxy(qtbot, tmp_path, monkeypatch, proxy, words, is_online):
    """The process itself says what it was given."""
    python = tmp_path / "python"
    show = "import json,os,sys;print(json.dumps([sys.argv[1:],dict(os.environ)]))"
    python.write_text(f"#!/bin/sh\nexec /usr/bin/python3 -c '{show}' \"$@\"\n")
    python.chmod(0o755)
    monkeypatch.setenv(settings.PYTHON_VARIABLE, str(python))
    monkeypatch.setenv(settings.MODELS_VARIABLE, str(tmp_path / "models"))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    channel = models_channel(words)
    lines = []
    channel.line_arrived.connect(lines.append)
    with qtbot.waitSignal(channel.ended, timeout=10000):
        channel.open()
    arguments, environment = json.loads(lines[0])
    assert arguments[-len(words) - 2 :] == ["models", *words, "--watch-stdin"]
    assert environment["AFTERIMAGE_STORE"] == str(tmp_path / "models")
    assert environment.get("HTTPS_PROXY") == (proxy if is_online else None)


def test_a_command_that_would_go_past_a_socks_proxy_does_not_start(qtbot, shop, proxy):
    QgsSettings().setValue("proxy/proxyType", "Socks5Proxy")
    for words in (("files", "sketcher"), ("get", "sketcher", "--accept-terms", accepted("sketcher"))):
        notices, answer, failure = outcome(qtbot, *words)
        assert notices == [] and answer is None and failure.code is ErrorCode.DOWNLOAD_FAILED and failure.hint
        assert "SOCKS" in failure.message
    assert outcome(qtbot, "remove", "sketcher")[1] == Removed("sketcher")
