"""What a request will take: tiles, pixels, time, memory and disk, before any work starts."""

import math
from dataclasses import dataclass
from typing import Optional, Tuple

from .geobox import GeoBox, Window
from .modelcard import ModelCard
from .requests import Edit, Forecast, Generate, Request, SuperResolve

#: Side in output pixels of the square that is computed, committed and never computed again.
CHUNK = 256
#: Most bytes of windows that the engine remembers with their way from noise, where pictures of it are kept.
FRAMES_MEMORY = 512 * 1024 * 1024
#: Most bytes of a coarser level that the engine remembers, as windows, as pixels, and while they are decoded.
COARSE_MEMORY = 256 * 1024 * 1024
#: Rate of two ordinary CPU cores, GFLOP/s, until a finished job has told the real one.
DEFAULT_GFLOPS = 60.0
#: Share of a window that what is drawn may fill for it to be drawn as one window, with the ground around it in sight.
FOCUS = 0.75
#: Network calls that a window of the mean takes: one for each flip and quarter turn of it.
MEAN_CALLS = 8
#: Largest result, in pixels of one band.
PIXELS_LIMIT = 4_000_000_000


@dataclass(frozen=True)
class Estimate:
    """What a request will take.

    Attributes:
        shape: (height, width) of the result in pixels.
        tiles: chunks that are computed and committed one by one, over all samples and the mean.
        windows: network windows over all samples and the mean.
        seconds: wall time, at the rate that was given.
        gflop: work of the networks.
        memory_mb: resident memory of the engine, in MB of 10**6 bytes; an upper bound where pictures on the way from
            noise are kept.
        disk_mb: free space needed while the job runs, results included, in MB of 10**6 bytes.
    """

    shape: Tuple[int, int]
    tiles: int
    windows: int
    seconds: float
    gflop: float
    memory_mb: int
    disk_mb: float


@dataclass(frozen=True)
class Fit:
    """How a model will run in the memory that is free.

    Attributes:
        need_mb: what the best way takes, in MB of 10**6 bytes.
        free_mb: what was free when the engine started.
        way: "whole" where that is enough, "waiting" where parts wait in main memory, "processor" where the GPU is too
            small for any way, "short" where main memory may run out.
        is_gpu: whether this is a GPU's memory.
    """

    need_mb: int
    free_mb: int
    way: str
    is_gpu: bool


def fit(card: ModelCard, found: Estimate, device: str, free_mb: Optional[int]) -> Optional[Fit]:
    """How a job will run in the memory of a device; None where that is not known, or there is nothing to tell.

    Args:
        card: of the model.
        found: the estimate of the job.
        device: name that the engine told, "cpu", "cuda", "cuda:1" or "mps".
        free_mb: free memory that it told.
    """
    if free_mb is None or device == "none":
        return None
    if device == "cpu":
        return Fit(found.memory_mb, free_mb, "short", False) if found.memory_mb > free_mb else None
    if not card.gpu_mb:
        return None
    way = "whole" if card.gpu_mb[0] <= free_mb else "waiting" if min(card.gpu_mb) <= free_mb else "processor"
    return Fit(card.gpu_mb[0], free_mb, way, True)


