"""Reference tensors of a published model's own code, and how near ours must come to them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

#: Largest difference of a network's forward pass, and of a sampled result as a share of its largest value.
FORWARD, SAMPLED = 1e-5, 1e-4


class Reference:
    """``refs.npz`` and ``cases.json`` of one family's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with np.load(folder / "refs.npz") as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.cases = json.loads((folder / "cases.json").read_text("utf-8"))

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> torch.Tensor:
        """An array as it is stored."""
        return torch.from_numpy(self.arrays[name])

    def picture(self, name: str) -> torch.Tensor:
        """8-bit pixels (..., height, width, channel) as (..., channel, height, width) in 0..1."""
        return self[name].movedim(-1, -3).float() / 255

    def near(self, name: str, ours: torch.Tensor, relative: float | None = None) -> None:
        """Fail unless ours is what the reference says: a forward pass, or with ``relative`` a sampled result."""
        theirs = self[name]
        assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)} is not {tuple(theirs.shape)}"
        difference = (ours.double().cpu() - theirs.double()).abs().max().item()
        limit = FORWARD if relative is None else relative * max(1.0, theirs.abs().max().item())
        assert difference <= limit, f"{name} differs by {difference:.2g}, and {limit:.2g} is allowed"

    def run(self, model, case: str, sampled, trace_of: int | None = None) -> None:
        """Compare latents, trace and picture of a case, as many of them as there are."""
        self.near(f"{case}_latents", sampled.latents, SAMPLED)
        if f"{case}_trace" in self:
            trace = sampled.trace
            self.near(f"{case}_trace", trace[:, trace_of or 0], SAMPLED)
        if f"{case}_image" in self:
            self.near(f"{case}_image", model.decode(sampled.latents)[0].movedim(0, -1), SAMPLED)
