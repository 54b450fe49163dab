"""The tiles of one piece of work: drawn once, read as often as needed."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .context import JobContext
from .contract import Job, Window, dumps
from .errors import EngineError, OutOfMemory, OutputDamaged
from .journal import JobFolder, key_of
from .moved import Handover
from .raster import Packed, Parts, Profile, Raster
from .tasks.base import MEAN, Work
from .tiles import Committer

#: Number of the frame that a chunk of the mean has beside it: its standard deviation.
SPREAD = 1


class NotCommitted(OutOfMemory):
    """A chunk is drawn, and there is no memory to write it."""


class Finished:
    """The tiles of one piece of work: drawn once, read as often as needed.

    Args:
        job: the job.
        work: its plan.
        folder: where the tiles lie.
        make_room: takes what went wrong while a chunk was drawn, and makes the model run in a way that it does not come
            from; whether there is one.
        is_owner: whether this process holds the folder's lock, and so may clear up in it.
        is_here: whether this process draws; one that only plans may have another device.

    Attributes:
        key: hash of all that decides the pixels: two processes with the same one draw the same.
    """

    def __init__(
        self,
        job: Job,
        work: Work,
        folder: JobFolder,
        make_room: Callable[[Exception], bool] = lambda error: False,
        is_owner: bool = True,
        is_here: bool = True,
    ) -> None:
        self.job, self.work, self.pins = job, work, folder.pins()
        self._make_room, self._is_here = make_room, is_here
        decides = {
            "request": dumps(job.request),
            # tiles that were drawn in another way, to save memory, differ in their last digits: they are kept
            "pins": {name: value for name, value in self.pins.items() if name != "memory"},
            "weights": work.card.weights,
            "inputs": [item.sha256 for item in work.inputs],
            "drawn": dumps(work.drawn),
            "profile": dataclasses.asdict(work.profile),
        }
        self.key = key_of(decides)
        image = work.drawn.shape if work.drawn == work.result else None
        self._tiles, self._folder = folder.tiles(decides, image), folder
        self._write = self._tiles.write
        if is_owner:
            self._tiles.prepare()

    @property
    def samples(self) -> range:
        """Numbers of the samples, from 1."""
        return range(1, self.job.request.sampling.samples + 1)

    @property
    def pictures(self) -> tuple[int, ...]:
        """Numbers of what is drawn, in order, the lowest first: ``MEAN`` if it is of use, and the samples."""
        work = self.work
        return (*([MEAN] if work.mean or (work.spread and work.told is not None) else []), *self.samples)

    @property
    def total(self) -> int:
        """Chunks over all samples and the mean."""
        return len(self.pictures) * len(self.work.chunks)

    def missing(self) -> list[tuple[int, Window]]:
        """What is still to draw, in order: (sample or ``MEAN``, chunk)."""
        return [(s, chunk) for s in self.pictures for chunk in self.work.chunks if not self._tiles.has(s, chunk)]

    def draw(self, sample: int, chunk: Window, ctx: JobContext) -> Raster:
        """Draw a chunk and commit it; once more after an error, where there is another way to draw it."""
        while (drawn := self._drawn(sample, chunk, ctx)) is None:
            ctx.check()
        return drawn

    def _drawn(self, sample: int, chunk: Window, ctx: JobContext) -> Raster | None:
        """A chunk, drawn and committed; None where that failed and may go well now."""
        try:
            return self._draw(sample, chunk, ctx)
        except NotCommitted:
            raise  # it is drawn: no other way to draw it helps
        except (EngineError, MemoryError, RuntimeError) as error:
            traceback.clear_frames(error.__traceback__)  # they hold on to the memory that there is too little of
            if not self._make_room(error):
                raise
            return None

    def _draw(self, sample: int, chunk: Window, ctx: JobContext) -> Raster:
        """First the pictures on its way from noise, if any are kept, then the chunk itself.

        A crash in between leaves the chunk missing, so it is drawn again with its whole way.
        """
        work = self.work
        if sample == MEAN and work.told is not None:
            mean, spread = work.told(chunk, ctx)
            self._commit(spread, sample, chunk, SPREAD, spread_profile(work.profile))
            return self._commit(mean, sample, chunk, 0)
        if work.draw_frames is None:
            return self._commit(work.draw(chunk, sample, ctx), sample, chunk, 0)
        numbers = [*range(1, work.frames), 0]
        for number, raster in zip(numbers, work.draw_frames(chunk, sample, ctx), strict=True):
            last = self._commit(raster, sample, chunk, number)
        return last

    def _commit(self, raster: Raster, sample: int, chunk: Window, frame: int, profile: Profile | None = None) -> Raster:
        profile, shape = profile or self.work.profile, (len(self.work.profile.bands), chunk.height, chunk.width)
        if raster.pixels.shape != shape or raster.pixels.dtype.name != profile.dtype:
            raise EngineError(
                f"The model drew {raster.pixels.dtype} {raster.pixels.shape}, not {profile.dtype} {shape}."
            )
        if raster.pixels.dtype.kind == "f" and not np.isfinite(raster.pixels[:, raster.valid]).all():
            raise EngineError("The model drew numbers that are not finite.", "Choose other settings or another model.")
        filled = Raster(profile.fill(raster), raster.valid, raster.grid)  # as it will stand in a file
        try:
            self._write(sample, chunk, filled, frame)
        except MemoryError as error:
            raise NotCommitted("A finished tile could not be packed: memory is short.") from error
        return filled

    def read(self, sample: int, chunk: Window, ctx: JobContext, frame: int = 0) -> Raster:
        """A finished chunk, or a picture on its way; drawn again where the disk gave back something else.

        Raises:
            OutputDamaged: for a picture on its way that cannot be read even after that, and where others draw.
        """
        found = self._tiles.read(sample, chunk, self.work.drawn, frame)
        if found is not None:
            return found
        if not self._is_here:
            self._tiles.drop(sample, chunk)
            raise OutputDamaged(
                "A finished tile cannot be read back, and this machine does not have the device that drew it.",
                "Resume the job in the same way: that tile is drawn again, and no other.",
            )
        drawn = self.draw(sample, chunk, ctx)
        if frame == 0:
            return drawn
        found = self._tiles.read(sample, chunk, self.work.drawn, frame)
        if found is None:
            raise OutputDamaged("A finished tile cannot be read back.")
        return found

    def committed(self, sample: int, chunk: Window) -> Raster | None:
        """A chunk as it lies on the disk; None where it is not there, or not whole."""
        return self._tiles.read(sample, chunk, self.work.drawn)

    def pin_memory(self, way: str) -> None:
        """Note the way in which memory makes those who draw run the model."""
        self._folder.repin("memory", way)

    def drawn(self) -> tuple[int, Window] | None:
        """A chunk that is finished and was drawn, not left out; None where there is none."""
        left_out = set(self._folder.left_out(self.key))
        every = ((s, chunk) for s in self.pictures for chunk in self.work.chunks)
        return next((piece for piece in every if piece not in left_out and self._tiles.has(*piece)), None)

    def gaps(self) -> list[tuple[int, Window]]:
        """The chunks that were left out, and were not drawn since."""
        known = ((piece, self.committed(*piece)) for piece in self._folder.left_out(self.key))
        return [piece for piece, raster in known if raster is not None and not raster.valid.any()]

    def hand_over(self, sample: int, target: Path) -> Handover:
        """What the result of a sample, or the mean, is written through, so that its tiles go on the way."""
        return self._tiles.hand_over(sample, self.work.chunks, target, self.work.profile)

    def held_twice(self) -> int:
        """Bytes on the disk that stand there twice, at most, while the results of a job that broke off are written."""
        sizes = [self._tiles.moved_sizes(sample) for sample in self.pictures]
        return max(begun for begun, _ in sizes) + sum(published for _, published in sizes)

    def leave_out(self, sample: int, chunk: Window) -> None:
        """Give up a chunk that cannot be drawn: it holds no data, and the job folder says so."""
        shape = (len(self.work.profile.bands), chunk.height, chunk.width)
        grid = self.work.drawn.crop(chunk)
        empty = Raster(np.zeros(shape, self.work.profile.dtype), np.zeros(shape[1:], np.bool_), grid)
        empty = Raster(self.work.profile.fill(empty), empty.valid, grid)
        # first: a crash in between leaves a note of a chunk that is still to be drawn, and no gap without a note
        self._folder.leave_out(sample, chunk, self.key)
        if sample == MEAN and self.work.told is not None:
            unknown = Raster(np.full(shape, np.nan, np.float32), empty.valid, grid)
            self._tiles.write(sample, chunk, unknown, SPREAD)
        for frame in [*range(1, self.work.frames), 0]:
            self._tiles.write(sample, chunk, empty, frame)

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Within the block, chunks that are drawn are committed in a thread of its own; at its end all of them are.

        Raises:
            OSError: where one could not be, from the next ``draw`` on.
        """
        with Committer(self._tiles) as committer:
            self._write = committer.write
            try:
                yield
            finally:
                self._write = self._tiles.write

    def parts(self, sample: int, ctx: JobContext, frame: int = 0) -> Parts:
        """All chunks of a sample, the mean, or a picture on its way from noise; the last of these is the sample."""
        number = 0 if frame == self.work.frames else frame
        again = ctx.part(0.0, 0.0)  # a chunk that must be drawn once more is no progress

        def packed(chunk: Window) -> Packed | None:
            found = self._tiles.packed(sample, chunk, number)
            if found is None:
                self.read(sample, chunk, again, number)
                found = self._tiles.packed(sample, chunk, number)
            return found

        return Parts(self.work.chunks, lambda chunk: self.read(sample, chunk, again, number), packed)

    def spread(self, ctx: JobContext) -> Parts:
        """Per-pixel standard deviation, float32: as the model told it, or over the samples. Source: Welford 1962."""
        again = ctx.part(0.0, 0.0)
        if self.work.told is not None:
            return Parts(self.work.chunks, lambda chunk: self.read(MEAN, chunk, again, SPREAD))

        def read(chunk: Window) -> Raster:
            shape = (len(self.work.profile.bands), chunk.height, chunk.width)
            mean, squares, valid = np.zeros(shape), np.zeros(shape), np.ones(shape[1:], bool)
            for count, sample in enumerate(self.samples, start=1):
                raster = self.read(sample, chunk, again)
                values = np.where(raster.valid, raster.pixels, 0).astype(np.float64)
                change = values - mean
                mean += change / count
                squares += change * (values - mean)
                valid &= raster.valid
            spread = np.sqrt(squares / max(1, len(self.samples) - 1)).astype(np.float32)
            return Raster(spread, valid, self.work.drawn.crop(chunk))

        return Parts(self.work.chunks, read)


def spread_profile(profile: Profile) -> Profile:
    """Of the standard deviation of values: it has their unit and scale, and no offset."""
    names = tuple(f"spread of {name}" for name in profile.bands)
    return Profile("float32", names, float("nan"), scales=profile.scales, units=profile.units)
