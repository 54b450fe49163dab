"""Tokens of what is told and of what is withheld."""

import math

import pytest
import torch
from afterimage.engine.models.caption import FIELDS, CaptionTokens


@pytest.fixture(scope="module")
def caption():
    torch.manual_seed(0)
    return CaptionTokens(classes=("Forest", "River"), width=8).requires_grad_(False)


def unknown(count=1):
    return torch.full((count, len(FIELDS)), math.nan)


def test_one_token_for_the_text_and_one_for_each_field(caption):
    assert caption(torch.tensor([[1.0, 0.0]]), unknown()).shape == (1, 1 + len(FIELDS), 8)


def test_several_classes_are_their_mean(caption):
    both = caption(torch.tensor([[0.5, 0.5]]), unknown())[0, 0]
    assert torch.allclose(both, caption.class_embedding.mean(dim=0), atol=1e-6)


def test_withheld_text_and_fields_have_tokens_of_their_own(caption):
    tokens = caption(torch.zeros(1, 2), unknown())[0]
    assert torch.equal(tokens[0], caption.null_text)
    assert torch.equal(tokens[1:], caption.null_field)


def test_a_known_field_changes_its_token_and_no_other(caption):
    metadata = unknown()
    metadata[0, list(FIELDS).index("gsd")] = 3.3
    changed = caption(torch.zeros(1, 2), metadata)[0] != caption(torch.zeros(1, 2), unknown())[0]
    assert changed.any(dim=1).nonzero().flatten().tolist() == [1 + list(FIELDS).index("gsd")]


def test_longitude_goes_around_the_earth(caption):
    metadata = unknown(2)
    metadata[:, list(FIELDS).index("longitude")] = torch.tensor([-180.0, 180.0])
    tokens = caption(torch.zeros(2, 2), metadata)
    assert torch.allclose(tokens[0], tokens[1], atol=1e-4)


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="altitude"):
        CaptionTokens(classes=("Forest",), fields=("altitude",))
