"""Seams, measured without weights: the exact denoiser of a known random field, so that every defect is the windows'.

What this file measures stands in ``docs/decisions/0016-phases-and-regions.md``; ``-s`` prints it.
"""

import importlib.util

import pytest
import torch
from afterimage.engine.contract import Window
from afterimage.engine.diffusion import noise
from afterimage.engine.diffusion.phases import cut, sample_phase
from afterimage.engine.diffusion.windows import Lattice, blend, shifted

SIZE, LENGTH, STEPS, SIDE = 16, 2.0, 8, 384


@pytest.fixture(scope="module")
def bed(root):
    """``tests/support/exact_field.py``."""
    spec = importlib.util.spec_from_file_location("exact_field", root / "tests" / "support" / "exact_field.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def field(bed):
    return bed.ExactField(SIZE, LENGTH)


def drawn(field, stride, phases=1, keyed=True, low=None, count=STEPS):
    """(SIDE, SIDE) from (0, 0), drawn in windows; ``low`` are the block means of a torus of that side."""
    below, last = {}, None
    ranges = cut(count, phases)
    lattices = shifted([Lattice(SIZE, stride)] * len(ranges))
    for number, (steps, lattice) in enumerate(zip(ranges, lattices)):
        around = 2 * SIZE * (len(ranges) - 1 - number)
        region = Window(0, 0, SIDE, SIDE).pad(around) if around else Window(0, 0, SIDE, SIDE)
        windows = [lattice.window(index) for index in lattice.touching(region)]
        every = noise.field(0, 0, field_of := region.pad(SIZE), 1)
        # without keys, each window draws its own noise, as most tilers do
        other = torch.randn(len(windows), 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        start = torch.stack([every[(..., *w.relative_to(field_of).slices())] for w in windows]) if keyed else other
        state = torch.stack([blend(last, below, window, 1) for window in windows]) if number else None
        mean = 0.0 if low is None else field.mean(_seen(low, windows, field.factor))
        scheduler = field.scheduler()
        made = sample_phase(
            field.predictor(scheduler, mean), scheduler, count, steps, lambda stream, start=start: start, state
        )
        below, last = dict(zip(lattice.touching(region), made)), lattice
    return blend(last, below, Window(0, 0, SIDE, SIDE), 1)[0]


def _seen(low, windows, factor):
    rolled = [low.roll((-(w.row // factor), -(w.col // factor)), (0, 1)) for w in windows]
    return torch.stack([part[: SIZE // factor, : SIZE // factor] for part in rolled])[:, None]


def measured(bed, field, made, stride):
    """(seam ratio, least gradient energy over that of the field, least mean square by position)."""
    by_position = bed.profile(made, stride)
    return (
        bed.seam_ratio(by_position),
        float(by_position.min()) / field.gradient,
        float(bed.variance(made, stride).min()),
    )


@pytest.mark.parametrize(("stride", "phases"), [(SIZE // 2, 1), (SIZE // 2, 2), (3 * SIZE // 4, 2)])
def test_generated_windows_leave_no_seam_and_lose_no_contrast(bed, field, stride, phases):
    ratio, least, power = measured(bed, field, drawn(field, stride, phases), stride)
    print(
        f"\nstride {stride} of {SIZE}, {phases} phases: seams {ratio:.3f}, gradient {least:.3f}, variance {power:.3f}"
    )
    assert ratio <= 1.06 and least >= 0.97


def test_windows_that_could_each_take_a_tone_of_their_own_agree_on_it(bed):
    field, stride = bed.TwoTones(SIZE, LENGTH, 1.0), 3 * SIZE // 4
    found = {phases: bed.tones(drawn(field, stride, phases, count=12), stride) for phases in (1, 2, 3, 5)}
    print(f"\nsteps of tones, by phases: {found}")
    assert found[1] > 2 and found[5] < 1.35


def test_where_windows_do_not_agree_the_measures_say_so(bed, field):
    alone = measured(bed, field, drawn(field, SIZE), SIZE)
    feathered = measured(bed, field, drawn(field, SIZE // 2, keyed=False), SIZE // 2)
    print(f"\nno overlap {alone}, noise of its own for each window {feathered}")
    assert alone[0] > 2
    assert feathered[0] > 1.2 and feathered[2] < 0.5


def test_a_tent_lets_windows_in_with_a_step(bed, field, monkeypatch):
    def tent(lattice):
        hill = (1 - (2 * (torch.arange(SIZE) + 0.5) / SIZE - 1).abs()).clamp_min(1e-3)
        return hill[:, None] * hill[None, :]

    ours = measured(bed, field, drawn(field, SIZE // 2), SIZE // 2)[0]
    monkeypatch.setattr(Lattice, "weights", tent)
    theirs = measured(bed, field, drawn(field, SIZE // 2), SIZE // 2)[0]
    print(f"\nraised cosine {ours:.3f}, tent {theirs:.3f}")
    assert theirs > ours + 0.02


def test_what_is_seen_coarsely_needs_one_phase_and_little_overlap(bed):
    field, stride = bed.ExactField(SIZE, LENGTH, factor=4), 3 * SIZE // 4
    truth = bed.torus(SIDE, LENGTH, seed=1)
    low = torch.nn.functional.avg_pool2d(truth[None, None], 4)[0, 0]
    made = drawn(field, stride, low=low)
    ratio, least, _ = measured(bed, field, made, stride)
    wrong = float((torch.nn.functional.avg_pool2d(made[None, None], 4)[0, 0] - low).square().mean().sqrt())
    print(f"\nconditioned, stride {stride}: seams {ratio:.3f}, gradient {least:.3f}, block means {wrong:.3f}")
    assert ratio <= 1.08 and least >= 0.97 and wrong < 0.1


def test_the_way_from_noise_is_exact_at_any_number_of_steps(field):
    """Else the measures above would be those of a solver."""
    window, ends = Window(0, 0, SIZE, SIZE), []
    for steps in (4, 8, 32):
        scheduler = field.scheduler()
        made = sample_phase(
            field.predictor(scheduler),
            scheduler,
            steps,
            range(steps),
            lambda stream: noise.field(3, 0, window, 1)[None],
        )
        ends.append(made)
    assert torch.allclose(ends[0], ends[2], atol=2e-3) and torch.allclose(ends[1], ends[2], atol=2e-3)
