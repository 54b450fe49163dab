"""Start the engine from a path: ``python -I -u path/to/engine/launch.py serve``.

The folder that holds this plugin may have any name, and ``-I`` keeps the caller's ``PYTHONPATH`` out, so the package is
registered here under its own name instead of being looked up on ``sys.path``.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

PACKAGE = "afterimage"


def register(root: Path) -> None:
    """Make the plugin's root folder importable as the package ``afterimage``."""
    if PACKAGE in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(PACKAGE, root / "__init__.py", submodule_search_locations=[str(root)])
    if spec is None or spec.loader is None:
        raise ImportError(f"no package at {root}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    register(Path(__file__).resolve().parent.parent)
    runpy.run_module(f"{PACKAGE}.engine", run_name="__main__", alter_sys=True)
