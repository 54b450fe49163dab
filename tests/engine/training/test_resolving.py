"""The figures of super-resolution on images whose answer is known."""

import numpy as np
import pytest
import torch
from afterimage.engine.models import catalog
from afterimage.engine.models.enlargement import average
from afterimage.engine.settings import Settings
from afterimage.engine.training.resolving import SAMPLES, lanczos, measure_super_resolve, rank_correlation, sharpen


@pytest.fixture(scope="module")
def model():
    return catalog.load("tiny-superresolve", Settings(device="cpu", threads=1))


def test_a_spread_that_is_the_error_is_perfectly_ranked():
    error = torch.rand(500, generator=torch.Generator().manual_seed(0))
    assert rank_correlation(error**3, error) == pytest.approx(1)
    assert rank_correlation(-error, error) == pytest.approx(-1)


def test_lanczos_keeps_a_constant_and_its_bands_apart():
    lr = torch.tensor([0.2, 0.7]).view(1, 2, 1, 1).expand(1, 2, 8, 6)
    assert torch.allclose(lanczos(lr, 4), torch.tensor([0.2, 0.7]).view(1, 2, 1, 1).expand(1, 2, 32, 24), atol=1e-5)


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_sample_agrees_with_its_coarse_image_in_any_number_of_bands(model, bands, factor):
    lr = torch.rand(2, bands, 8, 8, generator=torch.Generator().manual_seed(1))
    drawn = sharpen(model, lr, factor, seed=0)
    assert drawn.shape == (2, bands, 8 * factor, 8 * factor)
    assert drawn.min() >= -1e-6 and drawn.max() <= 1 + 1e-6
    assert torch.allclose(average(drawn, factor), lr, atol=1e-5)
    assert not torch.equal(drawn, sharpen(model, lr, factor, seed=1))


def test_every_split_gets_every_figure(model, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 16, 16, 4), dtype=np.uint8)
    splits = [("colour", images[..., :3]), ("infrared", images[..., 3:])]
    monkeypatch.setattr("afterimage.engine.training.resolving._splits", lambda data: iter(splits))
    found = measure_super_resolve(model, tmp_path)
    assert len(found) == 2 * 2 * 6 + 2
    by_name = {(m.name, m.on): m for m in found}
    off = [m.value for m in found if m.name.startswith("disagreement")]
    assert len(off) == 4 and max(off) <= 0.5
    psnr = by_name["PSNR, 4x, mean", "infrared (2 images)"]
    assert psnr.unit == "dB" and "Lanczos" in psnr.reference and f"mean of {SAMPLES} samples" in psnr.reference
    assert all(0 <= m.value <= 100 for m in found if m.name.startswith("90 %"))
    assert all(m.value > 0 for m in found if m.name.startswith("processor time"))
