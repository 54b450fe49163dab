"""What the engine is told when it starts: nothing here may change the picture, that belongs in the request."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Where the models that ship with the plugin lie.
MODELS_FOLDER = Path(__file__).resolve().parent.parent / "resources" / "models"


def default_store(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where fetched and imported models lie if nobody says: this person's data folder on this system.

    Sources: XDG Base Directory Specification 0.8; on Windows ``%LOCALAPPDATA%``, which no roaming profile copies.
    """
    home = Path(environment.get("USERPROFILE" if platform == "win32" else "HOME") or Path.home())
    if platform == "win32":
        data = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif platform == "darwin":
        data = home / "Library" / "Application Support"
    else:
        named = Path(environment.get("XDG_DATA_HOME") or "")
        data = named if named.is_absolute() else home / ".local" / "share"
    return data / "afterimage" / "models"


def default_cache(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where what can be made again lies: as ``AFTERIMAGE_CACHE`` says, else this person's cache folder on this system.

    Sources: XDG Base Directory Specification 0.8; File System Programming Guide of macOS.
    """
    if environment.get("AFTERIMAGE_CACHE"):
        return Path(environment["AFTERIMAGE_CACHE"])
    home = Path(environment.get("USERPROFILE" if platform == "win32" else "HOME") or Path.home())
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local") / "afterimage" / "cache"
    if platform == "darwin":
        return home / "Library" / "Caches" / "afterimage"
    named = Path(environment.get("XDG_CACHE_HOME") or "")
    return (named if named.is_absolute() else home / ".cache") / "afterimage"


@dataclass(frozen=True)
class Settings:
    """How this engine runs.

    Attributes:
        device: "auto", "cpu", "cuda", "mps" or "cuda:1".
        threads: of torch; 0 lets the engine choose.
        backend: what runs the networks: "auto" takes the fastest of those that this machine has, as measured once;
            "eager", "channels_last" or "onnxruntime" takes that one.
        workers: processes that draw the tiles of a job on a CPU, with one thread each; 0 lets the engine choose.
        scheduler: address of a Dask scheduler whose workers draw the tiles, "tcp://host:port"; "" for this machine.
        tls_ca: certificate of the authority that scheduler and workers are checked by, a PEM file; "" for no TLS.
        tls_cert: this process's own certificate, likewise.
        tls_key: the key of that, likewise.
        models: folder with one folder for each model, card.json in it.
        more_models: further folders of the same kind.
        store: the folder of the same kind that public models are fetched and imported into.
        cache: folder for exported networks and for what was measured on this machine; it may be deleted at any time.
        keep_tiles: leave the tiles in the job folder after success.
        log_level: name of a level of ``logging``.
        fault: a fault point that tests break the engine at, "" in real use; see ``faults``.
    """

    device: str = "auto"
    threads: int = 0
    backend: str = "auto"
    workers: int = 0
    scheduler: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    models: Path = MODELS_FOLDER
    more_models: tuple[Path, ...] = ()
    store: Path = field(default_factory=default_store)
    cache: Path = field(default_factory=default_cache)
    keep_tiles: bool = False
    log_level: str = "INFO"
    fault: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings that ``AFTERIMAGE_*`` variables ask for.

        Raises:
            ValueError: for a number of threads or workers that is not one.
        """
        more, store = environment.get("AFTERIMAGE_MODELS", ""), environment.get("AFTERIMAGE_STORE", "")
        return cls(
            device=environment.get("AFTERIMAGE_DEVICE", cls.device),
            threads=int(environment.get("AFTERIMAGE_THREADS", cls.threads)),
            backend=environment.get("AFTERIMAGE_BACKEND", cls.backend),
            workers=int(environment.get("AFTERIMAGE_WORKERS", cls.workers)),
            scheduler=environment.get("AFTERIMAGE_SCHEDULER", cls.scheduler),
            tls_ca=environment.get("AFTERIMAGE_TLS_CA", ""),
            tls_cert=environment.get("AFTERIMAGE_TLS_CERT", ""),
            tls_key=environment.get("AFTERIMAGE_TLS_KEY", ""),
            more_models=tuple(Path(folder) for folder in more.split(os.pathsep) if folder),
            store=Path(store) if store else default_store(environment),
            cache=default_cache(environment),
            keep_tiles=environment.get("AFTERIMAGE_KEEP_TILES", "") == "1",
            log_level=environment.get("AFTERIMAGE_LOG", cls.log_level).upper(),
            fault=environment.get("AFTERIMAGE_FAULT", ""),
        )

    def to_environment(self) -> dict[str, str]:
        """The variables that tell another process of this machine to draw as this one; ``models`` is not among them."""
        return {
            "AFTERIMAGE_DEVICE": self.device,
            "AFTERIMAGE_THREADS": str(self.threads),
            "AFTERIMAGE_BACKEND": self.backend,
            "AFTERIMAGE_MODELS": os.pathsep.join(map(str, self.more_models)),
            "AFTERIMAGE_STORE": str(self.store),
            "AFTERIMAGE_CACHE": str(self.cache),
            "AFTERIMAGE_LOG": self.log_level,
            "AFTERIMAGE_FAULT": self.fault,
        }
