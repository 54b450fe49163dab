"""One run of opensr-utils, in a Python that has it: opensr_peer.py SOURCE TARGET BANDS WIDTH.

Windows of 128 px with 12 px of overlap, of which 2 are thrown away at borders, on one thread.
"""

import sys

import torch
from enlarger import FACTOR, Enlarger
from opensr_utils import super_resolve

if __name__ == "__main__":
    source, target, bands, width = sys.argv[1:]
    torch.set_num_threads(1)
    super_resolve(
        source,
        model=Enlarger(int(bands), int(width)),
        output=target,
        factor=FACTOR,
        window_size=(128, 128),
        overlap=12,
        eliminate_border_px=2,
        device="cpu",
        num_workers=0,
    )
