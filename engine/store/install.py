"""A folder of published weights becomes an installed model: safetensors only, loaded once strictly, its card last."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import durable
from ..contract import CONTENT, Fetching, ModelCard, Offer, dumps
from ..errors import InvalidRequest, OutOfMemory, WeightsMissing
from ..models import crs_diff, image_tower
from ..models.catalog import CARD
from ..models.filenames import FILES
from ..models.layout import KEPT, SINGLE, Layout, recognise
from ..models.published import open_model
from ..models.weights import read_json
from . import abilities, disk, places
from .convert import convert
from .hashing import digest_of
from .measure import measure
from .turn import alone
from .wish import DRAWS, SMALL, STEERS, Tell, Wish

#: What was accepted and where everything came from, beside the card.
RECORD = "origin.json"
#: Largest configuration or vocabulary that is copied, bytes.
SMALL_LIMIT = 64 * 1024 * 1024
#: Largest window, pixels.
WINDOW_LIMIT = 4096


@dataclass(frozen=True)
class _Move:
    """One file on its way into the new folder."""

    source: Path
    target: str
    is_pickle: bool = False


def install(path: Path, base: Path | None, wish: Wish, store: Path, tell: Tell) -> ModelCard:
    """Put a model together in the store.

    Args:
        path: a pipeline folder, a ControlNet or a checkpoint, as ``layout.recognise`` takes it.
        base: for a ControlNet: the folder of its base; None looks in the folders above.
        wish: what it is called.
        store: folder of the models.
        tell: takes notices of how far it is.

    Raises:
        DownloadFailed: another process fetches, installs or removes it.
        EngineError: as ``put_together``.
    """
    places.check_id(wish.id)
    check_absent(wish.id, store)
    with alone(wish.id, store):
        return put_together(path, base, wish, store, tell)


def check_absent(model_id: str, store: Path) -> None:
    """See that the store has no model of this id. Raises InvalidRequest."""
    if (store / model_id / CARD).exists():
        raise InvalidRequest(
            f"There is already a model {model_id} in the folder of the models.", "Remove it first, or give another id."
        )


def put_together(path: Path, base: Path | None, wish: Wish, store: Path, tell: Tell) -> ModelCard:
    """What ``install`` does, for whoever holds the id with ``alone`` already.

    Raises:
        InvalidRequest: a model of this id is there, no task can run it, or it has no use for an image tower.
        DiskFull: there is not enough space.
        OutOfMemory: there is not enough for its weights.
        EngineError: as ``published.open_model``.
    """
    target = store / wish.id
    check_absent(wish.id, store)
    layout = recognise(_drawing(path), base)
    moves = [*_moves(layout), *_tower(layout, wish.tower)]
    total = sum(move.source.stat().st_size for move in moves)
    pickles = sum(move.source.stat().st_size for move in moves if move.is_pickle)
    links = wish.origin != "imported" and places.can_link(store)  # files that came here for this alone
    places.check_space(store, pickles if links else total)
    work = places.make(store / places.WORK) / wish.id
    shutil.rmtree(work, ignore_errors=True)
    try:
        with disk.said():
            _build(moves, work, wish, links, tell)
            card = _card(work, wish, total, tell)
            durable.write(work / RECORD, _record(wish, path), "record")
            check_absent(wish.id, store)  # once more, for file systems without locks
            places.discard(target, store)  # what is left of a model whose card was never written
            durable.replace(work, target)
            durable.write(target / CARD, dumps(card).encode(), "card")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return card


def _drawing(path: Path) -> Path:
    """The part of a pipeline folder that draws: DiffusionSat's archive holds several U-Nets."""
    return path / DRAWS if (path / DRAWS / "unet" / "config.json").is_file() else path


