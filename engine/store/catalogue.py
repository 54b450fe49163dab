"""The public models that are offered: one JSON file each, read without any network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..contract import Offer, loads
from ..errors import UnknownModel
from ..models.catalog import CARD
from . import places

#: One file an offer; beside what the contract knows it may say under "fetch" which files make up the model.
CATALOGUE = Path(__file__).resolve().parents[2] / "resources" / "catalogue"


@dataclass(frozen=True)
class Part:
    """Files of an offer that come from one repository.

    Attributes:
        repository: "owner/name" or the number of a record.
        folder: that is looked at in it, "" for all.
        into: where its files go below the model's folder.
        files: the only ones that are fetched, by their paths below ``folder``; empty for every file that models have.
    """

    repository: str
    folder: str = ""
    into: str = ""
    files: tuple[str, ...] = ()


@cache
def _read() -> dict[str, tuple[Offer, tuple[Part, ...]]]:
    found = {}
    for path in sorted(CATALOGUE.glob("*.json")):
        text = path.read_bytes()
        offer: Offer = loads(Offer, text)
        told = json.loads(text).get("fetch") or [{}]
        parts = tuple(
            Part(**{"repository": offer.repository, **part, "files": tuple(part.get("files", ()))}) for part in told
        )
        found[offer.card.id] = (offer, parts)
    return found


def offers(store: Path) -> tuple[Offer, ...]:
    """Every public model, with its state here."""
    return tuple(replace(offer, state=state(offer.card.id, store)) for offer, _ in _sorted())


def find(offer_id: str) -> Offer:
    """An offer. Raises UnknownModel."""
    return _row(offer_id)[0]


def parts(offer_id: str) -> tuple[Part, ...]:
    """Where the files of an offer are. Raises UnknownModel."""
    return _row(offer_id)[1]


def base(offer: Offer, store: Path) -> Path | None:
    """The folder of the base that an offer needs; None where it needs none, or it is not installed."""
    return next((store / needed for needed in offer.needs if state(needed, store) == "installed"), None)


def terms_digest(offer: Offer) -> str:
    """The hash of an offer's terms: SHA-256 in hexadecimal of their UTF-8."""
    return hashlib.sha256(offer.terms.encode()).hexdigest()


def state(offer_id: str, store: Path) -> str:
    """Whether it is "installed", "partial" or "available"; see ``Offer``."""
    if (store / offer_id / CARD).is_file():
        return "installed"
    return "partial" if (store / places.PARTIAL / offer_id).is_dir() else "available"


def _row(offer_id: str) -> tuple[Offer, tuple[Part, ...]]:
    try:
        return _read()[offer_id]
    except KeyError as error:
        raise UnknownModel(
            f"There is no public model {offer_id[:60]!r}.", "Choose one of those that models offers lists."
        ) from error


def _sorted() -> Iterator[tuple[Offer, tuple[Part, ...]]]:
    """Bases before what needs them, else by name."""
    rows = _read()
    yield from sorted(rows.values(), key=lambda row: (bool(row[0].needs), row[0].card.name))
