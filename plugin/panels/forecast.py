"""What a place looked like, or will look like, on another date, from dated layers of it: the form of ``Forecast``."""

from typing import Dict, List, Optional, Tuple

from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QEvent, QObject, QTimer
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import (
    DEFAULT_GFLOPS,
    SOURCES_LIMIT,
    Estimate,
    Failure,
    Forecast,
    ModelCard,
    Source,
    estimate,
    target_paths,
)
from .. import catalogue
from ..jobs import Draft, forecast_title
from ..maps.series import Member, is_finer, prepare_series, series_problems, share
from ..maps.sources import colours, require_kept
from ..report import Problem, tr
from ..widgets.about import gsd_range
from ..widgets.cloudcover import CloudCoverInput
from ..widgets.dates import DateInput
from ..widgets.numbers import megabytes, metres
from ..widgets.prompt import PromptInput
from ..widgets.series import SeriesInput
from .base import Panel, no_model, too_large


class ForecastPanel(Panel):
    """The form of ``Forecast``."""

    task = "Forecast"
    key = "forecast/form"

    def __init__(self, canvas: Optional[QgsMapCanvas] = None, parent: Optional[QWidget] = None) -> None:
        """Make a form without layers.

        Args:
            canvas: not used: the layers say where.
            parent: as usual.
        """
        super().__init__(parent)
        self.series = SeriesInput()
        self.date = DateInput()
        self.clouds = CloudCoverInput()
        self.prompt = PromptInput()
        self.negative = PromptInput(lines=2, use="negative_prompt")
        self._settled = (0, 0, 0)
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.timeout.connect(self._settle)
        self._lay_out()
        for part in (self, self.series):
            part.installEventFilter(self)
        self._follow(self.series, self.date, self.clouds, self.prompt, self.negative)

    def _lay_out(self) -> None:
        tip = tr("Raster layers of the place, each with the date of its picture; they are not changed")
        self.fields.add(tr("&Layers"), self.series, self.series.add_button, tip)
        self.fields.add(tr("&Date"), self.date, self.date.edit, tr("The date that the result should show"))
        self.fields.add(tr("&Clouds"), self.clouds, self.clouds.number, tr("How much of the result is under clouds"))
        self.fields.add(tr("&Prompt"), self.prompt, self.prompt.edit, tr("What is there on that date"))
        self._add_samples()
        self._add_seed_and_output()
        self.more.add(tr("Avo&id"), self.negative, self.negative.edit, tr("What the picture should not show"))
        self._stack()
        self._show_missing()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802  (Qt's name)
        """Look at the list of layers once its layout has changed and rests."""
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Resize):
            self._settling.start()
        return super().eventFilter(watched, event)

    def _settle(self) -> None:
        """Give the list the height that it needs: QFormLayout keeps that of before when wrapped text gets longer."""
        cell = self.series.parentWidget()
        found = (cell.width(), cell.heightForWidth(cell.width()), self.height())
        if cell.height() < found[1] and found != self._settled:  # once for each size: there may be no room
            self._settled = found
            self.fields.invalidate()

    @classmethod
    def title(cls) -> str:
        """Name of the task, on the dock's tab."""
        return tr("Forecast")

    def set_cards(self, cards: Tuple[ModelCard, ...]) -> None:
        """Offer these models."""
        super().set_cards(cards)
        self._show_missing()

    def problems(self) -> List[Failure]:
        """Why no job can start with what the form holds, the first to solve first; empty when one can."""
        card = self.model.card
        if card is None:
            return [no_model(self.task)]
        found = self._ground_problems(card)
        members = self.series.members()
        words = [*self.prompt.problems(), *self.negative.problems()]
        if found:
            return [*found, *words]
        return [*words, *self._output_problems(self._request(_sources(members), self.seed.value(), "", ""))]

    def _ground_problems(self, card: ModelCard) -> List[Failure]:
        """Why nothing can be drawn from these layers, whatever the words."""
        found = self.series.problems()
        if found:
            return found
        members = self.series.members()
        size = too_large(members[0].info.grid) if members else []
        return [*series_problems(members, self.date.value(), card), *size]

    def draft(self) -> Draft:
        """What the form asks for.

        Raises:
            Problem: where ``problems`` would not be empty, or a layer cannot be exported.
        """
        found = self.problems()
        if found:
            raise Problem.of(found[0])
        exports = prepare_series(self.series.members())
        sources = tuple(export.source for export in exports)
        request = self._request(sources, self.seed.next(), self.prompt.value(), self.negative.value())
        return Draft(request, forecast_title(request), exports=exports, output=self.output.value())

    def estimate(self, gflops: float = DEFAULT_GFLOPS) -> Optional[Estimate]:
        """What the job would take at a rate of so many GFLOP/s; None while it cannot be told, whatever the words."""
        card = self.model.card
        if card is None or self._ground_problems(card):
            return None
        members = self.series.members()
        info = members[0].info
        request = self._request(_sources(members), self.seed.value(), "", "")
        return estimate(request, card, source=info.grid, bands=3, itemsize=info.itemsize, gflops=gflops)

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        return {
            **super().held(),
            **self.series.held(),
            "prompt": self.prompt.edit.toPlainText(),
            "negative_prompt": self.negative.edit.toPlainText(),
            "date": self.date.value() or "",
            "cloud_cover": self.clouds.value(),
        }

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        super().hold(values)
        self.series.hold(values)
        self.prompt.set_text(str(values.get("prompt", "")))
        self.negative.set_text(str(values.get("negative_prompt", "")))
        self.date.set_value(str(values.get("date", "")))
        self.clouds.set_value(values.get("cloud_cover"))

    def _request(self, sources: Tuple[Source, ...], seed: int, prompt: str, negative: str) -> Forecast:
        return Forecast(
            model=self.model.card.id,
            sources=sources,
            gsd=sources[0].gsd,
            date=self.date.value(),
            sampling=self.sampling.value(seed, self.samples.value()),
            prompt=prompt,
            negative_prompt=negative,
            cloud_cover=self.clouds.value(),
        )

    def _output_problems(self, request: Forecast) -> List[Failure]:
        """Why the results cannot go where they should: that cannot be written to, or is one of the layers."""
        found = self.output.problems()
        targets = target_paths(request, self.output.value())
        for member in () if found else self.series.members():
            try:
                require_kept(member.info.files, targets)
            except Problem as problem:
                found.append(problem.failure)
        return found

    def _show_missing(self) -> None:
        """Say below the empty list of models which public ones belong in it: none that can do this ships."""
        if self.model.card is not None:
            self.fields.note(self.model, "")
            return
        known = {offer.card.id: offer for offer in catalogue.offers()}
        able = [offer for offer in known.values() if self.task in offer.card.tasks]
        lines = [tr("Needs public weights, which do not come with the plugin:")] if able else []
        for offer in able:
            needed = ", ".join(known[id].card.name if id in known else id for id in offer.needs)
            size = megabytes(offer.size / 1e6) if offer.size else ""  # known before anybody asked the host
            lines.append(_offered(offer.card.name, size, needed))
        self.fields.note(self.model, "\n".join(lines))

    def _show_card(self, card: ModelCard) -> None:
        unused = tr("Not used by this model.")
        self.series.set_limit(min(card.frames, SOURCES_LIMIT))
        self.prompt.set_card(card)
        self.negative.set_card(card)
        self.fields.set_used(self.prompt, self.prompt.is_used, unused)
        self.more.set_used(self.negative, self.negative.is_used, unused)
        self.fields.set_used(self.clouds, "cloud_cover" in card.uses, unused)

    def _write_notes(self) -> None:
        card, members = self.model.card, self.series.members()
        for member in members:
            self.series.note(member.layer, _about(member, members[0], card))
        if card is None:
            return
        if self.prompt.is_used:
            self.fields.note(self.prompt, self.prompt.remark())
        if self.negative.is_used:
            is_idle = self.negative.edit.toPlainText().strip() and self.sampling.guidance.value() <= 1
            self.more.note(self.negative, tr("Counts only with a guidance above 1.") if is_idle else "")
        is_short = 0 < len(members) < card.frames
        filled = tr("This model takes {number} layers: the first stands in for those that are missing.")
        self.fields.note(self.series, filled.format(number=card.frames) if is_short else "")
        self.fields.note(self.date, self._about_date(card, members))

    def _about_date(self, card: ModelCard, members: Tuple[Member, ...]) -> str:
        date, known = self.date.value(), sorted(member.date for member in members if member.date is not None)
        said = []
        if date is not None and known:
            if date > known[-1]:
                said.append(tr("After the last of the layers, {date}.").format(date=known[-1]))
            elif date < known[0]:
                said.append(tr("Before the first of the layers, {date}.").format(date=known[0]))
            elif date not in known:
                said.append(tr("Between the layers."))
        if "date" not in card.uses:
            said.append(tr("Not used by this model; it only dates the layer."))
        return " ".join(said)


