"""One list of schedulers for what models offer and for what is made of it, and one check of their steps."""

import diffusers
import pytest
from afterimage.engine.errors import InvalidRequest
from afterimage.engine.models.ldm import LdmDDIMScheduler
from afterimage.engine.models.schedulers import CLASSES, check_steps
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
