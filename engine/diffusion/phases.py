"""Phases: ranges of a schedule's steps, between which neighbouring windows are blended while they are still noisy.

The next phase of a window starts from the blend of all that touch it, so what two windows share is seen by both before
it is finished, and structures continue over more ground than one window covers. A window of the last phase depends on
no more than the windows of the earlier ones around it: a cone that ends.

Source: Goslin 2025, "InfiniteDiffusion: Bridging Learned Fidelity and Procedural Utility for Open-World Terrain
Generation", arXiv 2512.08309, section 4. Here the noise of each step is keyed by absolute pixel, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, PNDMScheduler
from torch import Tensor

from .guidance import Predict
from .loop import START, OnStep, set_timesteps, walk

#: Fewest steps of a phase: some solvers that remember earlier steps begin each phase without any, at first order.
LEAST = 2


def cut(steps: int, phases: int, first: int = 0) -> tuple[range, ...]:
    """The steps of each phase: ranges as long as each other, the outer ones longer where that does not come out even.

    What neighbours must agree on is settled in the middle of the steps, so that is where they are blended most often.

    Args:
        steps: of the whole schedule, at least 1.
        phases: how many are wanted; there are fewer where one would have less than ``LEAST`` steps.
        first: step that is taken first. Phases before it are left out, and so is what a phase has of steps before it;
            what would have less than ``LEAST`` steps then is done by the next.
    """
    count = max(1, min(phases, steps // LEAST))
    length, more = divmod(steps, count)
    # from the outside: the first, the last, the second, the last but one, ...
    outer = sorted(range(count), key=lambda phase: min(2 * phase, 2 * (count - 1 - phase) + 1))
    lengths = [length + (phase in outer[:more]) for phase in range(count)]
    ends = [0, *itertools.accumulate(lengths)]
    left = [range(max(first, begin), end) for begin, end in itertools.pairwise(ends) if end > first]
    if len(left) > 1 and len(left[0]) < LEAST:
        left[:2] = [range(left[0].start, left[1].stop)]
    return tuple(left)


def can_pause(scheduler: Any) -> bool:
    """Whether a sampler can begin anew between any two of its steps: one with a Runge-Kutta start cannot."""
    return not isinstance(scheduler, PNDMScheduler) or bool(scheduler.config.skip_prk_steps)


def remembers(scheduler: Any) -> bool:
    """Whether a solver's step looks at its estimate before, which a phase then hands on with its state.

    Begun anew at first order in every phase, DPM++ 2M loses detail: of 12 steps in three phases the gradient energy of
    a known field is 0.92 of the field's, and 1.07 in one (``tests/benchmarks/seams.py``).
    """
    return isinstance(scheduler, DPMSolverMultistepScheduler) and scheduler.config.solver_order == 2


def noised(scheduler: Any, steps: int, first: int, clean: Tensor, noise: Tensor) -> Tensor:
    """The state before a step of a sample that is known: under as much noise as the schedule holds there.

    Args:
        scheduler: a fresh one of diffusers.
        steps: of the whole schedule.
        first: number of the step.
        clean: the sample (B, C, h, w) float32.
        noise: standard normal, like it.

    Returns:
        What ``sample_phase`` takes for a phase that begins with that step.

    Source: Meng et al. 2022, "SDEdit", Algorithm 1.
    """
    set_timesteps(scheduler, steps, clean.device)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    state: Tensor = scheduler.add_noise(clean, noise, _levels(scheduler)[first].reshape(1))
    return state


def sample_phase(
    predict: Predict,
    scheduler: Any,
    steps: int,
    phase: range,
    noise: Callable[[int], Tensor],
    state: Tensor | None = None,
    on_step: OnStep | None = None,
    remembered: bool = False,
) -> Tensor:
    """The part of ``loop.sample`` that is one phase.

    Args:
        predict: the network with its condition.
        scheduler: a fresh one of diffusers.
        steps: of the whole schedule.
        phase: which of them, of ``cut``.
        noise: stream -> standard normal noise (B, C, h, w) float32 on the network's device.
        state: noisy sample (B, C, h, w) before the first of them, in the scheduler's own scale, as an earlier phase
            returned it; None for the noise itself, where the first is step 0.
        on_step: called between steps.
        remembered: whether the state has what a solver that ``remembers`` left in it.

    Returns:
        The state after the last of them, (B, C, h, w), with the solver's last estimate of the clean sample below it,
        (B, 2 C, h, w), where the scheduler ``remembers``; after the last of all, the sample.

    Raises:
        ValueError: for a scheduler that cannot pause, or a later phase without a state.
    """
    if not can_pause(scheduler):
        raise ValueError(f"{type(scheduler).__name__} with a Runge-Kutta start cannot be cut into phases")
    if state is None:
        if phase.start:
            raise ValueError("a phase that is not the first needs a state")
        state = noise(START)
        set_timesteps(scheduler, steps, state.device)
        state = state * scheduler.init_noise_sigma
    else:
        set_timesteps(scheduler, steps, state.device)
    if hasattr(scheduler, "set_begin_index"):  # solvers that count their steps must know where they are
        scheduler.set_begin_index(phase.start)
    if remembered:
        state, estimate = state.chunk(2, dim=1)
        scheduler.model_outputs, scheduler.lower_order_nums = [None, estimate], 1
    state = walk(predict, scheduler, state, _steps(scheduler, phase), noise, on_step)
    if remembers(scheduler) and phase.stop < len(_levels(scheduler)):
        return torch.cat([state, scheduler.model_outputs[-1]], dim=1)
    return state


def count(scheduler: Any, steps: int) -> int:
    """Steps that a scheduler takes where it is asked for so many: the latent diffusion code's takes 31 for 30."""
    set_timesteps(scheduler, steps)
    return len(_levels(scheduler))


def _levels(scheduler: Any) -> Tensor:
    """The timestep of each step, once."""
    timesteps: Tensor = scheduler.timesteps
    if isinstance(scheduler, PNDMScheduler) and len(timesteps) > 1:
        return torch.cat([timesteps[:1], timesteps[2:]])  # its second is called twice
    return timesteps


def _steps(scheduler: Any, phase: range) -> list[tuple[int, Tensor]]:
    """(number, timestep) of the calls of a phase.

    PNDM begins with a step of Euler's method that it corrects by a second call at the timestep where that ends, and
    only then goes on: it does so in each phase.
    """
    levels = _levels(scheduler)
    steps = [(k, levels[k]) for k in phase]
    if isinstance(scheduler, PNDMScheduler) and len(steps) > 1:
        steps.insert(1, steps[1])
    return steps
