"""Hashes of files that are larger than memory, as cards and hubs write them."""

from __future__ import annotations

import hashlib
from pathlib import Path

#: Bytes that are read at once.
BLOCK = 1 << 20


def digest_of(path: Path) -> str:
    """The hash of a file of weights as a card records it."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(path: Path, kind: str) -> str:
    """The hash of a file as a hub records it.

    Args:
        path: the file.
        kind: "sha256", "md5", or "git" for the name that git gives to a file of these bytes.
    """
    if kind == "git":  # git-scm.com, "Git Internals - Git Objects": a header, then the content
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
