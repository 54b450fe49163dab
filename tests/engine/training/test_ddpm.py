"""The paper's objective on the real chips, for a few steps at tiny size, and the model that comes out of it."""

import dataclasses

import pytest
import torch
from afterimage.engine.models import catalog
from afterimage.engine.models.ddpm import PixelModel
from afterimage.engine.settings import Settings
from afterimage.engine.training import command
from afterimage.engine.training.ddpm import NoiseObjective
from afterimage.engine.training.recipe import read_recipe
from torch import nn

CPU = torch.device("cpu")


def small(**options):
    recipe = read_recipe("eurosat-ddpm")
    network = {**recipe.network, "block_out_channels": [16, 16], "attention_head_dim": 8}
    return dataclasses.replace(
        recipe, network=network, batch=8, bf16=False, options={**recipe.options, "every": 200, **options}
    )


@pytest.fixture(scope="module")
def objective(shared_data):
    return NoiseObjective(small(), shared_data, CPU)


class Fixed(nn.Module):
    """Says the same about every picture."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x, t, return_dict):
        return (torch.full_like(x, self.value),)


def test_saying_nothing_costs_the_variance_of_the_noise(objective, monkeypatch):
    monkeypatch.setattr(objective, "trained", Fixed(0.0))
    loss = torch.stack([objective.loss(step) for step in range(6)]).mean()
    assert float(loss) == pytest.approx(1.0, abs=0.02)  # eq. 14 with epsilon_theta = 0
    figures = objective.validate(Fixed(2.0))
    assert figures["l_simple"] == pytest.approx(5.0, abs=0.05)  # 1 + 2^2
    assert set(figures) == {"l_simple", "l_simple_low"}


def test_a_step_depends_on_its_number_alone(objective):
    with torch.no_grad():
        first, second, again = (float(objective.loss(step)) for step in (3, 4, 3))
    assert first == again != second


def test_chips_come_in_the_range_of_the_paper(objective, monkeypatch):
    seen = []

    class Looking(Fixed):
        def forward(self, x, t, return_dict):
            seen.append((x, t))
            return super().forward(x, t, return_dict)

    monkeypatch.setattr(objective, "trained", Looking(0.0))
    monkeypatch.setattr("afterimage.engine.training.ddpm.draw_timesteps", lambda count, *_: torch.zeros(count).long())
    objective.loss(0)
    ((x, t),) = seen
    assert x.shape == (8, 48, 16, 16) and t.tolist() == [0] * 8
    assert -1.1 < float(x.min()) < -0.3 and 0.3 < float(x.max()) < 1.1


def test_cosine_betas_are_a_choice_of_the_recipe(shared_data):
    chosen = NoiseObjective(small(betas="squaredcos_cap_v2"), shared_data, CPU)
    linear = NoiseObjective(small(), shared_data, CPU)
    assert chosen.alphas[500] > 5 * linear.alphas[500] and chosen.schedule["prediction_type"] == "epsilon"


def test_what_was_trained_is_published_found_and_draws(shared_data, tmp_path):
    path = tmp_path / "eurosat-ddpm.json"
    path.write_text(small().to_json())
    words = ["train", str(path), "--data", str(shared_data), "--out", str(tmp_path), "--device", "cpu"]
    assert command.main([*words, "--steps", "2", "--publish", str(tmp_path / "models")]) == 0
    settings = Settings(device="cpu", threads=1, more_models=(tmp_path / "models",))
    card = next(card for card in catalog.cards(settings) if card.id == "eurosat-ddpm")
    assert card.pickable and card.tasks == ("Generate",) and card.uses == () and card.schedulers[0] == "DDPM"
    assert (card.steps, card.window) == (1000, 64) and card.gflop_per_window_step > 0 and card.parameters > 10_000
    model = catalog.load("eurosat-ddpm", settings)
    assert isinstance(model, PixelModel) and model.fold == 4
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert model.predict(x, torch.tensor(5)).shape == x.shape
    assert command.main([*words, "--steps", "3", "--resume"]) == 0
    assert len((tmp_path / "eurosat-ddpm" / "log.jsonl").read_text().splitlines()) == 2


def test_the_network_of_the_recipe_is_small(shared_data):
    recipe = read_recipe("eurosat-ddpm")
    recipe = dataclasses.replace(recipe, options={**recipe.options, "every": 1000})
    network = NoiseObjective(recipe, shared_data, CPU).trained
    assert sum(parameter.numel() for parameter in network.parameters()) <= 2_000_000
