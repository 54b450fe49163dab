"""Who imports whom: imports go down or sideways, never up, and each library has one room."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "afterimage"

#: Room -> rooms of ours that it must not know.
CLOSED = {
    "engine": ("plugin",),
    "engine/contract": ("plugin", "engine"),
    "engine/diffusion": ("engine/raster", "engine/radiometry", "engine/models", "engine/tasks", "engine/training"),
    "engine/raster": ("engine/diffusion", "engine/models", "engine/tasks", "engine/training"),
    "engine/models": ("engine/raster", "engine/tasks", "engine/training"),
    "engine/controls": ("engine/diffusion", "engine/models", "engine/tasks", "engine/training"),
    "engine/tasks": ("engine/server", "engine/runner", "engine/training"),
    "plugin": ("engine",),
    "plugin/link": ("plugin/session", "plugin/panels", "plugin/widgets", "plugin/processing", "plugin/dock"),
    "plugin/maps": ("plugin/session", "plugin/panels", "plugin/widgets", "plugin/processing", "plugin/link"),
    "plugin/widgets": ("plugin/panels", "plugin/processing", "plugin/dock"),
    "plugin/processing": ("plugin/panels", "plugin/widgets", "plugin/dock"),
}
#: Exceptions: everybody may import the contract, and the contract itself.
OPEN = "engine/contract"
#: Room -> libraries that stay outside of it.
FOREIGN = {
    "engine": ("qgis", "PyQt5", "PyQt6", "osgeo"),
    "engine/diffusion": ("rasterio", "pyproj"),
    "engine/models": ("rasterio", "pyproj"),
    "engine/tasks": ("rasterio", "pyproj"),
    "engine/raster": ("torch", "diffusers"),
    "engine/controls": ("rasterio", "pyproj", "torch", "diffusers"),
    "plugin": ("torch", "diffusers", "rasterio", "pyproj", "safetensors", "PyQt5", "PyQt6"),
    "plugin/link": ("qgis.gui",),
}


def imports(path, text):
    """Every module that a file imports, ours as paths below the root."""
    package = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts[:-1]]
    for node in ast.walk(ast.parse(text, feature_version=(3, 9) if "contract" in path.parts else None)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def violations(path, text):
    """What a file imports and should not."""
    room = path.relative_to(ROOT).as_posix()
    for name in imports(path, text):
        ours = name[len(PACKAGE) + 1 :].replace(".", "/") if name.startswith(f"{PACKAGE}.") else None
        if ours is None:
            for above, libraries in FOREIGN.items():
                if below(room, above) and any(name == each or name.startswith(each + ".") for each in libraries):
                    yield f"{room} imports {name}"
            if below(room, OPEN) and name.split(".")[0] not in STANDARD:
                yield f"{room} imports {name}, which is not in the standard library"
        elif not below(ours, OPEN):
            for above, closed in CLOSED.items():
                if below(room, above) and any(below(ours, each) for each in closed):
                    yield f"{room} imports {ours}"


def below(path, room):
    return path == room or path.startswith((room + "/", room + "."))


STANDARD = getattr(sys, "stdlib_module_names", None) or set(sys.builtin_module_names) | {
    "dataclasses",
    "enum",
    "functools",
    "json",
    "math",
    "os",
    "re",
    "typing",
    "unicodedata",
}
FILES = sorted(path for folder in ("engine", "plugin") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down(path):
    assert not list(violations(path, path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("plugin/panels/generate.py", "from ...engine.tasks import generate"),
        ("plugin/session.py", "import torch"),
        ("engine/contract/wire.py", "import numpy"),
        ("engine/contract/wire.py", "from ..journal import JobFolder"),
        ("engine/diffusion/loop.py", "from ..raster import Raster"),
        ("engine/tasks/generate.py", "import rasterio"),
        ("engine/runner.py", "from ..plugin import session"),
    ],
)
def test_an_import_that_goes_up_is_seen(place, line):
    assert list(violations(ROOT / place, line))


def test_the_engine_is_a_package_without_content():
    assert not (ROOT / "engine" / "__init__.py").read_text(encoding="utf-8").strip()
