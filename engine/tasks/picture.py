"""A picture over an extent: windows are denoised on a lattice of latents, blended there, and decoded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import JobContext
from ..contract import FRAMES_MEMORY, GeoBox, Sampling, Window, steps_done
from ..diffusion.cache import TileCache
from ..diffusion.guidance import Predict
from ..diffusion.loop import START, batches
from ..diffusion.phases import can_pause, count, cut, noised, remembers
from ..diffusion.rows import CALLS, in_calls
from ..diffusion.windows import Index, Lattice, blend, shifted
from ..models.base import GenerateModel, Given, Scene
from ..raster import Raster
from .canvas import Canvas
from .chunks import absolute, chunks, relative
from .decoding import make_decoding
from .denoising import REMEMBERED, denoise, lattices_of, noise_of
from .elsewhere import Elsewhere
from .regions import RegionTexts, RegionTold
from .trajectory import Recorder, kept_states

#: A window of the latents: sample from 1, index in the lattice.
Key = tuple[int, Index]
#: A window of absolute pixels of a sample, from 1.
Place = tuple[int, Window]
#: How many of the chunks that come next may fill the places that one leaves over in the network's batches.
AHEAD = 32
#: Bytes of windows of a job that processes leave for each other at most where they leave all.
LEFT_LIMIT = 64 * 1024 * 1024
#: Chunks of which it is remembered what they are made of.
CONES = 256
#: Phase -> its windows that the next chunks will ask for, in that order.
Later = Callable[[int], Iterator[Key]]
#: Pixels (bands, h, w) float32 in 0..1 of a window of the grid, which may reach beyond it -> as they are published.
Finish = Callable[[Tensor, Window], Raster]


class Start(Protocol):
    """What the windows of a picture start from, under noise, where it is not noise alone.

    Attributes:
        strength: how far the picture leaves it: the share of the steps that it takes, above 0 and below 1.
    """

    strength: float

    def draw(self, places: Sequence[Place], ctx: JobContext) -> None:
        """Have all ready that these windows start from."""

    def latents(self, places: Sequence[Place], ctx: JobContext) -> Tensor:
        """What they start from (B, channels, h, w), without noise, on the model's device."""


