"""Wrappers around a network's prediction that steer it: a prediction goes in, a prediction comes out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

#: (x, t) -> the network's raw output in the scheduler's prediction type. x is (B, C, h, w), t a scalar timestep.
Predict = Callable[[Tensor, Tensor], Tensor]
#: timestep, a scalar -> whether guidance counts there.
Guides = Callable[[Tensor], bool]


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


def in_interval(guided: Predict, cond: Predict, guides: Guides) -> Predict:
    """Guidance at some noise levels, and the bare condition at the others, with one network call instead of two.

    Where nearly all is noise guidance takes variety away, and where nearly none is left it changes nothing.

    Args:
        guided: prediction with guidance.
        cond: prediction under the condition.
        guides: where guidance counts.

    Source: Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality
    in Diffusion Models", arXiv 2404.07724, eq. 4.
    """
    return lambda x, t: guided(x, t) if guides(t) else cond(x, t)


def noise_levels(alphas_cumprod: Tensor, interval: tuple[float, float] | None) -> Guides:
    """Where guidance counts: at noise of a deviation between two, the clean sample's part counted as 1.

    Args:
        alphas_cumprod: (levels,) share of signal at each timestep.
        interval: least and greatest sqrt((1 - a) / a); None for all.
    """
    if interval is None:
        return lambda t: True
    deviations = ((1 - alphas_cumprod.double()) / alphas_cumprod.double()).sqrt()
    counts = (interval[0] <= deviations) & (deviations <= interval[1])
    within = counts.tolist()
    return lambda t: within[int(t)]