def estimate(
    request: Request,
    card: ModelCard,
    source: Optional[GeoBox] = None,
    bands: int = 3,
    itemsize: int = 1,
    gflops: float = DEFAULT_GFLOPS,
    area: Optional[Window] = None,
    texts: float = 1.0,
) -> Estimate:
    """Estimate a request.

    Args:
        request: what is asked.
        card: the model that it names.
        source: grid of the source raster, for tasks that have one; of the first of several.
        bands: bands of the result.
        itemsize: bytes per pixel and band of the result.
        gflops: rate of this machine, GFLOP/s.
        area: pixels of the source that an edit changes; None for all, or with a margin for nothing but that.
        texts: that meet in a window on average, where regions have their own; below 1 where nothing is drawn in some.

    Raises:
        ValueError: where a task needs a source grid and none was given.
    """
    samples = request.sampling.samples
    if isinstance(request, Generate):
        drawn, result, groups = request.lattice.shape, request.grid.shape, 1
        calls = 2 if request.sampling.guidance_scale != 1 and "prompt" in card.uses else 1
    elif isinstance(request, SuperResolve):
        if source is None:
            raise ValueError("the grid of the source is needed")
        drawn = result = source.zoom(request.factor).shape
        # a model of given bands draws a picture of them, the others each three bands of the source by themselves
        groups = 1 if card.source_bands else math.ceil(bands / 3)
        calls = 2 if request.sampling.guidance_scale != 1 and "prompt" in card.uses else 1
    elif isinstance(request, Edit):
        if source is None:
            raise ValueError("the grid of the source is needed")
        drawn = result = source.pad(request.margin).shape
        branches = 3 if "image_guidance" in card.uses else 2
        groups, calls = 1, branches if request.sampling.guidance_scale != 1 else 1
    elif isinstance(request, Forecast):
        if source is None:
            raise ValueError("the grid of the first source is needed")
        drawn = result = source.shape
        groups, calls = 1, 2 if request.sampling.guidance_scale > 1 else 1
    else:  # pragma: no cover - Request is a closed union
        raise ValueError("unknown request")
    chunks = math.ceil(drawn[0] / CHUNK) * math.ceil(drawn[1] / CHUNK)
    changed, count = drawn[0] * drawn[1], windows_over(drawn, card)
    if card.phases and not isinstance(request, Edit):
        count = _phased(drawn, card)
    elif isinstance(request, Edit) and source is not None and (request.margin or area is not None):
        changed, count = _changed(source.shape, request.margin, area, card)
    told = isinstance(request, SuperResolve) and request.spread and card.gives_mean  # with the mean, in the same calls
    mean = 1 if told or (isinstance(request, SuperResolve) and request.mean) else 0
    windows = groups * samples * count
    pixels = drawn[0] * drawn[1]
    frames = getattr(request, "trajectory", 0)
    work: float = windows * request.sampling.steps  # windows, one step each
    coarse = 0
    if isinstance(request, Generate) and request.coarse > 1:
        work *= steps_done(request.sampling.steps, request.coarse_strength) / request.sampling.steps
        shape = _coarse(drawn, request.coarse, card)
        coarse = samples * (_phased(shape, card) if card.phases else _touching(shape, card))
        work += coarse * request.sampling.steps
    work += mean * groups * count * MEAN_CALLS
    # what texts are guided away from is asked once in a window, however many they are
    gflop = work * (texts + (calls - 1) * card.guided * min(1.0, texts)) * card.gflop_per_window_step
    if coarse:  # it is decoded, and encoded window by window; encoders take no more than decoders do
        unit = samples * shape[0] * shape[1] + windows * card.window**2
        gflop += unit / 1e6 * card.gflop_decode_per_megapixel
    gflop += groups * samples * (1 + frames) * min(1.0, texts) * changed / 1e6 * card.gflop_decode_per_megapixel
    # finished tiles, the results with their smaller versions (a third more), and what is on its way into one of them:
    # these versions, and the pixels before and after warping; all as if they could not be packed
    out = result[0] * result[1]
    raw = bands * itemsize * ((samples * (1 + frames) + mean) * (pixels + out * 4 / 3) + out / 3)
    if isinstance(request, Generate) and request.lattice != request.grid:
        raw += bands * itemsize * (pixels + out)
    if isinstance(request, SuperResolve) and request.spread:
        raw += bands * 4 * out * 4 / 3
    if source is not None:
        raw += source.pixels * bands * itemsize
    return Estimate(
        shape=result,
        tiles=chunks * (samples * (1 + frames) + mean),
        windows=windows + mean * groups * count + coarse,
        seconds=5.0 + gflop / gflops + (samples * (1 + frames) + mean) * pixels * bands / 2e7,
        gflop=gflop,
        memory_mb=card.memory_mb
        + math.ceil(_frames_memory(frames, windows, card) / 1e6)
        + (math.ceil(COARSE_MEMORY / 1e6) if coarse else 0),
        disk_mb=raw / 1e6 + 10.0,
    )


