"""The models that can be picked: from the cards on disk, without starting the engine."""

import os
from pathlib import Path
from typing import Dict, Tuple

from qgis.core import Qgis

from ..engine.contract import ErrorCode, ModelCard, WireError, loads
from . import catalogue, settings
from .report import Problem, log, tr

#: Where the models that ship with the plugin lie.
MODELS = Path(__file__).resolve().parent.parent / "resources" / "models"
#: Names more folders of models, as for the engine.
MORE = "AFTERIMAGE_MODELS"
#: Set to 1 in tests: the engine's models with random weights can be named too.
TESTS = "AFTERIMAGE_TEST_MODELS"


def installed() -> Tuple[ModelCard, ...]:
    """The models that a person may pick, those that ship first, then those that were fetched, by id."""
    return tuple(card for card, _ in _found().values() if card.pickable)


def folders() -> Dict[str, Path]:
    """Id of a model -> the folder that it was found in."""
    return {id: folder for id, (_, folder) in _found().items()}


def _found() -> Dict[str, Tuple[ModelCard, Path]]:
    found: Dict[str, Tuple[ModelCard, Path]] = {}
    for root in roots():
        for path in sorted(root.glob("*/card.json")):
            try:
                card = loads(ModelCard, path.read_bytes())
            except (OSError, WireError) as error:
                log(tr("The model card {} cannot be read: {}").format(path, error), Qgis.MessageLevel.Warning)
                continue
            found.setdefault(card.id, (card, path.parent))
    return found


def roots() -> Tuple[Path, ...]:
    """The folders with a folder for each model, as the engine looks through them; the first of two of an id counts."""
    more = [Path(folder) for folder in os.environ.get(MORE, "").split(os.pathsep) if folder]
    return (MODELS, Path(settings.models_folder()), *more)


def cards(task: str) -> Tuple[ModelCard, ...]:
    """The models that can do a task; the first is the default.

    Args:
        task: name of the request's type.
    """
    offered = [card for card in installed() if task in card.tasks]
    if os.environ.get(TESTS) == "1" and task in _tiny(task).tasks:
        offered.append(_tiny(task))
    return tuple(offered)


def card(model: str, task: str) -> ModelCard:
    """The model with this id.

    Raises:
        Problem: UNKNOWN_MODEL.
    """
    offered = cards(task)
    for found in offered:
        if found.id == model:
            return found
    if offered:
        hint = tr("Choose one of: {}.").format(", ".join(found.id for found in offered))
    else:
        names = ", ".join(offer.card.name for offer in catalogue.offers(task)) or tr("none is known")
        hint = tr("Fetch or import one with Models\u2026 in the Afterimage panel. Public ones: {}.").format(names)
    message = (
        tr("There is no model '{}' for this.").format(model[:60]) if model else tr("No model for this is installed.")
    )
    raise Problem(ErrorCode.UNKNOWN_MODEL, message, hint)


def _tiny(task: str) -> ModelCard:
    """What is needed to ask for the engine's model with random weights."""
    draws = task != "SuperResolve"
    return ModelCard(
        id="tiny-generate" if draws else "tiny-superresolve",
        name="Tiny (random weights)",
        summary="",
        family="",
        version="0",
        tasks=("Generate", "Edit") if draws else ("SuperResolve",),
        bands=("red", "green", "blue"),
        gsd=(10.0, 10.0) if draws else (0.1, 60.0),
        window=64,
        stride=48,
        schedulers=("DPM++ 2M", "DDIM", "DDPM"),
        steps=2,
        factors=(2, 4),
        gives_mean=not draws,
        uses=("prompt", "negative_prompt", *(("strength", "margin") if draws else ())),
        vocabulary=("Forest", "River", "SeaLake") if draws else (),
        pickable=False,
    )
