"""Agreement with the low-resolution image: exact, smooth, local. Known pixels: held, joined."""

import diffusers
import pytest
import torch
from afterimage.engine.diffusion.constraints import (
    DISSOLVE,
    HALO,
    JOIN_REACH,
    dissolve,
    down,
    enlarge_nearest,
    fit_range,
    join,
    match_low_resolution,
    with_known,
)
from afterimage.engine.diffusion.loop import sample
from afterimage.engine.models.schedulers import SCHEDULE, SCHEDULERS, make_scheduler


def scene(factor, bands=2, height=24, width=19, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lr = torch.rand(1, bands, height, width, generator=generator)
    y = enlarge_nearest(lr, factor) + 0.2 * torch.randn(1, bands, height * factor, width * factor, generator=generator)
    return y, lr, torch.ones(height, width, dtype=torch.bool)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_block_means_are_the_low_resolution_image(factor):
    y, lr, valid = scene(factor)
    matched = match_low_resolution(y, lr, valid, factor)
    assert (down(matched, factor) - lr).abs().max() < 1e-6


@pytest.mark.parametrize("factor", [2, 4])
def test_a_sample_that_agrees_is_left_alone(factor):
    y, _, valid = scene(factor)
    assert torch.allclose(match_low_resolution(y, down(y, factor), valid, factor), y, atol=1e-6)


def test_the_correction_leaves_no_blocks():
    """A smooth error is corrected smoothly: steps at block edges are no larger than steps inside blocks."""
    factor, rows = 4, torch.linspace(0, 3, 40)
    lr = (torch.sin(rows)[:, None] * torch.cos(rows)[None, :])[None, None]
    y = torch.zeros(1, 1, 160, 160)
    matched = match_low_resolution(y, lr, torch.ones(40, 40, dtype=torch.bool), factor)[0, 0, 32:-32, 32:-32]
    steps = matched.diff(dim=0).abs().mean(dim=1)
    steps = torch.cat([steps, steps.new_zeros(1)]).view(-1, factor)[:-1].mean(dim=0)
    assert steps.max() / steps.min() < 1.05


def test_it_is_linear_and_asks_nothing_where_there_is_no_data():
    y, lr, valid = scene(4)
    valid[5:9, 3:8] = False
    matched = match_low_resolution(y, lr, valid, 4)
    assert (down(matched, 4) - lr)[..., valid].abs().max() < 1e-6
    other = torch.where(valid, lr, 1e6)
    assert torch.equal(match_low_resolution(y, other, valid, 4), matched)
    doubled = match_low_resolution(2 * y, 2 * lr, valid, 4)
    assert torch.allclose(doubled, 2 * matched, atol=1e-5)


def test_a_crop_with_its_halo_agrees_with_the_whole():
    factor, halo = 4, HALO + 1
    y, lr, valid = scene(factor, height=40, width=40)
    whole = match_low_resolution(y, lr, valid, factor)
    rows, cols = slice(10, 30), slice(8, 28)
    far = slice(rows.start - halo, rows.stop + halo), slice(cols.start - halo, cols.stop + halo)
    fine = tuple(slice(s.start * factor, s.stop * factor) for s in far)
    part = match_low_resolution(y[..., fine[0], fine[1]], lr[..., far[0], far[1]], valid[far], factor)
    inner = slice(halo * factor, -halo * factor)
    expected = whole[..., rows.start * factor : rows.stop * factor, cols.start * factor : cols.stop * factor]
    assert (part[..., inner, inner] - expected).abs().max() < 2e-6


def test_contrast_gives_way_at_the_ends_of_the_range_and_means_stay():
    y, lr, valid = scene(4)
    lr[..., 3, 3], lr[..., 4, 4], lr[..., 9, 9] = 1.0, 0.0, 1.5
    matched = match_low_resolution(y, lr, valid, 4)
    fitted = fit_range(matched, lr, torch.zeros(2, 1, 1), torch.ones(2, 1, 1), 4)
    rest = fitted.clone()
    assert torch.allclose(rest[..., 36:40, 36:40], torch.tensor(1.5))
    rest[..., 36:40, 36:40] = 0.5
    assert rest.min() >= -1e-6 and rest.max() <= 1 + 1e-6
    assert (down(fitted, 4) - lr).abs().max() < 1e-6
    assert torch.equal(fitted[..., 12:16, 12:16], torch.ones_like(fitted[..., 12:16, 12:16]))
    inside = (matched - 0.5).abs() <= 0.5
    whole_blocks = enlarge_nearest(-torch.nn.functional.max_pool2d(-inside.float(), 4), 4) > 0
    assert torch.equal(fitted[whole_blocks], matched[whole_blocks])


def test_an_odd_factor_is_refused():
    with pytest.raises(ValueError, match="even"):
        match_low_resolution(torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 3, 3), torch.ones(3, 3, dtype=torch.bool), 3)


