"""What a job sees of the world around it: how far it is, whether it should stop, and a place to show a preview."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from .contract import Event, Previewed, Progressed
from .errors import JobCancelled
from .raster import Raster, write_preview

log = logging.getLogger(__name__)
T = TypeVar("T")
Emit = Callable[[Event], None]

#: Seconds between two events of one kind, at least.
PREVIEW_INTERVAL = 1.0
PROGRESS_INTERVAL = 0.1


class JobContext:
    """A job's share of progress, from ``first`` to ``last`` (fractions of the whole job).

    A long loop is written ``for tile, part in ctx.track(tiles, "tiles"):``, and inside it
    ``for step, _ in part.track(steps, "denoising"):``; so whatever shows progress can also be cancelled.

    Args:
        job: id of the job.
        emit: takes the events.
        cancelled: set from another thread to stop the job.
        previews: folder for preview rasters, inside the job folder; None to show nothing.
        clock: seconds, only rising.
    """

    def __init__(
        self,
        job: str,
        emit: Emit,
        cancelled: threading.Event,
        previews: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meter = _Meter(job, emit, cancelled, previews, clock)
        self._first, self._last = 0.0, 1.0

    def check(self) -> None:
        """Stop here if the person asked for it. Cheap; call it inside loops that show no progress.

        Raises:
            JobCancelled: when the job was cancelled.
        """
        if self._meter.cancelled.is_set():
            raise JobCancelled

    def part(self, first: float, last: float, timed: bool = False) -> JobContext:
        """The context of one phase: a share of this context's share.

        Args:
            first: where the phase begins, 0 to 1 of this context.
            last: where it ends.
            timed: whether the phase is long and even enough to tell the time left from.
        """
        child = self._child(first, last)
        self._meter.begin(child._first, timed)
        return child

    def track(self, items: Iterable[T], stage: str) -> Iterator[tuple[T, JobContext]]:
        """Each item with the context of its share, telling progress and stopping between items when cancelled.

        Args:
            items: what to loop over; all are fetched first, because their number must be known.
            stage: a word for what is being done.

        Raises:
            JobCancelled: when the job was cancelled.
        """
        known = list(items)
        for index, item in enumerate(known):
            self.check()
            child = self._child(index / len(known), (index + 1) / len(known))
            self._meter.report(stage, child._first)
            yield item, child
        self.check()
        self._meter.report(stage, self._last)

    def tell(self, stage: str) -> None:
        """Say what is being done now, where there is no loop to track."""
        self.check()
        self._meter.report(stage, self._first)

    def reach(self, stage: str, fraction: float) -> None:
        """Say how far this context's share is, where others do the work; it only rises."""
        self._meter.report(stage, self._first + fraction * (self._last - self._first))

    def anew(self) -> JobContext:
        """A context of the same job whose progress begins at 0 again: for one piece of work of many."""
        meter = self._meter
        return JobContext(meter.job, meter.emit, meter.cancelled, meter.previews, meter.clock)

    @property
    def shows(self) -> bool:
        """Whether previews are shown to anybody."""
        return self._meter.previews is not None

    def preview(self, raster: Raster) -> None:
        """Show how the picture forms: at most one a second, the others are dropped."""
        self.check()
        self._meter.preview(raster)

    def _child(self, first: float, last: float) -> JobContext:
        child = object.__new__(JobContext)
        span = self._last - self._first
        child._meter, child._first, child._last = self._meter, self._first + first * span, self._first + last * span
        return child


class _Meter:
    """What all contexts of one job share: one fraction that only rises, one clock, one preview."""

    def __init__(
        self, job: str, emit: Emit, cancelled: threading.Event, previews: Path | None, clock: Callable[[], float]
    ) -> None:
        self.job, self.emit, self.cancelled, self.previews, self.clock = job, emit, cancelled, previews, clock
        self.fraction, self.stage = 0.0, ""
        self.anchor: tuple[float, float] | None = None  # (time, fraction) that the rate is measured from
        self.reported = self.previewed = float("-inf")
        self.shown = 0

    def begin(self, fraction: float, timed: bool) -> None:
        self.anchor = (self.clock(), fraction) if timed else None

    def report(self, stage: str, fraction: float) -> None:
        now = self.clock()
        self.fraction = min(max(self.fraction, fraction), 1.0)
        if stage == self.stage and now - self.reported < PROGRESS_INTERVAL and self.fraction < 1.0:
            return
        self.stage, self.reported = stage, now
        self.emit(Progressed(self.job, stage, self.fraction, self._seconds_left(now)))

    def _seconds_left(self, now: float) -> float | None:
        if self.anchor is None or self.fraction <= self.anchor[1] or now <= self.anchor[0]:
            return None
        rate = (self.fraction - self.anchor[1]) / (now - self.anchor[0])
        return (1.0 - self.fraction) / rate

    def preview(self, raster: Raster) -> None:
        now = self.clock()
        if self.previews is None or now - self.previewed < PREVIEW_INTERVAL:
            return
        self.previewed = now
        # A new name each time: the one before may still be open in QGIS.
        path = self.previews / f"preview_{self.shown:05d}.tif"
        try:
            self.previews.mkdir(parents=True, exist_ok=True)
            write_preview(path, raster)
        except OSError as error:
            log.debug("no preview: %s", error)  # a picture that nobody misses is no reason to end a job
            return
        if self.shown >= 2:
            _remove_if_free(self.previews / f"preview_{self.shown - 2:05d}.tif")
        self.shown += 1
        self.previewed = self.clock()
        self.emit(Previewed(self.job, str(path)))


def _remove_if_free(path: Path) -> bool:
    """Remove a file, unless another program holds it open (Windows): then it goes with the job folder."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True
