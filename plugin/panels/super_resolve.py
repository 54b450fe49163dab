"""A raster layer, some times finer: the form of ``SuperResolve``."""

from dataclasses import replace
from typing import Dict, List, Optional

from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QWidget

from ...engine.contract import DEFAULT_GFLOPS, Estimate, Failure, ModelCard, Source, SuperResolve, estimate
from ...engine.contract.bands import find_bands
from ..jobs import Draft, super_resolve_title
from ..maps.acquisition import Acquisition, acquisition
from ..maps.sources import prepare, require_sensor
from ..report import Problem, tr
from ..widgets.about import gsd_range
from ..widgets.acquisition import show_known
from ..widgets.bands import BandsInput
from ..widgets.cloudcover import CloudCoverInput
from ..widgets.dates import DateInput
from ..widgets.numbers import metres
from ..widgets.prompt import PromptInput
from .base import no_model, out_of_reach, too_large
from .source import SourcePanel


class SuperResolvePanel(SourcePanel):
    """The form of ``SuperResolve``."""

    task = "SuperResolve"
    key = "superresolve/form"

    def __init__(self, canvas: Optional[QgsMapCanvas] = None, parent: Optional[QWidget] = None) -> None:
        """Make a form that shows the first raster layer of the project.

        Args:
            canvas: not used: the layer says where.
            parent: as usual.
        """
        super().__init__(parent)
        self.bands = BandsInput()
        self.date = DateInput()
        self.clouds = CloudCoverInput()
        self._known = Acquisition()
        self._dated = ""  # id of the layer that date and cloud cover are of
        self.factor = QComboBox()
        self.factor.setObjectName("factor")
        self.mean = QCheckBox(tr("Dra&w it too"))
        self.mean.setObjectName("mean")
        self.spread = QCheckBox(tr("Save it &too"))
        self.spread.setObjectName("spread")
        self.prompt = PromptInput()
        self.negative = PromptInput(lines=2, use="negative_prompt")
        self._lay_out()
        self._follow(self.bands, self.date, self.clouds, self.prompt, self.negative)
        self.factor.currentIndexChanged.connect(self._announce)
        for box in (self.mean, self.spread):
            box.toggled.connect(self._announce)
        self._follow_layer()

    def _lay_out(self) -> None:
        self.fields.add(tr("&Layer"), self.layer, tip=tr("The raster to make finer; it is not changed"))
        self.fields.add(tr("&Bands"), self.bands, tip=tr("Bands of the result"))
        self.fields.add(tr("&Date"), self.date, self.date.edit, tr("When the picture was taken"))
        tip = tr("How much of the picture is under clouds, if you know")
        self.fields.add(tr("&Clouds"), self.clouds, self.clouds.number, tip)
        self.fields.add(tr("Fact&or"), self.factor, tip=tr("How many times finer"))
        self.fields.add(tr("&Prompt"), self.prompt, self.prompt.edit, tr("What is there"))
        self._add_samples()
        tip = tr(
            "The mean of all that the model would draw: the most accurate picture pixel by pixel, and smoother than "
            "the ground. Measure on this one, show a sample. Seed, steps and samples do not change it."
        )
        self.fields.add(tr("Mea&n"), self.mean, tip=tip)
        tip = tr("How far the truth may lie from the mean: a standard deviation for each pixel and band")
        self.fields.add(tr("Sp&read"), self.spread, tip=tip)
        self._add_seed_and_output()
        self.more.add(tr("Avo&id"), self.negative, self.negative.edit, tr("What the picture should not show"))
        self._stack()

    @classmethod
    def title(cls) -> str:
        """Name of the task, on the dock's tab."""
        return tr("Super-resolve")

    def problems(self) -> List[Failure]:
        """Why no job can start with what the form holds, the first to solve first; empty when one can."""
        found = self._ground_problems()
        if self._info is not None and self.model.card is not None and self.factor.currentData():
            request = self._request(Source(""), self._info.gsd, self.seed.value(), "", "")
            found += [*self.prompt.problems(), *self.negative.problems(), *self._output_problems(request)]
        return found

    def _ground_problems(self) -> List[Failure]:
        """Why nothing can be drawn there, whatever the words."""
        card, factor = self.model.card, self.factor.currentData()
        if card is None:
            return [no_model(self.task)]
        found = self._layer_problems()
        if found:
            return found
        if not factor:
            return [no_model(self.task)]
        size = too_large(self._info.grid.zoom(factor))
        if not card.source_bands:
            return [*self.bands.problems(), *size]
        try:
            require_sensor(self.layer.currentLayer(), self._info, card.source_bands)
        except Problem as problem:
            return [problem.failure]
        hint = tr("Choose a factor that makes them {finest} to {coarsest}.")
        return [*out_of_reach(card, self._info.gsd / factor, hint), *size]

    def draft(self) -> Draft:
        """What the form asks for.

        Raises:
            Problem: where ``problems`` would not be empty, or the layer cannot be exported.
        """
        found = self.problems()
        if found:
            raise Problem.of(found[0])
        layer = self.layer.currentLayer()
        card = self.model.card
        is_told_bands = bool(card.source_bands)  # all are written: their names say which are used
        export = prepare(layer, () if is_told_bands or self.bands.is_all else self.bands.value())
        date = self.date.value() if "date" in card.uses else acquisition(layer).date  # it dates the result all the same
        clouds = self.clouds.value() if "cloud_cover" in card.uses else None
        source = replace(export.source, date=date, cloud_cover=clouds)
        prompt, negative = self.prompt.value(), self.negative.value()
        request = self._request(source, export.gsd, self.seed.next(), prompt, negative)
        return Draft(request, super_resolve_title(request), exports=(export,), output=self.output.value())

    def estimate(self, gflops: float = DEFAULT_GFLOPS) -> Optional[Estimate]:
        """What the job would take at a rate of so many GFLOP/s; None while it cannot be told, whatever the words."""
        if self._ground_problems():
            return None
        card = self.model.card
        request = self._request(Source(""), self._info.gsd, self.seed.value(), "", "")
        return estimate(
            request,
            card,
            source=self._info.grid,
            bands=len(card.bands) if card.source_bands else len(self.bands.value()),
            itemsize=1 if card.source_bands else self._info.itemsize,
            gflops=gflops,
        )

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        return {
            **super().held(),
            "factor": self.factor.currentData() or 0,
            "mean": self.mean.isChecked(),
            "spread": self.spread.isChecked(),
            "prompt": self.prompt.edit.toPlainText(),
            "negative_prompt": self.negative.edit.toPlainText(),
        }

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        super().hold(values)
        index = self.factor.findData(values.get("factor"))
        if index >= 0:
            self.factor.setCurrentIndex(index)
        self.mean.setChecked(values.get("mean") is True)
        self.spread.setChecked(values.get("spread") is True)
        self.prompt.set_text(str(values.get("prompt", "")))
        self.negative.set_text(str(values.get("negative_prompt", "")))

    def _request(self, source: Source, gsd: float, seed: int, prompt: str, negative: str) -> SuperResolve:
        samples = self.samples.value()
        return SuperResolve(
            model=self.model.card.id,
            source=source,
            factor=self.factor.currentData(),
            gsd=gsd,
            sampling=self.sampling.value(seed, samples),
            spread=self.spread.isChecked() and (samples > 1 or self.model.card.gives_mean),
            prompt=prompt,
            negative_prompt=negative,
            mean=self.mean.isChecked() and self.model.card.gives_mean,
        )

    def _show_card(self, card: ModelCard) -> None:
        self.prompt.set_card(card)
        self.negative.set_card(card)
        self.fields.set_shown(self.prompt, self.prompt.is_used)
        self.more.set_shown(self.negative, self.negative.is_used)
        self.sampling.fields.set_shown(self.sampling.guidance, self.prompt.is_used)
        self.fields.set_shown(self.bands, not card.source_bands)
        self.fields.set_shown(self.date, "date" in card.uses)
        self.fields.set_shown(self.clouds, "cloud_cover" in card.uses)
        factor = self.factor.currentData()
        self.factor.blockSignals(True)
        self.factor.clear()
        for value in card.factors:
            self.factor.addItem(tr("{factor}\u00d7").format(factor=value), value)
        self.factor.setCurrentIndex(max(0, self.factor.findData(factor)))
        self.factor.blockSignals(False)

    def _show_source(self) -> None:
        if self._info is None:
            self.bands.set_bands((), ())
        else:
            self.bands.set_bands(self._info.data_bands, self._info.band_names)
        self._show_acquisition()

    def _show_acquisition(self) -> None:
        """Say when the layer was taken and how clouded it is, as far as it tells."""
        layer = self.layer.currentLayer()
        dated = "" if layer is None else layer.id()
        if dated != self._dated:  # what was written is of the other layer
            self._dated, self._known = dated, Acquisition(self.date.value(), self.clouds.value())
        known = Acquisition() if self._info is None else acquisition(layer)
        self._known = show_known(self.date, self.clouds, known, self._known)

    def _write_notes(self) -> None:
        card, factor = self.model.card, self.factor.currentData()
        self.fields.note(self.layer, self._about_layer())
        if card is not None and self.prompt.is_used:
            self.fields.note(self.prompt, self.prompt.remark())
        gives_mean = card is not None and card.gives_mean
        self.fields.set_used(self.mean, gives_mean, tr("This model does not give it.") if card is not None else "")
        self.spread.setEnabled(self.samples.value() > 1 or gives_mean)
        self.fields.note(self.spread, "" if self.spread.isEnabled() else tr("Needs 2 samples or more."))
        if card is None or self._info is None or not factor:
            self.fields.note(self.factor, "")
            return
        finer = self._info.gsd / factor
        text = tr("Pixels of {before} become {after}.").format(before=metres(self._info.gsd), after=metres(finer))
        if not card.gsd[0] <= finer <= card.gsd[1]:
            text += " " + tr("The model was trained for {range}: expect less of it.").format(range=gsd_range(card))
        self.fields.note(self.factor, text)

    def _about_layer(self) -> str:
        """Which of its bands are used, where the model says which."""
        card = self.model.card
        if card is None or self._info is None or not card.source_bands:
            return ""
        found = find_bands(self._info.descriptions)
        if found.missing(card.source_bands):
            return ""
        text = tr("Its bands {bands} are used; the result has red, green and blue.").format(
            bands=", ".join(card.source_bands)
        )
        if found.is_ordered:
            text += " " + tr("They have no names: they are taken in the order of Sentinel-2.")
        return text
