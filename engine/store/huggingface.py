"""The hub of Hugging Face: which files a model has at one commit, with the hashes that the hub keeps of them.

Source: the hub's documentation, "Hub API Endpoints": ``/api/models/{repo}/revision/{revision}?blobs=true`` and
``/{repo}/resolve/{revision}/{path}``. ``HF_ENDPOINT`` names a mirror, as for the hub's own tools.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import quote

import httpx2

from ..errors import DownloadFailed
from .catalogue import Part
from .http import ask
from .remote import Listing, RemoteItem
from .selection import choose, safe

_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
#: Kind of a hash -> how it is written.
_DIGESTS = {"git": _COMMIT, "sha256": re.compile(r"[0-9a-f]{64}", re.ASCII)}


def endpoint() -> str:
    """Address of the hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def listing(client: httpx2.Client, part: Part, commit: str, name: str) -> Listing:
    """The files of a part.

    Args:
        client: of ``http.client``.
        part: what is looked for.
        commit: that was pinned before, "" for the newest.
        name: of the model, for people.

    Raises:
        DownloadFailed: the hub cannot be asked, or has no such files.
        DownloadDamaged: it names files outside of the folder.
    """
    url = f"{endpoint()}/api/models/{quote(part.repository)}/revision/{quote(commit or 'main')}?blobs=true"
    told = ask(client, url, name)
    found = str(told.get("sha", ""))
    siblings = told.get("siblings")
    if not _COMMIT.fullmatch(found) or not isinstance(siblings, list) or (commit and found != commit):
        raise DownloadFailed(f"The hub's record of {name} is not one that can be read.", "Try again later.")
    prefix = f"{part.folder}/" if part.folder else ""
    there = {str(entry["rfilename"]).removeprefix(prefix): entry for entry in siblings if _is_below(entry, prefix)}
    wanted = part.files or choose(there, part.into)
    missing = [path for path in wanted if path not in there]
    if missing or not wanted:
        raise DownloadFailed(
            f"The hub does not have the files of {name} where they were ({', '.join(missing[:3]) or 'none of them'}).",
            "Look where its authors keep them now, then import the folder.",
        )
    items = (_item(part, found, prefix, path, there[path], name) for path in wanted)
    return Listing(part.repository, found, tuple(items))


def _is_below(entry: Any, prefix: str) -> bool:
    return isinstance(entry, dict) and str(entry.get("rfilename", "")).startswith(prefix)


def _item(part: Part, commit: str, prefix: str, path: str, entry: dict[str, Any], name: str) -> RemoteItem:
    local = safe(path)
    large = entry.get("lfs") if isinstance(entry.get("lfs"), dict) else None
    kind, digest = ("sha256", large.get("sha256")) if large else ("git", entry.get("blobId"))
    size = (large or entry).get("size")
    if not isinstance(size, int) or size < 0 or not _DIGESTS[kind].fullmatch(str(digest)):
        raise DownloadFailed(f"The hub tells no size or hash of {path} of {name}.", "Try again later.")
    url = f"{endpoint()}/{quote(part.repository)}/resolve/{commit}/{quote(prefix + path)}"
    return RemoteItem(f"{part.into}/{local}" if part.into else str(local), url, size, kind, str(digest))
