"""Seams, measured without weights: a random field whose denoiser is exact, so that every defect is the windows'.

    python tests/benchmarks/seams.py --seeds 16

The field is Gaussian with exponential covariance. For generation its windows are drawn from nothing, for
super-resolution from the field's own block means under a little noise; both denoisers are known in closed form, window
by window. ``seam_ratio`` is the largest over the smallest mean squared first difference by position in the stride, the
larger of both axes (1: no seam); ``least_energy`` and ``most_energy`` are those means over that of the field itself;
``least_variance`` is the smallest mean square by position over that of windows that were not blended. ``control`` is
the seam ratio of the field itself, so what chance alone makes of it, and ``sampler`` the energy inside of windows that
were not blended: what the sampler with its few steps loses before anything is tiled. ``consistency`` is the root of the
mean squared difference of block means from the low resolution. Rows named ``independent`` draw noise anew for each
window, as tilers do whose noise has no place; they are there for comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from protocol import report, shipped_spacing

import torch  # isort: skip
from afterimage.engine.contract import Window
from afterimage.engine.diffusion import constraints, noise
from afterimage.engine.diffusion.loop import batches
from afterimage.engine.diffusion.phases import cut, sample_phase
from afterimage.engine.diffusion.windows import Lattice, blend, shifted
from afterimage.engine.models.schedulers import SCHEDULE
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

SIZE, LENGTH, REGION = 32, 8.0, Window(-96, 96, 192, 192)
#: Output pixels of a block of the low resolution, and the deviation of its noise.
FACTOR, BLUR = 4, 0.02
#: Where the steps lie: evenly in time, as the shipped generators' settings say, evenly in log-SNR.
SPACINGS = {"time": {}, "shipped": shipped_spacing(), "log-snr": {"use_lu_lambdas": True}}
#: Side of the field that sources are cut from; it repeats, far from where we look.
TORUS = 512
#: Blocks of low resolution before the region in ``means``.
MARGIN = 32


def covariance() -> Tensor:
    """Of the pixels of a window, (SIZE ** 2, SIZE ** 2) float64."""
    place = torch.arange(SIZE, dtype=torch.float64)
    rows, cols = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    return torch.exp(-torch.hypot(rows[:, None] - rows, cols[:, None] - cols) / LENGTH)


def make_truth(seeds: int) -> Tensor:
    """(seeds, TORUS, TORUS) samples of the field, by its spectrum."""
    place = torch.arange(TORUS, dtype=torch.float64)
    place = torch.minimum(place, TORUS - place)
    spectrum = torch.fft.fft2(torch.exp(-torch.hypot(place[:, None], place) / LENGTH)).real.clamp_min(0)
    white = torch.randn(seeds, TORUS, TORUS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.fft.ifft2(torch.fft.fft2(white) * spectrum.sqrt()).real.float()


class Field:
    """The exact denoiser of windows, in the coordinates in which it is a number for each.

    The sampler treats each number of a sample by itself, so it may as well be given them turned: a window is turned
    once before its steps and once after them.

    Args:
        means: (seeds, h, w) block means that windows are drawn from, ``MARGIN`` blocks before the region; None for
            windows that are drawn from nothing.
    """

    def __init__(self, means: Tensor | None = None) -> None:
        prior = posterior = covariance()
        self._means, self._lift = means, torch.empty(0)
        if means is not None:
            mean = torch.kron(torch.eye(SIZE // FACTOR), torch.ones(1, FACTOR) / FACTOR).double()
            observe = torch.kron(mean, mean)  # (blocks, pixels)
            seen = observe @ prior @ observe.T + BLUR**2 * torch.eye(len(observe), dtype=torch.float64)
            gain = torch.linalg.solve(seen, observe @ prior).T
            self._lift, posterior = gain.float(), prior - gain @ observe @ prior
        values, vectors = torch.linalg.eigh(posterior)
        self._values, self._vectors = values.clamp_min(0).float(), vectors.float()

    def turn(self, windows: Tensor) -> Tensor:
        """(B, 1, SIZE, SIZE) pixels -> (B, SIZE ** 2)."""
        return windows.flatten(1) @ self._vectors

    def turn_back(self, turned: Tensor) -> Tensor:
        """The inverse of ``turn``."""
        return (turned @ self._vectors.T).unflatten(1, (1, SIZE, SIZE))

    def predictor(
        self, windows: list[Window], seed: int, sampler: DPMSolverMultistepScheduler
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The network of a batch of windows: their velocities, turned."""
        expected = self._expected(windows, seed)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            index = sampler.begin_index or 0 if sampler.step_index is None else sampler.step_index
            share = 1 / (1 + sampler.sigmas[index] ** 2)  # the sampler's level may lie between two timesteps
            weight = share.sqrt() * self._values / (share * self._values + 1 - share)
            clean = expected + (x - share.sqrt() * expected) * weight
            return (share.sqrt() * x - clean) / (1 - share).sqrt()  # v of Salimans & Ho 2022, section 4

        return predict

    def _expected(self, windows: list[Window], seed: int) -> Tensor:
        """The mean of what a window may hold, turned: 0 where nothing is known of it."""
        if self._means is None:
            return torch.zeros(len(windows), SIZE**2)
        side, given = SIZE // FACTOR, []
        for window in windows:
            row, col = (window.row - REGION.row) // FACTOR + MARGIN, (window.col - REGION.col) // FACTOR + MARGIN
            given.append(self._means[seed, row : row + side, col : col + side].flatten())
        return torch.stack(given) @ self._lift.T @ self._vectors


