"""``afterimage:superresolve``: a raster layer, some times finer."""

from dataclasses import replace
from typing import Any, Dict

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingParameterBand,
    QgsProcessingParameterDateTime,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from ...engine.contract import SuperResolve
from .. import cards
from ..jobs import Draft
from ..maps.grid import require_size
from ..maps.sources import prepare
from ..report import tr
from . import values
from .base import AfterimageAlgorithm


class SuperResolveAlgorithm(AfterimageAlgorithm):
    """A raster layer, some times finer."""

    task = "SuperResolve"

    def name(self) -> str:
        """Part of the id: never changes."""
        return "superresolve"

    def displayName(self) -> str:  # noqa: N802  (QGIS's names, here and below)
        """Name in the toolbox."""
        return tr("Super-resolve raster (AI)")

    def tags(self):
        """Words to find it by."""
        return tr("ai,diffusion,super-resolution,sharpen,upscale,enhance,pansharpen,uncertainty").split(",")

    def shortHelpString(self) -> str:  # noqa: N802
        """What it does, in the dialog."""
        return tr(
            "Makes a raster 2 or 4 times finer with a diffusion model on this computer.\n\n"
            "The detail is AI-generated: plausible, not measured. The mean over each input pixel stays that of the "
            "input. With several samples, the spread shows where they differ.\n\n"
            "The result lies on the input's own grid, refined by the factor, with its bands, its pixel type and its "
            "'no data'. Rotated rasters, colour tables and map services are refused with what to do."
        )

    def initAlgorithm(self, configuration=None) -> None:  # noqa: N802
        """Declare the parameters."""
        offered = cards.cards(self.task)
        factors = offered[0].factors if offered else ()
        self.addParameter(QgsProcessingParameterRasterLayer("INPUT", tr("Raster layer")))
        self.addParameter(
            QgsProcessingParameterBand(
                "BANDS", tr("Bands to use (empty: all)"), None, "INPUT", optional=True, allowMultiple=True
            )
        )
        self.addParameter(
            QgsProcessingParameterNumber(
                "FACTOR",
                tr("Factor: how many times finer (2 or 4)"),
                QgsProcessingParameterNumber.Type.Integer,
                max(factors, default=4),
                False,
                2,
                4,
            )
        )
        self.add_model()
        self.addParameter(
            QgsProcessingParameterDateTime(
                "DATE", tr("Date of the raster (empty: its own)"), QgsProcessingParameterDateTime.Type.Date, None, True
            )
        )
        self.add_sampling(guided=False)
        self.add_outputs(tr("Super-resolved raster"))
        self.addParameter(
            QgsProcessingParameterRasterDestination(
                "SPREAD", tr("Spread over the samples"), None, optional=True, createByDefault=False
            )
        )

    def draft(self, parameters: Dict[str, Any], context: QgsProcessingContext) -> Draft:
        """What the parameters ask for."""
        card = self.read_model(parameters, context)
        layer = self.read_raster(parameters, context)
        sampling = replace(self.read_sampling(parameters, context, card), guidance_scale=1.0)
        factor = values.whole(self, parameters, "FACTOR", context)
        if factor not in card.factors or factor not in (2, 4):
            raise values.invalid(
                tr("The model '{}' does not make rasters {} times finer.").format(card.id, factor),
                tr("Choose the factor {}.").format(tr(" or ").join(str(known) for known in card.factors)),
            )
        spread = values.destination(parameters.get("SPREAD")) is not None
        if spread and sampling.samples < 2:
            raise values.invalid(
                tr("A spread needs at least 2 samples."), tr("Ask for more samples, or skip the spread.")
            )
        export = prepare(layer, values.bands(parameters, "BANDS"))
        require_size(export.grid.zoom(factor).shape)
        date = values.date(self, parameters, "DATE", context)
        source = export.source if date is None else replace(export.source, date=date)
        request = SuperResolve(card.id, source, factor, export.gsd, sampling, spread)
        return Draft(request, tr("{}, {}x finer").format(layer.name(), factor), exports=(export,))
