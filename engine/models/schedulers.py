"""The samplers that our families offer: stock diffusers schedulers over the schedule that the network learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers

from ..diffusion.loop import set_timesteps
from ..errors import InvalidRequest, UnknownScheduler

#: Configuration of the noise schedule that the shipped models are trained on; every sampler reads the same.
#: Source: Nichol & Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models", eq. 17 (cosine). Its last level
#: holds no signal to float precision, so sampling starts where training ended (Lin et al. 2024, section 3.1).
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
#: Name -> class of diffusers and what its configuration adds to the model's own. All start at the last level, where
#: training had no signal left ("trailing": Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are
#: Flawed", section 3.3), and none clips: a latent or a residual has no bounds.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False}),
    "DDPM": ("DDPMScheduler", {"clip_sample": False, "variance_type": "fixed_small"}),
}
#: In a model's ``scheduler_config.json``: where DPM++ 2M takes its steps, from the noisiest to the cleanest deviation.
#: Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", eq. 5 with rho = 7.
#: A cosine schedule goes on for long where nothing is left to see; evenly in time, or in log-SNR, most steps lie where
#: there is all noise or next to none (``docs/models.md`` has the figures, ``tests/benchmarks/sampler_steps.py`` more).
KARRAS = ("use_karras_sigmas", "sigma_min", "sigma_max")
#: Name for people -> class of diffusers, for published models. The first scheduler on a card is the family's own
#: recipe, whatever its name.
CLASSES = {
    "DDIM": "DDIMScheduler",
    "DPM++ 2M": "DPMSolverMultistepScheduler",
    "Euler": "EulerDiscreteScheduler",
    "PNDM": "PNDMScheduler",
    "UniPC": "UniPCMultistepScheduler",
    "DDPM": "DDPMScheduler",
}


def check_steps(scheduler: Any, steps: int, name: str = "") -> None:
    """See whether a scheduler can do that many steps, before any work.

    Args:
        scheduler: of diffusers; its timesteps are set anew. One that takes only some numbers says which in a property
            ``steps_hint``.
        steps: asked for.
        name: of the scheduler for people, where it is known.

    Raises:
        InvalidRequest: where it cannot.
    """
    try:
        set_timesteps(scheduler, steps)
    except (ValueError, IndexError) as error:
        raise InvalidRequest(
            f"The scheduler {name} cannot do {steps} steps." if name else f"This model cannot do {steps} steps.",
            getattr(scheduler, "steps_hint", "Choose another number of steps."),
        ) from error


def make_scheduler(name: str, offered: tuple[str, ...], config: Mapping[str, Any]) -> Any:
    """A fresh scheduler.

    Args:
        name: of ``SCHEDULERS``.
        offered: names on the model's card.
        config: the model's ``scheduler_config.json``.

    Raises:
        UnknownScheduler: the model does not offer it.
    """
    if name not in offered or name not in SCHEDULERS:
        raise UnknownScheduler(f"This model has no scheduler {name[:40]!r}.", f"Choose one of {', '.join(offered)}.")
    kind, added = SCHEDULERS[name]
    trained = {key: value for key, value in config.items() if not key.startswith("_")}
    if kind != "DPMSolverMultistepScheduler":
        trained = {key: value for key, value in trained.items() if key not in KARRAS}  # the others do not know them
    return getattr(diffusers, kind).from_config({**trained, **added, "timestep_spacing": "trailing"})
