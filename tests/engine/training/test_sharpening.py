"""What the decoder's second objective asks for."""

import torch
from afterimage.engine.training.sharpening import grid_distance


def noise(seed):
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_a_grid_of_cells_is_seen_whatever_its_strength_elsewhere():
    cells = torch.ones(8, 8)
    cells[0] = cells[:, 0] = 0.5
    gridded = noise(0) * cells.repeat(8, 8)
    assert grid_distance(noise(0), noise(1)) < 0.1
    assert grid_distance(gridded, noise(1)) > 0.2
    assert grid_distance(noise(0) * 0.3, noise(1)) < 0.1
