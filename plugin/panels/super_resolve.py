"""A raster layer, some times finer: the form of ``SuperResolve``."""

from typing import Dict, List, Optional, Set, Tuple

from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QVBoxLayout, QWidget

from ...engine.contract import (
    DEFAULT_GFLOPS,
    ErrorCode,
    Estimate,
    Failure,
    ModelCard,
    Source,
    SuperResolve,
    estimate,
    target_paths,
)
from ..jobs import Draft
from ..maps.sources import SourceInfo, describe, prepare, require_kept
from ..report import Problem, tr
from ..widgets.about import gsd_range
from ..widgets.advanced import AdvancedBox
from ..widgets.bands import BandsInput
from ..widgets.fields import Fields
from ..widgets.model import ModelInput
from ..widgets.numbers import metres
from ..widgets.output import OutputInput
from ..widgets.raster import RasterInput
from ..widgets.sampling import SamplesInput, SamplingInput
from ..widgets.seed import SeedInput
from .base import Panel, no_model, too_large


class SuperResolvePanel(Panel):
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
        self._info: Optional[SourceInfo] = None
        self._refusal: Optional[Failure] = None
        self._watched: Set[str] = set()
        self.model = ModelInput(self.task)
        self.layer = RasterInput()
        self.bands = BandsInput()
        self.factor = QComboBox()
        self.factor.setObjectName("factor")
        self.seed = SeedInput()
        self.samples = SamplesInput()
        self.spread = QCheckBox(tr("Save it &too"))
        self.spread.setObjectName("spread")
        self.sampling = SamplingInput(guided=False)
        self.output = OutputInput()
        self._lay_out()
        for widget in (self.bands, self.seed, self.sampling, self.output):
            widget.changed.connect(self._announce)
        self.factor.currentIndexChanged.connect(self._announce)
        self.spread.toggled.connect(self._announce)
        self.samples.valueChanged.connect(self._follow_samples)
        self.model.changed.connect(self._follow_model)
        self.layer.layerChanged.connect(self._follow_layer)
        self._follow_samples()
        self._follow_layer()

    def _lay_out(self) -> None:
        self.fields = Fields()
        self.fields.add(tr("&Model"), self.model, self.model.combo)
        self.fields.add(tr("&Layer"), self.layer, tip=tr("The raster to make finer; it is not changed"))
        self.fields.add(tr("&Bands"), self.bands, tip=tr("Bands of the result"))
        self.fields.add(tr("Fact&or"), self.factor, tip=tr("How many times finer"))
        self.fields.add(tr("Sa&mples"), self.samples, tip=tr("How many different pictures to draw"))
        tip = tr("How much the samples differ: the standard deviation over them, for each pixel and band")
        self.fields.add(tr("Sp&read"), self.spread, tip=tip)
        self.fields.add(tr("&Seed"), self.seed, self.seed.number, tr("The number that a picture grows from"))
        self.fields.add(tr("Sa&ve to"), self.output, self.output.file.lineEdit(), tr("A new GeoTIFF"))
        self.advanced = AdvancedBox()
        inner = QVBoxLayout(self.advanced)
        inner.addWidget(self.sampling)
        column = QVBoxLayout(self)
        column.addLayout(self.fields)
        column.addWidget(self.advanced)
        column.addStretch(1)

    @classmethod
    def title(cls) -> str:
        """Name of the task, on the dock's tab."""
        return tr("Super-resolve")

    def set_cards(self, cards: Tuple[ModelCard, ...]) -> None:
        """Offer these models."""
        self.model.set_cards(cards)

    def problems(self) -> List[Failure]:
        """Why no job can start with what the form holds, the first to solve first; empty when one can."""
        card = self.model.card
        if card is None:
            return [no_model(self.task)]
        if self.layer.currentLayer() is None:
            message = tr("The project has no raster layer.")
            return [Failure(ErrorCode.SOURCE_UNREADABLE, message, tr("Add the layer that you want to make finer."))]
        if self._refusal is not None:
            return [self._refusal]
        found = self.bands.problems()
        if not self.factor.currentData():
            found.append(no_model(self.task))
        else:
            found += too_large(self._info.grid.zoom(self.factor.currentData()))
        return found + self._output_problems()

    def draft(self) -> Draft:
        """What the form asks for.

        Raises:
            Problem: where ``problems`` would not be empty, or the layer cannot be exported.
        """
        found = self.problems()
        if found:
            raise Problem.of(found[0])
        layer = self.layer.currentLayer()
        export = prepare(layer, () if self.bands.is_all else self.bands.value())
        request = self._request(export.source, export.gsd, self.seed.next())
        title = tr("{layer}, {factor}\u00d7 finer").format(layer=layer.name(), factor=request.factor)
        return Draft(request, title, exports=(export,), output=self.output.value())

    def estimate(self, gflops: float = DEFAULT_GFLOPS) -> Optional[Estimate]:
        """What the job would take at a rate of so many GFLOP/s; None while the form has problems."""
        if self.problems():
            return None
        request = self._request(Source(""), self._info.gsd, self.seed.value())
        return estimate(
            request,
            self.model.card,
            source=self._info.grid,
            bands=len(self.bands.value()),
            itemsize=self._info.itemsize,
            gflops=gflops,
        )

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        return {
            "model": "" if self.model.card is None else self.model.card.id,
            "factor": self.factor.currentData() or 0,
            "samples": self.samples.value(),
            "spread": self.spread.isChecked(),
            **self.seed.held(),
        }

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        self.model.pick(str(values.get("model", "")))
        index = self.factor.findData(values.get("factor"))
        if index >= 0:
            self.factor.setCurrentIndex(index)
        self.samples.hold(values.get("samples"))
        self.spread.setChecked(values.get("spread") is True)
        self.seed.hold(values)

    def _request(self, source: Source, gsd: float, seed: int) -> SuperResolve:
        samples = self.samples.value()
        return SuperResolve(
            model=self.model.card.id,
            source=source,
            factor=self.factor.currentData(),
            gsd=gsd,
            sampling=self.sampling.value(seed, samples),
            spread=self.spread.isChecked() and samples > 1,
        )

    def _output_problems(self) -> List[Failure]:
        found = self.output.problems()
        if not found and self.factor.currentData():
            request = self._request(Source(""), self._info.gsd, self.seed.value())
            try:
                require_kept(self._info.files, target_paths(request, self.output.value()))
            except Problem as problem:
                found.append(problem.failure)
        return found

    def _follow_model(self) -> None:
        card = self.model.card
        if card is not None:
            factor = self.factor.currentData()
            self.factor.blockSignals(True)
            self.factor.clear()
            for value in card.factors:
                self.factor.addItem(tr("{factor}\u00d7").format(factor=value), value)
            self.factor.setCurrentIndex(max(0, self.factor.findData(factor)))
            self.factor.blockSignals(False)
            self.sampling.set_card(card)
        self._announce()

    def _follow_layer(self, *_: object) -> None:
        layer = self.layer.currentLayer()
        if layer is not None and layer.id() not in self._watched:
            self._watched.add(layer.id())
            layer.crsChanged.connect(self._describe)
            layer.dataSourceChanged.connect(self._describe)
        self._describe()

    def _describe(self) -> None:
        layer = self.layer.currentLayer()
        self._info, self._refusal = None, None
        if layer is not None:
            try:
                self._info = describe(layer)
            except Problem as problem:
                self._refusal = problem.failure
        if self._info is None:
            self.bands.set_bands((), ())
        else:
            self.bands.set_bands(self._info.data_bands, self._info.band_names)
        self._announce()

    def _follow_samples(self, *_: object) -> None:
        self.spread.setEnabled(self.samples.value() > 1)
        self._announce()

    def _announce(self, *_: object) -> None:
        self._write_notes()
        self.changed.emit()

    def _write_notes(self) -> None:
        card, factor = self.model.card, self.factor.currentData()
        self.fields.note(self.spread, "" if self.spread.isEnabled() else tr("Needs 2 samples or more."))
        if card is None or self._info is None or not factor:
            self.fields.note(self.factor, "")
            return
        finer = self._info.gsd / factor
        text = tr("Pixels of {before} become {after}.").format(before=metres(self._info.gsd), after=metres(finer))
        if not card.gsd[0] <= finer <= card.gsd[1]:
            text += " " + tr("The model was trained for {range}: expect less of it.").format(range=gsd_range(card))
        self.fields.note(self.factor, text)
