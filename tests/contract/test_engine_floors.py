"""The rooms of the engine stand one upon the other: one imports from its own floor or from those below.

``test_floors.py`` has what must never meet; this is the order of what may.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Rooms of the engine, from the ground up; one imports from its own floor or from those below.
ENGINE_FLOORS = (
    ("contract",),
    ("errors", "faults", "settings", "version"),
    ("durable", "device", "lean", "diffusion", "backends"),
    ("raster",),
    ("radiometry", "context", "moved", "tiles", "provenance", "models", "controls"),
    ("journal",),
    ("tasks",),
    ("finished",),
    ("output", "crew"),
    ("runner", "training", "doctor", "store"),
    ("server",),
    ("__main__", "launch"),
)
MAPS = {"rasterio", "pyproj"}
NETWORKS = {"torch", "diffusers", "safetensors", "transformers", "onnxruntime"}


def python_files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> set[str]:
    """Absolute dotted names that a file imports; those of this package begin with "afterimage."."""
    package = ("afterimage", *path.relative_to(ROOT).with_suffix("").parts[:-1])
    tree = ast.parse(path.read_text("utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def tops(path: Path) -> set[str]:
    """First names of what a file imports from elsewhere."""
    return {name.split(".")[0] for name in imports(path)} - {"afterimage"}


def rooms(path: Path, side: str) -> set[str]:
    """Rooms of one side of the package that a file imports."""
    prefix = f"afterimage.{side}."
    return {name[len(prefix) :].split(".")[0] for name in imports(path) if name.startswith(prefix)}


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[1] if len(parts) > 2 else path.stem


def floor(floors: tuple[tuple[str, ...], ...], name: str) -> int:
    return next((i for i, names in enumerate(floors) if name in names), len(floors))


@pytest.mark.parametrize("path", python_files("engine"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_engine_imports_downwards(path):
    here = floor(ENGINE_FLOORS, room(path))
    assert here < len(ENGINE_FLOORS) or path.name == "__init__.py", f"{path.name} stands on no floor: name it above"
    up = {name for name in rooms(path, "engine") if floor(ENGINE_FLOORS, name) > here and name != "__init__"}
    assert not up, f"{path.relative_to(ROOT)} climbs into {up}"


@pytest.mark.parametrize("path", python_files("engine"), ids=lambda path: str(path.relative_to(ROOT)))
def test_maps_and_networks_meet_in_tasks_only(path):
    where = room(path)
    if where not in ("raster", "doctor", "training"):
        assert not tops(path) & MAPS, f"{path.name} imports {tops(path) & MAPS}: that is for raster"
    apart = ("contract", "raster", "radiometry", "journal", "tiles", "finished", "context", "output", "server")
    if where in (*apart, "__main__", "errors"):
        assert not tops(path) & NETWORKS, f"{path.name} imports {tops(path) & NETWORKS}: it knows no tensors"
    if where == "diffusion":
        assert not rooms(path, "engine") & {"raster", "tasks"}, f"{path.name} knows maps"


def test_an_engine_that_lists_its_models_needs_no_networks():
    """Ready must come before torch is imported: whatever ``catalog`` and ``server`` import at the top knows none."""
    seen, waiting = set(), ["server", "models.catalog"]
    while waiting:
        name = waiting.pop()
        path = ROOT / "engine" / Path(*name.split(".")).with_suffix(".py")
        if not path.is_file() or name in seen:
            continue
        seen.add(name)
        tree = ast.parse(path.read_text("utf-8"))
        top = {id(node) for node in tree.body}
        package = ("afterimage", "engine", *name.split(".")[:-1])
        for node in ast.walk(tree):
            if id(node) not in top:
                continue
            if isinstance(node, ast.Import):
                strangers = {alias.name.split(".")[0] for alias in node.names} & NETWORKS
                assert not strangers, f"{name} imports {strangers} at the top"
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in NETWORKS, f"{name} imports {node.module} at the top"
                if node.level:
                    base = package[2 : len(package) - node.level + 1]
                    module = ".".join([*base, *([node.module] if node.module else [])])
                    waiting += [module, *(".".join(filter(None, (module, alias.name))) for alias in node.names)]
    assert {"server", "models.catalog"} <= seen
