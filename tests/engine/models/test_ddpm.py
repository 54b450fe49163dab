"""The pixel model: told nothing, bounded, and the same whichever way its timesteps are given."""

import json

import pytest
import torch
from afterimage.engine.errors import WeightsDamaged
from afterimage.engine.models import catalog, ddpm
from afterimage.engine.settings import Settings


@pytest.fixture(scope="module")
def model():
    return catalog.load("tiny-ddpm", Settings(device="cpu", threads=1))


def test_pixels_go_to_the_range_of_the_network_and_back(model):
    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ddpm.to_unit(ddpm.to_signed(pixels)), pixels, atol=1e-6)
    assert ddpm.to_signed(torch.tensor([0.0, 1.0])).tolist() == [-1.0, 1.0]
    assert torch.equal(model.decode(torch.full((1, 3, 4, 4), 3.0)), torch.ones(1, 3, 4, 4))


def test_one_timestep_for_all_is_that_timestep_for_each(model):
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model.predict(x, torch.tensor(7)), model.predict(x, torch.tensor([7, 7, 7])))
        assert not torch.equal(model.predict(x, torch.tensor(7)), model.predict(x, torch.tensor([7, 7, 900]))[:3])


@pytest.mark.parametrize("name", ["DDPM", "DDIM", "DPM++ 2M"])
def test_no_scheduler_believes_in_a_pixel_out_of_range(model, name):
    from afterimage.engine.diffusion.loop import sample

    seen = []
    sample(
        lambda x, t: torch.full_like(x, 5.0),  # a noise far beyond what is there
        model.scheduler(name),
        6,
        lambda stream: torch.ones(1, 3, 4, 4),
        lambda step, denoised: seen.append(denoised.abs().max()),
    )
    assert len(seen) == 6 and max(seen) <= 1 + 1e-6


def test_the_thousand_steps_are_those_of_the_paper(model):
    scheduler = model.scheduler("DDPM")
    scheduler.set_timesteps(1000)
    assert scheduler.timesteps.tolist() == list(range(999, -1, -1))
    assert torch.allclose(scheduler.betas, torch.linspace(1e-4, 0.02, 1000))


def test_settings_without_a_fold_are_damaged(tmp_path):
    card = next(c for c in catalog.cards(Settings()) if c.id == "tiny-ddpm")
    (tmp_path / "model_index.json").write_text(json.dumps({"fold": 3}))
    with pytest.raises(WeightsDamaged):
        ddpm.load_model(card, tmp_path, torch.device("cpu"))
