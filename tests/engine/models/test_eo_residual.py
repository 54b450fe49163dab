"""What the super-resolution network is told, and on which grid it works."""

import torch
from afterimage.engine.models.eo_residual import analyse, fold, unfold


def test_folding_is_undone():
    x = torch.randn(2, 3, 16, 8)
    assert fold(x).shape == (2, 48, 4, 2)
    assert torch.equal(unfold(fold(x)), x)


def test_a_constant_has_a_mean_and_no_detail():
    told = analyse(torch.full((1, 3, 8, 8), 0.75)).unflatten(1, (3, 16))
    assert torch.allclose(told[:, :, 0], torch.tensor(0.5), atol=1e-6)
    assert told[:, :, 1:].abs().max() < 1e-5


def test_nothing_is_lost_in_the_analysis():
    cells = torch.eye(16).view(16, 1, 4, 4)
    linear = (analyse(cells) - analyse(torch.zeros(1, 1, 4, 4))).view(16, 16)
    assert torch.linalg.matrix_rank(linear) == 16
    assert torch.linalg.cond(linear) < 100


def test_detail_is_told_cell_by_cell():
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[..., 5, 6] += 0.1
    differs = (analyse(x) != analyse(changed)).any(dim=1)[0]
    assert differs.nonzero().tolist() == [[1, 1]]
