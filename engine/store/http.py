"""The one client of the network: httpx2, which huggingface_hub brings along.

huggingface_hub's own download is not used: it compares a file's length and not its hash, has no other hosts, and may
hand over to a second program (hf-xet) that follows other proxy rules. What is asked here is one list and plain files.
Proxy and certificates are those that the environment names. No token or cookie is ever sent: all offers are public.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from ..errors import DownloadFailed
from ..version import engine_version

#: Largest list of files that is read, bytes.
LIST_LIMIT = 32 * 1024 * 1024


@dataclass(frozen=True)
class Patience:
    """How long a host may say nothing, and how often it is asked again.

    Attributes:
        connect: seconds until a connection stands.
        read: seconds between two pieces of an answer.
        pauses: seconds before each further try; counted anew whenever something arrives.
    """

    connect: float = 20.0
    read: float = 60.0
    pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)


def client(patience: Patience, environment: Mapping[str, str] = os.environ) -> httpx2.Client:
    """A client that trusts whom the environment trusts; close it after use."""
    return httpx2.Client(
        headers={"User-Agent": f"afterimage/{engine_version()}", "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(patience.read, connect=patience.connect),
        verify=_trust(environment),
        follow_redirects=True,
        max_redirects=10,
        cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
        event_hooks={"response": [_check_redirect]},
    )


def _check_redirect(response: httpx2.Response) -> None:
    """See that a host does not lead from https to where anybody on the way can read and change the bytes.

    Raises:
        DownloadFailed: it does.
    """
    if not response.has_redirect_location or response.request.url.scheme != "https":
        return
    try:
        to = response.request.url.join(response.headers["Location"])
    except httpx2.InvalidURL:
        return  # the client refuses it
    if to.scheme != "https":
        raise DownloadFailed(
            "The host leads to an address that is not encrypted.", "Try again later, or from another network."
        )


def ask(client: httpx2.Client, url: str, what: str) -> dict[str, Any]:
    """A JSON object from a host.

    Args:
        client: of ``client``.
        url: where.
        what: is asked for, for people: "Text2Earth".

    Raises:
        DownloadFailed: it cannot be reached, does not have it, or answers something else.
    """
    try:
        with client.stream("GET", url) as response:
            check_status(response.status_code, what)
            body = b""
            for piece in response.iter_bytes():
                body += piece
                if len(body) > LIST_LIMIT:
                    raise DownloadFailed(f"The host answers with a list of files of {what} that has no end.")
    except httpx2.HTTPError as error:
        raise unreachable(error, what) from error
    try:
        told = json.loads(body)
    except ValueError as error:
        raise _strange(what) from error
    if not isinstance(told, dict):
        raise _strange(what)
    return told


def check_status(status: int, what: str) -> None:
    """See whether a host gives what was asked for.

    Raises:
        DownloadFailed: it does not.
    """
    if status in (200, 206):
        return
    if status in (401, 403):
        raise DownloadFailed(
            f"The host does not give {what} to everybody any more.",
            "Fetch it in a browser where its authors let you, then import the folder.",
        )
    if status in (404, 410):
        raise DownloadFailed(
            f"The host does not have {what} any more.", "Look where its authors keep it now, then import the folder."
        )
    if status == 407:
        raise DownloadFailed("The proxy asks for a user and a password.", "Set them in QGIS's network options.")
    raise DownloadFailed(f"The host answered with status {status} when it was asked for {what}.", "Try again later.")


def unreachable(error: Exception, what: str) -> DownloadFailed:
    """What a failed connection is for the person."""
    said = str(error)
    if "CERTIFICATE" in said.upper():
        return DownloadFailed(
            f"The certificate of the host of {what} is not trusted.",
            "Where a proxy signs connections, add its certificate to QGIS's authentication options.",
        )
    if isinstance(error, httpx2.TimeoutException):
        return DownloadFailed(f"The host of {what} does not answer.")
    return DownloadFailed(f"The host of {what} cannot be reached.")


def _strange(what: str) -> DownloadFailed:
    return DownloadFailed(
        f"The host answers with something else than the files of {what}.",
        "A network may ask you to sign in first: open any page in a browser, then try again.",
    )


def _trust(environment: Mapping[str, str]) -> ssl.SSLContext | bool:
    """The certificates that requests would use, where only those are named; httpx2 knows OpenSSL's own variables."""
    bundle = environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    if not bundle or environment.get("SSL_CERT_FILE") or environment.get("SSL_CERT_DIR"):
        return True
    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
