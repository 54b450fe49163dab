"""A recipe: everything that decides what a training run makes, in one small file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """A training run, declared.

    Attributes:
        name: of the recipe and of its file.
        objective: sharpening, latent, residual, adversarial or ddpm: the file in ``training/`` that computes the loss.
        model: id of the model that the run makes a part of.
        network: diffusers class and configuration of what is trained; what the objective adds is left out.
        batch: images in each step.
        learning_rate: of AdamW, at its highest.
        muon_learning_rate: of Muon for the matrices of a transformer; 0 trains all with AdamW.
        warmup: steps until the learning rate is reached.
        decay: part of the budget, at the end, over which the learning rate falls to 0.
        weight_decay: decoupled.
        ema_decay: of the averaged weights, which are what is kept.
        bf16: whether forward passes run under bfloat16 autocast.
        seed: of initial weights, order, noise and augmentation.
        needs: recipe whose result this one starts from, or "".
        options: further settings of the objective.
    """

    name: str
    objective: str
    model: str
    network: dict[str, Any]
    batch: int
    learning_rate: float
    muon_learning_rate: float = 0.0
    warmup: int = 100
    decay: float = 0.3
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    bf16: bool = False
    seed: int = 0
    needs: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def publishes(self) -> bool:
        """Whether the run's result is a whole model."""
        return self.objective in ("latent", "residual", "adversarial", "ddpm")

    def to_json(self) -> str:
        """The recipe as it stands in its file."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_recipe(name: str) -> Recipe:
    """The recipe of this name, or of this file.

    Raises:
        FileNotFoundError: there is none; the sentence lists those that exist.
    """
    path = Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.json")))
        raise FileNotFoundError(f"no recipe {name!r}; there are {known}")
    return Recipe(**json.loads(path.read_text(encoding="utf-8")))
