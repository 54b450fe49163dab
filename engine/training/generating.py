"""How good a text-to-image model is, measured on the test split of what it learned from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..contract import Measure, Sampling
from ..models.eo_latent import LatentModel
from .classifier import Course, judge, read_judge, to_unit, train_classifier
from .datasets import Chips, read_chips
from .dihedral import turn
from .drawing import draw_like, draw_mosaics_like
from .metrics import (
    blockiness,
    frechet,
    gradient_energy,
    nearest,
    precision_recall,
    psnr,
    share_nearer,
    spectrum_slope,
)

log = logging.getLogger(__name__)

#: Side that pixels are averaged down to before images are compared with training images.
COARSE = 16
#: So many generated images are compared with training images, if there are as many.
COMPARED = 1000
#: Data sets large enough to teach a classifier with what was generated in their stead, and how it is taught: until it
#: has learned what there is to learn, by real images too. A judge's course is shorter, and five points less come of it.
TAUGHT = {"eurosat": Course(steps=5000)}


@dataclass(frozen=True)
class Judged:
    """A set of images and what a judge says of it.

    Attributes:
        chips: images with the classes that they were asked for.
        told: (N,) the classes that the judge sees.
        features: (N, D) what it sees them by.
    """

    chips: Chips
    told: np.ndarray
    features: Tensor

    @property
    def accuracy(self) -> float:
        """Share of images, 0..1, whose class the judge tells."""
        return float((self.told == self.chips.labels).mean())


class Bench:
    """What generated images are measured against: real ones, and a judge that knows them.

    Args:
        name: of the data set.
        data: folder with the archives.
        work: folder that keeps the judge.
        judge_seed: of the judge.
    """

    def __init__(self, name: str, data: Path, work: Path, judge_seed: int) -> None:
        self.name, self.judge_seed = name, judge_seed
        self._data = data
        self._judge = read_judge(name, data, work, judge_seed)
        self.test = self.examine(self.read("test"))

    def read(self, split: str) -> Chips:
        """A split of the data set."""
        return read_chips(self.name, self._data, split)

    def examine(self, chips: Chips) -> Judged:
        """A set with the judge's opinion."""
        places = np.array_split(
            np.arange(len(chips.labels)), -(-len(chips.labels) // 256)
        )  # as floats, not all at once
        told, features = zip(*[judge(self._judge, to_unit(chips.take(some))) for some in places])
        return Judged(chips, torch.cat(told).numpy(), torch.cat(features))

    def sets(self, chips: Chips, count: int) -> list[Judged]:
        """``count`` sets of real images that share none, each with as many of each class as the test split.

        Raises:
            ValueError: there are too few.
        """
        rng = np.random.default_rng(5)
        places: list[list[np.ndarray]] = [[] for _ in range(count)]
        for label, wanted in enumerate(np.bincount(self.test.chips.labels)):
            there = rng.permutation(np.flatnonzero(chips.labels == label))
            if len(there) < count * wanted:
                raise ValueError(f"{count * wanted} images of {chips.classes[label]} were wanted, {len(there)} there")
            for k in range(count):
                first, last = k * wanted, (k + 1) * wanted
                places[k].append(there[first:last])
        return [self.examine(chips.take(np.concatenate(parts))) for parts in places]


def measure_generate(
    model: LatentModel, data: Path, work: Path, draws: int = 3, judge_seed: int = 8
) -> tuple[Measure, ...]:
    """All figures of a model, drawn with its card's own settings, each beside what real images reach.

    Each draw has as many images of each class as the test split, as large as those that were trained on, each drawn by
    itself; then once more, cut from the mosaics that people get. A classifier is taught by as many draws as make up the
    train split.

    Args:
        model: of the family ``eo_latent``.
        data: folder with the archives.
        work: keeps the judge.
        draws: independent sets.
        judge_seed: of the judge; not the one that steps, guidance or weights were chosen by.
    """
    bench = Bench(model.vocabulary.data_set, data, work, judge_seed)
    train = bench.read("train")
    real = bench.sets(train, draws)
    drawn = [_drawn(bench, model, k) for k in range(draws)]
    found = [
        *recognised(bench, drawn),
        *distances(bench, drawn, real, "train images"),
        *structure(bench, drawn, model),
        *memorised(bench, drawn, train),
    ]
    found += blended(bench, model, real)
    if bench.name in TAUGHT:
        many = max(draws, round(len(train.labels) / len(bench.test.told)))
        drawn += [_drawn(bench, model, k) for k in range(draws, many)]
        found.append(taught(bench, drawn, train))
    return tuple(found)


def blended(bench: Bench, model: LatentModel, real: Sequence[Judged]) -> list[Measure]:
    """The first figures once more, of images that lie across the windows of a blended mosaic.

    Args:
        bench: has the test split.
        model: of the family ``eo_latent``.
        real: sets of real images, not of the test split; the first is used.
    """
    mosaics = [bench.examine(draw_mosaics_like(model, bench.test.chips, 0))]
    figures = [
        recognised(bench, mosaics)[0],
        *distances(bench, mosaics, real[:1], "train images"),
        *structure(bench, mosaics, model)[:2],
    ]
    return [dataclasses.replace(measure, on=f"{measure.on}, cut from blended mosaics") for measure in figures]


def _drawn(bench: Bench, model: LatentModel, draw: int) -> Judged:
    drawn = bench.examine(draw_like(model, bench.test.chips, draw))
    log.info("drew set %d: %.1f %% recognised", draw, 100 * drawn.accuracy)
    return drawn


def glance(
    model: LatentModel,
    data: Path,
    work: Path,
    per_class: int,
    judge_seed: int = 7,
    sampling: Sampling | None = None,
    window: int | None = None,
) -> tuple[Measure, ...]:
    """The figures to choose weights, steps, guidance and windows by, from few images; real ones are those of val.

    Args:
        model: of the family ``eo_latent``.
        data: folder with the archives.
        work: keeps the judge.
        per_class: images of each class.
        judge_seed: of the judge.
        sampling: scheduler, steps and guidance; the card's where it is left out.
        window: side in latents of what is drawn and cut into images; as large as an image where it is left out.
    """
    bench = Bench(model.vocabulary.data_set, data, work, judge_seed)
    val = bench.read("val")
    few = val.take(np.concatenate([np.flatnonzero(val.labels == k)[:per_class] for k in range(len(val.classes))]))
    drawn = [bench.examine(draw_like(model, few, 0, sampling, window))]
    return (
        *recognised(bench, drawn),
        *distances(bench, drawn, [bench.examine(few)], "real images"),
        *structure(bench, drawn, model),
    )


def recognised(bench: Bench, drawn: Sequence[Judged]) -> tuple[Measure, ...]:
    """Share of images that the judge takes for what was asked, over all and for the least of the classes."""
    hits = np.concatenate([part.told == part.chips.labels for part in drawn])
    labels, classes = np.concatenate([part.chips.labels for part in drawn]), drawn[0].chips.classes
    shares = {classes[k]: 100 * float(hits[labels == k].mean()) for k in np.unique(labels)}
    least = min(shares, key=lambda name: shares[name])
    every = ", ".join(f"{name} {share:.0f}" for name, share in shares.items())
    reference = f"real test images: {100 * bench.test.accuracy:.1f} %"
    return (
        Measure("recognised as asked", _on(drawn), round(100 * float(hits.mean()), 1), "%", reference),
        Measure("recognised as asked, least of the classes", every, round(shares[least], 1), "%"),
    )


def distances(bench: Bench, drawn: Sequence[Judged], real: Sequence[Judged], kind: str) -> tuple[Measure, ...]:
    """Frechet distance, precision and recall against the test split, beside those of sets of real images.

    Args:
        bench: has the test split.
        drawn: sets of generated images.
        real: sets of real images, not of the test split.
        kind: what to call them.
    """
    on = f"{_on(drawn)}, against {len(bench.test.told):,} test images"

    def measure(name: str, digits: int, figure: Callable[[Judged], float]) -> Measure:
        ours, theirs = [figure(part) for part in drawn], [figure(part) for part in real]
        reference = f"as many {kind}: {_spread(theirs, digits)}"
        if len(ours) > 1:
            reference += f"; the draws: {_spread(ours, digits)}"
        return Measure(name, on, round(float(np.mean(ours)), digits), "", reference)

    truth = bench.test.features
    return (
        measure("Frechet distance in the judge's features", 3, lambda part: frechet(part.features, truth)),
        measure("precision in the judge's features", 3, lambda part: precision_recall(part.features, truth)[0]),
        measure("recall in the judge's features", 3, lambda part: precision_recall(part.features, truth)[1]),
    )


def structure(bench: Bench, drawn: Sequence[Judged], model: LatentModel) -> tuple[Measure, ...]:
    """Whether a grid of latents shows, and how much detail there is at which size."""
    ours = torch.cat([to_unit(part.chips) for part in drawn])
    real = to_unit(bench.test.chips)
    rebuilt = _rebuilt(model, real)

    def measure(name: str, unit: str, digits: int, figure: Callable[[Tensor], float]) -> Measure:
        values = [round(figure(pixels), digits) for pixels in (ours, real, rebuilt)]
        reference = f"real test images: {values[1]:.{digits}f}; those through the autoencoder: {values[2]:.{digits}f}"
        return Measure(name, _on(drawn), values[0], unit, reference)

    side = model.scale
    return (
        measure(
            f"gradient energy on the borders of {side}x{side} blocks over that elsewhere",
            "",
            3,
            lambda pixels: blockiness(pixels, side),
        ),
        measure("gradient energy", "1e-4", 2, lambda pixels: 1e4 * gradient_energy(pixels)),
        measure("slope of the radial power spectrum, exponent of 1/f", "", 3, spectrum_slope),
        Measure("PSNR of the autoencoder", f"{len(real):,} test images", round(psnr(rebuilt, real), 2), "dB"),
    )


@torch.inference_mode()
def _rebuilt(model: LatentModel, pixels: Tensor) -> Tensor:
    return torch.cat([model.decode(model.encode(part)) for part in pixels.split(32)])


def memorised(bench: Bench, drawn: Sequence[Judged], train: Chips) -> tuple[Measure, ...]:
    """Share of generated images nearer to a training image than all but 1 % of held-out real ones are.

    Nearness is measured twice: by the judge's features, and by pixels averaged down to 16x16, there in the nearest of
    the eight turns and flips. Held-out are the test and val splits.

    Args:
        bench: has the held-out images.
        drawn: sets of generated images; as many of them as hold ``COMPARED`` images, at least one.
        train: what was trained on.
    """
    compared = list(drawn[: max(1, round(COMPARED / len(drawn[0].told)))])
    held_out = [bench.test, bench.examine(bench.read("val"))]
    known = bench.examine(train)
    kinds: dict[str, Callable[[Sequence[Judged]], Tensor]] = {
        "the judge's features": lambda parts: nearest(torch.cat([p.features for p in parts]), known.features),
        f"pixels at {COARSE}x{COARSE}": lambda parts: _nearest_turned(
            torch.cat([coarse(p.chips) for p in parts]), coarse(train)
        ),
    }
    found = []
    for kind, distance in kinds.items():
        ours, theirs = distance(compared), distance(held_out)
        medians = f"median distance {float(ours.median()):.3f}, theirs {float(theirs.median()):.3f}"
        share = round(100 * share_nearer(ours, theirs), 2)
        name = f"nearer to a training image than the nearest 1 % of held-out ones, in {kind}"
        found.append(Measure(name, _on(compared), share, "%", f"held-out ones: 1 %; {medians}"))
    return tuple(found)


def coarse(chips: Chips) -> Tensor:
    """Images averaged down: (N, 3, 16, 16) in 0..1."""
    side = chips.pixels.shape[1] // COARSE
    parts = torch.from_numpy(chips.pixels).split(256)
    return torch.cat([torch.nn.functional.avg_pool2d(p.permute(0, 3, 1, 2).float().div(255), side) for p in parts])


def _nearest_turned(ours: Tensor, known: Tensor) -> Tensor:
    """Distance (N,) of (N, C, h, w) to the nearest of (M, C, h, w) in any of the eight turns, root mean square."""
    flat = known.flatten(1)
    distances = [nearest(turn(ours, k).flatten(1), flat) for k in range(8)]
    return torch.stack(distances).amin(dim=0) / flat.shape[1] ** 0.5


def taught(bench: Bench, drawn: Sequence[Judged], train: Chips) -> Measure:
    """Classification accuracy score: how well a classifier tells real images that has only seen generated ones.

    Args:
        bench: has the test split.
        drawn: sets of generated images, about as many as train has, all of which teach.
        train: the real ones, which teach another classifier in the same way, for comparison.

    Source: Ravuri & Vinyals 2019, "Classification Accuracy Score for Conditional Generative Models".
    """
    test = bench.test.chips
    pixels = torch.from_numpy(np.concatenate([part.chips.pixels for part in drawn])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.concatenate([part.chips.labels for part in drawn]))
    real = torch.from_numpy(train.pixels).permute(0, 3, 1, 2)

    def score(images: Tensor, known: Tensor) -> float:
        pupil = train_classifier(images, known, len(test.classes), TAUGHT[bench.name], bench.judge_seed)
        told, _ = judge(pupil, to_unit(test))
        return round(100 * float((told.numpy() == test.labels).mean()), 1)

    return Measure(
        "classification accuracy score: taught by generated images alone, tested on real ones",
        _on(drawn),
        score(pixels, labels),
        "%",
        f"taught by the {len(train.labels):,} real ones of train: {score(real, torch.from_numpy(train.labels)):.1f} %",
    )


def _on(sets: Sequence[Judged]) -> str:
    """How many images, in words."""
    count = sum(len(part.told) for part in sets)
    return f"{count:,} generated images" + (f" in {len(sets)} draws" if len(sets) > 1 else "")


def _spread(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation over draws."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
