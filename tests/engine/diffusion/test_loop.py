"""The loop is the textbook sampler where it can be, and takes all its noise from outside."""

import diffusers
import pytest
import torch
from afterimage.engine.contract import Window, steps_done
from afterimage.engine.diffusion import noise, stochastic
from afterimage.engine.diffusion.loop import START, batches, sample, set_timesteps
from afterimage.engine.models.schedulers import KARRAS, SCHEDULE, SCHEDULERS, make_scheduler

WINDOW = Window(-8, 24, 16, 16)
MEAN, DEVIATION = 0.4, 0.7


def keyed(stream):
    return noise.field(11, stream, WINDOW, 3)[None]


def epsilon_of_a_gaussian(alphas_cumprod):
    """The exact noise prediction for independent pixels of known mean and deviation."""

    def predict(x, t):
        alpha_bar = alphas_cumprod[int(t)]
        total = alpha_bar * DEVIATION**2 + 1 - alpha_bar
        return (1 - alpha_bar) ** 0.5 * (x - alpha_bar**0.5 * MEAN) / total

    return predict


def algorithm_2(predict, betas):
    """Ho et al. 2020, Algorithm 2, with sigma_t^2 = beta_tilde_t, in double precision."""
    betas = betas.double()
    alphas, alphas_bar = 1 - betas, torch.cumprod(1 - betas, 0)
    x = keyed(0).double()
    for k, t in enumerate(range(len(betas) - 1, -1, -1)):
        z = keyed(k + 1).double() if t > 0 else 0.0
        before = alphas_bar[t - 1] if t > 0 else torch.tensor(1.0, dtype=torch.float64)
        sigma = ((1 - before) / (1 - alphas_bar[t]) * betas[t]) ** 0.5
        epsilon = predict(x.float(), t).double()
        x = (x - betas[t] / (1 - alphas_bar[t]) ** 0.5 * epsilon) / alphas[t] ** 0.5 + sigma * z
    return x


def test_ddpm_with_all_its_steps_is_ancestral_sampling():
    scheduler = diffusers.DDPMScheduler(clip_sample=False)
    predict = epsilon_of_a_gaussian(scheduler.alphas_cumprod)
    ours = sample(predict, scheduler, 1000, keyed)
    assert torch.allclose(ours.double(), algorithm_2(predict, scheduler.betas), atol=2e-4)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_small_log", "fixed_large"])
@pytest.mark.parametrize("steps", [7, 50])
def test_ddpm_steps_are_those_of_diffusers_but_for_the_noise(variance_type, steps, monkeypatch):
    scheduler = diffusers.DDPMScheduler(variance_type=variance_type, timestep_spacing="trailing")
    predict = epsilon_of_a_gaussian(scheduler.alphas_cumprod)
    ours = sample(predict, scheduler, steps, keyed)
    theirs = replay(scheduler, predict, steps, monkeypatch, "scheduling_ddpm")
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_the_clean_estimate_has_the_bits_of_diffusers(prediction_type):
    scheduler = diffusers.DDPMScheduler(clip_sample=False, prediction_type=prediction_type)
    scheduler.set_timesteps(10)
    output, x = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        theirs = scheduler.step(output, t, x, generator=torch.Generator().manual_seed(0)).pred_original_sample
        assert torch.equal(stochastic.step(scheduler, output, t, x, None)[1], theirs)


@pytest.mark.parametrize("kind", [diffusers.DDPMScheduler, diffusers.DDIMScheduler])
def test_a_prediction_that_we_have_no_formula_for_is_not_taken_for_another(kind):
    scheduler = kind(clip_sample=False, prediction_type="flow_prediction")
    scheduler.set_timesteps(10)
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="flow_prediction is not supported"):
        stochastic.step(scheduler, x, scheduler.timesteps[0], x, None)


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
def test_few_ancestral_steps_draw_a_gaussian_whose_network_tells_what_it_does_not_know(steps):
    """Of deviation 2 around 1; the last step adds no noise, so only what is unknown there is missing."""
    scheduler = make_scheduler("DDPM", ("DDPM",), SCHEDULE)

    def draw(stream):
        return torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(stream))

    levels, last = scheduler.alphas_cumprod, []

    def predict(x, t):
        signal, sigma = levels[t].sqrt(), (1 - levels[t]).sqrt()
        total = 4 * signal**2 + sigma**2
        clean = 1 + 4 * signal * (x - signal) / total
        unknown = 4 * sigma**2 / total
        last[:] = [float(unknown)]
        velocity = (signal * x - clean) / sigma
        return torch.cat([velocity, torch.full_like(x, float((unknown / sigma**2).log()))], dim=1)

    drawn = sample(predict, scheduler, steps, draw)
    assert float(drawn.mean()) == pytest.approx(1, abs=0.03)
    assert float(drawn.var()) == pytest.approx(4 - last[0], rel=0.03, abs=1e-6)
    silent = sample(lambda x, t: predict(x, t)[:, :3], scheduler, steps, draw)
    assert steps in (1, 20) or float(silent.var()) < 0.9 * float(drawn.var())


