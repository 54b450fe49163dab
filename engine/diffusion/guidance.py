"""Wrappers around a network's prediction that steer it: a prediction goes in, a prediction comes out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

#: (x, t) -> the network's raw output in the scheduler's prediction type. x is (B, C, h, w), t a scalar timestep.
Predict = Callable[[Tensor, Tensor], Tensor]


def classifier_free(cond: Predict, uncond: Predict, guidance_scale: float) -> Predict:
    """The prediction pushed from the null condition towards the condition, and beyond it for scales above 1.

    Args:
        cond: prediction under the condition.
        uncond: prediction under the null condition or the negative prompt.
        guidance_scale: 1 leaves ``cond`` as it is and 0 gives ``uncond``, each with one network call instead of two.

    Source: Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", eq. 6 with w = guidance_scale - 1. It is linear,
    so it holds for every prediction type.
    """
    if guidance_scale == 1.0:
        return cond
    if guidance_scale == 0.0:
        return uncond

    def guided(x: Tensor, t: Tensor) -> Tensor:
        base = uncond(x, t)
        return base + guidance_scale * (cond(x, t) - base)

    return guided
