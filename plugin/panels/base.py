"""What each panel is to the dock: a form that becomes a draft of a job."""

import json
from typing import Dict, List, Optional, Tuple

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import DEFAULT_GFLOPS, PIXELS_LIMIT, ErrorCode, Estimate, Failure, GeoBox, ModelCard
from .. import settings
from ..jobs import Draft
from ..report import tr
from ..widgets.numbers import count
from ..widgets.output import OutputInput


class Panel(QWidget):
    """The form of one task.

    Signals:
        changed: some input is another; comes often and says nothing about validity.

    Attributes:
        task: name of the request's type.
        key: where ``settings`` keeps what the form held last.
        output: where the result goes.
    """

    changed = pyqtSignal()
    task = ""
    key = ""
    output: OutputInput

    @classmethod
    def title(cls) -> str:
        """Name of the task, on the dock's tab."""
        raise NotImplementedError

    def set_cards(self, cards: Tuple[ModelCard, ...]) -> None:
        """Offer these models."""
        raise NotImplementedError

    def problems(self) -> List[Failure]:
        """Why no job can start with what the form holds, the first to solve first; empty when one can."""
        raise NotImplementedError

    def draft(self) -> Draft:
        """What the form asks for.

        Raises:
            Problem: where ``problems`` would not be empty.
        """
        raise NotImplementedError

    def estimate(self, gflops: float = DEFAULT_GFLOPS) -> Optional[Estimate]:
        """What the job would take at a rate of so many GFLOP/s; None while the form has problems."""
        raise NotImplementedError

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        raise NotImplementedError

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        raise NotImplementedError

    def remember(self) -> None:
        """Keep what the form holds."""
        settings.write(self.key, json.dumps(self.held()))

    def submitted(self) -> None:
        """A job was made of the form: keep what it holds, but not its file, which the next run would replace."""
        self.remember()
        self.output.clear()

    def recall(self) -> None:
        """Show what was kept."""
        try:
            values = json.loads(settings.read(self.key) or "{}")
        except ValueError:  # edited by hand
            values = {}
        self.hold(values if isinstance(values, dict) else {})


def no_model(task: str) -> Failure:
    """No card can do the task."""
    return Failure(
        ErrorCode.UNKNOWN_MODEL,
        tr("No model for this task is installed."),
        tr("Install the plugin again: it brings one."),
        detail=task,
    )


def too_large(grid: GeoBox) -> List[Failure]:
    """The failure of a grid with more pixels than a job may have; empty for others."""
    if grid.pixels <= PIXELS_LIMIT:
        return []
    return [
        Failure(
            ErrorCode.EXTENT_TOO_LARGE,
            tr("The result would have {pixels} pixels, at most {limit} are possible.").format(
                pixels=count(grid.pixels), limit=count(PIXELS_LIMIT)
            ),
            tr("Choose a smaller extent or a coarser resolution."),
        )
    ]
