"""How things are measured here: pinned threads, in turns, with what the machine was and did beside each figure.

Two programs are run A B A B, so that what else the machine does meets both; a figure is the median of the ratios of
neighbours. Processor seconds include children and move less than those on the wall where a machine is busy. Importing
this module makes ``afterimage`` importable and pins the threads, before torch is imported.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "engine"))
os.environ.setdefault("AFTERIMAGE_THREADS", "1")
os.environ.setdefault("AFTERIMAGE_WORKERS", "1")  # one process: what more of them bring is measured by itself
import launch  # noqa: E402

launch.register(ROOT)

from afterimage.engine.device import prepare_environment  # noqa: E402
from afterimage.engine.settings import Settings  # noqa: E402

SETTINGS = Settings.from_environment()
prepare_environment(SETTINGS)


def shipped_spacing() -> dict[str, Any]:
    """Where the shipped 10 m generator's settings let DPM++ 2M take its steps, in diffusers' names."""
    from afterimage.engine.models.schedulers import KARRAS  # brings torch, whose threads are pinned by now

    path = ROOT / "resources" / "models" / "eurosat-generate" / "scheduler" / "scheduler_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    return {key: settings[key] for key in KARRAS if key in settings}


def cpu_seconds() -> float:
    """Processor seconds of this process and of its children that ended."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """(seconds on the wall, seconds of the processor)."""
    began, worked = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - began, cpu_seconds() - worked


def in_turns(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int, warm: bool = True) -> dict[str, Any]:
    """Theirs over ours as the median of the ratios of neighbours, with the least and the greatest.

    Each is run once before, which is not counted, unless that is too long and ``warm`` is not asked for.
    """
    if warm:
        ours()
        theirs()
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    found: dict[str, Any] = {"rounds": rounds}
    for name, place in (("wall", 0), ("cpu", 1)):
        ratios = sorted(other[place] / own[place] for own, other in pairs)
        found |= {
            f"{name}_ratio": round(statistics.median(ratios), 3),
            f"{name}_range": [round(ratios[0], 3), round(ratios[-1], 3)],
            f"ours_{name}_s": round(statistics.median(own[place] for own, _ in pairs), 3),
            f"theirs_{name}_s": round(statistics.median(other[place] for _, other in pairs), 3),
        }
    return found


def machine() -> dict[str, Any]:
    """What it was measured on, and how busy that was."""
    versions = {}
    for name in ("torch", "diffusers", "rasterio", "onnxruntime", "distributed"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "processor": _processor(),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "load": [round(load, 2) for load in os.getloadavg()],
        "versions": versions,
    }


def report(**found: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps(found | {"machine": machine()}), flush=True)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in path.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()
