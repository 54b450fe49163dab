"""diffusers, imported without what it looks for and nothing here uses: each process starts in half of the time.

diffusers imports torch's compiler if there is one, to mark functions for it, and transformers for its pipelines and for
weights of theirs. The engine compiles nothing and has no pipelines; what it needs of transformers, the text encoders of
published models, it imports by itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: The networks of diffusers that families are made of.
_NETWORKS = ("UNet2DConditionModel", "UNet2DModel", "AutoencoderKL", "ControlNetModel")


_is_asked = False


def ask() -> None:
    """Have diffusers be imported in this way once it is needed: of processes that do nothing but draw."""
    global _is_asked
    _is_asked = True


def import_if_asked() -> None:
    """Called before anything of the engine imports diffusers. Raises what ``import_diffusers`` raises."""
    if _is_asked:
        import_diffusers()


def import_diffusers() -> None:
    """Import diffusers and its networks, where nothing has yet.

    Elsewhere, a program may want the pipelines of diffusers, which cannot be imported after this.

    Raises:
        ImportError: where diffusers or torch is not there, or is another version than the engine is made for.
    """
    if "diffusers" in sys.modules:
        return
    importlib.import_module("torch")
    compiler: Any = importlib.import_module("torch.compiler")
    with _without("torch._dynamo"), _instead(compiler, "disable", _as_it_is):
        diffusers: Any = importlib.import_module("diffusers")
        utils: Any = importlib.import_module("diffusers.utils.import_utils")
        with _without("transformers"), _instead(utils, "_transformers_available", False):
            try:
                for name in _NETWORKS:
                    getattr(diffusers, name)
            except RuntimeError as error:  # so diffusers tells of an import that failed
                raise ImportError(str(error)) from error


def _as_it_is(function: Any = None, **how: Any) -> Any:
    """A decorator that keeps a function from being compiled, where none is."""
    return _as_it_is if function is None else function


@contextmanager
def _instead(module: Any, name: str, value: Any) -> Iterator[None]:
    """Within the block, a module has another value under a name."""
    kept = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, kept)


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Within the block, a module that is not imported yet cannot be: ``ImportError`` says so, as if it were missing."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
