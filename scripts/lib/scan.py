"""Repeat the plugin repository's scan on a built ZIP. Usage: scan.py ZIP EMPTY_FOLDER; one finding is a failure.

Every rule that is on there is on here, without thresholds, and without the configuration files that the site would
honour.
"""

import configparser
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

NAME = "afterimage"
LIMIT = 25 * 1024 * 1024
#: The site has these Bandit rules switched off.
BANDIT_OFF = "B109,B404,B410,B411"
REQUIRED = (
    "name description version qgisMinimumVersion qgisMaximumVersion author email about tracker repository homepage "
    "hasProcessingProvider icon"
).split()
BINARIES = set(".pyc .pyd .so .dll .dylib .exe .sh .bat .cmd .ps1 .jar .whl .pkl .pt".split())
FORBIDDEN = {"__pycache__", "__MACOSX", ".git", ".bandit", ".flake8", ".secrets.baseline"}


def archive_findings(path: Path) -> Iterator[str]:
    """What is wrong with the list of files."""
    if path.stat().st_size > LIMIT:
        yield f"the ZIP has {path.stat().st_size} bytes, at most {LIMIT} are accepted"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for info in archive.infolist():
            file = PurePosixPath(info.filename)
            if file.parts[0] != NAME or ".." in file.parts or "\\" in info.filename:
                yield f"{info.filename}: outside the one top folder {NAME}"
            if FORBIDDEN & set(file.parts) or file.suffix.lower() in BINARIES:
                yield f"{info.filename}: this must not ship"
            if (info.external_attr >> 16) & 0o111:
                yield f"{info.filename}: executable"
    for name in ("__init__.py", "metadata.txt", "LICENSE"):
        if f"{NAME}/{name}" not in names:
            yield f"{name} is missing"


def metadata_findings(root: Path) -> Iterator[str]:
    """What is wrong with metadata.txt."""
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(root / "metadata.txt", encoding="utf-8")
    general = dict(metadata["general"])
    for key in REQUIRED:
        if not general.get(key.lower(), "").strip():
            yield f"metadata.txt: {key} is missing"
    if not all(part.isdigit() for part in general.get("version", "").split(".")):
        yield "metadata.txt: the version must be numbers with dots"
    if "supportsqt6" in general:
        yield "metadata.txt: supportsQt6 is no longer read"
    if "/" in general.get("author", ""):
        yield "metadata.txt: the author's name may not hold a slash"
    icon = general.get("icon", "")
    if icon and not (root / icon).is_file():
        yield f"metadata.txt: there is no {icon}"


def tool(root: Path, *arguments: str) -> str:
    """Run one of the scanners beside this Python on the unpacked plugin and return what it printed."""
    program = Path(sys.executable).parent / arguments[0]
    return subprocess.run([str(program), *arguments[1:]], cwd=root, capture_output=True, text=True, check=False).stdout


def bandit_findings(root: Path) -> Iterator[str]:
    """Bandit with every rule and no threshold."""
    report = json.loads(tool(root, "bandit", "-r", ".", "-s", BANDIT_OFF, "-f", "json", "-q"))
    for error in report["errors"]:
        yield f"bandit: {error['filename']}: {error['reason']}"
    for found in report["results"]:
        yield f"bandit {found['test_id']}: {found['filename']}:{found['line_number']}: {found['issue_text']}"


def secret_findings(root: Path) -> Iterator[str]:
    """detect-secrets with every plugin, over every file; the site leaves out metadata.txt."""
    report = json.loads(tool(root, "detect-secrets", "scan", "--all-files", "--exclude-files", r"metadata\.txt$", "."))
    for name, secrets in report["results"].items():
        for secret in secrets:
            yield f"detect-secrets {secret['type']}: {name}:{secret['line_number']}"


def flake8_findings(root: Path) -> Iterator[str]:
    """flake8 as the site runs it where the plugin ships no configuration."""
    for line in tool(root, "flake8", "--isolated", "--max-line-length", "120", ".").splitlines():
        yield f"flake8: {line}"


def main(path: Path, target: Path) -> int:
    """Unpack, scan, report; returns the exit status."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)
        count = len(archive.namelist())
    root = target / NAME
    checks = {
        "files": archive_findings(path),
        "metadata": metadata_findings(root),
        "bandit": bandit_findings(root),
        "detect-secrets": secret_findings(root),
        "flake8": flake8_findings(root),
    }
    total = 0
    for name, findings in checks.items():
        found = list(findings)
        total += len(found)
        print(f"{name}: {len(found)} findings", *found, sep="\n  ")
    print(f"{path.name}: {count} files, {path.stat().st_size / 1e6:.2f} MB, {total} findings")
    return min(total, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