SIDE, LENGTH, SEEDS = 24, 8.0, 24


class Field:
    """A Gaussian random field with exponential covariance, the exact estimate of its clean sample, and draws of it."""

    def __init__(self):
        place = torch.arange(SIDE, dtype=torch.float64)
        rows, cols = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
        covariance = torch.exp(-torch.hypot(rows[:, None] - rows, cols[:, None] - cols) / LENGTH)
        values, vectors = torch.linalg.eigh(covariance)
        self.values, self.vectors = values.float(), vectors.float()

    def draw(self, generator):
        flat = torch.randn(SEEDS, SIDE * SIDE, generator=generator) * self.values.sqrt()
        return (flat @ self.vectors.T).view(SEEDS, 1, SIDE, SIDE)

    def velocity(self, alphas_cumprod):
        def predict(x, t):
            alpha_bar = alphas_cumprod[int(t)]
            gain = alpha_bar.sqrt() * self.values / (alpha_bar * self.values + 1 - alpha_bar)
            clean = ((x.flatten(1) @ self.vectors * gain) @ self.vectors.T).view(x.shape)
            return (alpha_bar.sqrt() * x - clean) / (1 - alpha_bar).sqrt()

        return predict


def steps_across(fields, known):
    """Mean square of the differences across the border of the known part, over those inside the drawn part."""
    rows, cols = fields.diff(dim=-2).square().mean(dim=(0, 1)), fields.diff(dim=-1).square().mean(dim=(0, 1))
    across = [rows[known[1:] != known[:-1]], cols[known[:, 1:] != known[:, :-1]]]
    inside = [rows[~known[1:] & ~known[:-1]], cols[~known[:, 1:] & ~known[:, :-1]]]
    return float(torch.cat(across).mean() / torch.cat(inside).mean())


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_known_parts_come_out_as_they_are_and_the_rest_joins_them(name):
    """With the exact denoiser of a field, the drawn part continues the known one, which a pasted one does not.

    Not quite as if it were one: at high noise the network hardly sees what is known (Lugmayr et al. 2022, section 4.2).
    """
    field, generator = Field(), torch.Generator().manual_seed(0)
    truth, noises = field.draw(generator), [torch.randn(SEEDS, 1, SIDE, SIDE, generator=generator) for _ in range(31)]
    known = torch.ones(SIDE, SIDE, dtype=torch.bool)
    known[7:18, 6:17] = False
    levels = make_scheduler(name, (name,), SCHEDULE)
    predict = field.velocity(levels.alphas_cumprod)
    held = with_known(predict, levels, lambda clean: torch.where(known, truth, clean))
    made = sample(held, make_scheduler(name, (name,), SCHEDULE), 30, lambda stream: noises[stream])
    assert (made - truth).abs()[..., known].max() < 1e-4
    assert (made - truth).abs()[..., ~known].mean() > 0.2, "the rest is drawn, not copied"
    pasted = torch.where(known, truth, sample(predict, levels, 30, lambda stream: noises[stream]))
    found = round(steps_across(made, known), 2), round(steps_across(pasted, known), 2)
    print("\nsteps across the border over those inside: held, pasted", name, found)
    assert found[0] < 3 and found[1] > 2.5 * found[0]


