"""``evaluate``: measure a model on the test splits, and put the figures on its card and in its page."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from ..contract import Measure
from ..models import catalog
from ..models.ddpm import PixelModel
from ..models.eo_latent import LatentModel
from ..models.eo_residual import ResidualModel
from ..settings import Settings
from .drawing import card_sampling
from .edits import measure_edit
from .generating import glance, measure_generate
from .likelihood import measure_ddpm
from .publish import write_card
from .resolving import measure_super_resolve
from .sheets import draw_ddpm_sheet, draw_generate_sheet, draw_super_resolve_sheet
from .table import write_table

log = logging.getLogger(__name__)

#: Seeds of the judges: one to choose by, and another one for what is reported.
CHOOSING, REPORTING = 7, 8
#: Data set whose images the scenes are made of in which editing is measured.
EDITED = "eurosat"


def evaluate(arguments: Sequence[str]) -> int:
    """Measure a model; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m afterimage.engine evaluate", description="Measure a model.")
    parser.add_argument("model", help="id of a model")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data archives")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the judges")
    parser.add_argument("--models", type=Path, default=Settings.models, help="folder of models")
    parser.add_argument("--threads", type=int, default=2, help="of computation")
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet to this picture")
    parser.add_argument("--table", type=Path, help="also write the figures between their marks in this page")
    parser.add_argument(
        "--from-card", action="store_true", help="measure nothing: only write the card's figures to --table"
    )
    parser.add_argument("--draws", type=int, default=3, help="generated sets, each as large as the test split")
    parser.add_argument("--judge-seed", type=int, help=f"of the judge: {REPORTING}, or {CHOOSING} with --quick")
    parser.add_argument("--edit", action="store_true", help="also measure editing")
    parser.add_argument("--images", type=int, default=92, help="images of each test split to super-resolve")
    quick = parser.add_argument_group("to choose by, writing no card")
    quick.add_argument("--quick", action="store_true", help="few generated images, fewer figures")
    quick.add_argument("--per-class", type=int, default=12, help="generated images of each class")
    quick.add_argument("--steps", type=int, help="instead of the card's")
    quick.add_argument("--guidance", type=float, help="instead of the card's")
    quick.add_argument("--window", type=int, help="side in pixels of what is drawn and cut into images")
    asked = parser.parse_args(arguments)
    if not asked.quick and (asked.steps, asked.guidance, asked.window) != (None, None, None):
        parser.error("--steps, --guidance and --window go with --quick: a card's figures are those of its own settings")
    settings = Settings(device="cpu", threads=asked.threads, models=asked.models)
    model = catalog.load(asked.model, settings)
    if asked.from_card:
        if asked.table is None:
            parser.error("--from-card needs --table")
        write_table(model.card, asked.table)
        return 0
    if isinstance(model, LatentModel):
        if asked.edit and model.vocabulary.data_set != EDITED:
            parser.error(f"--edit: editing is measured in scenes of {EDITED}, which {asked.model} does not know")
        if asked.quick:
            _tell(_glance(model, asked))
            return 0
        measures = _measure_latent(model, asked)
    elif asked.quick or asked.edit:
        parser.error("--quick and --edit are for models that draw from text")
    elif isinstance(model, ResidualModel):
        measures = measure_super_resolve(model, asked.data, images=asked.images)
        if asked.sheet is not None:
            draw_super_resolve_sheet(model, asked.data, asked.sheet)
    elif isinstance(model, PixelModel):
        measures = measure_ddpm(model, asked.data)
        if asked.sheet is not None:
            draw_ddpm_sheet(model, asked.data, asked.sheet)
    else:
        parser.error(f"how good {asked.model} is cannot be measured")
    _tell(measures)
    card = dataclasses.replace(model.card, measures=measures)
    write_card(card, asked.models / asked.model)
    if asked.table is not None:
        write_table(card, asked.table)
    return 0


def _measure_latent(model: LatentModel, asked: argparse.Namespace) -> tuple[Measure, ...]:
    seed = REPORTING if asked.judge_seed is None else asked.judge_seed
    if asked.sheet is not None:
        draw_generate_sheet(model, asked.data, asked.sheet)
    measures = measure_generate(model, asked.data, asked.work, asked.draws, seed)
    if asked.edit:
        measures += measure_edit(model, asked.data, asked.work, judge_seed=seed)
    return measures


def _glance(model: LatentModel, asked: argparse.Namespace) -> tuple[Measure, ...]:
    seed = CHOOSING if asked.judge_seed is None else asked.judge_seed
    sampling = card_sampling(model, asked.steps, asked.guidance)
    window = None if asked.window is None else asked.window // model.scale
    return glance(model, asked.data, asked.work, asked.per_class, seed, sampling, window)


def _tell(measures: Sequence[Measure]) -> None:
    for measure in measures:
        log.info("%s, %s: %s %s (%s)", measure.name, measure.on, measure.value, measure.unit, measure.reference)
