"""What the plugin remembers: one table over ``QgsSettings``, and where its folders are.

Nothing here changes the picture; what does stands in the request.
"""

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Optional

from qgis.core import QgsApplication, QgsSettings

from ..engine.contract import DEFAULT_GFLOPS

PREFIX = "afterimage/"
#: Names the engine's Python for tests, scripts and people who manage it themselves.
PYTHON_VARIABLE = "AFTERIMAGE_ENGINE_PYTHON"
#: Names the folder of fetched models, here and to the engine.
MODELS_VARIABLE = "AFTERIMAGE_STORE"
#: In the engine folder: which of its environments is in use.
CURRENT = "current.json"


@dataclass(frozen=True)
class Setting:
    """One row: the type that is read back, and the value when nothing was stored."""

    kind: type
    default: Any
    meaning: str


TABLE: Dict[str, Setting] = {
    "engine/python": Setting(str, "", "Python of an engine environment that the person manages; empty: ours"),
    "engine/base_python": Setting(str, "", "Python 3.11 to 3.13 to make the engine's environment from; empty: look"),
    "engine/package_index": Setting(str, "", "address of one more package index for installing; empty: pip's own"),
    "engine/gflops": Setting(float, DEFAULT_GFLOPS, "rate of this machine, from finished jobs"),
    "models/folder": Setting(str, "", "where fetched models are put; empty: beside the engine"),
    "dock/task": Setting(str, "", "panel that was shown last"),
    "generate/model": Setting(str, "", "model that was picked last"),
    "superresolve/model": Setting(str, "", "model that was picked last"),
    "generate/form": Setting(str, "", "what the form held last, as JSON"),
    "superresolve/form": Setting(str, "", "what the form held last, as JSON"),
    "edit/form": Setting(str, "", "what the form held last, as JSON"),
    "forecast/form": Setting(str, "", "what the form held last, as JSON"),
}


def read(key: str) -> Any:
    """The stored value, or the default of its row.

    Raises:
        KeyError: for a key that is not in the table.
    """
    row = TABLE[key]
    try:
        return row.kind(QgsSettings().value(PREFIX + key, row.default))
    except (TypeError, ValueError):  # edited by hand
        return row.default


def write(key: str, value: Any) -> None:
    """Store a value under a key of the table."""
    QgsSettings().setValue(PREFIX + key, TABLE[key].kind(value))


def profile_folder() -> str:
    """Our folder in the QGIS profile; survives updates of the plugin."""
    return os.path.join(QgsApplication.qgisSettingsDirPath(), "afterimage")


def jobs_folder() -> str:
    """Where job folders are made."""
    return os.path.join(profile_folder(), "jobs")


def engine_folder() -> str:
    """Where the engine's environments are made."""
    return os.path.join(profile_folder(), "engine")


def models_folder() -> str:
    """Where fetched and imported models lie: as the environment variable says, the setting, or beside the engine."""
    chosen = os.environ.get(MODELS_VARIABLE) or read("models/folder")
    return os.path.abspath(os.path.expanduser(chosen)) if chosen else default_models_folder()


def default_models_folder() -> str:
    """Where fetched and imported models lie unless somebody chose another folder."""
    return os.path.join(profile_folder(), "models")


def environment_python(folder: str) -> str:
    """The interpreter inside a virtual environment."""
    return os.path.join(folder, "Scripts", "python.exe") if os.name == "nt" else os.path.join(folder, "bin", "python")


def current_environment() -> Optional[Dict[str, str]]:
    """The record of the environment in use (``folder``, ``requirements``, ``python``), None where none is complete."""
    try:
        with open(os.path.join(engine_folder(), CURRENT), encoding="utf-8") as file:
            record = json.load(file)
        record["folder"] = os.path.join(engine_folder(), os.path.basename(record["folder"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if os.path.isfile(environment_python(record["folder"])) else None


def engine_python() -> Optional[str]:
    """The engine's interpreter: from the environment variable, the setting, or our own folder; None without one."""
    chosen = os.environ.get(PYTHON_VARIABLE) or read("engine/python")
    if chosen:
        return os.path.expanduser(chosen)
    current = current_environment()
    return environment_python(current["folder"]) if current else None
