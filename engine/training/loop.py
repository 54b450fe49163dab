"""The training loop: steps until the budget is spent, an average of the weights, checkpoints, a log and its plot."""

from __future__ import annotations

import copy
import json
import logging
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from .checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from .recipe import Recipe

log = logging.getLogger(__name__)


class Objective(Protocol):
    """What is trained, and on what.

    Attributes:
        trained: all modules whose parameters change.
    """

    trained: nn.Module

    def loss(self, step: int) -> Tensor:
        """The loss of one step, a function of the weights, the seed and the step alone."""

    def validate(self, averaged: nn.Module) -> dict[str, float]:
        """Figures on the validation split, of the averaged weights."""

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the averaged weights in the layout of a diffusers pipeline."""


@dataclass(frozen=True)
class Budget:
    """How long to train.

    Attributes:
        minutes: of training, over all starts of the run.
        steps: stop after so many, whatever the time.
        report_every: seconds between log lines, validations and checkpoints.
    """

    minutes: float = math.inf
    steps: int | None = None
    report_every: float = 180.0

    def part_spent(self, step: int, seconds: float) -> float:
        """How much of the budget is spent, 0..1 and above."""
        by_steps = step / self.steps if self.steps else 0.0
        return max(by_steps, seconds / (60 * self.minutes))


def make_optimizers(trained: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices inside transformer blocks when the recipe gives it a learning rate.

    Source: Loshchilov & Hutter 2019 (AdamW); Jordan et al. 2024, Liu et al. 2025 "Muon is scalable for LLM training".
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in trained.named_parameters():
        is_matrix = recipe.muon_learning_rate > 0 and parameter.ndim == 2 and "transformer_blocks" in name
        inner = is_matrix and "scale_shift_table" not in name
        (matrices if inner else others).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
    ]
    if matrices:
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=recipe.muon_learning_rate,
                weight_decay=recipe.weight_decay,
                ns_steps=5,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["highest"] = group["lr"]
    return optimizers


def check_free(folder: Path, resume: bool) -> None:
    """See that no run would be overwritten; before an objective is made, which may fit and encode anew.

    Raises:
        FileExistsError: the folder holds a run and ``resume`` is off.
    """
    if find_checkpoint(folder) and not resume:
        raise FileExistsError(f"{folder} holds a run already: resume it or choose another folder")


def run(recipe: Recipe, objective: Objective, folder: Path, budget: Budget, resume: bool = False) -> dict[str, float]:
    """Train until the budget is spent, and export the averaged weights to ``folder/export``.

    A run killed at any point goes on from its last checkpoint when started again with ``resume``: the steps after it
    are drawn again as they were.

    Args:
        recipe: of the run.
        objective: freshly made from the recipe.
        folder: of the run; made if missing.
        budget: when to stop.
        resume: go on from the checkpoint in ``folder`` if there is one.

    Returns:
        The last line of the log.

    Raises:
        FileExistsError: the folder holds another run and ``resume`` is off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_free(folder, resume)
    (folder / "recipe.json").write_text(recipe.to_json(), encoding="utf-8")
    trained = objective.trained
    averaged = copy.deepcopy(trained).requires_grad_(False).eval()
    optimizers = make_optimizers(trained, recipe)
    step, seconds = 0, 0.0
    if resume and find_checkpoint(folder):
        progress = load_checkpoint(folder, trained, averaged, optimizers)
        step, seconds = int(progress["step"]), float(progress["seconds"])
        log.info("resumed at step %d after %.0f s", step, seconds)
    line: dict[str, float] = {}
    losses: list[float] = []
    last, reported = time.monotonic(), seconds
    while (spent := budget.part_spent(step, seconds)) < 1:
        losses.append(_step(recipe, objective, trained, averaged, optimizers, step, spent))
        step += 1
        now = time.monotonic()
        seconds, last = seconds + now - last, now
        ends = budget.part_spent(step, seconds) >= 1
        if ends or seconds - reported >= budget.report_every:
            line = {
                "step": step,
                "seconds": round(seconds, 1),
                "images": step * recipe.batch,
                "images_per_second": round(len(losses) * recipe.batch / max(seconds - reported, 1e-9), 1),
                "loss": sum(losses) / len(losses),
                **objective.validate(averaged),
            }
            save_checkpoint(folder, trained, averaged, optimizers, {"step": step, "seconds": seconds})
            _append(folder / "log.jsonl", line)
            _export(objective, averaged, folder)
            log.info("%s", json.dumps(line))
            losses, reported, last = [], seconds, time.monotonic()
    _export(objective, averaged, folder)
    plot_log(folder)
    return line


def _step(
    recipe: Recipe,
    objective: Objective,
    trained: nn.Module,
    averaged: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    step: int,
    spent: float,
) -> float:
    rise = min(1.0, (step + 1) / max(1, recipe.warmup))
    fall = min(1.0, (1 - spent) / recipe.decay) if recipe.decay else 1.0
    loss = objective.loss(step)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * rise * fall
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    keep = min(recipe.ema_decay, (1 + step) / (10 + step))  # a short memory at first
    with torch.no_grad():
        torch._foreach_lerp_(list(averaged.parameters()), list(trained.parameters()), 1 - keep)
    return float(loss.detach())


def _export(objective: Objective, averaged: nn.Module, folder: Path) -> None:
    """Export beside the export that is there, then put the new one in its place."""
    target, fresh = folder / "export", folder / "export.new"
    shutil.rmtree(fresh, ignore_errors=True)
    objective.export(averaged, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _append(path: Path, line: dict[str, float]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def plot_log(folder: Path) -> Path | None:
    """Draw the figures of ``log.jsonl`` against images seen into ``log.png``; None where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    lines = [json.loads(text) for text in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    names = [key for key in lines[-1] if key not in ("step", "seconds", "images", "images_per_second")]
    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    for place, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), place + 1)
        axes.plot([line["images"] for line in lines], [line.get(name, math.nan) for line in lines])
        axes.set_title(name)
        axes.set_xlabel("images seen")
    figure.savefig(folder / "log.png", dpi=100)
    return folder / "log.png"
