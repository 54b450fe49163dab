"""How much memory is free, as the system, the driver or torch tells it, and what says that there is none left."""

import os
import stat
import types

import pytest
import torch
from afterimage.engine import device
from afterimage.engine.errors import InvalidRequest, OutOfMemory, is_out_of_memory


def test_main_memory_is_what_can_be_had_not_what_lies_idle(tmp_path, monkeypatch):
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:       24685508 kB\nMemFree:         1048576 kB\nMemAvailable:    2097152 kB\n")
    monkeypatch.setattr(device, "_MEMINFO", told)
    assert device.free_main_memory() == 2 * 1024**3
    assert device.free_memory(torch.device("cpu")) == device.guess_free_memory("cpu") == 2 * 1024**3
    told.write_text("MemTotal: 1 kB\n")
    assert device.free_main_memory() is None
    monkeypatch.setattr(device, "_MEMINFO", tmp_path / "absent")
    assert device.free_main_memory() is None


def test_what_torch_holds_and_does_not_use_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (3_000, 9_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda where: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda where: 200)
    assert device.free_memory(torch.device("cuda:1")) == 3_300
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 8_000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 1_000)
    assert device.free_memory(torch.device("mps")) == 7_000


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver's tool that says something: ``driver("8000")``; what it was asked is in the file that comes back."""

    def make(says, status=0):
        tool, asked = tmp_path / "nvidia-smi", tmp_path / "asked"
        tool.write_text(f'#!/bin/sh\necho "$@" > "{asked}"\necho "{says}"\nexit {status}\n')
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return asked

    return make


@pytest.mark.skipif(os.name == "nt", reason="the driver's tool is played by a shell script")
def test_the_driver_tells_before_torch_is_imported(driver, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    asked = driver("8000")
    assert device.guess_free_memory("cuda") == 8000 * 1024**2
    assert "--id=0 " in asked.read_text()
    device.guess_free_memory("cuda:1")
    assert "--id=1 " in asked.read_text()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f")
    device.guess_free_memory("cuda:1")
    assert "--id=GPU-5f " in asked.read_text()
    for says, status in (("[N/A]", 0), ("", 0), ("8000", 9)):
        driver(says, status)
        assert device.guess_free_memory("cuda") is None
    assert device.guess_free_memory("mps") is None and device.guess_free_memory("none") is None


@pytest.mark.parametrize(
    ("error", "is_short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (OutOfMemory("There is not enough memory."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] data. DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (InvalidRequest("The extent is out of memory of man."), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_means_that_memory_is_short(error, is_short):
    assert is_out_of_memory(error) is is_short


def test_caches_are_given_back_where_there_is_torch(monkeypatch):
    told = []
    fake = types.SimpleNamespace(
        cuda=types.SimpleNamespace(is_available=lambda: True, empty_cache=lambda: told.append("cuda")),
        backends=types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: False)),
    )
    monkeypatch.setitem(device.sys.modules, "torch", fake)
    device.free_caches()
    assert told == ["cuda"]
    monkeypatch.delitem(device.sys.modules, "torch")
    device.free_caches()
    assert told == ["cuda"]
