"""A raster layer with part of its ground turned into something else: the form of ``Edit``."""

from typing import Dict, List, Optional

from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import (
    DEFAULT_GFLOPS,
    Edit,
    ErrorCode,
    Estimate,
    Failure,
    Mask,
    ModelCard,
    Source,
    Window,
    estimate,
)
from ..jobs import Draft, edit_title
from ..maps.mask import mask_window, prepare_mask
from ..maps.sources import colours, prepare, require_colours
from ..report import Problem, tr
from ..widgets.about import gsd_range
from ..widgets.cloudcover import CloudCoverInput
from ..widgets.colours import ColoursInput
from ..widgets.dates import DateInput
from ..widgets.imageguidance import ImageGuidanceInput
from ..widgets.margin import MarginInput
from ..widgets.mask import MaskInput
from ..widgets.numbers import metres
from ..widgets.prompt import PromptInput
from ..widgets.strength import StrengthInput
from ..widgets.toldgsd import ToldGsdInput
from .base import no_model, out_of_reach, too_large
from .source import SourcePanel


class EditPanel(SourcePanel):
    """The form of ``Edit``."""

    task = "Edit"
    key = "edit/form"

    def __init__(self, canvas: Optional[QgsMapCanvas] = None, parent: Optional[QWidget] = None) -> None:
        """Make a form that shows the first raster layer of the project.

        Args:
            canvas: map to draw polygons on.
            parent: as usual.
        """
        super().__init__(parent)
        self.mask = MaskInput(canvas)
        self.margin = MarginInput()
        self.prompt = PromptInput()
        self.strength = StrengthInput()
        self.image_guidance = ImageGuidanceInput()
        self.date = DateInput()
        self.negative = PromptInput(lines=2, use="negative_prompt")
        self.colours = ColoursInput()
        self.cloud_cover = CloudCoverInput()
        self.told_gsd = ToldGsdInput()
        self._lay_out()
        self._follow(self.mask, self.prompt, self.strength, self.date, self.negative, self.colours)
        for widget in (self.cloud_cover, self.told_gsd):
            widget.changed.connect(self._announce)
        for number in (self.margin, self.image_guidance):
            number.valueChanged.connect(self._announce)
        self._follow_layer()

    def _lay_out(self) -> None:
        tip = tr("The raster to start from; it is not changed, the result is a new one")
        self.fields.add(tr("&Layer"), self.layer, tip=tip)
        tip = tr("What lies outside keeps its exact values")
        self.fields.add(tr("&Where"), self.mask, self.mask.kind, tip)
        tip = tr("Pixels to draw beyond the raster, on each side; the raster itself stays, but for the polygons")
        self.fields.add(tr("Ma&rgin"), self.margin, tip=tip)
        self.fields.add(tr("&Prompt"), self.prompt, self.prompt.edit, tr("What is there afterwards"))
        tip = tr("How far to leave what is there")
        self.fields.add(tr("Stre&ngth"), self.strength, self.strength.number, tip)
        tip = tr("How much of the picture before is kept")
        self.fields.add(tr("Ima&ge\nstrength"), self.image_guidance, tip=tip)
        self.fields.add(tr("&Date"), self.date, self.date.edit, tr("When the result should have been taken"))
        self._add_samples()
        self._add_seed_and_output()
        self.more.add(tr("Avo&id"), self.negative, self.negative.edit, tr("What the picture should not show"))
        tip = tr("The bands of the layer that are red, green and blue, which are the bands of the result")
        self.more.add(tr("&Bands"), self.colours, self.colours.lists[0], tip)
        self.colours.lists[0].setAccessibleName(tr("Red band"))
        tip = tr("How much of the result should be under clouds")
        self.more.add(tr("Clo&uds"), self.cloud_cover, self.cloud_cover.number, tip)
        tip = tr("Metres on the ground of one pixel, as the model is told; the pixels themselves stay as they are")
        self.more.add(tr("Resolution\nt&old"), self.told_gsd, self.told_gsd.kind, tip)
        self._stack()

    @classmethod
    def title(cls) -> str:
        """Name of the task, on the dock's tab."""
        return tr("Edit")

    def problems(self) -> List[Failure]:
        """Why no job can start with what the form holds, the first to solve first; empty when one can."""
        card = self.model.card
        if card is None:
            return [no_model(self.task)]
        found = self._ground_problems(card)
        if self._info is not None:
            request = self._request(Source(""), None, self._info.gsd, self.seed.value(), "", "")
            found += [*self.prompt.problems(), *self.negative.problems(), *self._output_problems(request)]
        return found

    def _ground_problems(self, card: ModelCard) -> List[Failure]:
        """Why nothing can be drawn there, whatever the words; where this is empty, ``_window`` can be asked."""
        found = self._layer_problems()
        if found:
            return found
        try:
            require_colours(self.layer.currentLayer(), self._info.data_bands)
        except Problem as problem:
            return [problem.failure]
        hint = tr("Choose a layer with {finest} to {coarsest}, or warp it to that (Raster > Projections > Warp).")
        drawn = self._info.grid.pad(self._margin())
        found = [*out_of_reach(card, self._info.gsd, hint), *too_large(drawn), *self.colours.problems()]
        if self._margin() and self._strength() < 1:
            message = tr("Beyond the raster there is nothing to start from, as a strength below 100 % does.")
            hint = tr("Set the strength to 100 %, or the margin to none.")
            found.append(Failure(ErrorCode.INVALID_REQUEST, message, hint))
        try:
            self._window()
        except Problem as problem:
            found.append(problem.failure)
        return found

    def draft(self) -> Draft:
        """What the form asks for.

        Raises:
            Problem: where ``problems`` would not be empty, or the layer cannot be exported.
        """
        found = self.problems()
        if found:
            raise Problem.of(found[0])
        layer, polygons = self.layer.currentLayer(), self.mask.polygons()
        bands = self.colours.value()
        export = prepare(layer, () if bands == self._info.data_bands else bands)
        mask = None if polygons is None else prepare_mask(polygons, export.grid)
        prompt, negative = self.prompt.value(), self.negative.value()
        request = self._request(
            export.source, None if mask is None else mask.mask, export.gsd, self.seed.next(), prompt, negative
        )
        exports = (export,) if mask is None else (export, mask)
        return Draft(request, edit_title(request), exports=exports, output=self.output.value())

    def estimate(self, gflops: float = DEFAULT_GFLOPS) -> Optional[Estimate]:
        """What the job would take at a rate of so many GFLOP/s; None while it cannot be told, whatever the words."""
        card = self.model.card
        if card is None or self._ground_problems(card):
            return None
        info = self._info
        request = self._request(Source(""), None, info.gsd, self.seed.value(), "", "")
        area = self._window()
        return estimate(request, card, source=info.grid, bands=3, itemsize=info.itemsize, gflops=gflops, area=area)

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        return {
            **super().held(),
            "mask": self.mask.kind.currentData(),
            "prompt": self.prompt.edit.toPlainText(),
            "negative_prompt": self.negative.edit.toPlainText(),
            "strength": self.strength.value(),
            "image_guidance": self.image_guidance.value(),
            "margin": self.margin.value(),
            "cloud_cover": self.cloud_cover.value(),
            "told_gsd": self.told_gsd.value(),
            "date": self.date.value() or "",
        }

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        super().hold(values)
        self.mask.choose(str(values.get("mask", "")))
        self.prompt.set_text(str(values.get("prompt", "")))
        self.negative.set_text(str(values.get("negative_prompt", "")))
        self.strength.hold(values.get("strength"))
        self.margin.hold(values.get("margin"))
        self.cloud_cover.set_value(values.get("cloud_cover"))
        self.told_gsd.set_value(values.get("told_gsd"))
        if self.model.card is not None and self.model.card.id == values.get("model"):
            self.image_guidance.hold(values.get("image_guidance"))
        self.date.set_value(str(values.get("date", "")))

    def _request(self, source: Source, mask: Optional[Mask], gsd: float, seed: int, prompt: str, negative: str) -> Edit:
        uses = self.model.card.uses
        return Edit(
            model=self.model.card.id,
            source=source,
            gsd=gsd,
            prompt=prompt,
            sampling=self.sampling.value(seed, self.samples.value()),
            mask=mask,
            strength=self._strength(),
            negative_prompt=negative,
            date=self.date.value(),
            image_guidance_scale=self.image_guidance.value() if "image_guidance" in uses else Edit.image_guidance_scale,
            margin=self._margin(),
            cloud_cover=self.cloud_cover.value() if "cloud_cover" in uses else None,
            told_gsd=self.told_gsd.value() if "gsd" in uses else None,
        )

    def _strength(self) -> float:
        """How far to leave the source: 1 for models that cannot start from it."""
        return self.strength.value() if "strength" in self.model.card.uses else 1.0

    def _margin(self) -> int:
        """Pixels beyond the raster: 0 for models that cannot draw there."""
        return self.margin.value() if "margin" in self.model.card.uses else 0

    def _window(self) -> Optional[Window]:
        """The pixels around what is changed, None for all.

        Raises:
            Problem: MASK_EMPTY or MASK_UNREADABLE.
        """
        polygons = self.mask.polygons()
        return None if polygons is None else mask_window(polygons, self._info.grid)

    def _show_card(self, card: ModelCard) -> None:
        unused = tr("Not used by this model.")
        self.prompt.set_card(card)
        self.negative.set_card(card)
        self.fields.set_used(self.prompt, self.prompt.is_used, unused)
        self.more.set_used(self.negative, self.negative.is_used, unused)
        dated = tr("Not used by this model; it only dates the layer.")
        self.fields.set_used(self.date, "date" in card.uses, dated, enabled=True)
        self.image_guidance.set_card(card)
        for field, use in (
            (self.strength, "strength"),
            (self.image_guidance, "image_guidance"),
            (self.margin, "margin"),
        ):
            self.fields.set_shown(field, use in card.uses)
        self.more.set_shown(self.cloud_cover, "cloud_cover" in card.uses)
        self.more.set_shown(self.told_gsd, "gsd" in card.uses)

    def _show_source(self) -> None:
        if self._info is None:
            self.colours.set_bands((), (), ())
            return
        info = self._info
        self.colours.set_bands(info.data_bands, info.band_names, colours(self.layer.currentLayer(), info))

    def _write_notes(self) -> None:
        card = self.model.card
        if card is None:
            return
        if self.prompt.is_used:
            self.fields.note(self.prompt, self.prompt.remark())
        self.fields.note(self.strength, self.strength.remark())
        self.fields.note(self.image_guidance, self.image_guidance.remark())
        self.mask.follow_margin(bool(self._margin()))
        self.fields.note(self.margin, "" if self._info is None else self.margin.remark(self._info.grid, self._info.gsd))
        if self._info is not None:
            self.told_gsd.suggest(self._info.gsd)
        self.fields.note(self.layer, "" if self._info is None else self._about_layer(card))
        self.fields.note(self.mask, self._about_mask())

    def _about_layer(self, card: ModelCard) -> str:
        text = tr("Pixels of {size}.").format(size=metres(self._info.gsd))
        if not card.gsd[0] <= self._info.gsd <= card.gsd[1] and card.reaches(self._info.gsd):
            text += " " + tr("The model was trained for {range}: expect less of it.").format(range=gsd_range(card))
        if len(self._info.data_bands) > 3:
            text += " " + tr("The result has three of its bands, see Advanced.")
        return text

    def _about_mask(self) -> str:
        if self._info is None:
            return ""
        try:
            window = self._window()
        except Problem:
            return ""
        if window is None and self._margin():
            return tr("The raster itself stays as it is.")
        height, width = self._info.grid.shape if window is None else (window.height, window.width)
        size = tr("{width} \u00d7 {height}").format(
            width=metres(width * self._info.gsd), height=metres(height * self._info.gsd)
        )
        return (tr("All of it: {size}.") if window is None else tr("Within {size}.")).format(size=size)
