"""Public models that can be fetched: what a person sees before anything is, and what is told while it happens.

Each of ``models offers``, ``files``, ``get``, ``import`` and ``remove`` of the engine's command line is a process of
its own that prints these, one line of JSON each, and ends. Killing the process stops it; the next one goes on.
"""

from dataclasses import dataclass
from typing import Optional, Tuple, Union

from .modelcard import ModelCard
from .outcomes import Failure


@dataclass(frozen=True)
class Offer:
    """A public model.

    Attributes:
        card: what it can do, its ``licence`` and its citation; without hashes until it is installed. Its id is that of
            the offer, too.
        host: "huggingface" or "zenodo".
        repository: "owner/name" there, or the number of the record.
        licence_url: page with the licence, or "".
        terms: what a person accepts by fetching it, in words; never empty ("The authors state no licence ...").
        size: bytes to fetch, about; what the host says counts.
        needs: ids of offers that must be installed first, as a ControlNet's base.
        state: "available", "partial" (some of it is here, a later get goes on) or "installed".
    """

    card: ModelCard
    host: str
    repository: str
    licence_url: str
    terms: str
    size: int
    needs: Tuple[str, ...] = ()
    state: str = "available"


@dataclass(frozen=True)
class RemoteFile:
    """A file of an offer as its host lists it.

    Attributes:
        path: below the model's folder.
        size: bytes.
        done: bytes that are here already.
    """

    path: str
    size: int
    done: int = 0


@dataclass(frozen=True)
class Offers:
    """Answer of ``models offers``; asks no network."""

    offers: Tuple[Offer, ...]


@dataclass(frozen=True)
class Files:
    """Answer of ``models files ID``, and first line of ``models get ID``.

    Attributes:
        id: of the offer.
        commit: of the repository, pinned from the first answer on.
        files: what would be fetched.
        free: bytes that are free where they go.
    """

    id: str
    commit: str
    files: Tuple[RemoteFile, ...]
    free: int


@dataclass(frozen=True)
class Fetching:
    """How far a get or an import is.

    Attributes:
        id: of the model.
        stage: "fetching", "checking", "converting" or "installing".
        file: that is worked on, "" for none.
        done: bytes of all files.
        total: bytes of all files.
    """

    id: str
    stage: str
    file: str
    done: int
    total: int


@dataclass(frozen=True)
class Installed:
    """Last line of a get or an import that went well: the model can be picked now."""

    card: ModelCard


@dataclass(frozen=True)
class Removed:
    """Last line of a remove that went well."""

    id: str


@dataclass(frozen=True)
class Refused:
    """Last line of what did not go well; exit status 1."""

    failure: Failure
    id: Optional[str] = None


Notice = Union[Offers, Files, Fetching, Installed, Removed, Refused]
