"""Denoised windows of one job, a batch at a time, with progress, cancelling and previews between the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..context import JobContext
from ..contract import Sampling, steps_done
from ..diffusion.guidance import Predict
from ..diffusion.loop import batches, sample
from ..diffusion.noise import field
from ..diffusion.phases import sample_phase
from ..diffusion.windows import Index, Lattice
from ..models.base import GenerateModel

K = TypeVar("K")
#: Bytes of denoised windows that are remembered for the chunks beside and below.
REMEMBERED = 128 * 1024 * 1024


def lattices_of(model: GenerateModel, pauses: bool) -> tuple[Lattice, ...]:
    """The lattice of each phase in latents, not shifted yet; that of the model alone where it has no phases.

    Args:
        model: that draws.
        pauses: whether the sampler can be cut into phases.
    """
    if not (pauses and model.card.phases):
        return (Lattice(model.window, model.stride),)
    return tuple(Lattice(window // model.scale, stride // model.scale) for window, stride in model.card.windows)


def noise_of(keys: Sequence[tuple[int, Index]], stream: int, seed: int, lattice: Lattice, channels: int) -> Tensor:
    """The noise (B, channels, h, w) on the CPU of windows of samples: each sample, from 1, has a seed of its own.

    Args:
        keys: sample, index in the lattice.
        stream: 0 for the start, then one for each step that draws noise.
        seed: of the first sample.
        lattice: of the windows.
        channels: of the latents.
    """
    return torch.stack([field(seed + number - 1, stream, lattice.window(index), channels) for number, index in keys])


def denoise(
    keys: Sequence[K],
    size: int,
    ctx: JobContext,
    sampling: Sampling,
    scheduler: Callable[[], Any],
    predict: Callable[[list[K]], Predict],
    noise: Callable[[list[K], int], Tensor],
    show: Callable[[list[K], Tensor], None],
    source: Callable[[list[K]], Tensor] | None = None,
    strength: float = 1.0,
    phase: range | None = None,
    remembered: bool = False,
    cut: Callable[[Sequence[K], int], Iterable[tuple[list[K], int]]] = batches,
) -> list[Tensor]:
    """Samples of windows, (C, h, w) float32 on the CPU, in the order of their keys: clean ones, or those of a phase.

    Args:
        keys: the windows.
        size: places of a network call.
        ctx: share of the job that this work is.
        sampling: how many steps.
        scheduler: makes a fresh scheduler.
        predict: the prediction for a batch of windows.
        noise: (batch of windows, stream) -> (B, C, h, w) noise on the network's device.
        show: takes the estimate of the clean sample of the windows that count, after each step but the last.
        source: batch of windows -> the picture to start from, like the noise; needed for a strength below 1. For a
            phase, the state that it goes on from, needed where it is not the first.
        strength: how far to leave it; see ``sample``. Not for a phase.
        phase: the steps to do, of ``phases.cut``; None for all.
        remembered: see ``phases.sample_phase``.
        cut: (keys, size) -> the batches that are denoised together, as ``loop.batches`` yields them.
    """
    done: list[Tensor] = []
    for (batch, count), part in ctx.track(cut(keys, size), "denoising"):
        start = None if source is None else source(batch)
        clean = _denoise_batch(
            batch, count, part, sampling, scheduler(), predict(batch), noise, show, start, strength, phase, remembered
        )
        done.extend(tile.float().cpu() for tile in clean[:count])
    return done


def _denoise_batch(
    batch: list[K],
    count: int,
    ctx: JobContext,
    sampling: Sampling,
    scheduler: Any,
    predict: Predict,
    noise: Callable[[list[K], int], Tensor],
    show: Callable[[list[K], Tensor], None],
    source: Tensor | None,
    strength: float,
    phase: range | None,
    remembered: bool,
) -> Tensor:
    # The iterator reports progress and checks for cancelling; the loop pulls it on after each step.
    done = steps_done(sampling.steps, strength) if phase is None else len(phase)
    steps = ctx.track(range(done), "denoising")
    next(steps, None)

    def on_step(step: int, denoised: Tensor) -> None:
        next(steps, None)
        if step + 1 < sampling.steps:
            show(batch[:count], denoised[:count])

    def draw(stream: int) -> Tensor:
        return noise(batch, stream)

    if phase is not None:
        return sample_phase(predict, scheduler, sampling.steps, phase, draw, source, on_step, remembered)
    return sample(predict, scheduler, sampling.steps, draw, on_step, source, strength)
