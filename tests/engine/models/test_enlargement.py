"""Enlarging and averaging agree on where pixels are."""

import pytest
import torch
from afterimage.engine.models import enlargement
from afterimage.engine.models.enlargement import FAINT, agree, average, contrast, enlarge


@pytest.mark.parametrize("factor", [2, 4])
def test_a_ramp_keeps_its_place(factor):
    ramp = torch.arange(16.0).expand(1, 1, 16, 16).clone()
    enlarged = enlarge(ramp, factor)[..., 8 * factor]
    assert torch.allclose(average(enlarge(ramp, factor), factor)[..., 4:-4], ramp[..., 4:-4], atol=1e-4)
    assert torch.allclose(enlarged, torch.tensor(8 + (0.5 / factor - 0.5)), atol=1e-4)


@pytest.mark.parametrize("factor", [2, 4])
def test_agreement_brings_the_average_closer(factor):
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(1, 3, 32, 32, generator=generator)
    lr = torch.rand(1, 3, 32 // factor, 32 // factor, generator=generator)
    before = (average(hr, factor) - lr).abs().mean()
    assert (average(agree(hr, lr, factor), factor) - lr).abs().mean() < before / 2
    assert torch.allclose(agree(hr, average(hr, factor), factor), hr, atol=1e-6)


def test_the_enlargement_of_a_crop_is_the_crop_of_the_enlargement():
    lr = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    whole, part = enlarge(lr, 4), enlarge(lr[..., 6:18, 6:18], 4)
    assert torch.allclose(part[..., 12:-12, 12:-12], whole[..., 36:60, 36:60], atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_contrast_is_the_difference_of_coarse_pixels(factor):
    ramp = enlarge(0.05 * torch.arange(16.0).expand(1, 1, 16, 16).clone(), factor)
    middle = contrast(ramp, factor)[..., 6 * factor : 10 * factor, 6 * factor : 10 * factor]
    assert torch.allclose(middle, torch.tensor((0.05**2 / 2 + FAINT**2) ** 0.5), rtol=1e-3)


def test_contrast_is_local_and_of_each_band():
    pixels = torch.full((1, 2, 64, 64), 0.3)
    pixels[:, 0, 30:, :] = 0.8
    found = contrast(pixels, 4)
    assert torch.allclose(found[:, 1], torch.tensor(FAINT)) and torch.allclose(found[:, 0, :20], torch.tensor(FAINT))
    assert found[:, 0, 30].min() > 0.1


@pytest.mark.parametrize("factor", [2, 4])
def test_contrast_is_as_mean_pooling_has_it(factor):
    picture = torch.rand(2, 3, 40, 24, generator=torch.Generator().manual_seed(0)) ** 3
    for pixels in (picture, picture.mT):
        pooled = torch.nn.functional.avg_pool2d(pixels.contiguous(), 2 * factor + 1, 1)
        assert torch.allclose(enlargement._box(pixels, 2 * factor + 1), pooled, atol=1e-6, rtol=0)
