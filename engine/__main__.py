"""The engine's command line: serve, run, work, controls, models, train, doctor."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from . import faults, lean
from .contract import dumps
from .device import prepare_environment
from .settings import Settings
from .store.command import add as add_actions
from .store.command import end_with_input

#: Flags that stand for settings.
_FLAGS = (
    *("device", "threads", "models", "log_level"),
    *("workers", "scheduler", "tls_ca", "tls_cert", "tls_key"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] and given[0] in ("train", "evaluate"):
        return _train(given)
    options = _parser().parse_args(given)
    settings = _settings(options)
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # GDAL names files in its warnings; what matters of them comes back as an error
    logging.getLogger("rasterio").setLevel(settings.log_level if settings.log_level == "DEBUG" else "CRITICAL")
    prepare_environment(settings)
    faults.arm(settings.fault)
    if options.command in ("serve", "run", "work"):
        lean.ask()
    if options.command == "serve":
        from .server import serve

        return serve(settings)
    if options.command == "run":
        from .server import run_once

        return run_once(options.folder, settings, options.watch_stdin)
    if options.command == "work":
        if settings.scheduler and options.folder is None:
            from .crew.member import offer

            return offer(settings, options.alone, options.host)
        if options.folder is None:
            _parser().error("work needs --scheduler, or AFTERIMAGE_SCHEDULER")
        from .server import work

        return work(options.folder, settings)
    if options.command == "controls":
        if options.watch_stdin:
            threading.Thread(target=end_with_input, name="stdin", daemon=True).start()
        return _controls(options.folder, options.out, settings)
    if options.command == "models" and options.action == "check":
        return _check(options.folder, options.base)
    if options.command == "models" and options.action:
        from .store import command

        return command.run(options, settings)
    if options.command == "models":
        from .models import catalog

        cards = [json.loads(dumps(card)) for card in catalog.cards(settings)]
        sys.stdout.write(json.dumps(cards, ensure_ascii=False, indent=1) + "\n")
        return 0
    from .doctor import examine

    report = examine(settings)
    sys.stdout.write(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    return 0 if report["ok"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m afterimage.engine", description="Afterimage's diffusion engine.")
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--threads", type=int, help="threads of torch; 0: one a core")
    parser.add_argument("--models", type=Path, help="folder with one folder for each model")
    parser.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="take commands on standard input until it ends")
    run = commands.add_parser("run", help="run or resume a job folder")
    run.add_argument("folder", type=Path)
    run.add_argument("--watch-stdin", action="store_true", help="the end of standard input cancels")
    run.add_argument("--workers", type=int, help="processes that draw, on a CPU; 0: as many as are worth it")
    run.add_argument("--scheduler", help="address of a Dask scheduler whose workers draw, tcp://host:port")
    work = commands.add_parser("work", help="draw for the engines that use a Dask scheduler")
    work.add_argument("--scheduler", help="its address, tcp://host:port or tls://host:port")
    work.add_argument("--workers", type=int, help="processes to offer; 0: one a core, or one on a GPU")
    work.add_argument("--host", default="", help="this machine's address; else the one that faces the scheduler")
    for flags in (run, work):
        for name, what in (("ca", "authority's certificate"), ("cert", "own certificate"), ("key", "own key")):
            flags.add_argument(f"--tls-{name}", help=f"{what} for a tls:// scheduler, a PEM file")
    work.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # one process, which nobody watches over
    work.add_argument("folder", type=Path, nargs="?", help=argparse.SUPPRESS)  # a job whose engine gives the orders
    controls = commands.add_parser("controls", help="show what a model will see of the layers that guide a job")
    controls.add_argument("folder", type=Path, help="a job folder with a Generate request")
    controls.add_argument("--out", type=Path, required=True, help="folder for a GeoTIFF of each")
    controls.add_argument("--watch-stdin", action="store_true", help="the end of standard input ends it")
    models = commands.add_parser("models", help="list the installed models as JSON; fetch, import, remove or check one")
    actions = models.add_subparsers(dest="action")
    add_actions(actions)
    check = actions.add_parser("check", help="load a published model and say what it is, as JSON")
    check.add_argument("folder", type=Path, help="a folder in its authors' layout, or a .ckpt file")
    check.add_argument("--base", type=Path, help="folder of the base, for a ControlNet that lies elsewhere")
    commands.add_parser("train", help="train a model", add_help=False)
    commands.add_parser("evaluate", help="measure a model", add_help=False)
    commands.add_parser("doctor", help="examine this installation, as JSON")
    return parser


def _controls(folder: Path, out: Path, settings: Settings) -> int:
    """Write each control of a job as the model will see it, and print a line of JSON for each; the exit status.

    Lines are ``{"kind": ..., "path": ...}``. Where it cannot be, the last one has ``"ok": false`` and ``code``,
    ``message`` and ``hint`` of the failure.
    """
    from .contract import Generate
    from .controls import ControlMaps, write_previews
    from .errors import EngineError, InvalidRequest, UnknownModel, failure_of
    from .journal import JobFolder
    from .models import catalog
    from .raster import check_grid

    try:
        with JobFolder(folder) as job:
            request = job.job.request
            if not isinstance(request, Generate):
                raise InvalidRequest("Only a Generate is guided by layers.", "Choose another job.")
            # not by the runner's own check, which would bring torch along: a preview should be quick
            card = next((card for card in catalog.cards(settings) if card.id == request.model), None)
            if card is None:
                raise UnknownModel(f"The model {request.model[:80]!r} is not installed.")
            grid = request.lattice
            if not card.gsd[0] <= request.gsd <= card.gsd[1]:
                from .tasks.generate import drawn_grid  # brings torch along

                grid, _ = drawn_grid(request, card)
            check_grid(grid)
            maps = ControlMaps(job.path, request.controls, grid, card)
            for kind, path in write_previews(maps, grid, out.resolve()):
                sys.stdout.write(json.dumps({"kind": kind, "path": str(path)}, ensure_ascii=False) + "\n")
                sys.stdout.flush()
    except (EngineError, OSError, MemoryError, ImportError) as error:
        failure = failure_of(error)
        logging.getLogger(__name__).debug("%s", failure.detail)
        report = {"ok": False, "code": failure.code.value, "message": failure.message, "hint": failure.hint}
        sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
        return 1
    return 0


def _check(folder: Path, base: Path | None) -> int:
    """Print what lies in a folder of weights, or the sentence why it cannot be run; the exit status."""
    from .errors import EngineError
    from .models import published

    try:
        report = {"ok": True, **published.examine(folder, base)}
    except EngineError as error:
        failure = error.failure()
        report = {"ok": False, "code": failure.code.value, "message": failure.message, "hint": failure.hint}
    sys.stdout.write(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    return 0 if report["ok"] else 1


def _settings(options: argparse.Namespace) -> Settings:
    """Flags over environment."""
    flags = {name: getattr(options, name, None) for name in _FLAGS}
    return dataclasses.replace(
        Settings.from_environment(), **{name: value for name, value in flags.items() if value is not None}
    )


def _train(arguments: list[str]) -> int:
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    from .training import command

    return int(command.main(arguments))


if __name__ == "__main__":
    sys.exit(main())
