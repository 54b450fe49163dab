"""What the tests of backends share: a cache of their own, and the number of threads as it was."""

from __future__ import annotations

import pytest
import torch
from afterimage.engine.backends.names import available
from afterimage.engine.settings import Settings

MODELS = ("tiny-generate", "tiny-superresolve")
#: More work than any measurement is worth.
MUCH = 1e9
needs_onnxruntime = pytest.mark.skipif("onnxruntime" not in available("cpu"), reason="onnxruntime is not installed")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings(tmp_path):
    return Settings(device="cpu", threads=1, cache=tmp_path / "cache")