class Picture:
    """The picture that one request asks for, and what neighbouring chunks of it share.

    Windows lie on a lattice without end that is counted from the origin of the grid's CRS, so that two extents of one
    seed share their pixels. A card that says ``whole`` has an extent of at most one window drawn as one window in its
    middle: what the model was made for, and a quarter of the work.

    A card with several phases has each window go on, after some of the steps, from the blend of all windows that touch
    it. What a window of a phase depends on is a cone of windows that ends, so it stays a function of its place.

    Args:
        grid: what is drawn.
        model: that draws.
        sampling: how.
        scene: what the model is told.
        given: windows, in pixels of ``grid`` counted from its first -> what they are drawn from.
        trajectory: pictures to keep of each sample on its way, itself among them; 0 for none.
        finish: makes what is published of pixels; None for 8 bits a band, all valid.
        dtype: numpy name of the pixel type that ``finish`` makes.
        regions: texts that count in a part of the grid each; the prompt of ``scene`` then counts through them only.
        start: what it starts from; None for noise. It takes at least one step less then. Not with a trajectory.
        canvas: where it is shown as it forms; None for one of its own.
        is_endless: whether it is a part of the endless lattice, however small.
        stream: where its streams of noise begin.
        limit: most bytes of windows that are remembered; None for the usual.

    Raises:
        PromptNotUnderstood: see ``GenerateModel.told``.
        InvalidRequest: likewise.
    """

    def __init__(
        self,
        grid: GeoBox,
        model: GenerateModel,
        sampling: Sampling,
        scene: Scene,
        given: Callable[[Sequence[Window]], Given] = lambda windows: Given(),
        trajectory: int = 0,
        finish: Finish | None = None,
        dtype: str = "uint8",
        regions: RegionTexts | None = None,
        start: Start | None = None,
        canvas: Canvas | None = None,
        is_endless: bool = False,
        stream: int = 0,
        limit: int | None = None,
    ) -> None:
        self._grid, self._model, self._sampling, self._given = grid, model, sampling, given
        self._finish = finish or self._in_bytes
        self._start, self._stream = start, stream
        scheduler = model.scheduler(sampling.scheduler)
        self._lattices, self._origin = place_windows(grid, model, can_pause(scheduler), is_endless)
        #: Steps that the sampler takes, and the first of them that is taken here.
        self._steps = count(scheduler, sampling.steps)
        self._timesteps = scheduler.timesteps
        #: Whether a phase hands the solver's last estimate on with its state.
        self._remembers = remembers(scheduler)
        first = 0 if start is None else max(1, self._steps - steps_done(self._steps, start.strength))
        self._phases = cut(self._steps, len(self._lattices), first)
        self._lattices = shifted(self._lattices[slice(-len(self._phases), None)])  # few steps are fewer phases
        # windows are larger by the pictures of their way: neighbours still find those that they share
        limit = limit or (FRAMES_MEMORY if trajectory else REMEMBERED)
        self._caches = [TileCache(limit // len(self._phases)) for _ in self._phases]
        self._frames = max(1, trajectory)
        self._states = kept_states(sampling.steps, self._frames)
        self._canvas = canvas or Canvas(grid, len(model.card.bands), dtype)
        self._regions = regions
        self._decodings = [make_decoding(model, lattice, self._is_drawn) for lattice in self._lattices]
        self._told: Any = None if regions else model.told(scene)
        self._texts = RegionTold(regions, model, scene, sampling.guidance_scale) if regions else None
        #: Places of the network's calls.
        self._size = model.batch if self._texts is None else self._texts.size
        self._order = chunks(grid, grid.anchor())
        self._next = dict(pairwise(self._order))
        self._cone = lru_cache(CONES)(self._made_of)
        self._elsewhere: Elsewhere | None = None
        #: Phase -> windows of the chunk at work that chunks of other processes are made of, too.
        self._border: list[set[Key]] = []
        #: Whether all windows are left for others, since they take little room: who has no more to do draws chunks that
        #: were another's, and needs windows that were nobody else's when they were drawn.
        self._leaves_all = self._window_bytes() * sampling.samples <= LEFT_LIMIT

    def share(self, elsewhere: Elsewhere) -> None:
        """Draw windows that other processes need, too, only where none of them has left them; leave them what is drawn.

        A window is a function of its place, so who draws it changes no bit.
        """
        self._elsewhere = elsewhere

    def draw(self, chunk: Window, sample: int, ctx: JobContext) -> Raster:
        """The pixels of a chunk (bands, height, width)."""
        for raster in self.draw_frames(chunk, sample, ctx):
            last = raster
        return last

    def draw_frames(self, chunk: Window, sample: int, ctx: JobContext) -> Iterator[Raster]:
        """The pixels of a chunk on their way from noise, and at last those of ``draw``; without a trajectory only they.

        A picture on the way is what the network is shown: noisy pixels, or noisy latents, decoded like clean ones.
        """
        area = absolute(chunk, self._origin)
        self._border = self._shared(chunk, sample)
        later = partial(self._following, chunk, sample)
        # the earlier phases' windows of the chunk itself are wanted only where pictures of them are
        wanted = range(len(self._phases)) if self._states else [len(self._phases) - 1]
        parts = {
            phase: self._tiles(phase, self._deciding(phase, sample, area), later, ctx) for phase in reversed(wanted)
        }
        for frame in range(self._frames):
            phase, first = self._place(frame)
            last = first + self._model.channels
            by_index = {index: tile[first:last] for (_, index), tile in parts[phase].items()}
            pixels = self._decodings[phase].pixels(area, sample * self._frames + frame, by_index, ctx.check)
            raster = self._finish(pixels, chunk)
            if frame + 1 == self._frames:
                self._canvas.paint(raster.pixels, raster.valid, chunk)
                self._canvas.show(ctx)
            yield raster

    def pixels(self, areas: Sequence[Window], sample: int, ctx: JobContext) -> list[Tensor]:
        """The clean pixels (bands, height, width) in 0..1 of areas of absolute pixels, as ``draw`` publishes them."""
        last = len(self._phases) - 1
        keys = sorted({key for area in areas for key in self._deciding(last, sample, area)})
        tiles = self._tiles(last, keys, lambda phase: iter(()), ctx)
        by_index = {index: tile for (_, index), tile in tiles.items()}
        return [self._decodings[last].pixels(area, sample, by_index, ctx.check) for area in areas]

    def _deciding(self, phase: int, sample: int, area: Window) -> list[Key]:
        """The windows of a phase that decide an area of absolute pixels."""
        return self._touching(phase, sample, self._decodings[phase].latents(area))

    def _touching(self, phase: int, sample: int, latents: Sequence[Window]) -> list[Key]:
        """The windows of a phase that decide some latents; those with nothing to draw in or near them are left out."""
        halo = (self._model.decode_halo or 0) * self._model.scale
        found = sorted({index for part in latents for index in self._lattices[phase].touching(part)})
        return [(sample, index) for index in found if self._is_drawn(self._pixels(phase, index).pad(halo))]

    def _is_drawn(self, window: Window) -> bool:
        """Whether anything in a window of absolute pixels is drawn."""
        return self._regions is None or self._regions.is_drawn(relative(window, self._origin))

    def _place(self, frame: int) -> tuple[int, int]:
        """(phase, first channel in its tiles) of a picture on the way, or at last of the sample."""
        if frame == len(self._states):
            phase = len(self._phases) - 1
            return phase, len(self._kept(phase)) * self._model.channels
        phase = self._phase_of(self._states[frame])
        return phase, self._kept(phase).index(self._states[frame]) * self._model.channels

    def _kept(self, phase: int) -> list[int]:
        """The states that are kept of a phase: numbers of steps before them."""
        return [state for state in self._states if self._phase_of(state) == phase]

    def _phase_of(self, state: int) -> int:
        """The phase that begins with a state or walks through it."""
        return next(phase for phase, steps in enumerate(self._phases) if state in steps)

    def _following(self, chunk: Window, sample: int, phase: int) -> Iterator[Key]:
        """The windows of a phase that the chunks after one will ask for, in that order."""
        for _ in range(AHEAD):
            following = self._next.get(chunk)
            if following is None or self._states:  # pictures on their way take much memory
                return
            if self._elsewhere is not None and self._elsewhere.draws(sample, following):
                return
            chunk = following
            yield from self._cone(chunk, sample)[phase]

    def _made_of(self, chunk: Window, sample: int) -> list[list[Key]]:
        """Phase -> its windows that a chunk is made of."""
        found = [self._deciding(-1, sample, absolute(chunk, self._origin))]
        for phase in range(len(self._phases) - 1, 0, -1):
            windows = [self._lattices[phase].window(index) for _, index in found[0]]
            found.insert(0, self._touching(phase - 1, sample, windows))
        return found

    def _shared(self, chunk: Window, sample: int) -> list[set[Key]]:
        """Phase -> its windows that chunks of other processes around this one are made of."""
        if self._elsewhere is None:
            return []
        reach = (self._model.decode_halo or 0) + sum(lattice.size for lattice in self._lattices)
        around = chunk.pad(2 * reach * self._model.scale)  # a window of two chunks lies within the reach of both
        others = [other for other in self._order if other.intersects(around) and self._elsewhere.draws(sample, other)]
        return [
            {key for other in others for key in self._cone(other, sample)[phase]} for phase in range(len(self._phases))
        ]

    def _is_shared(self, phase: int, key: Key) -> bool:
        """Whether another process may need a window, or may have left it."""
        return bool(self._border) and (self._leaves_all or key in self._border[phase])

    def _fetch(self, phase: int, key: Key) -> Tensor | None:
        """A window that another process left for this one."""
        if self._elsewhere is None or not self._is_shared(phase, key):
            return None
        found = self._elsewhere.fetch(_name(phase, key))
        return None if found is None else torch.from_numpy(found)

    def _leave(self, phase: int, key: Key, tile: Tensor) -> None:
        """Leave a window for another process that needs it."""
        if self._elsewhere is not None and self._is_shared(phase, key):
            self._elsewhere.leave(_name(phase, key), tile.numpy())

    def _window_bytes(self) -> int:
        """Of all windows of a sample, at most: those of a phase reach beyond those of the next."""
        numbers = self._model.channels * (1 + self._remembers + len(self._states))
        beyond, total = self._model.decode_halo or 0, 0
        for lattice in reversed(self._lattices):
            sides = (side // self._model.scale + 2 * beyond + lattice.size for side in self._grid.shape)
            total += 4 * numbers * lattice.size**2 * math.prod(side // lattice.stride + 1 for side in sides)
            beyond += lattice.size
        return total

    def _tiles(self, phase: int, keys: list[Key], later: Later, ctx: JobContext) -> dict[Key, Tensor]:
        """Windows after a phase: (channels, h, w) of each kept picture, then of the state, or at last the sample.

        Beside other processes they are drawn a few at a time: before each few it is seen what others left meanwhile.
        Not those that start from a coarser level, whose own calls would have places left over.
        """
        is_split = bool(self._border) and (phase > 0 or self._start is None)
        at_once = self._size * (1 if self._texts is None else CALLS) if is_split else len(keys)
        found: dict[Key, Tensor] = {}
        for first, share in ctx.track(range(0, len(keys), max(1, at_once)), "denoising"):
            stop = first + at_once
            found |= self._caches[phase].get(
                keys[first:stop],
                partial(self._denoise, phase, later, share),
                self._size,
                chain(keys[stop:], later(phase)),
                partial(self._rows, phase),
                partial(self._fetch, phase),
                partial(self._leave, phase),
            )
        return found

    def _rows(self, phase: int, key: Key) -> int:
        """Places that a window of a phase takes in the network's calls."""
        if self._texts is None:
            return 1
        return self._texts.rows(self._window(phase, key[1]), self._timesteps[self._phases[phase].start])

    def _denoise(self, phase: int, later: Later, ctx: JobContext, keys: list[Key]) -> list[Tensor]:
        """See ``_tiles``."""
        model, steps = self._model, self._phases[phase]
        before = phase + (self._start is not None)  # what is drawn before it
        shares = ctx.track(range(before + 1), "denoising")
        below: dict[Key, Tensor] = {}
        if before:
            share = [next(shares)[1] for _ in range(before)][-1]
            if phase:
                below = self._below(phase, keys, later, share)
            elif self._start is not None:
                self._start.draw(self._places(keys), share)
        _, share = next(shares)
        states = tuple(state - steps.start for state in self._kept(phase))
        recorders: list[tuple[list[Key], Recorder]] = []

        def start(batch: list[Key]) -> Tensor:
            if phase == 0 and self._start is not None:
                clean, noise = self._start.latents(self._places(batch), share), self._noise(phase, batch, START)
                scheduler = model.scheduler(self._sampling.scheduler)
                return noised(scheduler, self._sampling.steps, steps.start, clean, noise)
            return torch.stack([below[key] for key in batch]).to(model.device)

        def predict(batch: list[Key]) -> Predict:
            windows = [self._window(phase, index) for _, index in batch]
            given = self._given(windows)
            if self._texts is None:
                guided = model.predictor(self._told, self._sampling.guidance_scale, given)
            else:
                guided = self._texts.predictor(windows, given, ctx.check)
            if not states:
                return guided
            recorders.append((batch, Recorder(guided, states)))
            return recorders[-1][1]

        drawn = denoise(
            keys,
            self._size,
            share,
            self._sampling,
            lambda: model.scheduler(self._sampling.scheduler),
            predict,
            lambda batch, stream: self._noise(phase, batch, stream),
            lambda shown, denoised: self._show(phase, shown, denoised, ctx),
            start if before else None,
            phase=None if steps == range(self._steps) else steps,
            remembered=self._remembers and phase > 0,
            cut=batches if self._texts is None else partial(in_calls, rows=partial(self._rows, phase)),
        )
        if states:
            ways = {key: way.states(place) for batch, way in recorders for place, key in enumerate(batch)}
            drawn = [torch.cat([*ways[key], tile]) for key, tile in zip(keys, drawn)]
        return drawn

    def _below(self, phase: int, keys: list[Key], later: Later, ctx: JobContext) -> dict[Key, Tensor]:
        """What windows of a phase start from: blends of the noisy states (channels, h, w) of the one before.

        Below each lies the blend of the solver's estimates, (2 channels, h, w), where it remembers them.
        """
        channels, kept = self._model.channels, len(self._kept(phase - 1)) * self._model.channels
        channels *= 1 + self._remembers
        found = {}
        lattice, earlier = self._lattices[phase], self._lattices[phase - 1]
        for sample in sorted({number for number, _ in keys}):
            own = [lattice.window(index) for number, index in keys if number == sample]
            tiles = self._tiles(phase - 1, self._touching(phase - 1, sample, own), later, ctx)
            states = {index: tile[kept:] for (_, index), tile in tiles.items()}
            for number, index in keys:
                if number == sample:
                    window = lattice.window(index)
                    near = {other: states[other] for other in earlier.touching(window) if other in states}
                    found[(sample, index)] = blend(earlier, near, window, channels)
        return found

    def _noise(self, phase: int, keys: list[Key], stream: int) -> Tensor:
        model, lattice = self._model, self._lattices[phase]
        return noise_of(keys, self._stream + stream, self._sampling.seed, lattice, model.channels).to(model.device)

    def _places(self, keys: list[Key]) -> list[Place]:
        """The windows of the first phase in absolute pixels."""
        return [(sample, self._pixels(0, index)) for sample, index in keys]

    def _pixels(self, phase: int, index: Index) -> Window:
        """The absolute pixels of a window of a phase."""
        return self._lattices[phase].times(self._model.scale).window(index)

    def _window(self, phase: int, index: Index) -> Window:
        """The same in pixels of the grid."""
        return relative(self._pixels(phase, index), self._origin)

    def _show(self, phase: int, keys: list[Key], denoised: Tensor, ctx: JobContext) -> None:
        """Paint windows that are still forming."""
        if not self._canvas.is_due():
            return
        for (_, index), code in zip(keys, denoised):
            picture = self._model.decode(code[None])[0]  # one by one: how many count differs from batch to batch
            place = self._window(phase, index)
            raster = self._finish(picture.float().cpu(), place)
            self._canvas.paint(raster.pixels, raster.valid, place)
        self._canvas.show(ctx)

    def _in_bytes(self, pixels: Tensor, window: Window) -> Raster:
        every = np.ones((window.height, window.width), np.bool_)
        valid = every if self._regions is None else self._regions.valid(window)
        return Raster(to_bytes(pixels), valid, self._grid.crop(window))


def _name(phase: int, key: Key) -> str:
    """Of a window of a phase, among all of a job."""
    sample, (row, col) = key
    return f"s{sample}_p{phase}_r{row}_c{col}"


def place_windows(
    grid: GeoBox, model: GenerateModel, pauses: bool = True, is_endless: bool = False
) -> tuple[tuple[Lattice, ...], tuple[int, int]]:
    """(the lattice of each phase in latents, where the grid's first pixel lies in the pixels that they count).

    Args:
        grid: what is drawn.
        model: that draws.
        pauses: whether the sampler can be cut into phases; where it cannot, all is done in windows of the model.
        is_endless: whether windows lie on the endless lattice even where one would be enough.
    """
    side = model.window * model.scale
    if model.card.draws_whole(grid.shape) and not is_endless:
        return (Lattice(model.window, model.window),), ((side - grid.height) // 2, (side - grid.width) // 2)
    return lattices_of(model, pauses), grid.anchor()


def to_bytes(picture: Tensor) -> NDArray[np.uint8]:
    """(bands, h, w) float32 in 0..1 -> uint8."""
    return (picture.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
