"""One list of schedulers for what models offer and for what is made of it, and one check of their steps."""

import diffusers
import pytest
import torch
from afterimage.engine.errors import InvalidRequest
from afterimage.engine.models.ldm import LdmDDIMScheduler
from afterimage.engine.models.schedulers import CLASSES, KARRAS, SCHEDULE, SCHEDULERS, check_steps, make_scheduler
from afterimage.engine.store import abilities


@pytest.mark.parametrize("own", [*CLASSES.values(), "LdmDDIMScheduler"])
def test_a_model_offers_its_own_scheduler_first_and_every_other_once(own):
    offered = abilities.schedulers(own)
    assert CLASSES[offered[0]] == own.replace("Ldm", "") and sorted(offered) == sorted(CLASSES)


def test_a_scheduler_without_a_name_here_is_named_after_its_class():
    assert abilities.schedulers("DEISMultistepScheduler") == ("DEISMultistep", *CLASSES)


def test_who_takes_only_some_numbers_of_steps_says_which():
    scheduler = LdmDDIMScheduler(num_train_timesteps=1000)
    for steps in (1, 20, 50, 500):
        check_steps(scheduler, steps)
        assert len(scheduler.timesteps) == steps
    for steps in (3, 999, 1000, 1001):
        with pytest.raises(InvalidRequest, match=f"scheduler DDIM cannot do {steps} steps") as told:
            check_steps(scheduler, steps, "DDIM")
        assert told.value.hint == "Choose 50 steps, or another number up to 500 that divides 1000."
    with pytest.raises(InvalidRequest, match="This model cannot do 101 steps") as told:
        check_steps(diffusers.DDIMScheduler(num_train_timesteps=100), 101)
    assert told.value.hint == "Choose another number of steps."


def test_a_model_says_between_which_noise_levels_its_steps_lie():
    config = {**SCHEDULE, **dict(zip(KARRAS, (True, 0.03, 80.0)))}
    scheduler = make_scheduler("DPM++ 2M", tuple(SCHEDULERS), config)
    check_steps(scheduler, 12)
    sigmas = scheduler.sigmas.double()
    assert sigmas[0] == pytest.approx(80.0) and sigmas[-2] == pytest.approx(0.03) and sigmas[-1] == 0
    # Karras et al. 2022, eq. 5: even in the seventh root
    roots = sigmas[:-1] ** (1 / 7)
    assert torch.allclose(roots.diff(), roots.diff().mean().expand(11), rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "DPM++ 2M"])
def test_samplers_that_do_not_know_these_levels_step_as_ever(name):
    config = {**SCHEDULE, **dict(zip(KARRAS, (True, 0.03, 80.0)))}
    with_levels, without = (make_scheduler(name, tuple(SCHEDULERS), each) for each in (config, SCHEDULE))
    for scheduler in (with_levels, without):
        check_steps(scheduler, 12)
    assert torch.equal(with_levels.timesteps, without.timesteps)
