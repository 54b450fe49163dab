"""Fetch a public model and install it; begun again, it goes on with the same commit where it stopped."""

from __future__ import annotations

import datetime
import json
import shutil
import time
from pathlib import Path
from typing import Any

import httpx2

from .. import durable
from ..contract import Fetching, Files, Installed, Offer, RemoteFile
from ..errors import DownloadDamaged, InvalidRequest, LicenceNotAccepted
from ..settings import Settings
from . import catalogue, disk, huggingface, places, zenodo
from .fetch import arrived, fetch, remaining
from .hashing import hash_of
from .http import Patience, client
from .remote import Listing, RemoteItem
from .turn import alone
from .unpack import contents, root, unpack
from .wish import Tell, Wish

#: In the folder of a download: what was pinned and accepted.
STATE = "state.json"
HOSTS = {"huggingface": huggingface.listing, "zenodo": zenodo.listing}
#: Seconds between two notices of how far a file is.
INTERVAL = 0.5


def files(offer_id: str, store: Path, patience: Patience | None = None) -> Files:
    """What would be fetched, asked of the host: at the pinned commit where one is pinned."""
    offer = catalogue.find(offer_id)
    with client(patience or Patience()) as asker:
        listings = _listings(asker, offer, _State(store, offer_id).commits)
    return _told(offer, listings, store)


def get(offer_id: str, accepted: str, settings: Settings, tell: Tell, patience: Patience | None = None) -> None:
    """Fetch and install, alone from the first question to the last file.

    Args:
        offer_id: which.
        accepted: SHA-256 in hexadecimal of the terms that the person has accepted, or these terms themselves.
        settings: where the store is.
        tell: takes notices.
        patience: with the host.

    Raises:
        EngineError: as ``download`` and ``install``.
    """
    offer, store = catalogue.find(offer_id), settings.store
    _check_accepted(offer, accepted)
    with alone(offer_id, store):
        folder, wish = _download(offer, settings, tell, patience or Patience())
        from .install import put_together  # only now: it imports the networks

        card = put_together(folder, catalogue.base(offer, store), wish, store, tell)
        places.discard(store / places.PARTIAL / offer_id, store)
    tell(Installed(card))


def download(
    offer_id: str, accepted: str, settings: Settings, tell: Tell, patience: Patience | None = None
) -> tuple[Path, Wish]:
    """Fetch all files of an offer and verify them: (where they are, what to install them as).

    Raises:
        LicenceNotAccepted: these are not the terms of the offer.
        InvalidRequest: it is installed, or needs a base that is not.
        DownloadFailed: the host cannot be reached or does not have the files, or another process is at it.
        DownloadDamaged: what arrived is not what the host's record says.
        DiskFull: there is not enough space.
        OutputNotWritable: a file cannot be read or written for any other reason.
    """
    offer = catalogue.find(offer_id)
    _check_accepted(offer, accepted)
    with alone(offer_id, settings.store):
        return _download(offer, settings, tell, patience or Patience())


def _check_accepted(offer: Offer, accepted: str) -> None:
    if accepted.strip() not in (catalogue.terms_digest(offer), offer.terms.strip()):
        raise LicenceNotAccepted(f"The terms of {offer.card.name} were not accepted.")


def _download(offer: Offer, settings: Settings, tell: Tell, patience: Patience) -> tuple[Path, Wish]:
    """What ``download`` does, once nobody else does anything to this model."""
    offer_id = offer.card.id
    places.check_free(offer_id, settings)
    store = places.make(settings.store)
    for base in offer.needs:
        if catalogue.state(base, store) != "installed":
            name = catalogue.find(base).card.name
            raise InvalidRequest(f"{offer.card.name} needs {name}, which is not installed.", f"Fetch {name} first.")
    state = _State(store, offer_id)
    with client(patience) as asker, disk.said():
        listings = _listings(asker, offer, state.commits)
        folder, unpacked = state.folder / "files", state.folder / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)  # a half of before, whose space is needed
        items = [(item, folder / item.path) for listing in listings for item in listing.items]
        state.check(listings)
        _drop_others(items, state.hashes)
        state.pin(listings, offer)
        tell(_told(offer, listings, store))
        places.check_space(store, _needed_space(items, store))
        _fetch_all(asker, items, offer_id, patience, tell)
        if offer.host == "zenodo":
            folder = _unpacked(items, unpacked, store)
    return folder, Wish(offer_id, offer=offer, origin=_origin(offer, listings), record=state.record())


