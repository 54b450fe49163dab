"""Build the plugin's ZIP. Usage: package.py REPOSITORY TARGET_FOLDER; prints the path of the ZIP."""

import configparser
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

NAME = "afterimage"
#: What ships. A list of what to take, never of what to leave out.
ALLOWED = ("__init__.py", "metadata.txt", "LICENSE", "README.md", "CHANGELOG.md", "engine", "plugin", "resources")
#: File types that ship; anything else in those folders is an oversight and stops the build.
SUFFIXES = {
    "": "LICENSE, CREDITS",
    **dict.fromkeys((".py", ".txt", ".md", ".json", ".svg", ".png", ".qml", ".ui", ".qm", ".ts"), "code, text, icons"),
    **dict.fromkeys((".safetensors", ".tif", ".tiff", ".csv", ".typed"), "weights and samples"),
}
LIMIT = 25 * 1024 * 1024
#: The ZIP format's own beginning of time: the same for every build.
EPOCH = (1980, 1, 1, 0, 0, 0)


def files(root: Path) -> Iterator[Path]:
    """The files that ship, in a fixed order. Raises ValueError for one that must not."""
    for entry in ALLOWED:
        path = root / entry
        if not path.exists():
            raise ValueError(f"{entry} is missing")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_dir() or "__pycache__" in file.parts or file.name.startswith(".") or is_by_product(file):
                continue
            if file.is_symlink() or file.suffix not in SUFFIXES:
                raise ValueError(f"{file.relative_to(root)}: this type of file does not ship")
            yield file


def is_by_product(file: Path) -> bool:
    """Whether GDAL wrote this beside a raster that somebody looked at."""
    return file.name.endswith(".aux.xml")


def version(root: Path) -> str:
    """The version in metadata.txt, the one place where it stands."""
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(root / "metadata.txt", encoding="utf-8")
    return metadata["general"]["version"]


def build(root: Path, target: Path) -> Path:
    """Write the ZIP and return its path."""
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{NAME}-{version(root)}.zip"
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in files(root):
            info = zipfile.ZipInfo(f"{NAME}/{file.relative_to(root).as_posix()}", EPOCH)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, file.read_bytes(), compresslevel=9)
    size = part.stat().st_size
    if size > LIMIT:
        raise ValueError(f"the ZIP has {size} bytes, at most {LIMIT} are accepted")
    os.replace(part, path)
    return path


if __name__ == "__main__":
    try:
        print(build(Path(sys.argv[1]), Path(sys.argv[2])))
    except ValueError as error:
        sys.exit(f"package: {error}")
