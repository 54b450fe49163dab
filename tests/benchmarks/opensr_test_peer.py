"""The metrics of opensr-test, in a Python that has it: opensr_test_peer.py PICTURES.npz; prints JSON.

The file holds ``lr`` (n, bands, h, w), ``hr`` and one array for each way of drawing (n, bands, 4 h, 4 w), in 0..1.
"""

import json
import statistics
import sys

import numpy as np
import opensr_test
import torch

if __name__ == "__main__":
    torch.set_num_threads(1)
    with np.load(sys.argv[1]) as given:
        arrays = {name: torch.from_numpy(given[name]).float() for name in given.files}
    found = {}
    for name in sorted(arrays.keys() - {"lr", "hr"}):
        rows = [
            opensr_test.Metrics().compute(lr=lr, sr=sr, hr=hr)
            for lr, sr, hr in zip(arrays["lr"], arrays[name], arrays["hr"])
        ]
        found[name] = {key: statistics.fmean(float(row[key]) for row in rows) for key in rows[0]}
    print(json.dumps(found))
