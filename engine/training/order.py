"""Which images a step sees, as a function of the seed and the step, so that a resumed run sees the same ones."""

from __future__ import annotations

import numpy as np
import torch


def step_generator(seed: int, step: int) -> torch.Generator:
    """A generator for all that is random in one step."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class Order:
    """Endless passes over a data set, each in an order of its own.

    Args:
        count: images.
        batch: images in each step.
        seed: of the orders.
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self.count, self.batch, self.seed = count, batch, seed
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Positions (batch,) of the images of this step."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        return np.array([self._pass(int(p) // self.count)[int(p) % self.count] for p in places])

    def _pass(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._epoch, self._permutation = epoch, rng.permutation(self.count)
        return self._permutation
