"""Coarse images keep the brightness of the fine ones, in 0..1 and on 8 bit."""

import pytest
import torch
from afterimage.engine.training.degradation import degrade, vary_bands
from afterimage.engine.training.dihedral import turn


@pytest.mark.parametrize("factor", [2, 4])
def test_a_constant_stays_constant_up_to_noise(factor):
    hr = torch.full((64, 3, 32, 32), 0.4)
    lr = degrade(hr, factor, torch.Generator().manual_seed(0))
    assert lr.shape == (64, 3, 32 // factor, 32 // factor)
    assert lr.mean() == pytest.approx(0.4, abs=0.002)
    assert torch.equal(lr, (lr * 255).round() / 255)


def test_half_of_the_images_are_plain_averages():
    hr = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    lr = degrade(hr, 4, torch.Generator().manual_seed(0))
    plain = torch.nn.functional.avg_pool2d(hr, 4)
    same = ((lr - plain).abs().amax(dim=(1, 2, 3)) <= 0.5 / 255 + 1e-6).float().mean()
    assert 0.35 < same < 0.75


def test_varied_bands_stay_in_range_and_are_repeatable():
    hr = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    varied = [vary_bands(hr, torch.Generator().manual_seed(2)) for _ in range(2)]
    assert torch.equal(*varied)
    assert varied[0].min() >= 0 and varied[0].max() <= 1
    assert not torch.equal(varied[0], hr)


def test_eight_turns_differ():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert len({tuple(turn(x, k).flatten().tolist()) for k in range(8)}) == 8
