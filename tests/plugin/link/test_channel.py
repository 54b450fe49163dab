import os

import pytest
from afterimage.plugin.link.channel import LAUNCH, LineBuffer, ProcessChannel, clean_environment, launch_arguments


def test_lines_are_cut_wherever_the_stream_is_cut():
    buffer = LineBuffer()
    assert buffer.feed(b'{"a":') == []
    assert buffer.feed(b'1}\n{"b":2}\n\n{') == [b'{"a":1}', b'{"b":2}']
    assert buffer.feed(b"}\n") == [b"{}"]


@pytest.mark.parametrize("data", [b"x" * 11, b"x" * 11 + b"\n"])
def test_a_line_without_end_is_refused(data):
    with pytest.raises(ValueError):
        LineBuffer(limit=10).feed(data)


def test_the_environment_holds_nothing_of_qgis(monkeypatch, qgis_app):
    gone = (
        "PYTHONPATH",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "GDAL_DATA",
        "PROJ_LIB",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "QT_PLUGIN_PATH",
    )
    for name in gone:
        monkeypatch.setenv(name, "/of/qgis")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/cert.pem")
    monkeypatch.setenv("AFTERIMAGE_KEPT", "yes")
    environment = clean_environment()
    assert not [name for name in (*gone, "SSL_CERT_FILE") if environment.contains(name)]
    assert environment.value("AFTERIMAGE_KEPT") == "yes"
    assert environment.value("OMP_WAIT_POLICY") == "PASSIVE"
    assert environment.value("PATH") == os.environ["PATH"]


def test_the_engine_is_started_isolated_and_unbuffered():
    assert launch_arguments("serve")[:2] == ["-I", "-u"]
    assert launch_arguments("serve")[-2:] == [LAUNCH, "serve"]
    assert os.path.isfile(LAUNCH)


def test_a_process_that_cannot_be_started_has_ended(qtbot):
    channel = ProcessChannel("/nowhere/python")
    with qtbot.waitSignal(channel.ended, timeout=3000) as ended:
        channel.open()
    assert "could not be started" in ended.args[0]


def test_what_the_process_says_arrives(qtbot, fake_python):
    channel = ProcessChannel(fake_python)
    with qtbot.waitSignals([channel.line_arrived, channel.note_arrived], timeout=10000) as arrived:
        channel.open()
    assert (
        b'"Ready"' in arrived.all_signals_and_args[0].args[0] or b'"Ready"' in arrived.all_signals_and_args[1].args[0]
    )
    assert channel.notes() == "a line of log: é"
    with qtbot.waitSignal(channel.ended, timeout=3000) as ended:
        channel.close(2.0)
    assert "status 0" in ended.args[0]


def test_a_stream_without_lines_is_cut_off(qtbot, fake_python, monkeypatch):
    monkeypatch.setenv("FAKE_ENGINE", "endless")
    channel = ProcessChannel(fake_python)
    with qtbot.waitSignal(channel.ended, timeout=20000) as ended:
        channel.open()
    assert "no message" in ended.args[0]
