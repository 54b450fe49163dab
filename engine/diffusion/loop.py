"""The denoising loop over a diffusers scheduler, with every random number handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..contract import steps_done
from . import stochastic
from .guidance import Predict

T = TypeVar("T")

#: Stream of the noise that a sample starts from. Step k of the loop, from 0, takes its noise from stream k + 1.
START = 0

#: (step of all steps from 0, estimate of the clean sample (B, C, h, w)): called after each step; may raise to end it.
OnStep = Callable[[int, Tensor], None]


def sample(
    predict: Predict,
    scheduler: Any,
    steps: int,
    noise: Callable[[int], Tensor],
    on_step: OnStep | None = None,
    source: Tensor | None = None,
    strength: float = 1.0,
) -> Tensor:
    """A sample of the model, from noise, or from a picture under noise.

    ``DDPMScheduler`` with as many steps as it was trained with is the ancestral sampler of Ho et al. 2020, Algorithm 2.

    Args:
        predict: the network with its condition.
        scheduler: a diffusers scheduler; its state is set anew.
        steps: denoising steps, at least 1.
        noise: stream -> standard normal noise (B, C, h, w) float32 on the network's device.
        on_step: called between steps.
        source: picture to start from, (B, C, h, w) like the sample; it counts at a strength below 1 only.
        strength: at 1 the sample starts from noise; below, it starts from the source under as much noise as the
            schedule holds at that share of the steps, and the steps before are left out.
            Source: Meng et al. 2022, "SDEdit", Algorithm 1, with t0 = ``strength`` rounded up to whole steps.

    Returns:
        (B, C, h, w) float32.

    Raises:
        ValueError: for a strength below 1 without a source.
    """
    x = noise(START)
    set_timesteps(scheduler, steps, x.device)
    first = steps - steps_done(steps, strength)
    if hasattr(scheduler, "set_begin_index"):
        # a solver that looks for its place by the timestep takes the second of two alike, and so one step too many
        scheduler.set_begin_index(first)
    if first == 0:
        x = x * scheduler.init_noise_sigma
    elif source is None:
        raise ValueError("a strength below 1 needs a source")
    else:
        x = scheduler.add_noise(source, x, scheduler.timesteps[first].reshape(1))
    return walk(predict, scheduler, x, list(enumerate(scheduler.timesteps))[first:], noise, on_step)


def walk(
    predict: Predict,
    scheduler: Any,
    x: Tensor,
    steps: Sequence[tuple[int, Tensor]],
    noise: Callable[[int], Tensor],
    on_step: OnStep | None = None,
) -> Tensor:
    """Some steps of a sampler in a row.

    Args:
        predict: the network with its condition.
        scheduler: with its timesteps set, ready for the first of the steps.
        x: noisy sample (B, C, h, w) before them, in the scheduler's own scale.
        steps: (number of the step of all steps from 0, its timestep).
        noise: stream -> standard normal noise (B, C, h, w); step k takes that of stream k + 1.
        on_step: called after each step.

    Returns:
        The sample after them, like ``x``.
    """
    draws_noise = stochastic.draws_noise(scheduler)
    with torch.inference_mode():
        for k, t in steps:
            output = predict(scheduler.scale_model_input(x, t), t)
            z = noise(k + 1) if draws_noise and stochastic.adds_noise(scheduler, t) else None
            x, denoised = stochastic.step(scheduler, output, t, x, z)
            if on_step is not None:
                on_step(k, denoised)
    return x


def set_timesteps(scheduler: Any, steps: int, device: torch.device | str = "cpu") -> None:
    """Set a scheduler's timesteps anew: exactly as many as steps.

    With "trailing" spacing, diffusers counts down in floating point and passes zero for some numbers of steps (61, 103,
    ...): one timestep too many, -1, which indexes the noisiest level. It is dropped, with its noise level.
    """
    scheduler.set_timesteps(steps, device=device)
    surplus = len(scheduler.timesteps) - steps
    if surplus <= 0 or int(scheduler.timesteps[-1]) >= 0:
        return
    scheduler.timesteps = scheduler.timesteps[:steps]
    scheduler.num_inference_steps = steps
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None:  # one for each step, and the last level
        scheduler.sigmas = torch.cat([sigmas[:steps], sigmas[-1:]])


def batches(items: Sequence[T], size: int) -> Iterator[tuple[list[T], int]]:
    """Batches that all have the same size, the last filled up by repeating its last item.

    A network rounds differently for another batch size, so one size makes a result independent of its neighbours.

    Yields:
        (items, how many of them are not repeated).
    """
    for start in range(0, len(items), size):
        stop = start + size
        batch = list(items[start:stop])
        count = len(batch)
        yield batch + [batch[-1]] * (size - count), count
