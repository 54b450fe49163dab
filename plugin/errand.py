"""An errand: what is done once on a worker thread, because the main thread has no time for it."""

from typing import Callable

from qgis.PyQt.QtCore import QRunnable, QThreadPool


def send(work: Callable[[], None], then: Callable[[], None] = lambda: None) -> None:
    """Have something done as soon as a worker thread is free, and something else after it, whatever became of it.

    Args:
        work: what takes long.
        then: comes after it, on the same thread.
    """
    QThreadPool.globalInstance().start(_Errand(work, then))


class _Errand(QRunnable):
    def __init__(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        super().__init__()
        self._work = work
        self._then = then

    def run(self) -> None:
        """On a worker thread."""
        try:
            self._work()
        finally:
            self._then()
