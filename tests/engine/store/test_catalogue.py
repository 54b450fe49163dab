"""What is offered fits what the engine can run, and says what it must."""

from __future__ import annotations

import json
import typing

import pytest
from afterimage.engine.contract import CONTROLS, Offer, Request, dumps, loads
from afterimage.engine.errors import UnknownModel
from afterimage.engine.models import catalog
from afterimage.engine.store import catalogue, places
from afterimage.engine.store.abilities import ABILITIES

FILES = sorted(catalogue.CATALOGUE.glob("*.json"))
TASKS = {kind.__name__ for kind in typing.get_args(Request)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_offer(path):
    offer = loads(Offer, path.read_bytes())
    card = offer.card
    assert card.id == path.stem == places.check_id(card.id)
    assert loads(Offer, dumps(offer)) == offer and offer.state == "available"
    assert offer.terms.strip() and card.licence and card.citation and card.attribution and card.limitations
    assert offer.host in ("huggingface", "zenodo") and offer.licence_url.startswith("https://")
    assert offer.repository.isdecimal() if offer.host == "zenodo" else offer.repository.count("/") == 1
    assert card.family in catalog.PUBLISHED and card.tasks and set(card.tasks) <= TASKS
    kinds = [found for (family, _), found in ABILITIES.items() if family == card.family and found.tasks == card.tasks]
    assert any((found.uses, found.steps) == (card.uses, card.steps) or card.controls for found in kinds)
    assert set(card.controls) <= set(CONTROLS) and set(card.required) <= set(card.controls)
    assert set(card.palettes) <= set(card.controls)
    assert not card.weights and not card.origin, "that is known once it is installed"
    assert card.parameters > 1e9 and card.memory_mb > 4 * card.parameters / 1e6 and card.gflop_per_window_step > 100
    assert all(base in {other.stem for other in FILES} for base in offer.needs)
    assert offer.size or "size is known once the host is asked" in card.limitations or "mirror" in card.limitations
    for part in catalogue.parts(card.id):
        assert part.repository and not part.folder.startswith("/") and ".." not in part.into


def test_every_family_but_stock_weights_of_ones_own_is_offered(tmp_path):
    listed = catalogue.offers(tmp_path)
    assert {offer.card.family for offer in listed} == set(catalog.PUBLISHED)
    seen = set()
    for offer in listed:  # a base stands before what needs it
        assert set(offer.needs) <= seen
        seen.add(offer.card.id)


def test_terms_that_must_be_told():
    assert "Academic use only" in catalogue.find("text2earth").terms
    for offer in ("crs-diff", "rsedit"):
        assert "no licence" in catalogue.find(offer).terms
    assert "Apache" in catalogue.find("geosynth-osm").terms and "MIT" in catalogue.find("earthsynth").terms
    with pytest.raises(UnknownModel):
        catalogue.find("sdxl")


def test_what_the_catalogue_says_beside_the_contract_is_known():
    for path in FILES:
        told = json.loads(path.read_text("utf-8"))
        assert set(told) <= {*vars(loads(Offer, path.read_bytes())), "type", "fetch"} - {"state"}
