"""What the decoder's second objective asks for."""

import dataclasses

import torch
from afterimage.engine.training import sharpening
from afterimage.engine.training.energies import CURVATURES, energy_distance
from afterimage.engine.training.recipe import read_recipe
from afterimage.engine.training.sharpening import SharpeningObjective, grid_distance


def noise(seed):
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_a_grid_of_cells_is_seen_whatever_its_strength_elsewhere():
    cells = torch.ones(8, 8)
    cells[0] = cells[:, 0] = 0.5
    gridded = noise(0) * cells.repeat(8, 8)
    assert grid_distance(noise(0), noise(1)) < 0.1
    assert grid_distance(gridded, noise(1)) > 0.2
    assert grid_distance(noise(0) * 0.3, noise(1)) < 0.1


def test_grid_and_energies_are_looked_for_in_what_exact_latents_decode_to(plain_data, tmp_path, monkeypatch):
    recipe = read_recipe("eurosat-decoder")
    small = {"width": 16, "blocks": 1, "latent_channels": 4}
    options = recipe.options | {"layers": 0.0, "crop": 64, "latent_noise": 1.0}
    recipe = dataclasses.replace(recipe, batch=4, bf16=False, network=recipe.network | small, options=options)
    objective = SharpeningObjective(recipe, plain_data, tmp_path / "fitted", torch.device("cpu"))
    compared = []

    def noted(distance):
        def compare(ours, truth, *more):
            compared.append((ours.detach(), truth, more[-1]))
            return distance(ours, truth, *more)

        return compare

    monkeypatch.setattr(sharpening, "grid_distance", noted(grid_distance))
    monkeypatch.setattr(sharpening, "energy_distance", noted(energy_distance))
    objective.loss(0).backward()
    assert len(compared) == 2
    assert any(last is CURVATURES for _, _, last in compared)
    for ours, truth, _ in compared:
        assert len(truth) == 2
        assert torch.allclose(ours, objective.autoencoder.decode(objective.autoencoder.encode(truth)), atol=1e-5)
