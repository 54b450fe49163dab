"""``models offers``, ``files``, ``get``, ``import``, ``remove``: one process each, one line of JSON for each notice."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ..contract import ErrorCode, Failure, Notice, Offers, Refused, Removed, dumps
from ..errors import EngineError, UnknownModel
from ..settings import Settings
from . import catalogue, places
from .wish import Wish

log = logging.getLogger(__name__)

#: Names of the sub-commands that this file runs.
ACTIONS = ("offers", "files", "get", "import", "remove")


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-commands of ``models``."""
    actions.add_parser("offers", help="list the public models that can be fetched; asks no network")
    files = actions.add_parser("files", help="ask a public model's host for its files, their sizes and the commit")
    files.add_argument("id")
    get = actions.add_parser("get", help="fetch a public model, or go on with it, and install it")
    get.add_argument("id")
    get.add_argument(
        "--accept-terms", default="", metavar="SHA256", help="hash of the terms that the person has accepted"
    )
    bring = actions.add_parser("import", help="install a folder of weights or a .ckpt that is on this machine")
    bring.add_argument("path", type=Path)
    bring.add_argument("--id", default="", help="what requests and scripts call it")
    bring.add_argument("--name", default="", help="what people see")
    bring.add_argument("--base", type=Path, help="for a ControlNet: the folder of its base")
    bring.add_argument("--offer", default="", help="id of the public model that it is")
    bring.add_argument("--control", default="", help="for a stock ControlNet: the kind of layer that it is shown")
    bring.add_argument("--tower", type=Path, help="for CRS-Diff: the folder of a CLIP image tower, which reads content")
    bring.add_argument("--window", type=int, default=0, help="side of a window in pixels")
    remove = actions.add_parser("remove", help="take a model and what was fetched of it away")
    remove.add_argument("id")
    convert = actions.add_parser("convert")  # the process that import and get start for pickles
    convert.add_argument("paths", type=Path, nargs="+", help="a pickle and the safetensors that it becomes, in turn")
    for command in (files, get, bring, remove):
        command.add_argument("--watch-stdin", action="store_true", help="the end of standard input cancels")


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Run one of ``ACTIONS``, telling notices on standard output; 0 when it went well, 1 when it was refused."""
    if options.action == "convert":
        from .convert import convert_here

        return convert_here(list(zip(options.paths[::2], options.paths[1::2])))
    if getattr(options, "watch_stdin", False):
        threading.Thread(target=end_with_input, name="stdin", daemon=True).start()
    try:
        _COMMANDS[options.action](options, settings)
        return 0
    except EngineError as error:
        failure = error.failure()
    except BrokenPipeError:
        return 2
    except Exception as error:  # as in runner.py: whoever reads the lines is told in any case
        log.exception("%s failed", options.action)
        failure = Failure(
            ErrorCode.INTERNAL,
            "Something went wrong in the engine that should not.",
            "Try again; if it fails again, send the log as a bug report.",
            f"{type(error).__name__}: {error}",
        )
    _tell(Refused(failure, getattr(options, "id", "") or None))
    return 1


def _offers(options: argparse.Namespace, settings: Settings) -> None:
    _tell(Offers(catalogue.offers(settings.store)))


def _files(options: argparse.Namespace, settings: Settings) -> None:
    from . import get

    _tell(get.files(options.id, settings.store))


def _get(options: argparse.Namespace, settings: Settings) -> None:
    from . import get

    get.get(options.id, options.accept_terms, settings, _tell)


def _import(options: argparse.Namespace, settings: Settings) -> None:
    from ..contract import Installed
    from .install import install

    offer = catalogue.find(options.offer) if options.offer else None
    base = options.base or (catalogue.base(offer, settings.store) if offer else None)
    own = options.id or (offer.card.id if offer else places.id_of(_name(options.path.resolve())))
    options.id = own  # what a refusal names
    places.check_free(places.check_id(own), settings)
    wish = Wish(own, options.name, options.control, options.window, offer, tower=options.tower)
    _tell(Installed(install(options.path, base, wish, places.make(settings.store), _tell)))


def _remove(options: argparse.Namespace, settings: Settings) -> None:
    from .turn import alone

    own, store = places.check_id(options.id), settings.store
    folders = [store / own, store / places.PARTIAL / own]
    if not any(folder.is_dir() for folder in (*folders, store / places.WORK / own)):
        raise UnknownModel(f"There is no model {own} in the folder of the models.")
    with alone(own, store):
        for folder in folders:  # each in one step, its card with it: half a model is never listed
            places.discard(folder, store)
    _tell(Removed(own))


def _name(path: Path) -> str:
    """What a folder or a file is called, and "crs-diff" for the file that every CRS-Diff is in."""
    if path.is_dir():
        return path.name
    return "crs-diff" if path.stem == "last" else path.stem


def _tell(notice: Notice) -> None:
    sys.stdout.write(dumps(notice) + "\n")
    sys.stdout.flush()


def end_with_input() -> None:
    """End this process with its input: what it has written can be gone on with at any moment."""
    while os.read(0, 4096):
        continue
    os._exit(2)


_COMMANDS: dict[str, Callable[[argparse.Namespace, Settings], None]] = {
    "offers": _offers,
    "files": _files,
    "get": _get,
    "import": _import,
    "remove": _remove,
}
