"""A phase is a range of steps: cut evenly, continued where the one before ended, the same for every sampler."""

import diffusers
import pytest
import torch
from afterimage.engine.contract import Window
from afterimage.engine.diffusion import noise
from afterimage.engine.diffusion.loop import sample
from afterimage.engine.diffusion.phases import LEAST, can_pause, count, cut, noised, remembers, sample_phase
from afterimage.engine.models.ldm import LdmDDIMScheduler
from afterimage.engine.models.schedulers import CLASSES

WINDOW, STEPS = Window(-8, 24, 8, 8), 12


def keyed(stream):
    return noise.field(11, stream, WINDOW, 3)[None]


def make(name):
    kind = LdmDDIMScheduler if name == "LdmDDIM" else getattr(diffusers, name)
    return kind.from_config({"skip_prk_steps": True, "clip_sample": False, "timestep_spacing": "leading"})


def predictor(scheduler):
    """The exact noise prediction of independent pixels of deviation 0.5; Euler's x is scaled to this before."""

    def predict(x, t):
        level = scheduler.alphas_cumprod[int(t)]
        return (1 - level) ** 0.5 * x / (level * 0.25 + 1 - level)

    return predict


def in_phases(name, phases, steps=STEPS):
    state, calls = None, 0
    for phase in cut(count(make(name), steps), phases):
        scheduler, inner = make(name), None
        inner = predictor(scheduler)

        def predict(x, t, inner=inner):
            nonlocal calls
            calls += 1
            return inner(x, t)

        remembered = state is not None and remembers(scheduler)
        state = sample_phase(predict, scheduler, steps, phase, keyed, state, remembered=remembered)
    return state, calls


@pytest.mark.parametrize(
    ("steps", "phases", "lengths"),
    [
        (16, 1, [16]),
        (16, 2, [8, 8]),
        (15, 2, [8, 7]),
        (20, 3, [7, 6, 7]),
        (19, 3, [7, 6, 6]),
        (12, 5, [3, 2, 2, 2, 3]),
        (16, 5, [4, 3, 3, 3, 3]),
        (18, 5, [4, 4, 3, 3, 4]),
        (7, 2, [4, 3]),
        (8, 5, [2, 2, 2, 2]),
        (3, 2, [3]),
        (1, 3, [1]),
    ],
)
def test_a_schedule_is_cut_evenly_and_never_below_the_fewest_steps(steps, phases, lengths):
    found = cut(steps, phases)
    assert [len(phase) for phase in found] == lengths
    assert [step for phase in found for step in phase] == list(range(steps))
    assert len(found) == 1 or min(lengths) >= LEAST


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "LdmDDIM"]
)
def test_samplers_that_need_no_memory_or_are_handed_it_do_not_notice_where_they_paused(name):
    whole = sample(predictor(scheduler := make(name)), scheduler, STEPS, keyed)
    for phases in (1, 2, 3):
        made, calls = in_phases(name, phases)
        assert torch.equal(made, whole) and calls == count(make(name), STEPS)


@pytest.mark.parametrize("name", sorted({*CLASSES.values(), "EulerAncestralDiscreteScheduler"}))
def test_every_sampler_ends_near_where_it_would_have_without_a_pause(name):
    steps = 48
    whole = sample(predictor(scheduler := make(name)), scheduler, steps, keyed)
    made, calls = in_phases(name, 3, steps)
    assert float((made - whole).abs().max()) < 0.06 * float(whole.abs().max())
    assert calls == steps + (3 if name == "PNDMScheduler" else 0)  # which calls the network twice to begin


def test_a_phase_of_a_solver_that_remembers_hands_its_estimate_on_and_the_last_does_not():
    scheduler = make("DPMSolverMultistepScheduler")
    assert (
        remembers(scheduler) and not remembers(make("DDIMScheduler")) and not remembers(make("UniPCMultistepScheduler"))
    )
    first, last = cut(STEPS, 2)
    state = sample_phase(predictor(scheduler), scheduler, STEPS, first, keyed)
    assert state.shape[1] == 6 and torch.equal(state[:, 3:], scheduler.model_outputs[-1])
    scheduler = make("DPMSolverMultistepScheduler")
    made = sample_phase(predictor(scheduler), scheduler, STEPS, last, keyed, state, remembered=True)
    scheduler = make("DPMSolverMultistepScheduler")
    forgot = sample_phase(predictor(scheduler), scheduler, STEPS, last, keyed, state[:, :3])
    assert made.shape[1] == 3 and (made - forgot).abs().max() > 1e-3


def test_what_cannot_be_cut_is_refused():
    scheduler = diffusers.PNDMScheduler()
    assert not can_pause(scheduler) and can_pause(make("PNDMScheduler"))
    with pytest.raises(ValueError, match="Runge-Kutta"):
        sample_phase(predictor(scheduler), scheduler, STEPS, range(6), keyed)
    with pytest.raises(ValueError, match="state"):
        sample_phase(predictor(scheduler), make("DDIMScheduler"), STEPS, range(6, 12), keyed)


@pytest.mark.parametrize(
    ("steps", "phases", "first", "found"),
    [
        (16, 1, 6, [(6, 16)]),
        (16, 2, 2, [(2, 8), (8, 16)]),
        (16, 2, 6, [(6, 8), (8, 16)]),
        (16, 2, 7, [(7, 16)]),
        (16, 2, 8, [(8, 16)]),
        (16, 2, 11, [(11, 16)]),
        (18, 3, 7, [(7, 12), (12, 18)]),
        (18, 3, 11, [(11, 18)]),
        (18, 3, 17, [(17, 18)]),
    ],
)
def test_phases_from_a_later_step_on(steps, phases, first, found):
    assert [(phase.start, phase.stop) for phase in cut(steps, phases, first)] == found


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_a_known_sample_under_noise_is_where_a_strength_starts(name):
    clean, first = torch.linspace(-1, 1, 192).view(1, 3, 8, 8), 5
    scheduler = make(name)
    whole = sample(predictor(scheduler), scheduler, STEPS, keyed, source=clean, strength=(STEPS - first) / STEPS)
    state = noised(make(name), STEPS, first, clean, keyed(0))
    for phase in cut(STEPS, 1, first):
        scheduler = make(name)
        state = sample_phase(predictor(scheduler), scheduler, STEPS, phase, keyed, state)
    assert torch.equal(state, whole) and not torch.equal(state, clean)
