"""The files that a job leaves behind: the one place that knows their names."""

import os
from typing import Tuple

from .requests import Request


def target_paths(request: Request, output: str, spread_output: str = "", mean_output: str = "") -> Tuple[str, ...]:
    """The files of the samples, then those of mean and spread if they were asked for, then those of the trajectories.

    The pictures of a trajectory come sample by sample, the noisiest first.

    Args:
        request: what is asked.
        output: path of the first sample. Where it is empty the job folder takes what has no path of its own, and that
            is left out here.
        spread_output: path of the spread; empty for a name beside ``output``.
        mean_output: path of the mean; empty for a name beside ``output``.
    """
    found = []
    if output:
        found = [output, *(_beside(output, str(number)) for number in range(2, request.sampling.samples + 1))]
    for word, path in (("mean", mean_output), ("spread", spread_output)):
        if getattr(request, word, False) and (path or output):
            found.append(path or _beside(output, word))
    frames = getattr(request, "trajectory", 0) if output else 0
    for path in found[: request.sampling.samples]:
        found += [_beside(path, f"frame_{number:0{len(str(frames))}d}") for number in range(1, frames + 1)]
    return tuple(found)


def _beside(path: str, word: str) -> str:
    stem, ending = os.path.splitext(path)
    return f"{stem}_{word}{ending}"
