"""The plugin's version, which is also the engine's: both are one package."""

from __future__ import annotations

from configparser import ConfigParser
from functools import lru_cache
from pathlib import Path

_METADATA = Path(__file__).resolve().parent.parent / "metadata.txt"


@lru_cache(maxsize=1)
def engine_version() -> str:
    """As ``metadata.txt`` has it."""
    parser = ConfigParser(interpolation=None)
    parser.read(_METADATA, encoding="utf-8")
    return parser.get("general", "version", fallback="0.0.0")
