"""Rows: what guidance asks of several windows, in calls of one size, and how its answers are added up."""

import pytest
import torch
from afterimage.engine.diffusion.guidance import classifier_free
from afterimage.engine.diffusion.rows import CALLS, Branch, in_calls, in_rows, rows_of, weighed

NULL, ONE, TWO = ({"level": torch.tensor([level])} for level in (0.0, 1.0, 2.0))


def network(calls=None):
    def answer(x, t, told):
        if calls is not None:
            calls.append(len(x))
        return x.sin() * 0.3 + told["level"].view(-1, 1, 1, 1) * x.cos()

    return answer


def guided(told, scale):
    return [Branch(1 - scale, {name: value.clone() for name, value in NULL.items()}), Branch(scale, told)]


def test_one_text_has_the_bits_of_classifier_free_guidance():
    x, answer = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)), network()
    plain = [
        classifier_free(
            lambda x, t, told=told: answer(x, t, told), lambda x, t: answer(x, t, NULL), 1.7
        )(x[k, None], None)[0]
        for k, told in enumerate((ONE, TWO, ONE))
    ]  # fmt: skip
    rows = [
        row for k, told in enumerate((ONE, TWO, ONE)) for row in rows_of(k, [(torch.ones(8, 8), guided(told, 1.7))])
    ]
    assert torch.equal(in_rows(rows, 4, answer, lambda: None)(x, None), torch.stack(plain))


def test_texts_are_added_up_by_their_shares_and_their_null_condition_is_asked_once():
    x, calls, checked = torch.randn(2, 4, 8, 8), [], []
    share = torch.linspace(0, 1, 8).expand(8, 8)
    both = [(share, guided(ONE, 3.0)), (1 - share, guided(TWO, 3.0))]
    rows = [*rows_of(0, both), *rows_of(1, [(torch.ones(8, 8), guided(TWO, 3.0))])]
    assert len(rows) == 3 + 2
    found = in_rows(rows, 4, network(calls), lambda: checked.append(1))(x, None)
    assert calls == [4, 4] and len(checked) == 2
    null, one, two = (network()(x, None, told) for told in (NULL, ONE, TWO))
    mixed = share * one + (1 - share) * two
    assert torch.allclose(found[0], (null + 3 * (mixed - null))[0], atol=1e-5)
    assert torch.allclose(found[1], (null + 3 * (two - null))[1], atol=1e-5)


def test_texts_that_mean_the_same_are_one_row():
    share = torch.rand(8, 8)
    (null, cond) = rows_of(0, [(share, guided(ONE, 2.0)), (1 - share, guided(ONE, 2.0))])
    assert torch.allclose(cond.weight, torch.full((8, 8), 2.0)) and torch.allclose(null.weight, -torch.ones(8, 8))


def test_three_branches_add_up():
    first, second, third = torch.randn(3, 5)
    found = weighed([(3.0, first), (-1.5, second), (-0.5, third)])
    assert torch.allclose(found, 3 * first - 1.5 * second - 0.5 * third, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_windows_are_cut_where_the_calls_are_full(size):
    keys = list(range(200))
    costs = [2 + (7 * key) % 3 for key in keys]
    parts = list(in_calls(keys, size, costs.__getitem__))
    assert [key for part, _ in parts for key in part] == keys and all(count == len(part) for part, count in parts)
    rows = [sum(costs[key] for key in part) for part, _ in parts]
    assert max(rows) <= max(CALLS * size, max(costs))
    assert sum(-(-each // size) * size for each in rows) <= 1.05 * sum(costs)
    assert list(in_calls([], size, costs.__getitem__)) == []
