"""Classifier-free guidance."""

import pytest
import torch
from afterimage.engine.diffusion.guidance import classifier_free, in_interval, noise_levels


def test_guidance_extrapolates_from_the_null_condition():
    x, t = torch.zeros(1, 1, 2, 2), torch.tensor(5)
    guided = classifier_free(lambda x, t: x + 3.0, lambda x, t: x + 1.0, 2.5)
    assert torch.equal(guided(x, t), x + 1.0 + 2.5 * 2.0)


@pytest.mark.parametrize(("scale", "called"), [(1.0, "cond"), (0.0, "uncond")])
def test_the_branch_that_does_not_count_is_not_computed(scale, called):
    def refuse(x, t):
        raise AssertionError("computed for nothing")

    branches = {"cond": refuse, "uncond": refuse, called: lambda x, t: x}
    x = torch.ones(1, 1, 2, 2)
    assert classifier_free(branches["cond"], branches["uncond"], scale)(x, torch.tensor(0)) is x


def test_guidance_counts_between_two_noise_levels_and_costs_nothing_elsewhere():
    # deviations sqrt((1 - a) / a): 0.33, 1 and 3
    guides = noise_levels(torch.tensor([0.9, 0.5, 0.1]), (0.5, 2.0))
    asked = []

    def answer(value):
        return lambda x, t: asked.append(value) or x + value

    cond = answer(3.0)
    guided = in_interval(classifier_free(cond, answer(1.0), 2.5), cond, guides)
    x = torch.zeros(1, 1, 2, 2)
    found = [float(guided(x, torch.tensor(t)).mean()) for t in range(3)]
    assert found == [3.0, 1.0 + 2.5 * 2.0, 3.0] and asked == [3.0, 1.0, 3.0, 3.0]


def test_without_an_interval_guidance_counts_everywhere():
    guides = noise_levels(torch.tensor([1.0, 0.5, 0.0]), None)
    assert all(guides(torch.tensor(t)) for t in range(3))
