"""Which processor the networks run on, and with how many threads: chosen once for each job and pinned there."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InvalidRequest
from .settings import Settings

if TYPE_CHECKING:
    import torch

#: Beyond this, threads cost more than they bring for windows of this size.
THREADS_LIMIT = 8


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
    return max(1, min(THREADS_LIMIT, _physical_cores()))


def _physical_cores() -> int:
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
    for name in ("torch", "diffusers", "numpy", "rasterio"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
