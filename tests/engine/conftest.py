"""The engine's tests run in the engine's Python; some compare with reference tensors of the published models."""

from __future__ import annotations

import importlib.util
import os
import shutil
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


@pytest.fixture(scope="session")
def crs_checkpoint(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference checkpoint of CRS-Diff as safetensors: no process has to convert it at each import."""
    from afterimage.engine.models.statedict import read_tensors
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("crsdiff")
    shutil.copytree(parity / "crsdiff" / "tokenizer", folder / "tokenizer")
    shutil.copyfile(parity / "crsdiff" / "config.json", folder / "config.json")
    tensors = read_tensors(parity / "crsdiff" / "last.ckpt")
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, folder / "last.safetensors")
    return folder / "last.safetensors"
