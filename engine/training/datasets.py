"""Images of the training data sets, read straight from their archives; splits are those of each ``index.csv``."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

EUROSAT = "eurosat_rgb_mosaics.zip"
UCMERCED = "ucmerced_rgb_q90.zip"
CHANGE_SERIES = "change_series.zip"
#: Data set that ``read_chips`` knows -> its archive.
ARCHIVES = {"eurosat": EUROSAT, "ucmerced": UCMERCED}


@dataclass(frozen=True)
class Chips:
    """Labelled images of one size.

    Attributes:
        pixels: (N, height, width, 3) uint8.
        labels: (N,) int64, positions in ``classes``.
        classes: names, in alphabetical order.
        gsd: metres per pixel.
    """

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    gsd: float

    def every(self, count: int) -> Chips:
        """One image out of ``count``, spread over all."""
        return self.take(np.arange(0, len(self.labels), count))

    def take(self, places: np.ndarray) -> Chips:
        """The images at these places (M,)."""
        return replace(self, pixels=self.pixels[places], labels=self.labels[places])


def read_eurosat(folder: Path, split: str) -> Chips:
    """EuroSAT RGB (Helber et al. 2019): 64x64 chips at 10 m in 10 classes.

    Args:
        folder: where the archives are.
        split: train, val or test.

    Raises:
        FileNotFoundError: the archive is not there.
    """
    with zipfile.ZipFile(folder / EUROSAT) as archive:
        rows = [row for row in _index(archive) if row["split"] == split]
        classes = tuple(sorted({row["class"] for row in rows}))
        mosaics: dict[str, np.ndarray] = {}
        chips = np.empty((len(rows), 64, 64, 3), np.uint8)
        for i, row in enumerate(rows):
            name = row["mosaic"]
            if name not in mosaics:
                mosaics = {name: _image(archive, name)}  # rows are grouped by mosaic: keep one
            top, left = int(row["row"]) * 64, int(row["col"]) * 64
            bottom, right = top + 64, left + 64
            chips[i] = mosaics[name][top:bottom, left:right]
    labels = np.array([classes.index(row["class"]) for row in rows])
    return Chips(chips, labels, classes, 10.0)


def read_ucmerced(folder: Path, split: str) -> Chips:
    """UC Merced Land Use (Yang & Newsam 2010): 256x256 images at about 0.3 m in 21 classes; other sizes are left out.

    Args:
        folder: where the archives are.
        split: train, val or test.

    Raises:
        FileNotFoundError: the archive is not there.
    """
    with zipfile.ZipFile(folder / UCMERCED) as archive:
        names = {name.removeprefix("UCMerced_RGB/"): name for name in archive.namelist()}
        rows = [r for r in _index(archive) if r["split"] == split and (r["width"], r["height"]) == ("256", "256")]
        classes = tuple(sorted({row["class"] for row in rows}))
        pixels = np.stack([_image(archive, names[row["file"]]) for row in rows])
    labels = np.array([classes.index(row["class"]) for row in rows])
    return Chips(pixels, labels, classes, 0.3)


def read_chips(name: str, folder: Path, split: str) -> Chips:
    """A data set by its name, eurosat or ucmerced; see its own function."""
    return {"eurosat": read_eurosat, "ucmerced": read_ucmerced}[name](folder, split)


def read_naip(folder: Path, before: int = 2018, size: int = 256, since: int = 0) -> np.ndarray:
    """Squares of the NAIP scenes at 5 m in the series of changes: red, green, blue, near infrared.

    Args:
        folder: where the archives are.
        before: only scenes of earlier years; later ones are kept for measuring.
        size: side of a square, in pixels.
        since: only scenes of this year and later ones.

    Returns:
        (N, size, size, 4) uint8.
    """
    squares = []
    with zipfile.ZipFile(folder / CHANGE_SERIES) as archive:
        for row in _index(archive):
            if row["sensor"] != "NAIP" or not since <= int(row["date"][:4]) < before:
                continue
            with archive.open(row["file"]) as file, Image.open(file) as scene:
                pixels = np.asarray(scene)  # near infrared stands where Pillow expects transparency
            for top in range(0, pixels.shape[0] - size + 1, size):
                for left in range(0, pixels.shape[1] - size + 1, size):
                    bottom, right = top + size, left + size
                    square = pixels[top:bottom, left:right]
                    if (square.max(axis=2) > 0).mean() > 0.999:
                        squares.append(square)
    return np.stack(squares).astype(np.uint8)


def _index(archive: zipfile.ZipFile) -> list[dict[str, str]]:
    with io.TextIOWrapper(archive.open("index.csv"), encoding="utf-8") as text:
        return list(csv.DictReader(text))


def _image(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file, Image.open(file) as image:
        return np.asarray(image.convert("RGB"))
