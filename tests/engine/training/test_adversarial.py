"""Samples taught by what the sampler draws, and what must not change beside them."""

import copy
import dataclasses

import pytest
import torch
from afterimage.engine.models.enlargement import average
from afterimage.engine.training.adversarial import AdversarialObjective, bounded, error_of_mean
from afterimage.engine.training.checkpoint import load_checkpoint, save_checkpoint
from afterimage.engine.training.loop import make_optimizers
from afterimage.engine.training.order import step_generator
from afterimage.engine.training.recipe import read_recipe
from afterimage.engine.training.residual import ResidualObjective
from afterimage.engine.training.sharpening import make_critic


@pytest.fixture(scope="module")
def recipe():
    recipe = read_recipe("superresolve-samples")
    options = recipe.options | {"every": 100, "critic_from": 0, "pairs": 2}
    network = recipe.network | {"block_out_channels": [16, 16]}
    return dataclasses.replace(recipe, network=network, batch=4, options=options)


@pytest.fixture(scope="module")
def objective(shared_data, recipe, tmp_path_factory):
    """From the export of a run whose network learned nothing."""
    start = tmp_path_factory.mktemp("superresolve")
    first = ResidualObjective(dataclasses.replace(recipe, seed=1), shared_data, torch.device("cpu"))
    first.export(first.trained, start)
    made = AdversarialObjective(recipe, shared_data, start, torch.device("cpu"))
    for ours, theirs in zip(made.trained["network"].parameters(), first.trained.parameters()):
        assert torch.allclose(ours, theirs, atol=1e-3)  # an export has half precision
    return made


@pytest.mark.parametrize("step", [0, 1])
def test_a_drawn_sample_agrees_with_the_coarse_image_nearly(objective, step):
    generator = step_generator(0, step)
    crops = objective.residual.crops(step, generator)
    with torch.no_grad():
        one, other = (objective.draw(objective.trained["network"], crops, generator) for _ in range(2))
    for drawn in (one, other):
        pixels = crops.enlarged + drawn * crops.around * crops.scale
        off = average(pixels, crops.factor) - crops.lr
        assert off.square().mean() < 0.1 * (drawn * crops.around * crops.scale).square().mean()
    assert (one - other).abs().mean() > 0.01


def test_only_the_last_step_of_the_sampler_is_followed_back(objective):
    generator = step_generator(0, 0)
    crops = objective.residual.crops(0, generator).first(1)
    network, calls = objective.trained["network"], []
    handle = network.register_forward_hook(lambda module, given, output: calls.append(output[0].requires_grad))
    try:
        drawn = objective.draw(network, crops, generator)
    finally:
        handle.remove()
    assert calls == [False] * (objective.recipe.options["steps"] - 1) + [True]
    assert drawn.requires_grad


def test_squared_error_is_not_asked_for_around_the_last_level(objective):
    crops = objective.residual.crops(0, step_generator(0, 0))
    network = objective.trained["network"]
    with torch.no_grad():
        none = objective.residual.velocity_loss(network, crops, step_generator(0, 1), (0, 1000))
        some = objective.residual.velocity_loss(network, crops, step_generator(0, 1), objective.apart)
        whole = objective.residual.velocity_loss(network, crops, step_generator(0, 1))
    assert none == 0 and 0 < some < whole


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_images_is_shown_where_the_mean_is_drawn(objective, recipe, share):
    levels, crops = [], objective.residual.crops(0, step_generator(0, 0))
    network, told = objective.trained["network"], objective.residual.recipe
    handle = network.register_forward_pre_hook(lambda module, given: levels.append(given[1]))
    objective.residual.recipe = dataclasses.replace(told, options=told.options | {"noisiest": share})
    try:
        with torch.no_grad():
            objective.residual.velocity_loss(network, crops, step_generator(0, 1))
    finally:
        handle.remove()
        objective.residual.recipe = told
    noisiest = len(objective.residual.alphas) - 1
    assert int((levels[0] == noisiest).sum()) == share * len(levels[0])


def test_one_invented_picture_drawn_twice_costs_more_than_two_that_differ():
    """The penalty of the mean is that of infinitely many samples, not of each."""
    generator = torch.Generator().manual_seed(0)
    truth, one, other = torch.randn(3, 1, 1, 200, 100, generator=generator)
    weights = torch.ones_like(truth)
    assert error_of_mean(one, other, truth, weights) == pytest.approx(1, abs=0.05)
    assert error_of_mean(one, one, truth, weights) == pytest.approx(2, abs=0.1)
    assert error_of_mean(one, other, truth, 0 * weights) == 0


def test_a_bounded_critic_has_layers_of_norm_one_whatever_its_weights():
    critic = bounded(make_critic(6))
    for layer in critic:
        if isinstance(layer, torch.nn.Conv2d):
            with torch.no_grad():
                layer.parametrizations.weight.original.mul_(30)
            assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2).detach()) == pytest.approx(1, abs=1e-3)


def gradients(objective, recipe, step, **options):
    """Of the network and of the critic, each in one line, with other options."""
    objective.recipe = dataclasses.replace(recipe, options=recipe.options | options)
    objective.trained.zero_grad(set_to_none=True)
    objective.loss(step).backward()
    lines = [
        torch.cat([p.grad.flatten() for p in objective.trained[part].parameters() if p.grad is not None])
        for part in ("network", "critic")
    ]
    objective.recipe = recipe
    objective.trained.zero_grad(set_to_none=True)
    return lines


def test_the_critic_teaches_the_network_from_its_step_on_and_is_not_moved_by_that(objective, recipe):
    deaf, heard, early = (
        gradients(objective, recipe, 3, **options)
        for options in ({"critic": 0.0}, {"critic": 1.0}, {"critic": 1.0, "critic_from": 4})
    )
    assert (heard[0] - deaf[0]).abs().max() > 1e-3 * deaf[0].abs().max()
    assert torch.equal(early[0], deaf[0])
    assert heard[1].abs().max() > 0 and torch.equal(heard[1], deaf[1])


def test_a_run_goes_on_from_a_checkpoint_with_its_critic(objective, recipe, tmp_path):
    saved = copy.deepcopy(objective.trained.state_dict())
    optimizers = make_optimizers(objective.trained, recipe)
    averaged = copy.deepcopy(objective.trained)
    objective.loss(0).backward()
    optimizers[0].step()
    save_checkpoint(tmp_path, objective.trained, averaged, optimizers, {"step": 1, "seconds": 1.0})
    after = copy.deepcopy(objective.trained.state_dict())
    expected = float(objective.loss(1).detach())
    objective.trained.load_state_dict(saved)
    progress = load_checkpoint(tmp_path, objective.trained, averaged, make_optimizers(objective.trained, recipe))
    assert progress["step"] == 1
    assert all(torch.equal(value, after[name]) for name, value in objective.trained.state_dict().items())
    assert float(objective.loss(1).detach()) == expected
    objective.trained.load_state_dict(saved)
    objective.trained.zero_grad(set_to_none=True)


def test_what_is_exported_is_the_network_alone(objective, tmp_path):
    objective.export(objective.trained, tmp_path / "export")
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["model_index.json", "scheduler", "unet"]
    figures = objective.validate(objective.trained)
    assert {"ucmerced_4x_gain", "gradient_energy_2x", "gradient_energy_4x", "samples_apart_4x"} <= figures.keys()