def drawn(
    field: Field, seed: int, lattice: Lattice, phases: int, count: int, spacing: str, is_keyed: bool = True
) -> Tensor:
    """(1, height, width): the region in windows, by so many steps, the engine's phases, noise and blending."""
    steps, needed = cut(count, phases), [REGION]
    lattices = shifted([lattice] * len(steps))
    for later in lattices[:0:-1]:
        needed.append(hull(later, needed[-1]))
    states: Tensor | None = None
    held = needed[-1]
    for phase, lattice, region in zip(steps, lattices, reversed(needed)):
        tiles = {}
        for batch, filled in batches(lattice.touching(region), 64):
            windows = [lattice.window(index) for index in batch]
            begun = starts(batch, windows, seed, is_keyed)
            state = None
            if states is not None:
                whole = torch.stack([cropped(states, held, window) for window in windows])
                state = torch.cat([field.turn(part) for part in whole.split(1, dim=1)], dim=1)
            sampler = make_scheduler(spacing)
            predict = field.predictor(windows, seed, sampler)
            made = sample_phase(
                predict, sampler, count, phase, lambda s, n=begun: field.turn(n), state, remembered=state is not None
            )
            parts = [field.turn_back(part) for part in made.split(SIZE**2, dim=1)]
            tiles.update(zip(batch[:filled], torch.cat(parts, dim=1)[:filled]))
        held, states = region, blend(lattice, tiles, region, 1 if phase is steps[-1] else 2)
    return states


def starts(batch: list[tuple[int, int]], windows: list[Window], seed: int, is_keyed: bool) -> Tensor:
    """Noise by place, or another for each window: (B, 1, SIZE, SIZE)."""
    places = windows if is_keyed else [Window(row * 5000, col * 5000, SIZE, SIZE) for row, col in batch]
    return torch.stack([noise.field(seed, 0, place, 1) for place in places])


def make_scheduler(spacing: str) -> DPMSolverMultistepScheduler:
    """The first of the shipped models', with its steps laid by one of ``SPACINGS``."""
    return DPMSolverMultistepScheduler.from_config({**SCHEDULE, "timestep_spacing": "trailing", **SPACINGS[spacing]})


def hull(lattice: Lattice, region: Window) -> Window:
    """What the windows that touch a region cover."""
    indices = lattice.touching(region)
    first, last = lattice.window(indices[0]), lattice.window(indices[-1])
    return Window(first.row, first.col, last.row_end - first.row, last.col_end - first.col)


def cropped(states: Tensor, held: Window, window: Window) -> Tensor:
    """Part of what is held over a region."""
    return states[(slice(None), *window.relative_to(held).slices())]


