"""A file at a host, as the host's own record tells it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteItem:
    """One file to fetch.

    Attributes:
        path: below the model's folder.
        url: where it is.
        size: bytes.
        kind: of the hash, as ``hashing.hash_of`` takes it.
        digest: the hash in hexadecimal, by the host's record.
    """

    path: str
    url: str
    size: int
    kind: str
    digest: str


@dataclass(frozen=True)
class Listing:
    """What one repository has of a model.

    Attributes:
        repository: its name.
        commit: state of the repository that the files are of.
        items: to fetch.
    """

    repository: str
    commit: str
    items: tuple[RemoteItem, ...]
