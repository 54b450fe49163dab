"""The engine's tests run in the engine's Python; some compare with reference tensors of the published models."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

collect_ignore_glob = [] if find_spec("rasterio") else ["*"]


@pytest.fixture(scope="session")
def make_reference(root: Path) -> Callable[[Path], Any]:
    """Opens a family's references: ``make_reference(folder)``; see ``tests/support/reference.py``."""
    spec = importlib.util.spec_from_file_location("reference", root / "tests" / "support" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def make(folder: Path) -> Any:
        if not (folder / "refs.npz").is_file():
            reason = f"there are no references of {folder.name}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        return module.Reference(folder)

    return make
