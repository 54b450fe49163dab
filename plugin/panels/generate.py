"""Imagery over an extent, on a date, from a text: the form of ``Generate``."""

from typing import Dict, List, Optional, Tuple

from qgis.core import QgsProject
from qgis.gui import (
    QgsDoubleSpinBox,
    QgsMapCanvas,
)
from qgis.PyQt.QtWidgets import QVBoxLayout, QWidget

from ...engine.contract import DEFAULT_GFLOPS, ErrorCode, Estimate, Failure, Generate, ModelCard, estimate
from ..jobs import Draft
from ..maps.grid import Place, crs_of, place
from ..report import Problem, tr
from ..widgets.about import gsd_range
from ..widgets.advanced import AdvancedBox
from ..widgets.crs import CrsInput
from ..widgets.dates import DateInput
from ..widgets.extent import ExtentInput
from ..widgets.fields import Fields
from ..widgets.model import ModelInput
from ..widgets.numbers import metres
from ..widgets.output import OutputInput
from ..widgets.prompt import PromptInput
from ..widgets.sampling import SamplesInput, SamplingInput
from ..widgets.seed import SeedInput
from .base import Panel, no_model, too_large


class GeneratePanel(Panel):
    """The form of ``Generate``."""

    task = "Generate"
    key = "generate/form"

    def __init__(self, canvas: Optional[QgsMapCanvas] = None, parent: Optional[QWidget] = None) -> None:
        """Make an empty form.

        Args:
            canvas: map to take the extent from and to draw it on.
            parent: as usual.
        """
        super().__init__(parent)
        self._placed: Tuple[object, object] = (None, None)
        self.model = ModelInput(self.task)
        self.extent = ExtentInput(canvas)
        self.date = DateInput()
        self.prompt = PromptInput()
        self.negative = PromptInput(lines=2)
        self.negative.edit.setObjectName("negative_prompt")
        self.gsd = QgsDoubleSpinBox()
        self.gsd.setObjectName("gsd")
        self.gsd.setDecimals(2)
        self.gsd.setSuffix(tr(" m"))
        self.crs = CrsInput()
        self.seed = SeedInput()
        self.samples = SamplesInput()
        self.sampling = SamplingInput(guided=True)
        self.output = OutputInput()
        self._lay_out()
        for widget in (self.extent, self.date, self.prompt, self.negative, self.seed, self.sampling, self.output):
            widget.changed.connect(self._announce)
        self.gsd.valueChanged.connect(self._announce)
        self.samples.valueChanged.connect(self._announce)
        self.crs.crsChanged.connect(self._announce)
        self.model.changed.connect(self._follow_model)

    def _lay_out(self) -> None:
        self.fields = Fields()
        self.fields.add(tr("&Model"), self.model, self.model.combo)
        self.fields.add(tr("E&xtent"), self.extent, self.extent.edit, tr("Where the picture should be"))
        self.fields.add(tr("&Prompt"), self.prompt, self.prompt.edit, tr("What the picture should show"))
        self.fields.add(tr("&Date"), self.date, self.date.edit, tr("When the picture should have been taken"))
        self.fields.add(tr("&Resolution"), self.gsd, tip=tr("Metres on the ground of one pixel"))
        self.fields.add(tr("Sa&mples"), self.samples, tip=tr("How many different pictures to draw"))
        self.fields.add(tr("&Seed"), self.seed, self.seed.number, tr("The number that a picture grows from"))
        self.fields.add(tr("Sa&ve to"), self.output, self.output.file.lineEdit(), tr("A new GeoTIFF"))
        self.advanced = AdvancedBox()
        self.more = Fields()
        self.more.add(tr("Avo&id"), self.negative, self.negative.edit, tr("What the picture should not show"))
        self.more.add(tr("&CRS"), self.crs, self.crs.focusProxy(), tr("Coordinate reference system of the result"))
        inner = QVBoxLayout(self.advanced)
        inner.addLayout(self.more)
        inner.addWidget(self.sampling)
        column = QVBoxLayout(self)
        column.addLayout(self.fields)
        column.addWidget(self.advanced)
        column.addStretch(1)

    @classmethod
    def title(cls) -> str:
        """Name of the task, on the dock's tab."""
        return tr("Generate")

    def set_cards(self, cards: Tuple[ModelCard, ...]) -> None:
        """Offer these models."""
        self.model.set_cards(cards)

    def problems(self) -> List[Failure]:
        """Why no job can start with what the form holds, the first to solve first; empty when one can."""
        card = self.model.card
        if card is None:
            return [no_model(self.task)]
        found = self._ground_problems(card)
        if "prompt" in card.uses:
            found += self.prompt.problems() or self._empty_prompt(card)
        if "negative_prompt" in card.uses:
            found += self.negative.problems()
        return found + self.output.problems()

    def _ground_problems(self, card: ModelCard) -> List[Failure]:
        found = [*self.extent.problems(), *self._place_problems()]
        if not card.reaches(self.gsd.value()):
            found.append(
                Failure(
                    ErrorCode.UNSUPPORTED_RESOLUTION,
                    tr("This model cannot draw pixels of {size}.").format(size=metres(self.gsd.value())),
                    tr("Choose {finest} to {coarsest}.").format(
                        finest=metres(card.gsd[0] / card.GSD_REACH), coarsest=metres(card.gsd[1] * card.GSD_REACH)
                    ),
                )
            )
        return found

    def _empty_prompt(self, card: ModelCard) -> List[Failure]:
        """A model that draws out of a closed list must be told what; others may be left free."""
        if not card.vocabulary or self.prompt.edit.toPlainText().strip():
            return []
        message, hint = tr("Say what the picture should show."), tr("Click a word below the prompt, or write some.")
        return [Failure(ErrorCode.PROMPT_NOT_UNDERSTOOD, message, hint)]

    def draft(self) -> Draft:
        """What the form asks for.

        Raises:
            Problem: where ``problems`` would not be empty.
        """
        found = self.problems()
        if found:
            raise Problem.of(found[0])
        uses = self.model.card.uses
        prompt = self.prompt.text() if "prompt" in uses else ""
        negative = self.negative.text() if "negative_prompt" in uses else ""
        request = self._request(self._place(), self.seed.next(), prompt, negative)
        return Draft(request, request.prompt[:60] or self.model.card.name, output=self.output.value())

    def estimate(self, gflops: float = DEFAULT_GFLOPS) -> Optional[Estimate]:
        """What the job would take at a rate of so many GFLOP/s; None while it cannot be told, whatever the prompt."""
        card = self.model.card
        if card is None or self._ground_problems(card):
            return None
        request = self._request(self._place(), self.seed.value(), "", "")
        return estimate(request, card, bands=len(card.bands), gflops=gflops)

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        return {
            "model": "" if self.model.card is None else self.model.card.id,
            "prompt": self.prompt.edit.toPlainText(),
            "negative_prompt": self.negative.edit.toPlainText(),
            "date": self.date.value() or "",
            "gsd": self.gsd.value(),
            "samples": self.samples.value(),
            **self.seed.held(),
        }

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        same_model = self.model.pick(str(values.get("model", "")))
        self.prompt.set_text(str(values.get("prompt", "")))
        self.negative.set_text(str(values.get("negative_prompt", "")))
        self.date.set_value(str(values.get("date", "")))
        if same_model and isinstance(values.get("gsd"), float):
            self.gsd.setValue(values["gsd"])
        self.samples.hold(values.get("samples"))
        self.seed.hold(values)

    def _request(self, where: Place, seed: int, prompt: str, negative: str) -> Generate:
        return Generate(
            model=self.model.card.id,
            grid=where.grid,
            lattice=where.lattice,
            gsd=where.gsd,
            prompt=prompt,
            negative_prompt=negative,
            date=self.date.value(),
            longitude=where.longitude,
            latitude=where.latitude,
            sampling=self.sampling.value(seed, self.samples.value()),
        )

    def _place(self) -> Place:
        """The grids of the picture; computed once for each place and resolution.

        Raises:
            Problem: where there are none.
        """
        extent, crs, target = self.extent.extent(), self.extent.crs(), self.crs.crs()
        asked = (extent.toString(17), crs.toWkt(), self.gsd.value(), target.toWkt() if target.isValid() else "")
        if self._placed[0] != asked:
            try:
                found = place(extent, crs, self.gsd.value(), target if target.isValid() else None)
            except Problem as problem:
                found = problem
            self._placed = (asked, found)
        if isinstance(self._placed[1], Problem):
            raise Problem.of(self._placed[1].failure)
        return self._placed[1]

    def _place_problems(self) -> List[Failure]:
        if self.extent.extent().isNull():
            return []
        try:
            where = self._place()
        except Problem as problem:
            return [problem.failure]
        return too_large(where.lattice) or too_large(where.grid)

    def _follow_model(self) -> None:
        card = self.model.card
        if card is not None:
            unused = tr("Not used by this model.")
            self.prompt.set_vocabulary(card.vocabulary if "prompt" in card.uses else ())
            self.fields.set_used(self.prompt, "prompt" in card.uses, unused)
            self.more.set_used(self.negative, "negative_prompt" in card.uses, unused)
            dated = tr("Not used by this model; it only dates the layer.")
            self.fields.set_used(self.date, "date" in card.uses, dated, enabled=True)
            self.sampling.set_card(card)
            if self.gsd.clearValue() != card.gsd[0]:
                self.gsd.setRange(0.01, 1e5)
                self.gsd.setClearValue(card.gsd[0])
                self.gsd.setValue(card.gsd[0])
        self._announce()

    def _announce(self, *_: object) -> None:
        self._write_notes()
        self.changed.emit()

    def _write_notes(self) -> None:
        card = self.model.card
        if card is None:
            return
        trained = tr("Trained for {range}.").format(range=gsd_range(card))
        if not card.gsd[0] <= self.gsd.value() <= card.gsd[1] and card.reaches(self.gsd.value()):
            trained += " " + tr("The picture will be resampled.")
        self.fields.note(self.gsd, trained)
        if "prompt" in card.uses:
            strange = card.vocabulary and not self.prompt.is_known(card.vocabulary)
            self.fields.note(
                self.prompt, tr("It names none of these words; other words may be refused.") if strange else ""
            )
        if self.extent.problems() or self._place_problems():
            self.fields.note(self.extent, "")
            self.more.note(self.crs, "")
            return
        where = self._place()
        height, width = (side * where.gsd for side in where.lattice.shape)
        text = tr("{width} \u00d7 {height}").format(width=metres(width), height=metres(height))
        if "place" not in card.uses:
            text += ". " + tr("The place itself is not used by this model.")
        self.fields.note(self.extent, text)
        grid_crs = crs_of(where.grid.crs)
        is_project = grid_crs == QgsProject.instance().crs()
        name = grid_crs.userFriendlyIdentifier() or grid_crs.description()
        self.more.note(self.crs, tr("{crs}, the project\u2019s").format(crs=name) if is_project else name)
