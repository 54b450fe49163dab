"""Agreement with the low-resolution image: exact, smooth, local."""

import pytest
import torch
from afterimage.engine.diffusion.constraints import HALO, down, enlarge_nearest, fit_range, match_low_resolution


def scene(factor, bands=2, height=24, width=19, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lr = torch.rand(1, bands, height, width, generator=generator)
    y = enlarge_nearest(lr, factor) + 0.2 * torch.randn(1, bands, height * factor, width * factor, generator=generator)
    return y, lr, torch.ones(height, width, dtype=torch.bool)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_block_means_are_the_low_resolution_image(factor):
    y, lr, valid = scene(factor)
    matched = match_low_resolution(y, lr, valid, factor)
    assert (down(matched, factor) - lr).abs().max() < 1e-6


@pytest.mark.parametrize("factor", [2, 4])
def test_a_sample_that_agrees_is_left_alone(factor):
    y, _, valid = scene(factor)
    assert torch.allclose(match_low_resolution(y, down(y, factor), valid, factor), y, atol=1e-6)


def test_the_correction_leaves_no_blocks():
    """A smooth error is corrected smoothly: steps at block edges are no larger than steps inside blocks."""
    factor, rows = 4, torch.linspace(0, 3, 40)
    lr = (torch.sin(rows)[:, None] * torch.cos(rows)[None, :])[None, None]
    y = torch.zeros(1, 1, 160, 160)
    matched = match_low_resolution(y, lr, torch.ones(40, 40, dtype=torch.bool), factor)[0, 0, 32:-32, 32:-32]
    steps = matched.diff(dim=0).abs().mean(dim=1)
    steps = torch.cat([steps, steps.new_zeros(1)]).view(-1, factor)[:-1].mean(dim=0)
    assert steps.max() / steps.min() < 1.05


def test_it_is_linear_and_asks_nothing_where_there_is_no_data():
    y, lr, valid = scene(4)
    valid[5:9, 3:8] = False
    matched = match_low_resolution(y, lr, valid, 4)
    assert (down(matched, 4) - lr)[..., valid].abs().max() < 1e-6
    other = torch.where(valid, lr, 1e6)
    assert torch.equal(match_low_resolution(y, other, valid, 4), matched)
    doubled = match_low_resolution(2 * y, 2 * lr, valid, 4)
    assert torch.allclose(doubled, 2 * matched, atol=1e-5)


def test_a_crop_with_its_halo_agrees_with_the_whole():
    factor, halo = 4, HALO + 1
    y, lr, valid = scene(factor, height=40, width=40)
    whole = match_low_resolution(y, lr, valid, factor)
    rows, cols = slice(10, 30), slice(8, 28)
    far = slice(rows.start - halo, rows.stop + halo), slice(cols.start - halo, cols.stop + halo)
    fine = tuple(slice(s.start * factor, s.stop * factor) for s in far)
    part = match_low_resolution(y[..., fine[0], fine[1]], lr[..., far[0], far[1]], valid[far], factor)
    inner = slice(halo * factor, -halo * factor)
    expected = whole[..., rows.start * factor : rows.stop * factor, cols.start * factor : cols.stop * factor]
    assert (part[..., inner, inner] - expected).abs().max() < 2e-6


def test_contrast_gives_way_at_the_ends_of_the_range_and_means_stay():
    y, lr, valid = scene(4)
    lr[..., 3, 3], lr[..., 4, 4], lr[..., 9, 9] = 1.0, 0.0, 1.5
    matched = match_low_resolution(y, lr, valid, 4)
    fitted = fit_range(matched, lr, torch.zeros(2, 1, 1), torch.ones(2, 1, 1), 4)
    rest = fitted.clone()
    assert torch.allclose(rest[..., 36:40, 36:40], torch.tensor(1.5))
    rest[..., 36:40, 36:40] = 0.5
    assert rest.min() >= -1e-6 and rest.max() <= 1 + 1e-6
    assert (down(fitted, 4) - lr).abs().max() < 1e-6
    assert torch.equal(fitted[..., 12:16, 12:16], torch.ones_like(fitted[..., 12:16, 12:16]))
    inside = (matched - 0.5).abs() <= 0.5
    whole_blocks = enlarge_nearest(-torch.nn.functional.max_pool2d(-inside.float(), 4), 4) > 0
    assert torch.equal(fitted[whole_blocks], matched[whole_blocks])


def test_an_odd_factor_is_refused():
    with pytest.raises(ValueError, match="even"):
        match_low_resolution(torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 3, 3), torch.ones(3, 3, dtype=torch.bool), 3)
