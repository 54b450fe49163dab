"""A look at this installation: what is there, what is missing, in words that a bug report needs."""

from __future__ import annotations

import dataclasses
import importlib
import platform
import sys
from typing import Any

from .backends.names import available
from .device import free_main_memory, guess, threads
from .errors import EngineError
from .settings import Settings
from .version import engine_version

_LIBRARIES = ("numpy", "torch", "diffusers", "transformers", "safetensors", "rasterio", "isal", "pyproj", "cv2")


def examine(settings: Settings) -> dict[str, Any]:
    """Versions, device, memory, models and what runs them; "ok" tells whether jobs can run, "problems" why not."""
    problems: list[str] = []
    libraries = {name: _version(name, problems) for name in _LIBRARIES}
    free = free_main_memory()
    report: dict[str, Any] = {
        "engine": engine_version(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "libraries": libraries,
        "threads": threads(settings),
        "memory_mb": None if free is None else free // 10**6,
        "device": guess(settings),
        "models": [],
    }
    if not problems:
        import pyproj
        import rasterio

        from .device import choose

        report["device"] = choose(settings)
        report["gdal"], report["proj"] = rasterio.__gdal_version__, pyproj.proj_version_str
        report["backends"] = list(available(report["device"]))
        report["models"] = _models(settings, problems)
    report["problems"], report["ok"] = problems, not problems
    return report


def _version(name: str, problems: list[str]) -> str | None:
    try:
        return str(importlib.import_module(name).__version__)
    except (ImportError, OSError) as error:  # a missing DLL is an OSError
        problems.append(f"{name} cannot be imported: {error}")
        return None


def _backend(model: Any, settings: Settings) -> str | dict[str, Any]:
    """What runs the networks of a model here, with the figures that it was chosen by where it was."""
    from .backends.choice import remembered
    from .backends.names import AUTO
    from .backends.network import Backed

    if not isinstance(model, Backed):
        return "eager"
    if settings.backend != AUTO:
        return settings.backend
    found = remembered(model, settings)
    if found is None:
        return "eager, until a longer job has measured the others"
    return dataclasses.asdict(found)


def _models(settings: Settings, problems: list[str]) -> list[dict[str, Any]]:
    from .models import catalog

    found = []
    for card in catalog.cards(settings):
        if not card.pickable:
            continue
        entry: dict[str, Any] = {"id": card.id, "version": card.version, "weights": "as the card says"}
        try:
            entry["backend"] = _backend(catalog.load(card.id, settings), settings)
        except EngineError as error:
            entry["weights"] = str(error)
            problems.append(f"{card.id}: {error}")
        found.append(entry)
    if not found:
        problems.append("no model is installed")
    return found
