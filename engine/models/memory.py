"""How much memory a published model takes, and the ways to run it with less: a ladder, the best way first.

A lower rung draws the same picture, a little otherwise rounded, and takes longer; how much otherwise was measured and
stands in docs/published-models.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

#: Parts of a model that may wait in main memory while another one is at work.
PARTS = ("text", "unet", "control", "codec")
#: Share that an allocator loses between blocks.
FRAGMENTS = 1.1
#: Bytes on a device that are nobody's weights or numbers: workspaces of its libraries.
WORKSPACE = 300_000_000
#: Feature maps of the U-Net's first width that are alive at once in one call, for each branch of guidance. Counted on
#: Stable Diffusion 1.5 without memory, allocation by allocation: 26 at every size, and 24 for its ControlNet; the rest
#: is for the ControlNet's residuals and for workspaces.
MAPS = 40
#: Feature maps of the autoencoder's second width at full size that are alive at once while it decodes. Measured with
#: Stable Diffusion's autoencoder: 4.3 (144 MB at 128 pixels, 362 MB at 256, in float32).
DECODED = 5
#: Side of a tile in windows where decoding is tiled, and what that leaves of its memory: a quarter, and the tiles that
#: are finished.
TILE, TILED = 0.5, 0.3


@dataclass(frozen=True)
class Rung:
    """One way to run a model.

    Attributes:
        name: pinned in the job folder, so it stays.
        on_host: whether the networks run on the CPU, whatever the device is.
        half: whether text encoder, U-Net and ControlNet have two bytes a weight. The autoencoder and what is made of
            numbers (time, metadata, levels) have four on every rung.
        waiting: parts that lie in main memory while they are not used.
        sliced: whether the branches of guidance are asked one after the other.
        tiled: whether windows are decoded in tiles. A tile does not see its neighbours, so colours may differ.
        notice: what the person should know, "" for nothing.
    """

    name: str
    on_host: bool = False
    half: bool = False
    waiting: tuple[str, ...] = ()
    sliced: bool = False
    tiled: bool = False
    notice: str = ""


_SHORT = "The GPU's memory was short: "
_TILED = "pictures were decoded in tiles, whose colours may differ a little"
#: The ladder of a GPU; a CPU has the rungs of it that are ``on_host``.
RUNGS = (
    Rung("whole", half=True),
    Rung(
        "parts",
        half=True,
        waiting=("text", "codec"),
        sliced=True,
        notice=f"{_SHORT}parts of the model waited in main memory, which is slower.",
    ),
    Rung(
        "turns",
        half=True,
        waiting=PARTS,
        sliced=True,
        notice=f"{_SHORT}the networks took turns on it, which is slower.",
    ),
    Rung(
        "tiles",
        half=True,
        waiting=PARTS,
        sliced=True,
        tiled=True,
        notice=f"{_SHORT}the networks took turns on it, which is slower, and {_TILED}.",
    ),
    Rung("processor", on_host=True, notice=f"{_SHORT}this was drawn on the processor, which is much slower."),
    Rung("processor-tiles", on_host=True, sliced=True, tiled=True, notice=f"Memory was short: {_TILED}."),
)


@dataclass(frozen=True)
class Size:
    """What a model takes, in bytes of float32.

    Attributes:
        text: weights of the text encoder.
        unet: weights of the U-Net.
        control: weights of what steers it.
        codec: weights of the autoencoder.
        numbers: weights of what is made of numbers; always on the device, in float32.
        denoising: beside the weights, while one branch of guidance is asked about one window.
        decoding: beside the weights, while one window is decoded.
        branches: of guidance.
    """

    text: int
    unet: int
    control: int
    codec: int
    numbers: int
    denoising: int
    decoding: int
    branches: int = 2

    @property
    def weights(self) -> int:
        """All of them."""
        return self.text + self.unet + self.control + self.codec + self.numbers


def ladder(kind: str) -> tuple[Rung, ...]:
    """The ways to run on a device, by its type as torch names it."""
    if kind != "cpu":
        return RUNGS
    first, *others = (rung for rung in RUNGS if rung.on_host)
    return (replace(first, notice=""), *others)  # no other memory was short


def need(rung: Rung, size: Size) -> int:
    """Bytes that a rung takes at its worst moment where it runs: on the device, or of main memory."""
    width = 0.5 if rung.half else 1.0
    weights = {part: getattr(size, part) * (1.0 if part == "codec" else width) for part in PARTS}
    denoising = size.denoising * width * (1 if rung.sliced else size.branches)
    work = {"text": 0.0, "unet": denoising, "control": denoising if size.control else 0.0}
    work["codec"] = size.decoding * (TILED if rung.tiled else 1.0)
    resident = sum(weights[part] for part in PARTS if part not in rung.waiting)
    peak = max(resident + work[part] + (weights[part] if part in rung.waiting else 0.0) for part in PARTS)
    return round((peak + size.numbers) * FRAGMENTS) + (0 if rung.on_host else WORKSPACE)


def fitting(rungs: Sequence[Rung], first: int, size: Size, free: int | None, free_host: int | None) -> int:
    """Index of the best rung that fits; the last where none does, since a figure is no proof.

    Args:
        rungs: the ladder.
        first: index of the best that may be taken.
        size: of the model.
        free: bytes on the device; None where that is not known, and then it fits.
        free_host: bytes of main memory, with those that the model's own weights already take.
    """
    for index in range(first, len(rungs)):
        room = free_host if rungs[index].on_host else free
        if room is None or need(rungs[index], size) <= room:
            return index
    return len(rungs) - 1
