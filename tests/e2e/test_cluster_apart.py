"""Scheduler, workers and engine as on four machines: each in a network of its own, with TLS, on one disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from afterimage.engine.contract import ErrorCode

HOSTS = ("scheduler", "worker1", "worker2", "engine")
#: Before anything else, the process goes to its own network. Members are started from the null engine, too.
SETUP = """
import ctypes, os, pathlib
handle = os.open("/run/netns/{network}", os.O_RDONLY)
assert ctypes.CDLL(None, use_errno=True).setns(handle, 0x40000000) == 0, ctypes.get_errno()
from afterimage.engine.crew import cluster, member
member.LAUNCH = pathlib.Path(null.__file__)
member.processor = lambda: "any"
cluster.PATIENCE = 120.0
"""


pytestmark = [
    pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed"),
    pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl to make certificates with"),
    pytest.mark.timeout(300),
]


def command(*words):
    subprocess.run(words, check=True, capture_output=True)


def until(told, seconds=120.0):
    """Wait for something to be so; what it told."""
    limit = time.monotonic() + seconds
    while not (found := told()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def networks():
    """Host -> (name of its network, its address): four networks at one switch, with no way out of it."""
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("ip")):
        pytest.skip("only root makes networks, with ip")
    if subprocess.run(["ip", "netns", "add", f"ai{os.getpid()}s"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make networks")
    mark = f"ai{os.getpid()}"
    switch, made = f"{mark}s", {}
    names = [switch, *(f"{mark}{place}" for place in range(len(HOSTS)))]
    try:
        for name in names[1:]:
            command("ip", "netns", "add", name)
        for name in names:
            command("ip", "-n", name, "link", "set", "lo", "up")
        command("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
        command("ip", "-n", switch, "link", "set", "switch", "up")
        for place, host in enumerate(HOSTS):
            name, port = names[1 + place], f"port{place}"
            peer = ("peer", "name", "net", "netns", name)
            command("ip", "-n", switch, "link", "add", port, "type", "veth", *peer)
            command("ip", "-n", switch, "link", "set", port, "master", "switch", "up")
            command("ip", "-n", name, "addr", "add", f"10.77.0.{place + 1}/24", "dev", "net")
            command("ip", "-n", name, "link", "set", "net", "up")
            made[host] = name, f"10.77.0.{place + 1}"
        yield made
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Paths of an authority's certificate, of one that it signed, and of the key of that."""
    folder = tmp_path_factory.mktemp("tls")
    ca, ca_key, cert, key = (str(folder / name) for name in ("ca.pem", "ca.key", "own.pem", "own.key"))
    new = ("-newkey", "rsa:2048", "-nodes", "-subj")
    command("openssl", "req", "-x509", *new, "/CN=authority", "-keyout", ca_key, "-out", ca, "-days", "2")
    command("openssl", "req", *new, "/CN=own", "-keyout", key, "-out", f"{cert}.request")
    signed = ("-req", "-in", f"{cert}.request", "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2")
    command("openssl", "x509", *signed, "-out", cert)
    return ca, cert, key


@pytest.fixture
def tls(certificates):
    """The flags of ``run`` and ``work``, and of ``dask scheduler`` in its own spelling."""
    ca, cert, key = certificates
    own = ("--tls-ca", ca, "--tls-cert", cert, "--tls-key", key)
    return own, ("--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key)


@pytest.fixture
def scheduler(networks, tls, tmp_path):
    """Address of ``dask scheduler``, in its network."""
    network, host = networks["scheduler"]
    file = tmp_path / "scheduler.json"
    words = ("-m", "distributed.cli.dask_scheduler", "--protocol", "tls", "--host", host, "--port", "0", *tls[1])
    process = subprocess.Popen(
        ["ip", "netns", "exec", network, sys.executable, *words, "--no-dashboard", "--scheduler-file", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )

    def address():
        try:
            return json.loads(file.read_text())["address"]
        except (OSError, ValueError):  # it is written, then filled
            return None

    try:
        yield until(address)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def start(start_engine, networks):
    """An engine process on a host: ``start("worker1", "work", ...)``."""

    def start(host, *words, **environment):
        setup = SETUP.format(network=networks[host][0])
        return start_engine(*words, setup=setup, AFTERIMAGE_DEVICE="cpu", **environment)

    return start


def member(keeper, address):
    """The one process that a keeper watches over, once it is in touch with the scheduler at an address."""
    port = int(address.rpartition(":")[2])

    def found():
        for child in psutil.Process(keeper.process.pid).children():
            # psutil would look at this process's own network
            with contextlib.suppress(OSError):
                table = Path(f"/proc/{child.pid}/net/tcp").read_text().splitlines()[1:]
                if any(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01" for line in table):
                    return child
        return None

    return until(found)


def pixels(ending):
    assert type(ending).__name__ == "Succeeded", ending
    with rasterio.open(ending.result.outputs[0].path) as file:
        return file.read()


def test_workers_of_other_networks_draw_and_one_that_is_killed_costs_no_byte(
    start, make_job, scheduler, tls, start_engine
):
    assert scheduler.startswith("tls://10.77.0.1:")
    flags = ("--scheduler", scheduler, *tls[0])
    keepers = [
        start(host, "work", *flags, "--workers", "1", NULL_CHUNK_SECONDS="0.3") for host in ("worker1", "worker2")
    ]
    first, second = (member(keeper, scheduler) for keeper in keepers)
    folder = make_job("apart", size=(192, 512))
    engine = start("engine", "run", str(folder), *flags, AFTERIMAGE_KEEP_TILES="1")
    tiles = folder / "tiles"
    until(lambda: len(list(tiles.glob("s*.tile"))) >= 4)
    first.send_signal(signal.SIGKILL)
    kept = {path.name: path.stat().st_mtime_ns for path in tiles.glob("s*.tile")}
    found = pixels(engine.until("Succeeded", "Failed", timeout=120))
    assert all((tiles / name).stat().st_mtime_ns == finished for name, finished in kept.items()), "none is drawn again"
    assert "a worker was lost" in engine.log.read_text()
    assert second.is_running()
    alone = start_engine("run", str(make_job("alone", size=(192, 512))), "--workers", "1", AFTERIMAGE_DEVICE="cpu")
    assert np.array_equal(found, pixels(alone.until("Succeeded", "Failed")))


def test_an_engine_without_certificates_gets_no_answer(start, make_job, scheduler):
    engine = start("engine", "run", str(make_job("open")), "--scheduler", scheduler.replace("tls://", "tcp://"))
    failure = engine.until("Succeeded", "Failed", timeout=120).failure
    assert failure.code is ErrorCode.SCHEDULER_UNREACHABLE and failure.hint
