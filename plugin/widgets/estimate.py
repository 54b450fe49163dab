"""What a request will take, in one line, and why it cannot start, in one sentence."""

from typing import List, Optional

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QLabel, QWidget

from ...engine.contract import Estimate, Fit
from ..report import tr
from .numbers import count, duration, megabytes

_SEPARATOR = "\u00a0\u00b7 "


def sentence(estimate: Estimate, is_least: bool = False) -> str:
    """The estimate as a line: size, tiles, time, memory, disk; the time may be a least one."""
    height, width = estimate.shape
    parts: List[str] = [tr("{width} \u00d7 {height} px").format(width=count(width), height=count(height))]
    if estimate.tiles == 1:
        parts.append(tr("1 tile"))
    else:
        parts.append(tr("{tiles} tiles").format(tiles=count(estimate.tiles)))
    said = tr("at least {time}") if is_least else tr("about {time}")
    parts.append(said.format(time=duration(estimate.seconds)))
    if estimate.memory_mb:
        parts.append(tr("{size} memory").format(size=megabytes(estimate.memory_mb)))
    parts.append(tr("{size} disk").format(size=megabytes(estimate.disk_mb)))
    # each part stays whole where the line is broken
    return _SEPARATOR.join(part.replace(" ", "\u00a0") for part in parts)


def room(fit: Fit) -> str:
    """How a model will run in the memory that is free, in a sentence."""
    need, free = megabytes(fit.need_mb), megabytes(fit.free_mb)
    if not fit.is_gpu:
        said = tr("Needs about {need} of memory, and {free} are free: it may run out. Close other programs first.")
    elif fit.way == "whole":
        said = tr("Needs about {need} of the GPU's memory; {free} are free.")
    elif fit.way == "waiting":
        said = tr("Needs about {need}; {free} are free on this GPU: parts wait in main memory, which is slower.")
    else:
        said = tr("Needs about {need}; {free} are free on this GPU: it is drawn on the processor, much slower.")
    return said.format(need=need.replace(" ", "\u00a0"), free=free.replace(" ", "\u00a0"))


class EstimateLine(QLabel):
    """The line above the Run button."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make an empty line."""
        super().__init__(parent)
        self.setObjectName("estimate")
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setAccessibleName(tr("Estimate"))
        self.setToolTip(
            tr("What this run will take on this machine. The time learns from the jobs that you have finished.")
        )

    def show_estimate(self, estimate: Optional[Estimate], fit: Optional[Fit] = None, is_least: bool = False) -> None:
        """Show an estimate, or nothing; with how the model fits the memory, where the engine has told that.

        Args:
            estimate: None for nothing.
            fit: how the model will run.
            is_least: whether the job may take longer, because not all that it draws was looked at.
        """
        lines = [] if estimate is None else [sentence(estimate, is_least), *([room(fit)] if fit is not None else [])]
        self.setText("\n".join(lines))
        self.setVisible(estimate is not None)
