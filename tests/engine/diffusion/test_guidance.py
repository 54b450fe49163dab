"""Classifier-free guidance."""

import pytest
import torch
from afterimage.engine.diffusion.guidance import classifier_free


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
