"""What a process of the engine imports before it draws, and what it can still import after that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEAN = f"""
import sys; sys.path.insert(0, {str(ROOT / "engine")!r})
import launch, pathlib; launch.register(pathlib.Path({str(ROOT)!r}))
from afterimage.engine import lean
lean.ask()
"""
TOLD = """
import json
from afterimage.engine.crew import worker
from afterimage.engine import runner
from afterimage.engine.tasks import plans
from afterimage.engine.models import eo_latent, eo_residual
heavy = [name for name in ("transformers", "torch._dynamo") if name in sys.modules]
import importlib, pkgutil
from afterimage.engine import models
families = [found.name for found in pkgutil.iter_modules(models.__path__)]
for name in families:
    importlib.import_module(f"afterimage.engine.models.{name}")
import torch, torch._dynamo, transformers
from diffusers.utils import is_transformers_available
disabled = torch.compiler.disable.__module__
print(json.dumps([heavy, families, is_transformers_available(), transformers.CLIPTextModel.__name__, disabled]))
"""


@pytest.fixture(scope="module")
def told():
    done = subprocess.run([sys.executable, "-c", LEAN + TOLD], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_process_that_draws_imports_no_compiler_and_no_text_encoders(told):
    assert told[0] == [], "each costs a process a second before its first chunk"


def test_all_families_can_be_imported_after_that_and_nothing_stays_changed(told):
    _, families, has_transformers, encoder, module = told
    assert {"eo_latent", "eo_residual", "stable_diffusion", "text"} <= set(families)
    assert has_transformers and encoder == "CLIPTextModel" and module == "torch.compiler"
