"""Squares: whether windows of a picture that is plain each take a tone of their own.

    python tests/benchmarks/tones.py --seeds 3
    python tests/benchmarks/tones.py --seeds 3 --phases 1 3 5

A text that a model knows in several tones (water is blue or green) is drawn over many windows. ``tones`` is the mean
squared step between the means of neighbouring latents by position in the stride of the windows, the largest over the
median, of the worse axis: 1 where nothing is to be seen of the windows, give or take chance. ``control`` is the same
for a period in which nothing repeats. ``cpu_s`` is processor time for one picture.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from protocol import SETTINGS, cpu_seconds, report

import numpy as np  # isort: skip
from afterimage.engine.models import catalog
from jobs import COL, ROW, generate, grid
from regions import draw

#: Model -> a text that it knows in several tones, and the side of the picture in windows' strides.
PLAIN = {"eurosat-generate": ("sea lake", 6), "ucmerced-generate": ("agricultural field", 4)}


def tones(pictures: list[np.ndarray], scale: int, stride: int) -> float:
    """See above; pictures are (bands, height, width), sides and stride whole numbers of latents."""
    found = []
    for axis, first in ((1, ROW), (2, COL)):
        energy = np.zeros(stride)
        for pixels in pictures:
            bands, height, width = pixels.shape
            means = pixels.astype(float).reshape(bands, height // scale, scale, width // scale, scale).mean(axis=(2, 4))
            steps = np.square(np.diff(means, axis=axis)).mean(axis=tuple({0, 1, 2} - {axis}))
            position = (first // scale + 1 + np.arange(len(steps))) % stride
            energy += [steps[position == place].mean() for place in range(stride)]
        found.append(energy.max() / np.median(energy))
    return float(max(found))


def main() -> None:
    """Print one line of JSON for each model and number of phases."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", nargs="*", choices=PLAIN, default=list(PLAIN))
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--phases", type=int, nargs="*", default=[0], help="0: as the model has them")
    chosen = arguments.parse_args()
    for name in chosen.models:
        for count in chosen.phases:
            model = catalog.load(name, SETTINGS)
            card, (text, across) = model.card, PLAIN[name]
            if count:
                model.card = card = dataclasses.replace(card, phases=((card.window, card.stride),) * count)
            side, pictures, seconds = across * card.stride, [], 0.0
            for seed in range(1, chosen.seeds + 1):
                with tempfile.TemporaryDirectory() as scratch:
                    folder = Path(scratch) / "job"
                    folder.mkdir()
                    asked = generate(card, grid(side, card.gsd[0]), text, seed)
                    before = cpu_seconds()
                    pictures.append(draw(asked, model, folder))
                    seconds += cpu_seconds() - before
            report(
                figure="tones",
                model=name,
                text=text,
                side=side,
                phases=len(card.windows),
                tones=round(tones(pictures, model.scale, card.stride // model.scale), 2),
                control=round(tones(pictures, model.scale, card.stride // model.scale + 1), 2),
                cpu_s=round(seconds / chosen.seeds, 1),
            )


if __name__ == "__main__":
    main()