@pytest.mark.parametrize("name", ["DDIM", "DPM++ 2M"])
def test_other_samplers_take_the_velocities_alone(name):
    both = [make_scheduler(name, (name,), SCHEDULE) for _ in range(2)]
    plain = sample(lambda x, t: 0.3 * x, both[0], 6, keyed)
    assert torch.equal(sample(lambda x, t: torch.cat([0.3 * x, 9 * x], dim=1), both[1], 6, keyed), plain)


def test_euler_ancestral_steps_are_those_of_diffusers_but_for_the_noise(monkeypatch):
    scheduler = diffusers.EulerAncestralDiscreteScheduler()

    def predict(x, t):
        return x * 0.3

    ours = sample(predict, scheduler, 12, keyed)
    scheduler = diffusers.EulerAncestralDiscreteScheduler()
    theirs = replay(scheduler, predict, 12, monkeypatch, "scheduling_euler_ancestral_discrete")
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def replay(scheduler, predict, steps, monkeypatch, module):
    """The scheduler's own steps, its random numbers replaced by the keyed field."""
    stream = iter(range(1, steps + 1))
    monkeypatch.setattr(
        getattr(diffusers.schedulers, module), "randn_tensor", lambda *args, **kwargs: keyed(next(stream))
    )
    scheduler.set_timesteps(steps)
    x = keyed(0) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(predict(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DDPMScheduler(clip_sample=False),
        diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing"),
        diffusers.DPMSolverMultistepScheduler(),
        diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
        diffusers.UniPCMultistepScheduler(),
        diffusers.EulerDiscreteScheduler(),
        diffusers.EulerAncestralDiscreteScheduler(),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_a_known_distribution_comes_out_and_a_second_run_has_the_same_bits(scheduler):
    alphas_cumprod = scheduler.alphas_cumprod

    def predict(x, t):  # Euler's x is scaled to the variance-preserving one by scale_model_input
        return epsilon_of_a_gaussian(alphas_cumprod)(x, t)

    big = Window(0, 0, 64, 64)
    state = torch.get_rng_state()
    runs = [sample(predict, scheduler, 200, lambda s: noise.field(5, s, big, 3)[None]) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state), "the scheduler drew from torch's own generator"
    assert torch.equal(*runs)
    assert abs(runs[0].mean() - MEAN) < 0.05
    assert abs(runs[0].std() - DEVIATION) < 0.06


def test_a_scheduler_that_would_draw_its_own_noise_is_refused():
    with pytest.raises(ValueError, match="LCMScheduler"):
        sample(lambda x, t: x, diffusers.LCMScheduler(), 4, keyed)


def test_steps_are_reported_with_the_clean_estimate_and_can_end_the_loop():
    class Stop(Exception):
        pass

    seen = []

    def on_step(step, denoised):
        seen.append((step, tuple(denoised.shape)))
        if step == 2:
            raise Stop

    for scheduler in (diffusers.DDIMScheduler(), diffusers.DPMSolverMultistepScheduler(), diffusers.DDPMScheduler()):
        seen.clear()
        with pytest.raises(Stop):
            sample(epsilon_of_a_gaussian(scheduler.alphas_cumprod), scheduler, 9, keyed, on_step)
        assert seen == [(step, (1, 3, 16, 16)) for step in range(3)]


def test_batches_all_have_one_size():
    found = list(batches([1, 2, 3, 4, 5], 2))
    assert found == [([1, 2], 2), ([3, 4], 2), ([5, 5], 1)]
    assert list(batches([], 4)) == []


@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_there_are_as_many_timesteps_as_steps(name):
    scheduler = make_scheduler(name, (name,), SCHEDULE)
    for steps in range(1, 1001):
        set_timesteps(scheduler, steps)
        timesteps = scheduler.timesteps
        assert len(timesteps) == steps and timesteps[0] == 999 and timesteps[-1] >= 0, steps
        assert (timesteps[1:] < timesteps[:-1]).all(), steps
        assert scheduler.num_inference_steps == steps
        if hasattr(scheduler, "sigmas"):
            assert len(scheduler.sigmas) == steps + 1 and scheduler.sigmas[-1] == 0, steps


@pytest.mark.parametrize("steps", [12, 45, 50, 100, 200])
def test_levels_that_round_to_the_same_timestep_are_all_walked(steps):
    """As the shipped generators lay them: of 50 the first two have one timestep, and diffusers takes the second."""
    config = SCHEDULE | dict(zip(KARRAS, (True, 0.03, 80.0)))
    scheduler = make_scheduler("DPM++ 2M", ("DPM++ 2M",), config)
    levels = []

    def still(x, t):
        levels.append(float(scheduler.sigmas[scheduler.step_index or 0]))
        return torch.zeros_like(x)

    sample(still, scheduler, steps, keyed)
    assert levels == scheduler.sigmas[:-1].tolist() and len(levels) == steps
    if steps > 42:
        assert len(set(scheduler.timesteps.tolist())) < steps


@pytest.mark.parametrize("name", list(SCHEDULERS))
@pytest.mark.parametrize("steps", [61, 103, 121, 151, 601])
def test_one_step_more_or_less_makes_no_other_result(name, steps):
    """Where diffusers counts to -1: the surplus step would go back to pure noise."""

    def velocity(x, t):
        alpha_bar = scheduler.alphas_cumprod[int(t)]
        epsilon = epsilon_of_a_gaussian(scheduler.alphas_cumprod)(x, t)
        clean = MEAN + (alpha_bar**0.5 * DEVIATION**2) * (x - alpha_bar**0.5 * MEAN) / (
            alpha_bar * DEVIATION**2 + 1 - alpha_bar
        )
        return alpha_bar**0.5 * epsilon - (1 - alpha_bar) ** 0.5 * clean

    scheduler = make_scheduler(name, (name,), SCHEDULE)
    made = [sample(velocity, scheduler, count, keyed) for count in (steps - 1, steps)]
    assert float(made[1].std()) == pytest.approx(0.7, abs=0.06)
    assert float(made[1].std()) == pytest.approx(float(made[0].std()), rel=0.05)
    assert float(made[1].mean()) == pytest.approx(float(made[0].mean()), abs=0.05)


@pytest.mark.parametrize(
    ("steps", "strength", "done"),
    [(10, 0.7, 7), (10, 0.71, 8), (16, 1.0, 16), (16, 0.3, 5), (4, 1e-12, 1), (1, 0.5, 1)],
)
def test_a_strength_takes_the_last_steps(steps, strength, done):
    assert steps_done(steps, strength) == done


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_strength_starts_from_the_source_under_as_much_noise_as_is_left(name):
    """The first network input is the source noised to that timestep, and a picture that fits the model comes back."""
    generator = torch.Generator().manual_seed(0)
    source = MEAN + DEVIATION * torch.randn(1, 3, 16, 16, generator=generator)
    scheduler = make_scheduler(name, (name,), SCHEDULE)
    alphas = scheduler.alphas_cumprod
    seen = []

    def predict(x, t):
        seen.append((int(t), x.clone()))
        total = alphas[int(t)] * DEVIATION**2 + 1 - alphas[int(t)]
        clean = MEAN + alphas[int(t)].sqrt() * DEVIATION**2 / total * (x - alphas[int(t)].sqrt() * MEAN)
        return (alphas[int(t)].sqrt() * x - clean) / (1 - alphas[int(t)]).sqrt()

    made = sample(predict, scheduler, 20, keyed, source=source, strength=0.3)
    t, first = seen[0]
    assert [t for t, _ in seen] == [299, 249, 199, 149, 99, 49]
    assert torch.allclose(first, alphas[t].sqrt() * source + (1 - alphas[t]).sqrt() * keyed(START), atol=1e-5)
    assert abs(float(made.mean()) - MEAN) < 0.1 and abs(float(made.std()) - DEVIATION) < 0.1
    assert float(torch.corrcoef(torch.stack([made.flatten(), source.flatten()]))[0, 1]) > 0.6
    whole = sample(predict, make_scheduler(name, (name,), SCHEDULE), 20, keyed)
    again = sample(predict, make_scheduler(name, (name,), SCHEDULE), 20, keyed, source=source, strength=1.0)
    assert torch.equal(whole, again), "at full strength the source does not count"


def test_a_strength_below_one_needs_a_source():
    with pytest.raises(ValueError, match="source"):
        sample(lambda x, t: x, make_scheduler("DDIM", ("DDIM",), SCHEDULE), 4, keyed, strength=0.5)


def test_no_noise_is_drawn_for_a_step_that_adds_none():
    asked = []

    def noise(stream):
        asked.append(stream)
        return keyed(stream)

    kinds = "fixed_small", "fixed_large"
    small, large = (diffusers.DDPMScheduler(variance_type=kind, timestep_spacing="trailing") for kind in kinds)
    for scheduler, last in ((small, 3), (large, 4)):  # diffusers adds some there, where its variance is large
        asked.clear()
        sample(epsilon_of_a_gaussian(scheduler.alphas_cumprod), scheduler, 4, noise)
        assert asked == list(range(last + 1))
