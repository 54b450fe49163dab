"""A sample on its way from noise: which states are kept, and how they are taken without touching the sampler."""

from __future__ import annotations

from torch import Tensor

from ..diffusion.guidance import Predict


def kept_states(steps: int, pictures: int) -> tuple[int, ...]:
    """After how many steps each of the noisy pictures is taken: 0 is the noise itself.

    They lie evenly over the steps. The last picture, after all steps, is the result and is not among them.

    Args:
        steps: of the sampler.
        pictures: of the trajectory with the result, at most as many as steps.
    """
    return tuple(number * steps // (pictures - 1) for number in range(pictures - 1))


class Recorder:
    """Keeps what the network is shown on its way, for one batch of windows.

    What the network is shown before step k + 1 is the state after k steps, in the range that the model was trained on
    (``scheduler.scale_model_input``), whatever the scheduler makes of it; and a sampler that is watched in this way
    computes the same bits as one that is not.

    Args:
        predict: the prediction that is watched; called once a step.
        states: which states to keep, of ``kept_states``.
    """

    def __init__(self, predict: Predict, states: tuple[int, ...]) -> None:
        self._predict, self._states = predict, states
        self._calls = 0
        self._kept: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction."""
        if self._calls in self._states:
            self._kept.append(x.float().cpu().clone())
        self._calls += 1
        return self._predict(x, t)

    def states(self, place: int) -> list[Tensor]:
        """The states (C, h, w) float32 of one window of the batch, the noisiest first."""
        return [kept[place] for kept in self._kept]
