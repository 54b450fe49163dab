"""What ships as a model is what its card says: its files, its family; and every task has a model."""

from __future__ import annotations

import hashlib
import typing
from pathlib import Path

import pytest
from afterimage.engine.contract import ModelCard, Offer, Request, loads

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted((ROOT / "resources" / "models").glob("*/card.json"))
TASKS = {kind.__name__ for kind in typing.get_args(Request)}


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_a_card_fits_its_files(path):
    card = loads(ModelCard, path.read_bytes())
    assert path.parent.name == card.id
    assert (ROOT / "engine" / "models" / f"{card.family}.py").is_file()
    assert card.tasks and set(card.tasks) <= TASKS
    assert card.pickable and card.licence and card.training_data and card.measures and card.limitations
    there = {file.relative_to(path.parent).as_posix() for file in path.parent.rglob("*.safetensors")}
    assert set(card.weights) == there
    for name, digest in card.weights.items():
        assert digest == "sha256:" + hashlib.sha256((path.parent / name).read_bytes()).hexdigest(), name


def test_a_model_ships_for_every_task_or_can_be_fetched():
    shipped = {task for path in CARDS for task in loads(ModelCard, path.read_bytes()).tasks}
    assert shipped == TASKS - {"Forecast"}  # which nothing small can do
    offers = (loads(Offer, path.read_bytes()) for path in (ROOT / "resources" / "catalogue").glob("*.json"))
    assert {task for offer in offers for task in offer.card.tasks} == TASKS


def test_the_models_are_small():
    files = [path for path in (ROOT / "resources" / "models").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20e6