class _State:
    """What is remembered of a download between two processes."""

    def __init__(self, store: Path, offer_id: str) -> None:
        self.folder = store / places.PARTIAL / offer_id
        try:
            told = json.loads((self.folder / STATE).read_bytes())
        except (OSError, ValueError):
            told = {}
        self._told: dict[str, Any] = told if isinstance(told, dict) else {}

    @property
    def commits(self) -> dict[str, str]:
        """Repository -> commit that was pinned."""
        return self._texts("commits")

    @property
    def hashes(self) -> dict[str, str]:
        """Path -> hash that a file of that name was verified by."""
        return self._texts("hashes")

    def _texts(self, name: str) -> dict[str, str]:
        found = self._told.get(name)
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def check(self, listings: tuple[Listing, ...]) -> None:
        """See that the host has the hashes at the same commit that it had.

        Raises:
            DownloadDamaged: it has others.
        """
        before, hashes = self.hashes, _hashes(listings)
        changed = sorted(path for path in hashes.keys() & before.keys() if before[path] != hashes[path])
        if changed:
            raise DownloadDamaged(
                f"The host's record of {changed[0]} is not the one that it was at the same commit.",
                "Remove what was fetched of this model, then fetch it again, if you trust its host.",
            )

    def pin(self, listings: tuple[Listing, ...], offer: Offer) -> None:
        """Remember the commits, the hashes at them, and the terms that were accepted, before anything is fetched."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._told = {
            "commits": {listing.repository: listing.commit for listing in listings},
            "hashes": _hashes(listings),
            "accepted": offer.terms,
            "accepted_at": self._told.get("accepted_at", now),
        }
        places.make(self.folder)
        durable.write(self.folder / STATE, json.dumps(self._told, ensure_ascii=False, indent=1).encode(), "state")

    def record(self) -> dict[str, str]:
        """What is kept beside the card."""
        commits = ", ".join(f"{repository}@{commit}" for repository, commit in self.commits.items())
        return {
            "commits": commits,
            "accepted": str(self._told["accepted"]),
            "accepted_at": str(self._told["accepted_at"]),
        }


def _hashes(listings: tuple[Listing, ...]) -> dict[str, str]:
    return {item.path: _hash(item) for listing in listings for item in listing.items}


def _hash(item: RemoteItem) -> str:
    return f"{item.kind}:{item.digest}"


def _drop_others(items: list[tuple[RemoteItem, Path]], known: dict[str, str]) -> None:
    """Throw away files that are not those of the listing, as those of another commit whose state was lost.

    Args:
        items: of the listing.
        known: path -> hash that a file of that name was verified by; those are not read again.
    """
    for item, target in items:
        if not target.is_file():
            continue
        if target.stat().st_size == item.size and known.get(item.path) == _hash(item):
            continue
        if target.stat().st_size != item.size or hash_of(target, item.kind) != item.digest:
            target.unlink()


def _listings(asker: httpx2.Client, offer: Offer, commits: dict[str, str]) -> tuple[Listing, ...]:
    ask = HOSTS[offer.host]
    return tuple(
        ask(asker, part, commits.get(part.repository, ""), offer.card.name) for part in catalogue.parts(offer.card.id)
    )


def _told(offer: Offer, listings: tuple[Listing, ...], store: Path) -> Files:
    folder = store / places.PARTIAL / offer.card.id / "files"
    there = tuple(
        RemoteFile(item.path, item.size, arrived(item, folder / item.path))
        for listing in listings
        for item in listing.items
    )
    return Files(offer.card.id, listings[0].commit, there, places.free(store))


def _needed_space(items: list[tuple[RemoteItem, Path]], store: Path) -> int:
    """Bytes to come, and what becomes of them: pickles are written once more, archives twice."""
    archives = sum(item.size for item, _ in items if item.path.endswith(".zip"))
    pickles = sum(item.size for item, _ in items if item.path.endswith((".bin", ".ckpt")))
    others = 0 if places.can_link(store) else sum(item.size for item, _ in items) - archives - pickles
    return remaining(items) + pickles + 2 * archives + others


def _fetch_all(
    asker: httpx2.Client, items: list[tuple[RemoteItem, Path]], offer_id: str, patience: Patience, tell: Tell
) -> None:
    total, last = sum(item.size for item, _ in items), 0.0
    others = sum(arrived(item, target) for item, target in items)
    for item, target in items:
        others -= arrived(item, target)

        def told(stage: str, done: int, path: str = item.path, before: int = others) -> None:
            nonlocal last
            if stage != "fetching" or time.monotonic() - last >= INTERVAL:
                last = time.monotonic()
                tell(Fetching(offer_id, stage, path, before + done, total))

        fetch(asker, item, target, patience, told)
        others += item.size
    tell(Fetching(offer_id, "fetching", "", total, total))


def _unpacked(items: list[tuple[RemoteItem, Path]], folder: Path, store: Path) -> Path:
    for _, archive in items:
        places.check_space(store, 2 * sum(entry.file_size for entry in contents(archive)))
        unpack(archive, folder)
    return root(folder)


def _origin(offer: Offer, listings: tuple[Listing, ...]) -> str:
    return f"{offer.host}:{offer.repository}@{listings[0].commit}"
