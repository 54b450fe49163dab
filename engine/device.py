"""Which processor the networks run on, with how many threads and how much memory: chosen for each job, pinned there."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InvalidRequest
from .settings import Settings

if TYPE_CHECKING:
    import torch

#: Beyond this, threads cost more than they bring for windows of this size.
THREADS_LIMIT = 8
#: Seconds that the driver's own tool has to tell how much of a GPU's memory is free.
_DRIVER_WITHIN = 3.0
#: Where Linux tells how much memory can still be had.
_MEMINFO = Path("/proc/meminfo")


def prepare_environment(settings: Settings, environment: MutableMapping[str, str] = os.environ) -> None:
    """What libraries read from the environment when they are imported: no network, idle threads sleep."""
    environment["HF_HUB_OFFLINE"] = "1"
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    environment["TRANSFORMERS_OFFLINE"] = "1"
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    environment["OMP_NUM_THREADS"] = str(threads(settings))
    environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def threads(settings: Settings) -> int:
    """Threads of torch: what was asked for, else one for each physical core that this process may use."""
    if settings.threads > 0:
        return settings.threads
    return max(1, min(THREADS_LIMIT, cores()))


def cores() -> int:
    """Physical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        usable = os.sched_getaffinity(0)
        siblings = set()
        for core in usable:
            path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
            siblings.add(path.read_text().strip() if path.is_file() else str(core))
        return len(siblings)
    logical = os.cpu_count() or 1
    return logical if logical <= 4 else logical // 2


def guess(settings: Settings) -> str:
    """Name of the device, told without importing torch; what a job really uses is pinned in it."""
    if settings.device != "auto":
        return settings.device
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "none"
    has_driver = Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
    return "cuda" if has_driver and "+cpu" not in version else "cpu"


def choose(settings: Settings) -> str:
    """Name of the device that networks will run on.

    Raises:
        InvalidRequest: where one was asked for that is not there.
    """
    if settings.device != "auto":
        if not is_available(settings.device):
            raise InvalidRequest(
                f"The device {settings.device[:40]!r} is not available on this machine.",
                "Choose the device auto or cpu, and run again.",
            )
        return settings.device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "cpu"


def is_available(name: str) -> bool:
    """Whether torch can use that device here."""
    kind, _, index = name.partition(":")
    if kind == "cpu":
        return True
    if index and not (index.isascii() and index.isdecimal()):
        return False
    import torch

    if kind == "cuda":
        return torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count()
    if kind == "mps":
        return torch.backends.mps.is_available()
    return False


def torch_device(settings: Settings) -> torch.device:
    """The device for a loader of weights; sets the number of threads on the way."""
    import torch

    torch.set_num_threads(threads(settings))
    return torch.device(choose(settings))


def libraries() -> dict[str, str]:
    """Versions of what computes the pixels."""
    found = {}
    for name in ("torch", "diffusers", "onnxruntime", "numpy", "rasterio"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still have on a device, or of main memory for a CPU; None where it is not told."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # what torch holds and does not use is ours too
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return free_main_memory()


def free_main_memory() -> int | None:
    """Bytes of main memory that can be had without swapping; None where the system does not tell it."""
    if sys.platform == "win32":  # pragma: no cover
        status = _MemoryStatus(dwLength=ctypes.sizeof(_MemoryStatus))
        is_told = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.ullAvailPhys) if is_told else None
    try:
        lines = _MEMINFO.read_text("ascii").splitlines()
        amounts = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(amounts["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None


def guess_free_memory(device: str) -> int | None:
    """Free bytes on the device that ``guess`` named, told without importing torch; None where that cannot be known."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return free_main_memory()
    if kind != "cuda" or shutil.which("nvidia-smi") is None:
        return None
    # the driver counts all GPUs, torch those that it may see
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    place = int(index) if index.isdecimal() else 0
    which = seen[place].strip() if place < len(seen) and seen[place].strip() else str(place)
    command = ["nvidia-smi", f"--id={which}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        # a program of the driver's by its name, and arguments without a shell
        told = subprocess.run(  # nosec B603
            command,
            capture_output=True,
            timeout=_DRIVER_WITHIN,
            check=True,
            text=True,
        ).stdout
        return int(told.split()[0]) * 1024 * 1024
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def free_caches() -> None:
    """Give back what is held and not used: by Python's cycles, and by torch on its devices."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [
        ("dwLength", ctypes.c_uint32),
        ("dwMemoryLoad", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("ullTotalPhys", "ullAvailPhys", "ullTotalPageFile", "ullAvailPageFile")),
        *((name, ctypes.c_uint64) for name in ("ullTotalVirtual", "ullAvailVirtual", "ullAvailExtendedVirtual")),
    ]
