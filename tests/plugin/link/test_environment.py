import json
import os
import shutil
import sys
from collections import namedtuple

import pytest
from afterimage.engine.contract import ErrorCode
from afterimage.plugin import settings
from afterimage.plugin.link import environment
from qgis.core import QgsSettings
from qgis.PyQt.QtCore import QLockFile


@pytest.fixture
def folder(qgis_app, tmp_path, monkeypatch):
    """An engine folder of our own, packages that need no network, and a doctor that is content."""
    monkeypatch.setattr(settings, "engine_folder", lambda: str(tmp_path / "engine"))
    monkeypatch.delenv(settings.PYTHON_VARIABLE, raising=False)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# nothing\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", requirements)
    monkeypatch.setattr(environment, "launch_arguments", lambda *words: ["-I", "-c", "print('all is well')"])
    return tmp_path / "engine"


def install(qtbot, anew=False, timeout=120000):
    installer, lines = environment.EngineInstaller(), []
    installer.progressed.connect(lines.append)
    with qtbot.waitSignal(installer.finished, timeout=timeout) as finished:
        installer.start(anew)
    return finished.args[0], lines


def test_an_environment_is_made_kept_updated_and_made_anew(folder, qtbot, monkeypatch):
    failure, lines = install(qtbot)
    assert failure is None
    assert any("Python 3." in line for line in lines) and "all is well" in lines
    first = settings.engine_python()
    assert first.startswith(str(folder)) and os.access(first, os.X_OK) and environment.is_current()

    environment.REQUIREMENTS.write_text("# another version\n")
    assert not environment.is_current() and settings.engine_python() == first

    monkeypatch.setattr(environment, "launch_arguments", lambda *words: ["-I", "-c", "raise SystemExit('no GPU')"])
    failure, _ = install(qtbot)
    assert failure.code is ErrorCode.ENGINE_MISSING and "no GPU" in failure.detail
    assert settings.engine_python() == first, "what works is not given up for what does not"

    monkeypatch.setattr(environment, "launch_arguments", lambda *words: ["-I", "-c", "print('all is well')"])
    failure, lines = install(qtbot)
    assert failure is None and any("Continuing" in line for line in lines)
    second = settings.engine_python()
    assert second != first and environment.is_current()
    qtbot.waitUntil(lambda: not os.path.exists(first), timeout=20000)


def test_a_stopped_installation_is_no_engine(folder, qtbot):
    installer, ends = environment.EngineInstaller(), []
    installer.finished.connect(ends.append)
    installer.progressed.connect(lambda line: installer.cancel())
    installer.start()
    qtbot.waitUntil(lambda: bool(ends), timeout=30000)
    qtbot.wait(300)
    assert len(ends) == 1 and ends[0].resumable and installer.is_cancelled
    assert settings.engine_python() is None
    assert not os.path.exists(folder / "install.lock")


def test_two_windows_do_not_install_at_once(folder, qtbot):
    folder.mkdir()
    lock = QLockFile(str(folder / "install.lock"))
    assert lock.tryLock(0)
    failure, _ = install(qtbot)
    assert "Another QGIS window" in failure.message
    lock.unlock()


def test_it_does_not_go_past_a_socks_proxy(folder, qtbot):
    stored, values = QgsSettings(), {"proxyEnabled": True, "proxyType": "Socks5Proxy", "proxyHost": "proxy.example"}
    for key, value in values.items():
        stored.setValue(f"proxy/{key}", value)
    try:
        failure, lines = install(qtbot)
    finally:
        for key in values:
            stored.remove(f"proxy/{key}")
    assert failure.code is ErrorCode.ENGINE_MISSING and "SOCKS" in failure.message and "HTTP proxy" in failure.hint
    assert failure.resumable  # the panel shows it beside the button
    assert lines == [] and not folder.exists()


def test_a_full_disk_is_told_before_anything_is_made(folder, qtbot, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**9, 10**9))
    failure, _ = install(qtbot)
    assert failure.code is ErrorCode.DISK_FULL and "1.0 GB are free" in failure.message
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    "script", ["#!/bin/sh\necho 3.9\n", "#!/bin/sh\necho no ensurepip >&2; exit 1\n", "not a program"]
)
def test_without_a_suitable_python_the_next_step_is_told(folder, qtbot, monkeypatch, tmp_path, script):
    program = tmp_path / "python"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setattr(environment, "candidates", lambda: [(str(program),)])
    failure, _ = install(qtbot)
    assert failure.code is ErrorCode.ENGINE_MISSING
    assert "3.11 to 3.13" in failure.message and "python3-venv" in failure.hint


def test_a_package_that_is_not_there_is_told(folder, qtbot):
    environment.REQUIREMENTS.write_text("afterimage-has-no-such-package==0\n")
    failure, _ = install(qtbot)
    assert failure.code is ErrorCode.ENGINE_MISSING and "proxy" in failure.hint
    assert settings.engine_python() is None


def test_the_interpreter_of_qgis_is_no_candidate_where_it_is_qgis(qgis_app, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert all("QGIS" not in command[0] for command in environment.candidates())


def test_the_pins_are_exact_and_reasoned():
    lines = [line for line in environment.REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line and "  # " in line for line in lines)
    assert not [line for line in lines if "://" in line or line.startswith("-")]


def test_a_record_that_points_nowhere_is_no_environment(folder):
    folder.mkdir()
    record = folder / settings.CURRENT
    assert settings.current_environment() is None
    for text in ("{", json.dumps([]), json.dumps({"folder": "../../elsewhere"})):
        record.write_text(text)
        assert settings.current_environment() is None
