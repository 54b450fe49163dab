"""What guidance asks the network, in rows: one window under one condition each, in calls that all have one size.

Guided predictions are weighted sums of the network's answers, so those of several texts in a window are, too, and what
two texts are guided away from is asked once. Rows of any windows fill each other's calls: a network whose calls have
one size gives a row the same bits whatever lies beside it.

Source: Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", eq. 6; Jiménez 2023, "Mixture of Diffusers for scene
composition and high resolution image generation", arXiv 2302.02412, section 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .guidance import Predict
from .loop import batches

K = TypeVar("K")
#: Calls of a step that windows are denoised in together, at most: the more, the fewer places are left over.
CALLS = 24

#: (x, t, told) -> the network's raw output for the rows of one call, float32: x is (rows, C, h, w), t a scalar
#: timestep, and the tensors of ``told`` have one item for each row.
Answer = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Branch:
    """One question that guidance asks the network.

    Attributes:
        weight: of its answer; the weights of all branches add up to 1.
        told: name -> tensor, what the network is told; the first axis is the batch, or 1 for all of it.
    """

    weight: float
    told: Mapping[str, Tensor]


@dataclass(frozen=True)
class Row:
    """A branch, or several that are told the same, of one window.

    Attributes:
        place: of the window in its batch.
        weight: (h, w) on the network's device, of the answer in each latent; those of all rows of a window add up to 1.
        told: of the branch, each tensor of one item.
    """

    place: int
    weight: Tensor
    told: Mapping[str, Tensor]


def rows_of(place: int, asked: Sequence[tuple[Tensor, Sequence[Branch]]]) -> list[Row]:
    """The rows of a window: branches that are told the same are one.

    Args:
        place: of the window in its batch.
        asked: (share (h, w) of a text, its branches for this window), shares adding up to 1.
    """
    found: list[Row] = []
    for share, branches in asked:
        for branch in branches:
            weight = branch.weight * share
            same = next((k for k, row in enumerate(found) if _is_same(row.told, branch.told)), None)
            if same is None:
                found.append(Row(place, weight, branch.told))
            else:
                found[same] = Row(place, found[same].weight + weight, branch.told)
    return found


def in_calls(keys: Sequence[K], size: int, rows: Callable[[K], int]) -> Iterator[tuple[list[K], int]]:
    """Windows that are denoised together, ``CALLS`` calls at most, cut where they leave the fewest places over.

    Args:
        keys: the windows.
        size: rows of each call.
        rows: that a window takes in a step.

    Yields:
        (windows, how many they are), as ``loop.batches`` does.
    """
    left = list(keys)
    while left:
        taken = list(itertools.takewhile(lambda total: total <= CALLS * size, itertools.accumulate(map(rows, left))))
        count = max(1, len(taken))  # a window of more rows than that is denoised alone
        if count < len(left):
            count = min(range(count, count // 2, -1), key=lambda cut: -sum(map(rows, left[:cut])) % size)
        yield left[:count], count
        left = left[count:]


def in_rows(rows: Sequence[Row], size: int, answer: Answer, check: Callable[[], None]) -> Predict:
    """The guided predictions of a batch of windows.

    Args:
        rows: of all of its windows.
        size: rows of each call; what is left over in the last is filled by repeating a row.
        answer: one call of the network.
        check: called before each call; may raise to end the work.
    """
    calls = [(part, count, _stacked([row.told for row in part])) for part, count in batches(rows, size)]

    def predict(x: Tensor, t: Tensor) -> Tensor:
        answers: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for part, count, told in calls:
            check()
            for row, found in zip(part[:count], answer(x[[row.place for row in part]], t, told)):
                answers.setdefault(row.place, []).append((row.weight, found))
        return torch.stack([weighed(answers[place]) for place in range(len(x))])

    return predict


def weighed(answers: Sequence[tuple[Tensor | float, Tensor]]) -> Tensor:
    """The sum of (weight, answer), the weights adding up to 1: the first answer, and how far the others are from it.

    So written, the null condition first, it has the bits of ``guidance.classifier_free``.
    """
    (_, first), *others = answers
    total = first
    for weight, other in others:
        total = total + weight * (other - first)
    return total


def _is_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        value is other[name] or torch.equal(value, other[name]) for name, value in one.items()
    )


def _stacked(told: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([each[name] for each in told]) for name in told[0]}