def _moves(layout: Layout) -> Iterator[_Move]:
    """Every file of the new folder and where it comes from."""
    if layout.checkpoint is not None:
        folder = layout.checkpoint.parent
        yield _Move(layout.checkpoint, KEPT, is_pickle=layout.checkpoint.suffix.lower() != SINGLE[1])
        yield from _small(folder / "tokenizer", "tokenizer")
        if (folder / "config.json").is_file():
            yield _Move(folder / "config.json", "config.json")
        return
    if layout.controlnet is not None and layout.unet is None:
        raise WeightsMissing(
            f"This is a {layout.kind} without its base: there is no U-Net in this folder or those above.",
            f"Name its base with --base (for DiffusionSat the folder that holds {STEERS}).",
        )
    if layout.pipeline is None or layout.unet is None:
        raise WeightsMissing(
            "There is a network here, and no pipeline around it: vae/, text_encoder/, tokenizer/ and scheduler/.",
            "Put the folder where it was in its archive, or name the pipeline's folder with --base.",
        )
    yield from _small(layout.pipeline, "")
    second = ("_2",) if layout.family.startswith("stable_diffusion_xl") else ()
    for part in ("scheduler", "tokenizer", *(f"tokenizer{each}" for each in second)):
        yield from _small(layout.pipeline / part, part)
    for part in ("vae", "text_encoder", *(f"text_encoder{each}" for each in second)):
        yield from _network(layout.pipeline / part, part, part)
    yield from _network(layout.unet, "unet", "unet")
    if layout.controlnet is not None:
        yield from _network(layout.controlnet, "controlnet", "controlnet")
    steers = layout.pipeline / STEERS / "unet"
    if layout.family == "diffusionsat" and steers != layout.unet and (steers / "config.json").is_file():
        yield from _network(steers, f"{STEERS}/unet", "unet")


def _tower(layout: Layout, named: Path | None) -> Iterator[_Move]:
    """The files of the image tower that reads content: the one that is named, or the one beside the checkpoint.

    Raises:
        InvalidRequest: the model is not told of any content.
        EngineError: as ``image_tower.settings_of``.
    """
    if layout.checkpoint is None:
        if named is not None:
            raise InvalidRequest("Only CRS-Diff is told of content by an image tower.", "Leave --tower out.")
        return
    folder = layout.checkpoint.parent / image_tower.FOLDER if named is None else named
    if named is None and not (folder / "config.json").is_file():
        return
    _check_small(folder / "config.json", f"{image_tower.FOLDER}/config.json")
    image_tower.settings_of(folder, crs_diff.content_width(layout.checkpoint.parent))
    _check_small(image_tower.processing_of(folder), f"{image_tower.FOLDER}/{image_tower.PROCESSING}")
    yield _Move(folder / "config.json", f"{image_tower.FOLDER}/config.json")
    yield _Move(image_tower.processing_of(folder), f"{image_tower.FOLDER}/{image_tower.PROCESSING}")
    yield _weights(folder, image_tower.FOLDER, FILES[1])


def _small(folder: Path, part: str, target: str | None = None) -> Iterator[_Move]:
    for name in SMALL[part]:
        if (folder / name).is_file():
            _check_small(folder / name, f"{part}/{name}")
            below = part if target is None else target
            yield _Move(folder / name, f"{below}/{name}" if below else name)


def _check_small(path: Path, name: str) -> None:
    """See that a configuration or a vocabulary is no larger than such files are, where it is there at all.

    Raises:
        InvalidRequest: it is.
    """
    if path.is_file() and path.stat().st_size > SMALL_LIMIT:
        raise InvalidRequest(f"The file {name} is larger than any of its kind.", "Check the folder.")


def _network(folder: Path, target: str, part: str) -> Iterator[_Move]:
    """The configuration of a network and the one file of its weights that would be loaded."""
    yield from _small(folder, part, target)
    yield _weights(folder, target, FILES[1] if part.startswith("text_encoder") else FILES[0])


def _weights(folder: Path, target: str, converted: str) -> _Move:
    """The one file of a network's weights that would be loaded; ``converted`` is what a pickle becomes."""
    name = next((name for name in FILES if (folder / name).is_file()), None)
    if name is None:
        raise WeightsMissing(
            f"The folder {folder.name} has no weights that can be imported.", f"Put one of {', '.join(FILES)} into it."
        )
    is_pickle = not name.endswith(".safetensors")
    return _Move(folder / name, f"{target}/{converted if is_pickle else name}", is_pickle)


def _build(moves: list[_Move], work: Path, wish: Wish, links: bool, tell: Tell) -> None:
    done, total = 0, sum(move.source.stat().st_size for move in moves)
    for move in moves:
        (work / move.target).parent.mkdir(parents=True, exist_ok=True)
        if move.is_pickle:
            continue
        tell(Fetching(wish.id, "installing", move.target, done, total))
        _copy(move.source, work / move.target, links)
        done += move.source.stat().st_size
    pickles = [move for move in moves if move.is_pickle]
    if pickles:
        tell(Fetching(wish.id, "converting", pickles[0].target, done, total))
        convert([(move.source, work / move.target) for move in pickles])
    for move in moves:
        durable.sync(work / move.target)