def test_between_two_timesteps_the_held_part_is_what_the_solver_makes_of_it():
    """Euler's method over evenly spaced timesteps asks the network at 749.25 and the like."""
    levels = diffusers.EulerDiscreteScheduler(timestep_spacing="linspace")
    levels.set_timesteps(5)
    truth, x = torch.randn(2, 1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    held = with_known(lambda x, t: 0 * x, levels, lambda clean: truth)
    assert levels.timesteps[1] % 1
    for t in levels.timesteps:
        stepped = levels.step(held(levels.scale_model_input(x, t), t), t, x)
        assert (stepped.pred_original_sample - truth).abs().max() < 1e-4
        x = stepped.prev_sample


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
def test_the_prediction_is_that_of_the_held_estimate(kind):
    scheduler = make_scheduler("DDIM", ("DDIM",), {**SCHEDULE, "prediction_type": kind})
    generator = torch.Generator().manual_seed(1)
    x, output, truth = torch.randn(3, 2, 4, 5, 5, generator=generator)
    known = torch.rand(5, 5, generator=generator) > 0.5
    t = torch.tensor(400)

    def estimate(output):
        return make_stepped(scheduler, output, t, x)

    held = with_known(lambda x, t: output, scheduler, lambda clean: torch.where(known, truth, clean))(x, t)
    expected = torch.where(known, truth, estimate(output))
    assert torch.allclose(estimate(held), expected, atol=1e-4)


def make_stepped(scheduler, output, t, x):
    scheduler.set_timesteps(10)
    return scheduler.step(output, t, x).pred_original_sample


def test_a_prediction_of_another_kind_is_refused():
    scheduler = make_scheduler("DDIM", ("DDIM",), {**SCHEDULE, "prediction_type": "flow"})
    with pytest.raises(ValueError, match="flow"):
        with_known(lambda x, t: x, scheduler, lambda clean: clean)


def parcel(height=60, width=64):
    """A drawn picture, a brighter one to join it to, and where that is known: outside a slanted parcel."""
    generator = torch.Generator().manual_seed(2)
    y, source = 0.02 * torch.randn(2, 1, 3, height, width, generator=generator)
    rows, cols = torch.arange(height)[:, None], torch.arange(width)[None, :]
    inside = (rows > 12) & (rows < 50) & (cols > 10 + rows // 5) & (cols < 52)
    return 0.3 + y, 0.5 + source, ~inside[None, None]


def test_the_border_of_a_joined_picture_is_no_step():
    y, source, known = parcel()
    joined, pasted = join(y, source, known), torch.where(known, source, y)
    assert torch.equal(joined[known.expand_as(y)], source[known.expand_as(y)])
    across = known[0, 0, :, 1:] != known[0, 0, :, :-1]
    steps = [float(picture.mean(dim=1)[0].diff(dim=-1)[across].abs().mean()) for picture in (joined, pasted)]
    assert steps[0] < 0.03 and steps[1] > 0.18


def test_the_middle_of_a_joined_picture_is_left_alone():
    y, source, known = parcel()
    joined = join(y, source, known)
    far = -torch.nn.functional.max_pool2d(known.float(), 2 * JOIN_REACH + 1, 1, JOIN_REACH) > -0.5
    assert far.any() and torch.equal(joined[far.expand_as(y)], y[far.expand_as(y)])
    nothing = torch.zeros_like(known)
    assert torch.equal(join(y, source, nothing), y)


def test_a_crop_is_joined_as_in_the_whole():
    y, source, known = parcel()
    whole = join(y, source, known)
    rows, cols = slice(5, 45), slice(3, 50)
    part = join(y[..., rows, cols], source[..., rows, cols], known[..., rows, cols])
    inner = slice(JOIN_REACH, -JOIN_REACH)
    assert torch.allclose(part[..., inner, inner], whole[..., rows, cols][..., inner, inner], atol=1e-6)


def test_what_is_known_goes_on_mirrored_and_fades_to_what_is_drawn():
    source, known = torch.zeros(1, 1, 30, 40), torch.ones(1, 1, 30, 40, dtype=torch.bool)
    source[..., :20] = torch.arange(20.0)
    known[..., 20:] = False
    y = torch.full_like(source, 100.0)
    made = dissolve(y, source, known)[0, 0, 15]
    weight = torch.tensor([1 - distance / DISSOLVE for distance in range(1, DISSOLVE)])
    mirrored = torch.tensor([20.0 - distance for distance in range(1, DISSOLVE)])
    assert torch.equal(made[:20], source[0, 0, 15, :20])
    assert torch.allclose(made[20 : 19 + DISSOLVE], 100 + weight * (mirrored - 100))
    assert torch.equal(made[19 + DISSOLVE :], y[0, 0, 15, 19 + DISSOLVE :])


def test_only_known_pixels_are_mirrored_and_each_way_in_the_same_manner():
    """A strip of known ground so narrow that mirror images lie beyond it, in a sea of numbers that must not be seen."""
    source = torch.full((2, 3, 40, 44), 1e9)
    known = torch.zeros(2, 1, 40, 44, dtype=torch.bool)
    known[0, :, :, 20:22], known[1, :, 19:21] = True, True
    source[0, :, :, 20:22], source[1, :, 19:21] = 7.0, 7.0
    y = torch.full_like(source, 5.0)
    made = dissolve(y, source, known)
    assert made.min() == 5 and made.max() == 7
    assert torch.equal(made[0, :, 15, 14:28], made[1, :, 13:27, 15])
    assert torch.equal(dissolve(y, source, torch.zeros_like(known)), y)


@pytest.mark.parametrize(("width", "least"), [(3, 0.99), (5, 0.99), (9, 0.9), (24, 0.99)])
def test_a_narrow_strip_keeps_what_is_drawn_in_its_middle(width, least):
    known = torch.ones(1, 1, 40, 60, dtype=torch.bool)
    known[..., 16 : 16 + width] = False
    made = dissolve(known.logical_not().float(), torch.zeros(1, 1, 40, 60), known)[0, 0, 20]
    assert made[16 + width // 2] >= least and (width < 5 or made[16] < 0.8)


def test_a_crop_is_dissolved_as_in_the_whole():
    y, source, known = parcel()
    whole = dissolve(y, source, known)
    rows, cols = slice(5, 45), slice(3, 50)
    part = dissolve(y[..., rows, cols], source[..., rows, cols], known[..., rows, cols])
    inner = slice(JOIN_REACH, -JOIN_REACH)
    assert torch.equal(part[..., inner, inner], whole[..., rows, cols][..., inner, inner])
