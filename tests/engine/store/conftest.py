"""A stub of the hosts on this machine: what they answer and, where a test asks for it, how they misbehave."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from afterimage.engine.settings import Settings
from afterimage.engine.store import catalogue, get
from afterimage.engine.store.http import Patience

REPOSITORY = "lcybuaa/Text2Earth"
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: From this size on the stub keeps files as the hub keeps large ones, with a SHA-256.
LARGE = 2000
#: Does not wait, but comes back.
HASTY = Patience(connect=2.0, read=0.3, pauses=(0.0, 0.0, 0.0))


class Hub:
    """Repositories and records, and a log of what was asked.

    Attributes:
        files: "owner/name" or a record's number -> path -> bytes.
        faults: path -> what goes wrong at its next requests, one word each; then all is well.
        asked: (path, Range header or "") of every file that was asked for.
        headers: of every request.
        commit: of all repositories.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.commit = COMMIT
        self.told: dict[str, bytes] = {}
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def put(self, repository: str, folder: Path, below: str = "") -> None:
        """Serve every file of a folder, but not what the references are made of."""
        kept = self.files.setdefault(repository, {})
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".npz":
                kept[below + path.relative_to(folder).as_posix()] = path.read_bytes()

    def archive(self, record: str, name: str, entries: dict[str, bytes]) -> bytes:
        """Serve a ZIP of these files as the one file of a record."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, value in entries.items():
                archive.writestr(path, value)
        self.files[record] = {name: content.getvalue()}
        return content.getvalue()

    def record(self, repository: str) -> dict:
        """What the hub keeps of a repository's files."""
        siblings = []
        for path, content in self.files[repository].items():
            entry = {"rfilename": path, "size": len(content), "blobId": git_hash(content)}
            if len(content) >= LARGE:
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {"id": repository, "sha": self.commit, "siblings": siblings}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler(hub: Hub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            hub.headers.append(dict(self.headers))
            path = unquote(urlsplit(self.path).path)
            if path in hub.told:
                return self._answer(200, hub.told[path], {"Content-Type": "application/json"})
            if path.startswith("/api/models/"):
                repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
                if repository not in hub.files or revision not in ("main", hub.commit):
                    return self._answer(404, b"{}", {})
                return self._answer(200, json.dumps(hub.record(repository)).encode(), {})
            if path.startswith("/api/records/"):
                return self._zenodo(path.removeprefix("/api/records/"))
            if path.startswith("/cdn/"):
                repository, _, name = path.removeprefix("/cdn/").partition("//")
                return self._file(name, hub.files[repository][name], moved=True)
            repository, _, rest = path[1:].partition("/resolve/")
            commit, _, name = rest.partition("/")
            if commit != hub.commit or name not in hub.files.get(repository, {}):
                return self._answer(404, b"", {})
            if "redirect" in hub.faults.get(name, ())[:1]:
                hub.faults[name].pop(0)
                return self._answer(302, b"", {"Location": f"{hub.address}/cdn/{repository}//{name}"})
            return self._file(name, hub.files[repository][name])

        def _zenodo(self, rest: str) -> None:
            number, _, tail = rest.partition("/files/")
            if number not in hub.files:
                return self._answer(404, b"{}", {})
            if tail:
                name = tail.removesuffix("/content")
                return self._file(name, hub.files[number][name])
            files = [
                {"key": name, "size": len(value), "checksum": f"md5:{hashlib.md5(value).hexdigest()}"}
                for name, value in hub.files[number].items()
            ]
            return self._answer(200, json.dumps({"id": int(number), "files": files}).encode(), {})

        def _file(self, name: str, content: bytes, moved: bool = False) -> None:
            asked = self.headers.get("Range", "")
            hub.asked.append((name, asked))
            waiting = hub.faults.get(name, [])
            fault = waiting.pop(0) if waiting else ""
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            if fault == "bytes":
                content = content[:-1] + bytes([content[-1] ^ 1])
            elif fault == "changed":
                content, tag = bytes(len(content)), '"other"'
            elif fault == "short":
                content = content[:-7]
            elif fault == "long":
                content += b"more"
            elif fault == "416":
                return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            elif fault == "busy":
                return self._answer(503, b"later", {"Retry-After": "0"})
            elif fault == "gone":
                return self._answer(404, b"Not found", {})
            elif fault == "html":
                return self._answer(200, b"<html>Sign in</html>", {"Content-Type": "text/html; charset=utf-8"})
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            condition = self.headers.get("If-Range", tag)
            if fault == "whole" or (condition != tag and fault != "changed"):
                start = 0
            headers = {"ETag": tag, "Content-Type": "application/octet-stream"}
            status = 206 if start else 200
            if start:
                first = start + 5 if fault == "shifted" else start
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self._answer(status, content[start:], headers, fault)

        def _answer(self, status: int, body: bytes, headers: dict[str, str], fault: str = "") -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Set-Cookie", "track=1; Path=/")
            self.end_headers()
            kind, _, count = fault.partition(":")
            if kind in ("cut", "stall"):
                self.wfile.write(body[: int(count)])
                self.wfile.flush()
                if kind == "stall":
                    time.sleep(1.0)
                self.close_connection = True
                return
            self.wfile.write(body)

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stub, and nothing else, is what both hosts are."""
    made = Hub()
    monkeypatch.setenv("HF_ENDPOINT", made.address)
    monkeypatch.setenv("AFTERIMAGE_ZENODO", made.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield made
    made.close()


@pytest.fixture
def text2earth(hub: Hub, parity: Path) -> Hub:
    """The tiny checkpoint where the real one is, with what a real repository has beside it."""
    hub.put(REPOSITORY, parity / "text2earth")
    hub.files[REPOSITORY] |= {
        "pipeline_text2earth_diffusion.py": b"raise SystemExit",
        "unet/diffusion_pytorch_model.bin": b"a pickle that is not needed",
        "README.md": b"words",
    }
    return hub


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An engine whose store is empty."""
    return Settings(device="cpu", threads=1, models=tmp_path / "shipped", store=tmp_path / "store")


@pytest.fixture
def fetch_model(hub: Hub, settings: Settings) -> Callable[..., list]:
    """Fetch and install an offer with its terms accepted: ``fetch_model("text2earth")`` gives the notices."""

    def run(offer: str) -> list:
        notices: list = []
        get.get(offer, catalogue.terms_digest(catalogue.find(offer)), settings, notices.append, HASTY)
        return notices

    return run


@pytest.fixture
def download(hub: Hub, settings: Settings) -> Callable[..., Path]:
    """Fetch an offer without installing it; gives its folder."""

    def run(offer: str, accepted: str | None = None) -> Path:
        terms = catalogue.terms_digest(catalogue.find(offer)) if accepted is None else accepted
        return get.download(offer, terms, settings, lambda notice: None, HASTY)[0]

    return run
