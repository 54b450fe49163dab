"""Which public models there are: from the catalogue on disk, without starting the engine or reaching a network."""

from dataclasses import replace
from pathlib import Path
from typing import Tuple

from qgis.core import Qgis

from ..engine.contract import Offer, WireError, loads
from . import settings
from .report import log, tr

#: A file for each public model.
CATALOGUE = Path(__file__).resolve().parent.parent / "resources" / "catalogue"
#: Below the folder of the models: what was fetched of those that are not complete, as the engine calls it.
PARTIAL = ".partial"


def offers(task: str = "") -> Tuple[Offer, ...]:
    """The public models, by id, each with its state here.

    Args:
        task: name of a request's type: only those that can do it.
    """
    found = []
    for path in sorted(CATALOGUE.glob("*.json")):
        try:
            offer = loads(Offer, path.read_bytes())
        except (OSError, WireError) as error:
            log(tr("The offer {} cannot be read: {}").format(path, error), Qgis.MessageLevel.Warning)
            continue
        if not task or task in offer.card.tasks:
            found.append(replace(offer, state=state(offer.card.id)))
    return tuple(found)


def state(model: str) -> str:
    """Whether a model is "installed", "partial" or "available", as ``models offers`` of the engine tells it."""
    store = Path(settings.models_folder())
    if (store / model / "card.json").is_file():
        return "installed"
    return "partial" if (store / PARTIAL / model).is_dir() else "available"
