"""How far the texture of pictures is from what is expected."""

import pytest
import torch
from afterimage.engine.training.energies import CURVATURES, GRADIENTS, energy_distance, steepness


def noise(seed, strength=0.1):
    return strength * torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


AROUND = torch.full((4, 1, 64, 64), 0.1)


def test_other_noise_of_the_same_strength_has_the_same_energy():
    same, weaker = energy_distance(noise(0), noise(1), AROUND), energy_distance(noise(0, 0.05), noise(1), AROUND)
    assert same < weaker / 4
    assert energy_distance(noise(0), noise(0), AROUND) == 0


def test_energies_are_compared_over_the_contrast_and_their_mean_comes_closest():
    generator = torch.Generator().manual_seed(0)
    around = torch.full((1, 1, 64, 64), 0.1)
    weak, strong = (0.1 * k * torch.randn(1, 1, 64, 64, generator=generator) for k in (0.2, 0.5))
    assert energy_distance(weak, weak, around) == 0
    assert energy_distance(10 * weak, 10 * strong, 10 * around) == pytest.approx(
        float(energy_distance(weak, strong, around)), rel=1e-3
    )
    # of ground that is weak or strong, nobody knows which: energies halfway between are best, not those of either
    costs = []
    for share in (0.0, 0.5, 1.0):
        between = weak * (1 + share * (((0.5**2 + 0.2**2) / 2) ** 0.5 / 0.2 * 2 - 2))
        costs.append(float(energy_distance(between, weak, around) + energy_distance(between, strong, around)))
    assert costs[1] < costs[0] and costs[1] < costs[2]


def test_what_is_rare_and_strong_counts_by_its_size_alone():
    quiet = 0 * noise(0)
    costs = [float(energy_distance(quiet, noise(0, strength), AROUND)) for strength in (0.05, 0.1, 0.4, 0.8)]
    assert costs[1] / costs[0] == pytest.approx(16, rel=0.1), "squares of energies"
    assert costs[3] / costs[2] == pytest.approx(4, rel=0.1), "energies"


def test_energies_count_by_their_ground_and_by_their_image():
    """An error in quiet ground counts more than the same in loud ground, but less than by its own contrast."""
    error, around = torch.zeros(1, 1, 60, 60), torch.ones(1, 1, 60, 60)
    around[..., 30:] = 0.1
    left, right = error.clone(), error.clone()
    left[..., :30] = 0.05 * noise(0)[:1, :1, :60, :30]
    right[..., 30:] = 0.05 * noise(0)[:1, :1, :60, :30]
    costs = [float(energy_distance(error, one, around)) for one in (left, right)]
    assert costs[1] / costs[0] == pytest.approx(10**2, rel=0.4)


def test_second_differences_see_what_gradients_do_not():
    """A picture without its finest octave, as steep in all as one that has it."""
    fine = noise(0, 0.02) + torch.nn.functional.interpolate(noise(1)[..., :32, :32], scale_factor=2, mode="bilinear")
    soft = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(fine, (1,) * 4, mode="reflect"), 3, 1)
    steep = [x.diff(dim=-1).square().mean().sqrt() for x in (fine, soft)]
    soft = soft * steep[0] / steep[1]
    gradients, second = (float(energy_distance(soft, fine, AROUND, kinds)) for kinds in (GRADIENTS[:1], CURVATURES[2:]))
    assert second > 2 * gradients
    assert energy_distance(fine, fine, AROUND, CURVATURES) == 0
    white = [float(energy_distance(0 * fine, noise(2), AROUND, (kind,))) for kind in (GRADIENTS[0], CURVATURES[2])]
    assert white[0] == pytest.approx(white[1], rel=0.1), "one unit for white noise"


def test_steepness_is_that_of_the_gradients_around():
    ramp = torch.arange(40.0).div(100).expand(1, 3, 40, 40)
    found = steepness(ramp, 3)
    assert found.shape == (1, 1, 40, 40)
    assert float(found[0, 0, 20, 20]) == pytest.approx((0.01**2 / 2 + 1e-5) ** 0.5, rel=1e-3)
    assert float(steepness(0 * ramp, 3).min()) > 0
