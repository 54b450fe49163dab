"""Zenodo: the one archive of a record, with the MD5 that Zenodo keeps of it.

Source: Zenodo's developer pages, "Records". ``AFTERIMAGE_ZENODO`` names another address, for tests and mirrors.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

import httpx2

from ..errors import DownloadFailed
from .catalogue import Part
from .http import ask
from .remote import Listing, RemoteItem
from .selection import safe


def endpoint() -> str:
    """Address of Zenodo."""
    return (os.environ.get("AFTERIMAGE_ZENODO") or "https://zenodo.org").rstrip("/")


def listing(client: httpx2.Client, part: Part, commit: str, name: str) -> Listing:
    """The archives of a record. Its files never change; what stands for the commit is their hash.

    Args:
        client: of ``http.client``.
        part: what is looked for.
        commit: that was pinned before, "" for none.
        name: of the model, for people.

    Raises:
        DownloadFailed: the record cannot be read, or has other files than it had.
    """
    told = ask(client, f"{endpoint()}/api/records/{quote(part.repository)}", name)
    files = told.get("files")
    items = []
    for entry in files if isinstance(files, list) else ():
        if not isinstance(entry, dict):
            continue
        key, size = str(entry.get("key", "")), entry.get("size")
        found = re.fullmatch(r"md5:([0-9a-f]{32})", str(entry.get("checksum", "")))
        if key not in part.files and not (key.endswith(".zip") and not part.files):
            continue
        if found is None or not isinstance(size, int) or size < 0:
            raise DownloadFailed(f"The record of {name} tells no size or hash of {key[:60]}.", "Try again later.")
        url = f"{endpoint()}/api/records/{quote(part.repository)}/files/{quote(key)}/content"
        items.append(RemoteItem(str(safe(key)), url, size, "md5", found[1]))
    if not items:
        raise DownloadFailed(
            f"The record has no archive of {name}.", "Look where its authors keep it now, then import the folder."
        )
    pinned = ",".join(f"md5:{item.digest}" for item in items)
    if commit and pinned != commit:
        raise DownloadFailed(
            f"The record of {name} has other files than when this download began.",
            "Remove what was fetched of it, then fetch it again.",
        )
    return Listing(part.repository, pinned, tuple(items))
