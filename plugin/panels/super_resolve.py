"""A raster layer, some times finer: the form of ``SuperResolve``."""

from typing import Dict, List, Optional

from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QWidget

from ...engine.contract import DEFAULT_GFLOPS, Estimate, Failure, ModelCard, Source, SuperResolve, estimate
from ..jobs import Draft
from ..maps.sources import prepare
from ..report import Problem, tr
from ..widgets.about import gsd_range
from ..widgets.bands import BandsInput
from ..widgets.numbers import metres
from .base import no_model, too_large
from .source import SourcePanel


class SuperResolvePanel(SourcePanel):
    """The form of ``SuperResolve``."""

    task = "SuperResolve"
    key = "superresolve/form"
    guided = False

    def __init__(self, canvas: Optional[QgsMapCanvas] = None, parent: Optional[QWidget] = None) -> None:
        """Make a form that shows the first raster layer of the project.

        Args:
            canvas: not used: the layer says where.
            parent: as usual.
        """
        super().__init__(parent)
        self.bands = BandsInput()
        self.factor = QComboBox()
        self.factor.setObjectName("factor")
        self.spread = QCheckBox(tr("Save it &too"))
        self.spread.setObjectName("spread")
        self._lay_out()
        self._follow(self.bands)
        self.factor.currentIndexChanged.connect(self._announce)
        self.spread.toggled.connect(self._announce)
        self._follow_layer()

    def _lay_out(self) -> None:
        self.fields.add(tr("&Layer"), self.layer, tip=tr("The raster to make finer; it is not changed"))
        self.fields.add(tr("&Bands"), self.bands, tip=tr("Bands of the result"))
        self.fields.add(tr("Fact&or"), self.factor, tip=tr("How many times finer"))
        self._add_samples()
        tip = tr("How much the samples differ: the standard deviation over them, for each pixel and band")
        self.fields.add(tr("Sp&read"), self.spread, tip=tip)
        self._add_seed_and_output()
        self._stack()

    @classmethod
    def title(cls) -> str:
        """Name of the task, on the dock's tab."""
        return tr("Super-resolve")

    def problems(self) -> List[Failure]:
        """Why no job can start with what the form holds, the first to solve first; empty when one can."""
        if self.model.card is None:
            return [no_model(self.task)]
        found = self._layer_problems()
        if found:
            return found
        if not self.factor.currentData():
            return [no_model(self.task)]
        request = self._request(Source(""), self._info.gsd, self.seed.value())
        size = too_large(self._info.grid.zoom(request.factor))
        return [*self.bands.problems(), *size, *self._output_problems(request)]

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
            **super().held(),
            "factor": self.factor.currentData() or 0,
            "spread": self.spread.isChecked(),
        }

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        super().hold(values)
        index = self.factor.findData(values.get("factor"))
        if index >= 0:
            self.factor.setCurrentIndex(index)
        self.spread.setChecked(values.get("spread") is True)

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

    def _show_card(self, card: ModelCard) -> None:
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

    def _write_notes(self) -> None:
        card, factor = self.model.card, self.factor.currentData()
        self.spread.setEnabled(self.samples.value() > 1)
        self.fields.note(self.spread, "" if self.spread.isEnabled() else tr("Needs 2 samples or more."))
        if card is None or self._info is None or not factor:
            self.fields.note(self.factor, "")
            return
        finer = self._info.gsd / factor
        text = tr("Pixels of {before} become {after}.").format(before=metres(self._info.gsd), after=metres(finer))
        if not card.gsd[0] <= finer <= card.gsd[1]:
            text += " " + tr("The model was trained for {range}: expect less of it.").format(range=gsd_range(card))
        self.fields.note(self.factor, text)
