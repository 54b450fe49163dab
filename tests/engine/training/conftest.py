"""A data set of plain colours, in the archive's own layout: small enough to teach a judge in seconds."""

import csv
import io
import zipfile

import numpy as np
import pytest
from afterimage.engine.training import classifier, generating
from PIL import Image

COLOURS = {"Forest": (30, 90, 40), "River": (90, 90, 160), "SeaLake": (20, 30, 110)}
COUNTS = {"train": 16, "val": 8, "test": 5}


@pytest.fixture(scope="session")
def plain_data(tmp_path_factory):
    """Folder with an archive of three of EuroSAT's classes, each chip its class's colour, brightness and noise."""
    folder = tmp_path_factory.mktemp("plain")
    rng, rows = np.random.default_rng(0), []
    with zipfile.ZipFile(folder / "eurosat_rgb_mosaics.zip", "w") as archive:
        for split, count in COUNTS.items():
            for name, colour in COLOURS.items():
                patches = rng.normal(0, 6, (count, 13, 13, 3)).repeat(5, 1).repeat(5, 2)[:, :64, :64]
                tint = rng.normal(0, 12, (count, 1, 1, 1)) + patches
                chips = (np.array(colour) + tint + rng.normal(0, 3, (count, 64, 64, 3))).clip(0, 255).astype("uint8")
                packed = io.BytesIO()
                Image.fromarray(np.concatenate(list(chips), axis=1)).save(packed, "PNG")
                archive.writestr(f"{split}_{name}.png", packed.getvalue())
                rows += [
                    {"split": split, "class": name, "mosaic": f"{split}_{name}.png", "row": 0, "col": k}
                    for k in range(count)
                ]
        index = io.StringIO()
        table = csv.DictWriter(index, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
        archive.writestr("index.csv", index.getvalue())
    return folder


@pytest.fixture(scope="session")
def short_courses():
    """Classifiers are taught for a few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(classifier.COURSES, "eurosat", classifier.Course(steps=30, batch=16))
        patch.setitem(generating.TAUGHT, "eurosat", classifier.Course(steps=30, batch=16))
        yield
