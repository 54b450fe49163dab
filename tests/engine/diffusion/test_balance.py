"""Neighbouring seeds balance each other, and every orientation is undone."""

import pytest
import torch
from afterimage.engine.contract import MEAN_CALLS, Window
from afterimage.engine.diffusion import noise
from afterimage.engine.diffusion.balance import WAYS, in_turn, over_ways, paired_field, turn, turn_back

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


def test_the_mean_over_the_ways_asks_for_each_once_and_is_the_same_to_the_last_bit():
    asked, estimates = [], torch.randn(WAYS, 2, 3, 8, 8)

    def estimate(seed):
        asked.append(seed)
        return estimates[seed]

    found = over_ways(estimate)
    assert asked == list(range(WAYS)) and WAYS == MEAN_CALLS
    assert torch.allclose(found, estimates.mean(dim=0), atol=1e-6)
    kept = estimates.clone()
    assert torch.equal(found, over_ways(estimates.__getitem__)) and torch.equal(estimates, kept)


def test_the_mean_over_the_ways_has_no_orientation_and_less_noise_than_one_estimate():
    kernel, picture = torch.randn(1, 1, 3, 3), torch.randn(1, 1, 16, 16)

    def estimate(picture, seed):
        noise = paired_field(seed, 0, Window(0, 0, 16, 16), 1)[None]
        predict = in_turn(lambda x, t, told: torch.conv2d(told, kernel, padding=1) + 0.3 * x, [seed])
        return predict(noise, torch.tensor(0), picture)

    found = over_ways(lambda seed: estimate(picture, seed))
    blank = over_ways(lambda seed: estimate(0 * picture, seed))
    alone = estimate(0 * picture, 0)
    assert blank.std() < 0.5 * alone.std()
    for way in range(WAYS):
        turned = over_ways(lambda seed, way=way: estimate(turn(picture, way), seed))
        assert torch.allclose(turned - blank, turn(found - blank, way), atol=1e-5)


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