def energies(fields: Tensor, stride: int) -> list[Tensor]:
    """Mean squared first difference by position in the stride, along rows and along columns."""
    found = []
    for axis, first in ((1, REGION.row), (2, REGION.col)):
        energy = fields.diff(dim=axis).square().mean(dim=[other for other in (0, 1, 2) if other != axis])
        position = (first + 1 + torch.arange(len(energy))) % stride
        found.append(torch.stack([energy[position == p].mean() for p in range(stride)]))
    return found


def variances(fields: Tensor, stride: int) -> Tensor:
    """Mean square by position in the stride, along columns."""
    position = (REGION.col + torch.arange(fields.shape[2])) % stride
    power = fields.square().mean(dim=(0, 1))
    return torch.stack([power[position == p].mean() for p in range(stride)])


def figures(fields: Tensor, truth: Tensor, alone: Tensor, stride: int) -> dict[str, Any]:
    """See above."""
    found, true = energies(fields, stride), energies(truth, stride)
    inside = zip(energies(alone, SIZE), energies(truth, SIZE))
    least = min(float((ours / theirs.mean()).min()) for ours, theirs in zip(found, true))
    most = max(float((ours / theirs.mean()).max()) for ours, theirs in zip(found, true))
    return {
        "seam_ratio": round(max(float(by.max() / by.min()) for by in found), 3),
        "control": round(max(float(by.max() / by.min()) for by in true), 3),
        "least_energy": round(least, 3),
        "most_energy": round(most, 3),
        "sampler": round(sum(float(ours[1:].mean() / theirs.mean()) for ours, theirs in inside) / 2, 3),
        "least_variance": round(float((variances(fields, stride) / alone.square().mean()).min()), 3),
    }


def main() -> None:
    """Print one line of JSON for each way of tiling."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=16)
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--spacing", choices=SPACINGS, default="time", help="where the steps lie")
    chosen = arguments.parse_args()
    seeds, steps, spacing = chosen.seeds, chosen.steps, chosen.spacing
    truth = make_truth(seeds)
    first = MARGIN * FACTOR
    inner = truth[:, first : first + REGION.height, first : first + REGION.width]
    means = torch.nn.functional.avg_pool2d(truth[:, None], FACTOR)[:, 0]
    means = means + BLUR * torch.randn(means.shape, generator=torch.Generator().manual_seed(1))
    shown = means[:, MARGIN : MARGIN + REGION.height // FACTOR, MARGIN : MARGIN + REGION.width // FACTOR]
    everywhere = torch.ones(shown.shape[1:], dtype=torch.bool)
    half, most = SIZE // 2, 3 * SIZE // 4
    for task, field in (("generation", Field()), ("super-resolution", Field(means))):
        alone = torch.cat([drawn(field, seed, Lattice(SIZE, SIZE), 1, steps, spacing) for seed in range(seeds)])
        ways = [("keyed", stride, phases) for phases in (1, 2) for stride in (half, most)]
        if task == "generation":  # what windows of more phases see would lie beyond the source
            ways += [("keyed", most, 3), ("keyed", most, 5)]
        ways += [("independent", half, 1), ("independent", most, 1)]
        for way, stride, phases in ways:
            lattice = Lattice(SIZE, stride)
            made = [drawn(field, seed, lattice, phases, steps, spacing, way == "keyed") for seed in range(seeds)]
            fields = torch.cat(made)
            rows = {way: fields}
            if task == "super-resolution" and way == "keyed":
                matched = constraints.match_low_resolution(fields[:, None], shown[:, None], everywhere, FACTOR)
                rows["keyed, held to the source"] = matched[:, 0]
            for name, each in rows.items():
                found = figures(each, inner, alone, stride)
                if task == "super-resolution":
                    error = constraints.down(each[:, None], FACTOR)[:, 0] - shown
                    found["consistency"] = float(f"{error.square().mean().sqrt():.3g}")
                layout = {"size": SIZE, "steps": steps, "spacing": spacing, "stride": stride, "phases": phases}
                report(figure="seams", task=task, way=name, **layout, **found)


if __name__ == "__main__":
    main()