def _copy(source: Path, target: Path, links: bool) -> None:
    """A copy; or, of a file that nobody else will change, another name of it where the disk can do that."""
    if links:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:  # another disk, or one without links
            pass
    shutil.copyfile(source, target)  # not its mode: what is read-only there is ours here


def _card(work: Path, wish: Wish, total: int, tell: Tell) -> ModelCard:
    """The card of a folder, having loaded all of it strictly."""
    tell(Fetching(wish.id, "checking", "", total, total))
    layout = recognise(work)
    try:
        model = open_model(work)
        scheduler = type(model.scheduler()).__name__
    except MemoryError as error:
        raise OutOfMemory("There is not enough memory for the weights of this model.") from error
    found = abilities.ability(layout, model)
    window = _window(wish.window or found.window, layout, model.codec.scale)
    stride = window * 3 // 4 // model.codec.scale * model.codec.scale
    guides = abilities.controls(layout, found, wish.control or _offered_control(wish.offer))
    card = ModelCard(
        id=wish.id,
        name=wish.name or found.name,
        summary=found.summary,
        family=layout.family,
        version="1.0.0",
        tasks=found.tasks,
        bands=("red", "green", "blue"),
        gsd=found.gsd,
        window=window,
        stride=stride,
        schedulers=abilities.schedulers(scheduler),
        steps=found.steps,
        guidance_scale=found.guidance_scale,
        factors=found.factors,
        uses=found.uses,
        controls=guides,
        required=guides if layout.kind == abilities.STOCK_CONTROL else (),
        palettes={kind: dict(colours) for kind, colours in found.palettes.items()},
        frames=found.frames,
        source_bands=found.source_bands,
        whole=True,
        tokens=model.text.length,
        licence=found.licence,
        origin=wish.origin,
        citation=found.citation,
        limitations=found.limitations,
    )
    if wish.offer is not None:
        card = _offered(card, wish.offer.card, wish)
    cost = measure(model, layout.family, window, max(1, found.frames))
    weights = {file: digest_of(work / file) for file in sorted(_files(work))}
    return dataclasses.replace(card, **dataclasses.asdict(cost), weights=weights)


def _offered(card: ModelCard, offer: ModelCard, wish: Wish) -> ModelCard:
    """The card that was offered, with what only this folder tells.

    Raises:
        InvalidRequest: the folder holds another kind of model.
    """
    if (offer.family, offer.tasks) != (card.family, card.tasks):
        raise InvalidRequest(
            f"This folder holds no {offer.name}: it is of the family {card.family} and does {', '.join(card.tasks)}.",
            "Leave the offer out, or name another folder.",
        )
    told = {name: getattr(card, name) for name in ("summary", "controls", "uses")}
    told["limitations"] = f"{offer.limitations} {abilities.FOREIGN}"
    return dataclasses.replace(
        offer,
        **(told if CONTENT in card.controls else {}),
        id=card.id,
        name=wish.name or offer.name,
        window=card.window if wish.window else offer.window,
        stride=card.stride if wish.window else offer.stride,
        schedulers=card.schedulers,
        tokens=card.tokens,
        origin=card.origin,
    )


def _offered_control(offer: Offer | None) -> str:
    if offer is None or (offer.card.family, abilities.STOCK_CONTROL) not in abilities.ABILITIES:
        return ""
    return offer.card.controls[0]


def _window(asked: int, layout: Layout, scale: int) -> int:
    """The side of the window. Raises InvalidRequest where the network cannot halve it often enough."""
    if layout.unet is not None:
        unit = least = scale * 2 ** (len(read_json(layout.unet / "config.json")["block_out_channels"]) - 1)
    else:
        unit, least = 8 * scale, 16 * scale  # CRS-Diff's norms over its smallest feature map need more than one pixel
    if asked < least or asked % unit or asked > WINDOW_LIMIT:
        raise InvalidRequest(
            f"A window of {asked} pixels does not suit this network.",
            f"Use a multiple of {unit} from {least} to {WINDOW_LIMIT}.",
        )
    return asked


def _files(folder: Path) -> Iterator[str]:
    """All that a model is made of: a schedule or a vocabulary changes its pictures as its weights do."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in (folder / CARD, folder / RECORD):
            yield path.relative_to(folder).as_posix()


def _record(wish: Wish, path: Path) -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    told = {"origin": wish.origin, "name": path.name, "installed": now, **wish.record}
    return json.dumps(told, ensure_ascii=False, indent=1).encode()