def _sources(members: Tuple[Member, ...]) -> Tuple[Source, ...]:
    """The layers as they would stand in a request, but for their files."""
    return tuple(
        Source("", member.layer.name(), date=member.date, gsd=member.info.gsd, cloud_cover=member.cloud_cover)
        for member in members
    )


def _offered(name: str, size: str, needed: str) -> str:
    """The line of a public model: its size and what it is made for, "" for what is not known or not there."""
    if size and needed:
        text = tr("\u2022 {name}, about {size}, made for {needed}")
    elif size:
        text = tr("\u2022 {name}, about {size}")
    elif needed:
        text = tr("\u2022 {name}, made for {needed}")
    else:
        text = tr("\u2022 {name}")
    return text.format(name=name, size=size, needed=needed)


def _about(member: Member, first: Member, card: Optional[ModelCard]) -> str:
    """What to say below a layer of the list."""
    info = member.info
    height, width = (side * info.gsd for side in info.grid.shape)
    size = tr("{width} \u00d7 {height}").format(width=metres(width), height=metres(height))
    said = [tr("{size} pixels").format(size=metres(info.gsd)), size]
    shown = colours(member.layer, info)
    if shown != (1, 2, 3) and len(shown) == 3:
        said.append(tr("bands {bands}").format(bands=", ".join(map(str, shown))))
    text = " \u00b7 ".join(part.replace(" ", "\u00a0") for part in said) + "."
    if member is first:
        text += " " + tr("The result has its pixels and extent.")
        # by a little it is the projection's scale, not the picture
        is_known = card is None or card.gsd[0] * 0.98 <= info.gsd <= card.gsd[1] * 1.02
        if not is_known and card.reaches(info.gsd):
            text += " " + tr("The model was trained for {range}: expect less of it.").format(range=gsd_range(card))
        return text
    try:
        covered = share(member, first)
    except Problem:
        return text
    if 0 < covered < 0.995:
        text += " " + tr("It covers {share} % of the first.").format(share=max(1, round(100 * covered)))
    if is_finer(member, first):
        text += " " + tr("Finer than the first: move it up to have the result in its pixels.")
    return text
