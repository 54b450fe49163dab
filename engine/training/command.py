"""``train``: make a shipped model, or a part of one, from its recipe; ``evaluate`` measures it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from .checkpoint import find_checkpoint
from .loop import Budget, Objective, check_free, run
from .recipe import FOLDER, Recipe, read_recipe

#: File in a run's folder that says it began with the weights of a model. A latent model's transform is read from there
#: again when the run is resumed.
BEGUN = "begun-with-start"


def main(arguments: Sequence[str]) -> int:
    """Run ``train ...`` or ``evaluate ...``; the exit status."""
    if arguments[0] == "evaluate":
        from .evaluation import evaluate

        return evaluate(arguments[1:])
    return train(arguments[1:])


def train(arguments: Sequence[str]) -> int:
    """Run a recipe; the exit status."""
    known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json")))
    parser = argparse.ArgumentParser(prog="python -m afterimage.engine train", description="Train a model.")
    parser.add_argument("recipe", help=f"one of {known}, or a file")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data archives")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs, one below it for each recipe")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training, over all starts of the run")
    parser.add_argument("--steps", type=int, default=None, help="stop after so many steps")
    parser.add_argument("--report-every", type=float, default=180.0, help="seconds between checkpoints")
    parser.add_argument("--threads", type=int, default=1, help="of computation")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto takes a GPU if any")
    parser.add_argument("--batch", type=int, help="images in each step, instead of the recipe's; more for a GPU")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--start", type=Path, help="folder of models: begin with the weights of the one there; the same with --resume"
    )
    parser.add_argument("--publish", type=Path, help="folder of models that the result goes to, with its card")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    recipe = read_recipe(asked.recipe)
    if asked.batch is not None:
        recipe = dataclasses.replace(recipe, batch=asked.batch)
    folder = asked.out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    check_free(folder, asked.resume)
    gpu = asked.device == "cuda" or (asked.device == "auto" and torch.cuda.is_available())
    start = None if asked.start is None else asked.start / recipe.model
    if start is not None and not start.is_dir():
        parser.error(f"--start: there is no {recipe.model} in {asked.start}")
    if asked.resume and find_checkpoint(folder) and (folder / BEGUN).is_file() != (start is not None):
        told = "began with --start: give it again" if start is None else "began without --start: leave it out"
        parser.error(f"--resume: the run in {folder} {told}, or choose another folder for a new run")
    if start is None:
        (folder / BEGUN).unlink(missing_ok=True)  # of a run that left no checkpoint
    else:
        (folder / BEGUN).write_text(f"{recipe.model}\n", encoding="utf-8")
    objective = make_objective(recipe, asked.data, folder, torch.device("cuda" if gpu else "cpu"), start)
    run(recipe, objective, folder, Budget(asked.minutes, asked.steps, asked.report_every), asked.resume)
    if asked.publish is not None and recipe.publishes:
        from .publish import publish

        publish(folder / "export", recipe.model, asked.publish)
    return 0


def make_objective(
    recipe: Recipe, data: Path, folder: Path, device: torch.device, start: Path | None = None
) -> Objective:
    """The objective of a recipe, with its data and its network on a device: fresh, or with the weights of a model.

    Args:
        recipe: of the run.
        data: folder with the archives.
        folder: of the run; the run that the recipe needs lies beside it.
        device: where networks live.
        start: model to begin with, in the layout of an export.
    """
    if recipe.objective == "latent":
        from .latent import LatentObjective

        decoder, cache = folder.parent / recipe.needs, folder / "latents.safetensors"
        return LatentObjective(recipe, data, decoder, cache, device, start)
    if recipe.objective == "sharpening":
        from .sharpening import SharpeningObjective

        return SharpeningObjective(recipe, data, folder / "fitted", device, start)
    if recipe.objective == "residual":
        from .residual import ResidualObjective

        return ResidualObjective(recipe, data, device, start)
    if recipe.objective == "adversarial":
        from .adversarial import AdversarialObjective

        return AdversarialObjective(recipe, data, start or folder.parent / recipe.needs / "export", device)
    if recipe.objective == "ddpm":
        from .ddpm import NoiseObjective

        return NoiseObjective(recipe, data, device, start)
    raise ValueError(f"recipe {recipe.name}: no objective {recipe.objective!r}")
