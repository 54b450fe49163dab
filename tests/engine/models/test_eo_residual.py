"""What the super-resolution network is told, and on which grid it works."""

import dataclasses
import json

import pytest
import torch
from afterimage.engine.errors import WeightsDamaged
from afterimage.engine.models import catalog
from afterimage.engine.models.enlargement import contrast
from afterimage.engine.models.eo_residual import analyse, fold, load_model, make_tiny, predict_folded, unfold
from afterimage.engine.models.weights import digests
from afterimage.engine.settings import Settings
from diffusers import UNet2DModel


@pytest.fixture
def card_of_tiny():
    return catalog.load("tiny-superresolve", Settings(device="cpu", threads=1)).card


def test_folding_is_undone():
    x = torch.randn(2, 3, 16, 8)
    assert fold(x).shape == (2, 48, 4, 2)
    assert torch.equal(unfold(fold(x)), x)


def told(cells, around=None):
    return analyse(cells, torch.ones_like(cells) if around is None else around)


def test_a_constant_has_nothing_to_tell():
    assert told(torch.full((1, 3, 24, 24), 0.75)).abs().max() < 1e-5


def test_nothing_but_the_level_is_lost_in_the_analysis():
    # the cell in the middle of 5 x 5: its mean is compared with those beside it, of which it is one
    cells = torch.zeros(16, 1, 20, 20)
    cells[torch.arange(16), 0, 8 + torch.arange(16) // 4, 8 + torch.arange(16) % 4] = 1
    linear = told(cells)[:, :, 2, 2]
    assert linear.shape == (16, 16) and torch.linalg.matrix_rank(linear) == 16
    assert torch.linalg.cond(linear) < 100


def test_detail_is_told_cell_by_cell_and_means_beside_their_neighbours():
    x = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[..., 25, 22] += 0.1
    differs = ((told(x) - told(changed)).abs() > 1e-6)[0]
    assert differs[1:].any(dim=0).nonzero().tolist() == [[6, 5]]
    assert differs[0].nonzero().tolist() == [[row, col] for row in range(4, 9) for col in range(3, 8)]


def test_exposure_and_offset_do_not_matter_to_what_is_told():
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    dark = 0.3 * x + 0.2
    assert torch.allclose(analyse(x, contrast(x, 2)), analyse(dark, contrast(dark, 2)), rtol=0.01, atol=0.01)


def test_velocities_come_before_what_the_network_tells_of_their_errors(card_of_tiny):
    """In the order of the network's channels, each half unfolded by itself."""
    model = make_tiny(card_of_tiny, torch.device("cpu"))
    enlarged, x = (torch.rand(model.batch, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    around, labels = contrast(enlarged, 4), torch.full((model.batch,), card_of_tiny.factors.index(4))
    with torch.inference_mode():
        velocity, log_variance = predict_folded(model._network, fold(x), torch.tensor(500), enlarged, around, labels)
        both = model.predict(x, torch.tensor(500), enlarged, 4)
    assert torch.allclose(both[:, :3], unfold(velocity), atol=1e-5)
    assert torch.allclose(both[:, 3:], unfold(log_variance), atol=1e-5)
    assert not torch.allclose(both[:, :3], both[:, 3:], atol=1e-2)


def test_a_network_that_tells_nothing_is_refused(card_of_tiny, tmp_path):
    network = UNet2DModel(**{**make_tiny(card_of_tiny, torch.device("cpu"))._network.config, "out_channels": 48})
    network.save_pretrained(tmp_path / "unet")
    (tmp_path / "model_index.json").write_text(json.dumps({"residual_scales": [1.0] * len(card_of_tiny.factors)}))
    card = dataclasses.replace(card_of_tiny, weights=digests(tmp_path))
    with pytest.raises(WeightsDamaged, match="how sure"):
        load_model(card, tmp_path, torch.device("cpu"))


def test_what_it_is_told_is_remembered_for_the_same_enlargement_alone(card_of_tiny):
    model = make_tiny(card_of_tiny, torch.device("cpu"))
    one, other = (torch.rand(model.batch, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    x, t = torch.zeros_like(one), torch.tensor(500)
    with torch.inference_mode():
        drawn = [model.predict(x, t, enlarged, factor) for enlarged, factor in ((one, 4), (one, 2), (other, 4))]
        for enlarged, factor, before in ((other, 4, drawn[2]), (one, 2, drawn[1]), (one.clone(), 4, drawn[0])):
            assert torch.equal(model.predict(x, t, enlarged, factor), before)
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
