"""One file from a host to this disk: gone on with where it stopped, and kept only if it is what the record says."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2

from .. import durable, faults
from ..errors import DownloadDamaged, DownloadFailed
from . import disk
from .hashing import hash_of
from .http import Patience, check_status, unreachable
from .remote import RemoteItem

#: Ending of a file that is on its way; ``.tag`` beside it holds the host's name for the bytes that were begun with.
PART = ".part"
TAG = ".tag"
#: Longest that a host may ask us to wait, seconds.
WAIT_LIMIT = 60.0
#: A host that is busy or restarting: asked again. RFC 9110, section 15; 408, 425 and 429 say so of themselves.
BUSY = (408, 425, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.ASCII)


class _Again(Exception):
    """This try came to nothing; another may not."""

    def __init__(self, reason: DownloadFailed | DownloadDamaged, wait: float = 0.0) -> None:
        super().__init__(str(reason))
        self.reason, self.wait = reason, wait


def arrived(item: RemoteItem, target: Path) -> int:
    """Bytes of a file that are here already, finished or not."""
    for path in (target, target.with_name(target.name + PART)):
        if path.is_file():
            return min(path.stat().st_size, item.size)
    return 0


def fetch(
    client: httpx2.Client,
    item: RemoteItem,
    target: Path,
    patience: Patience,
    tell: Callable[[str, int], None] = lambda stage, done: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Have a file under its final name, verified.

    Args:
        client: of ``http.client``.
        item: which.
        target: where; a file of that name was verified before and is left alone.
        patience: with the host.
        tell: takes "fetching" or "checking" and the bytes that are here.
        sleep: waits so many seconds.

    Raises:
        DownloadFailed: the host cannot be reached, does not have it, or stops again and again.
        DownloadDamaged: what arrived is not what the record says; it was thrown away.
        DiskFull: there is no space left.
    """
    if target.is_file():
        return
    part = _Part(target)
    pauses = list(patience.pauses)
    was_continued = was_restarted = False
    while True:
        before = part.size
        was_continued = was_continued or before > 0
        try:
            if part.size != item.size or item.size == 0:
                _take(client, item, part, tell)
            tell("checking", item.size)
            if part.size == item.size and hash_of(part.path, item.kind) == item.digest:
                break
            part.drop()
            # pieces of two downloads may not fit together, which is nobody's fault: once more from the start
            if was_restarted or not was_continued:
                raise DownloadDamaged(f"The file {item.path} has other bytes than its host's record says.")
            was_restarted = True
        except _Again as again:
            if part.size > before:
                pauses = list(patience.pauses)
            if not pauses:
                raise again.reason from again
            sleep(max(pauses.pop(0), again.wait))
    part.finish()


class _Part:
    """A file on its way."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path, self._tag = target.with_name(target.name + PART), target.with_name(target.name + TAG)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def tag(self) -> str:
        """The host's name for the bytes that were begun with, "" where it gave none that can be trusted."""
        return self._tag.read_text("ascii", "replace") if self._tag.is_file() else ""

    def begin(self, tag: str) -> None:
        """Start from nothing."""
        self.drop()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._tag.write_text(tag, "ascii", "replace")

    def drop(self) -> None:
        """Throw away what is here."""
        self.path.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writer(self) -> Iterator[Callable[[bytes], None]]:
        """What appends pieces, each of them on its way to the disk at once. Raises DiskFull and OutputNotWritable."""
        with open(self.path, "ab", buffering=0) as file:

            def append(piece: bytes) -> None:
                with disk.said("fetch the model again: what has arrived is kept"):
                    faults.point("fetch.before_write")
                    file.write(piece)

            yield append

    def finish(self) -> None:
        """Give the file its name, for good."""
        durable.sync(self.path)
        faults.point("fetch.before_replace")
        durable.replace(self.path, self.target)
        self._tag.unlink(missing_ok=True)


def _take(client: httpx2.Client, item: RemoteItem, part: _Part, tell: Callable[[str, int], None]) -> None:
    """One try: ask for what is missing and append it."""
    have = part.size
    if have > item.size:
        part.drop()
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and part.tag:
        headers["If-Range"] = part.tag  # RFC 9110, section 13.1.5: all of it, where it has changed
    try:
        with client.stream("GET", item.url, headers=headers) as response:
            start = _start(response, item, part, have)
            if start == 0:
                part.begin(_tag(response))
            _append(response, item, part, start, tell)
    except httpx2.HTTPError as error:
        raise _Again(unreachable(error, item.path)) from error
    if part.size < item.size:
        raise _Again(DownloadDamaged(f"The file {item.path} ends before the length that its host's record says."))


def _start(response: httpx2.Response, item: RemoteItem, part: _Part, have: int) -> int:
    """Where the bytes of an answer belong. Raises _Again, DownloadFailed and DownloadDamaged for other answers."""
    status = response.status_code
    if status in BUSY:
        wait = response.headers.get("Retry-After", "")
        seconds = min(float(wait), WAIT_LIMIT) if wait.isascii() and wait.isdecimal() else 0.0
        raise _Again(DownloadFailed("The host is busy.", "Try again later: what has arrived is kept."), seconds)
    if status == 416:  # what we have is not a beginning of what is there
        part.drop()
        raise _Again(DownloadDamaged(f"The host does not give the rest of {item.path}."))
    check_status(status, item.path)
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise DownloadDamaged(
            f"A web page came in place of {item.path}.",
            "A network may ask you to sign in first: open any page in a browser, then try again.",
        )
    start, total = 0, response.headers.get("Content-Length", "")
    expected = item.size
    if status == 206:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != have or (found[3] != "*" and int(found[3]) != item.size):
            part.drop()
            raise _Again(DownloadDamaged(f"The host gives another part of {item.path} than was asked for."))
        if part.tag and _tag(response) and _tag(response) != part.tag:
            part.drop()
            raise _Again(DownloadDamaged(f"The file {item.path} changes at its host while it is fetched."))
        start, expected = have, item.size - have
    if total.isascii() and total.isdecimal() and int(total) != expected and not _is_packed(response):
        raise DownloadDamaged(
            f"The host sends {item.path} with {start + int(total)} bytes, and its record says {item.size}."
        )
    return start


def _append(
    response: httpx2.Response, item: RemoteItem, part: _Part, start: int, tell: Callable[[str, int], None]
) -> None:
    size = start
    with part.writer() as append:
        for piece in response.iter_bytes():  # as it arrives: collecting blocks would lose the last one where it stops
            size += len(piece)
            if size > item.size:
                break
            append(piece)
            tell("fetching", size)
    if size > item.size:
        part.drop()
        raise DownloadDamaged(f"The host sends more of {item.path} than its record says.")


def _tag(response: httpx2.Response) -> str:
    """The strong ETag of an answer; a weak one may stand for other bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else ""


def _is_packed(response: httpx2.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")


def remaining(items: list[tuple[RemoteItem, Path]]) -> int:
    """Bytes that are still to come."""
    return sum(item.size - arrived(item, target) for item, target in items)
