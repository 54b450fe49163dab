"""Seams, measured without weights: the exact denoiser of a known random field, so that every defect is the windows'.

The field is Gaussian with exponential covariance; the best estimate of the noise in a window is known in closed form.
``seam ratio`` is the largest over the smallest mean squared first difference by position in the tile (1: no seam), and
``least variance`` the smallest mean square by position in the tile. What this file measures stands in
``docs/decisions``.
"""

import diffusers
import pytest
import torch
from afterimage.engine.contract import Window
from afterimage.engine.diffusion import noise
from afterimage.engine.diffusion.loop import batches, sample
from afterimage.engine.diffusion.windows import Lattice, blend

SIZE, LENGTH, REGION, SEEDS, STEPS = 32, 8.0, Window(-96, 32, 192, 192), 4, 12


@pytest.fixture(scope="module")
def epsilon():
    """The exact noise prediction of a window of the field."""
    schedule = scheduler().alphas_cumprod
    place = torch.arange(SIZE, dtype=torch.float64)
    rows, cols = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    covariance = torch.exp(-torch.hypot(rows[:, None] - rows, cols[:, None] - cols) / LENGTH)
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.float(), vectors.float()

    def predict(x, t):
        alpha_bar = schedule[int(t)]
        gain = (1 - alpha_bar) ** 0.5 / (alpha_bar * values + 1 - alpha_bar)
        flat = x.reshape(len(x), -1)
        return ((flat @ vectors * gain) @ vectors.T).reshape(x.shape)

    return predict


def scheduler():
    return diffusers.DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")


def drawn(epsilon, stride, keyed=True):
    """(seeds, height, width): the region, drawn in windows."""
    lattice = Lattice(SIZE, stride)
    fields = []
    for seed in range(SEEDS):

        def start(index, seed=seed):
            # without keys, each window draws its own noise, as most tilers do
            place = lattice.window(index) if keyed else Window(index[0] * 5000, index[1] * 5000, SIZE, SIZE)
            return noise.field(seed, 0, place, 1)

        tiles = {}
        for batch, count in batches(lattice.touching(REGION), 32):
            begun = torch.stack([start(index) for index in batch])
            made = sample(epsilon, scheduler(), STEPS, lambda stream, begun=begun: begun)
            tiles.update(zip(batch[:count], made[:count]))
        fields.append(blend(lattice, tiles, REGION, 1)[0])
    return torch.stack(fields)


def seam_ratio(fields, stride):
    """The larger of both axes."""
    ratios = []
    for axis, first in ((1, REGION.row), (2, REGION.col)):
        energy = fields.diff(dim=axis).square().mean(dim=[other for other in (0, 1, 2) if other != axis])
        position = (first + torch.arange(len(energy))) % stride
        by_position = torch.stack([energy[position == p].mean() for p in range(stride)])
        ratios.append(by_position.max() / by_position.min())
    return float(max(ratios))


def least_variance(fields, alone, stride):
    """By position in the tile, relative to windows that were not blended; 1: blending takes no contrast away."""
    position = (REGION.col + torch.arange(fields.shape[2])) % stride
    power = fields.square().mean(dim=(0, 1)) / alone.square().mean()
    return float(min(power[position == p].mean() for p in range(stride)))


def test_our_windows_leave_no_seam_where_others_do(epsilon):
    half, quarter = SIZE // 2, 3 * SIZE // 4
    alone = drawn(epsilon, SIZE)
    schemes = {
        "keyed noise, half overlap": (drawn(epsilon, half), half),
        "keyed noise, a quarter": (drawn(epsilon, quarter), quarter),
        "no overlap": (alone, SIZE),
        "independent noise, half overlap": (drawn(epsilon, half, keyed=False), half),
    }
    found = {
        name: (round(seam_ratio(fields, stride), 2), round(least_variance(fields, alone, stride), 2))
        for name, (fields, stride) in schemes.items()
    }
    print("\n(seam ratio, least variance)", found)
    assert found["keyed noise, half overlap"][0] < 1.2 and found["keyed noise, half overlap"][1] > 0.8
    assert found["keyed noise, a quarter"][0] < 1.35
    assert found["no overlap"][0] > 3
    assert found["independent noise, half overlap"][1] < 0.5
