"""How many network calls a sampler needs for a given accuracy, with a network that is exact.

    python tests/benchmarks/sampler_steps.py

Where data are Gaussian with known variances, the best denoiser is known in closed form, and so is the end of the
probability-flow equation: along each axis x_0 = x_T sqrt(v / (a v + 1 - a)), where v is the variance and a the share of
signal at the start. The error is the root of the mean squared distance to it over that of it. The variances are those
of a field with exponential covariance, as ``tests/engine/diffusion/test_seams.py`` has it.
"""

from __future__ import annotations

import argparse

from protocol import report, shipped_spacing

import diffusers  # isort: skip
import torch
from afterimage.engine.diffusion.loop import sample
from afterimage.engine.models.schedulers import SCHEDULE, SCHEDULERS

SIZE, LENGTH, DRAWS = 32, 8.0, 8
#: The schedule of the shipped models, and that of Stable Diffusion, which most published models have.
SCHEDULES = {
    "shipped": SCHEDULE,
    "Stable Diffusion": {
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "epsilon",
    },
}
CALLS = (6, 8, 10, 12, 14, 15, 16, 18, 20, 22, 25, 30, 40, 50, 75, 100)
REFERENCE = "DDIM"
#: Where the steps of a solver lie; diffusers' names of the settings. Ours come from ``SCHEDULERS``, evenly in time.
SPACINGS = {
    "": {},
    ", Karras": {"use_karras_sigmas": True},
    ", as the shipped generators": shipped_spacing(),
    ", even in log-SNR": {"use_lu_lambdas": True},
}


def variances() -> torch.Tensor:
    """Eigenvalues (SIZE ** 2,) float64 of the field's covariance in a window."""
    place = torch.arange(SIZE, dtype=torch.float64)
    rows, cols = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    distance = torch.hypot(rows[:, None] - rows, cols[:, None] - cols)
    return torch.linalg.eigvalsh(torch.exp(-distance / LENGTH)).clamp_min(1e-9)


def error(name: str, config: dict, steps: int, v: torch.Tensor, spacing: dict) -> float:
    """Of a sampler with so many calls, in the axes where the covariance is diagonal."""
    kind, added = SCHEDULERS[name]
    settings = {**config, **added, **spacing, "timestep_spacing": "trailing"}
    scheduler = getattr(diffusers, kind).from_config(settings)
    shares = scheduler.alphas_cumprod.double()

    def share_at(t: torch.Tensor) -> torch.Tensor:
        """The share of signal at a step: the sampler's own level, which may lie between two of training."""
        if not hasattr(scheduler, "sigmas"):
            return shares[int(t)]
        return 1 / (1 + scheduler.sigmas[scheduler.step_index or 0].double() ** 2)

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        share = share_at(t)
        clean = share.sqrt() * v / (share * v + 1 - share) * x
        noise = (x - share.sqrt() * clean) / (1 - share).sqrt()
        return noise if config["prediction_type"] == "epsilon" else share.sqrt() * noise - (1 - share).sqrt() * clean

    start = torch.randn(DRAWS, len(v), 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = v.view(1, -1, 1, 1)
    drawn = sample(predict, scheduler, steps, lambda stream: start)
    first = 1 / (1 + scheduler.sigmas[0].double() ** 2) if hasattr(scheduler, "sigmas") else shares[-1]
    exact = start * (v / (first * v + 1 - first)).sqrt()
    return float((drawn - exact).square().mean().sqrt() / exact.square().mean().sqrt())


def main() -> None:
    """Print one line of JSON for each schedule."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    v = variances()
    for schedule, config in SCHEDULES.items():
        goal = {steps: error(REFERENCE, config, steps, v, {}) for steps in (50, 100)}
        errors, needed = {}, {}
        for label, spacing in SPACINGS.items():
            row = {calls: error("DPM++ 2M", config, calls, v, spacing) for calls in CALLS}
            errors[f"DPM++ 2M{label}"] = {calls: round(value, 4) for calls, value in row.items()}
            # enough is where more calls stay below it, too
            needed[f"DPM++ 2M{label}"] = {
                f"{REFERENCE} {steps}": next(
                    (c for c in CALLS if all(row[m] <= goal[steps] for m in CALLS if m >= c)),
                    None,
                )
                for steps in goal
            }
        errors[REFERENCE] = {steps: round(value, 4) for steps, value in goal.items()}
        report(figure="sampler_steps", schedule=schedule, calls_needed=needed, errors=errors)


if __name__ == "__main__":
    main()