def steps_done(steps: int, strength: float) -> int:
    """How many of the steps a strength above 0 takes: the last so many, at least one."""
    # 0.7 of 10 steps are 7, though 0.7 * 10 is a little more in floating point
    return max(1, min(steps, math.ceil(steps * strength - 1e-9 * steps)))


def _coarse(drawn: Tuple[int, int], factor: int, card: ModelCard) -> Tuple[int, int]:
    """(height, width) of the part of a coarser level that a picture of so many pixels starts from."""
    rows, cols = (math.ceil((side + 2 * card.reach) / factor) for side in drawn)
    return rows, cols


def _frames_memory(frames: int, windows: int, card: ModelCard) -> int:
    """Most bytes that pictures on the way from noise take beyond what the card says; 0 where none are kept.

    Each window then is ``frames`` float32 pictures of it: those of earlier chunks are remembered up to
    ``FRAMES_MEMORY``, and those of the chunk at work are there twice while they are put together. A card does not say
    how large its latents are: one number a pixel is more than any autoencoder here makes of it, and where there is
    nothing to decode the pictures are the pixels themselves. Most models take less than this.
    """
    numbers = 1 if card.gflop_decode_per_megapixel else len(card.bands)
    window = frames * numbers * card.window * card.window * 4
    at_work = windows_over((CHUNK, CHUNK), card)  # a small extent is drawn in whole squares too
    return min(FRAMES_MEMORY, max(windows, at_work) * window) + 2 * at_work * window


def is_one_window(drawn: Tuple[int, int], changed: Tuple[int, int], card: ModelCard) -> bool:
    """Whether an edit is drawn as one window: all of its raster fits in it, or what changes does with room to spare.

    Args:
        drawn: (height, width) of the result.
        changed: (height, width) around all that is drawn anew.
        card: of the model.
    """
    return card.draws_whole(drawn) or (card.whole and max(changed) <= FOCUS * card.window)


def _changed(source: Tuple[int, int], margin: int, area: Optional[Window], card: ModelCard) -> Tuple[int, int]:
    """(pixels, windows) that an edit draws anew: inside an area of its source, and a margin around that."""
    inner = (0, 0) if area is None else (area.height, area.width)
    outer = (source[0] + 2 * margin, source[1] + 2 * margin)
    pixels = inner[0] * inner[1] + outer[0] * outer[1] - source[0] * source[1]
    if is_one_window(outer, outer if margin else inner, card):
        return pixels, 1
    windows = 0 if area is None else _touching(inner, card)
    if margin:  # those that lie within the source draw nothing
        kept = (max(0, (side - card.window) // card.stride) for side in source)
        windows += _touching(outer, card) - math.prod(kept)
    return pixels, windows


def windows_over(shape: Tuple[int, int], card: ModelCard) -> int:
    """Windows that a picture of so many pixels takes."""
    return 1 if card.draws_whole(shape) else _touching(shape, card)


def _phased(shape: Tuple[int, int], card: ModelCard) -> int:
    """The same where phases have windows of their own: as many of the card's as take as much work."""
    if card.draws_whole(shape):
        return 1
    pixels, beyond = 0.0, card.halo
    for window, stride in reversed(card.phases):
        rows, cols = (math.ceil((side + window + 2 * beyond) / stride) for side in shape)
        pixels += rows * cols * window * window / len(card.phases)
        beyond += window - stride // 2  # an earlier phase is drawn wherever the windows of a later one lie
    return math.ceil(pixels / card.window**2)


def _touching(shape: Tuple[int, int], card: ModelCard) -> int:
    """Windows of the lattice that touch so many pixels and the halo around them."""
    rows, cols = (math.ceil((pixels + card.window + 2 * card.halo) / card.stride) for pixels in shape)
    return rows * cols
