"""What each panel is to the dock: a form that becomes a draft of a job."""

import json
from typing import Dict, List, Optional, Tuple

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QVBoxLayout, QWidget

from ...engine.contract import DEFAULT_GFLOPS, PIXELS_LIMIT, ErrorCode, Estimate, Failure, GeoBox, ModelCard
from .. import settings
from ..jobs import Draft
from ..report import tr
from ..widgets.advanced import AdvancedBox
from ..widgets.fields import Fields
from ..widgets.model import ModelInput
from ..widgets.numbers import count, metres
from ..widgets.output import OutputInput
from ..widgets.sampling import SamplesInput, SamplingInput
from ..widgets.seed import SeedInput


class Panel(QWidget):
    """The form of one task, with the inputs that every task has.

    Signals:
        changed: some input is another; comes often and says nothing about validity.

    Attributes:
        task: name of the request's type.
        key: where ``settings`` keeps what the form held last.
        guided: whether the task has guidance at all.
        model: which model.
        seed: which of the many pictures.
        samples: how many.
        sampling: how they are drawn.
        output: where the result goes.
        fields: the form.
        more: the form below "Advanced".
    """

    changed = pyqtSignal()
    task = ""
    key = ""
    guided = True

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        """Make the inputs that every task has; a panel lays them out with its own and then calls ``_follow``."""
        super().__init__(parent)
        self.model = ModelInput(self.task)
        self.seed = SeedInput()
        self.samples = SamplesInput()
        self.sampling = SamplingInput(self.guided)
        self.output = OutputInput()
        self.fields = Fields()
        self.more = Fields()
        self.advanced = AdvancedBox()
        self.fields.add(tr("&Model"), self.model, self.model.combo)

    def _add_samples(self) -> None:
        self.fields.add(tr("Sa&mples"), self.samples, tip=tr("How many different pictures to draw"))

    def _add_seed_and_output(self) -> None:
        self.fields.add(tr("&Seed"), self.seed, self.seed.number, tr("The number that a picture grows from"))
        self.fields.add(tr("Sa&ve to"), self.output, self.output.file.lineEdit(), tr("A new GeoTIFF"))

    def _stack(self) -> None:
        """Put the form above what most runs leave as it is."""
        content = QWidget()  # in one piece: opening the box would show each child of its own, hidden rows too
        inner = QVBoxLayout(content)
        inner.setContentsMargins(0, 0, 0, 0)
        if self.more.rowCount():
            inner.addLayout(self.more)
        inner.addWidget(self.sampling)
        QVBoxLayout(self.advanced).addWidget(content)
        column = QVBoxLayout(self)
        column.addLayout(self.fields)
        column.addWidget(self.advanced)
        column.addStretch(1)

    def _follow(self, *inputs: QWidget) -> None:
        """Announce each change of these inputs and of those that every task has."""
        for widget in (*inputs, self.seed, self.sampling, self.output):
            widget.changed.connect(self._announce)
        self.samples.valueChanged.connect(self._announce)
        self.model.changed.connect(self._follow_model)

    def _follow_model(self) -> None:
        if self.model.card is not None:
            self._show_card(self.model.card)
            self.sampling.set_card(self.model.card)
        self._announce()

    def _show_card(self, card: ModelCard) -> None:
        """Follow another model."""
        raise NotImplementedError

    def _write_notes(self) -> None:
        """Bring the remarks below the inputs up to date."""
        raise NotImplementedError

    def _announce(self, *_: object) -> None:
        self._write_notes()
        self.changed.emit()

    @classmethod
    def title(cls) -> str:
        """Name of the task, on the dock's tab."""
        raise NotImplementedError

    def set_cards(self, cards: Tuple[ModelCard, ...]) -> None:
        """Offer these models."""
        self.model.set_cards(cards)

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

    @property
    def is_least(self) -> bool:
        """Whether the job may take longer than estimated, because not all that it draws was looked at."""
        return False

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        return {
            "model": "" if self.model.card is None else self.model.card.id,
            "samples": self.samples.value(),
            **self.seed.held(),
        }

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        self.model.pick(str(values.get("model", "")))
        self.samples.hold(values.get("samples"))
        self.seed.hold(values)

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
        tr("Click Models\u2026 to fetch or import one."),
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


def out_of_reach(card: ModelCard, gsd: float, hint: str) -> List[Failure]:
    """The failure of a ground resolution that a model cannot draw; empty for others.

    Args:
        card: of the model.
        gsd: metres on the ground of one pixel.
        hint: what to do, with {finest} and {coarsest}.
    """
    if card.reaches(gsd):
        return []
    return [
        Failure(
            ErrorCode.UNSUPPORTED_RESOLUTION,
            tr("This model cannot draw pixels of {size}.").format(size=metres(gsd)),
            hint.format(finest=metres(card.gsd[0] / card.GSD_REACH), coarsest=metres(card.gsd[1] * card.GSD_REACH)),
        )
    ]
