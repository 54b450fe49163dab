"""Neighbouring seeds balance each other, and every orientation is undone."""

import pytest
import torch
from afterimage.engine.contract import Window
from afterimage.engine.diffusion import noise
from afterimage.engine.diffusion.balance import WAYS, in_turn, paired_field, turn, turn_back

WINDOW = Window(-8, 40, 64, 64)


def test_neighbouring_seeds_start_from_opposite_noise_and_others_from_their_own():
    even, odd, other = (paired_field(seed, 3, WINDOW, 2) for seed in (6, 7, 8))
    assert torch.equal(even, -odd)
    assert torch.equal(even, noise.field(3, 3, WINDOW, 2))
    assert abs(float(torch.corrcoef(torch.stack([even.flatten(), other.flatten()]))[0, 1])) < 0.05


@pytest.mark.parametrize("way", range(WAYS))
def test_every_turn_is_undone(way):
    x = torch.arange(32.0).view(2, 4, 4)
    assert torch.equal(turn_back(turn(x, way), way), x)


def test_the_ways_differ():
    x = torch.arange(16.0).view(4, 4)
    assert len({tuple(turn(x, way).flatten().tolist()) for way in range(WAYS)}) == WAYS


def test_what_looks_at_pixels_alone_does_not_feel_the_turn():
    x, told = torch.randn(9, 3, 8, 8), torch.randn(9, 3, 8, 8)
    turned = in_turn(lambda x, t, told: x * t + told, range(9))
    assert torch.equal(turned(x, torch.tensor(2.0), told), x * 2 + told)


def test_each_picture_is_seen_as_its_seed_says():
    seen = []

    def predict(x, t, told):
        seen.append((x, told))
        return x

    x, told = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    in_turn(predict, [0, 5, 13])(x, torch.tensor(1), told)
    (given, condition) = seen[0]
    for k, way in enumerate((0, 5, 5)):
        assert torch.equal(given[k], turn(x[k], way)) and torch.equal(condition[k], turn(told[k], way))
