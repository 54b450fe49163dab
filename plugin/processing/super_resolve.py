"""``afterimage:superresolve``: a raster layer, some times finer."""

from dataclasses import replace
from typing import Any, Dict

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingParameterBand,
    QgsProcessingParameterDateTime,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ...engine.contract import FACTORS, SuperResolve
from .. import cards
from ..jobs import Draft, super_resolve_title
from ..maps.acquisition import acquisition
from ..maps.grid import require_size
from ..maps.sources import describe, prepare, require_sensor
from ..report import tr
from . import values
from .base import AfterimageAlgorithm, require_reach


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
            "Makes a raster finer with a diffusion model on this computer: 2 or 4 times with the one that ships.\n\n"
            "The detail is AI-generated: plausible, not measured. The mean over each input pixel stays that of the "
            "input. The mean of all that the model would draw is the most accurate picture, pixel by pixel, and "
            "smoother than the ground: measure on it. The spread shows how far the truth may lie from it.\n\n"
            "The result lies on the input's own grid, refined by the factor, with its bands, its pixel type and its "
            "'no data'. Rotated rasters, colour tables and map services are refused with what to do.\n\n"
            "Models that draw from the bands of Sentinel-2 make colour imagery (red, green, blue) of them: the bands "
            "are found by their names, or are all 13, or 12 without B10, in their order."
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
                tr("Factor: how many times finer (2 or 4, others as the model's card says)"),
                QgsProcessingParameterNumber.Type.Integer,
                max(factors, default=4),
                False,
                *FACTORS,
            )
        )
        self.add_model()
        self.addParameter(
            QgsProcessingParameterDateTime(
                "DATE", tr("Date of the raster (empty: its own)"), QgsProcessingParameterDateTime.Type.Date, None, True
            )
        )
        self.add_sampling(guided=True)
        prompt = QgsProcessingParameterString(
            "PROMPT", tr("Prompt: what is there, for models that are told"), "", multiLine=True, optional=True
        )
        negative = QgsProcessingParameterString(
            "NEGATIVE_PROMPT", tr("Negative prompt: what to stay away from"), "", multiLine=True, optional=True
        )
        clouds = QgsProcessingParameterNumber(
            "CLOUD_COVER",
            tr("Cloud cover of the raster in percent, for models that are told (empty: its own, else unknown)"),
            QgsProcessingParameterNumber.Type.Double,
            None,
            True,
            0,
            100,
        )
        for parameter in (prompt, negative, clouds):
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
            self.addParameter(parameter)
        self.add_outputs(tr("Super-resolved raster"))
        self.addParameter(
            QgsProcessingParameterRasterDestination(
                "MEAN", tr("Mean: the most accurate picture"), None, optional=True, createByDefault=False
            )
        )
        self.addParameter(
            QgsProcessingParameterRasterDestination("SPREAD", tr("Spread"), None, optional=True, createByDefault=False)
        )

    def draft(self, parameters: Dict[str, Any], context: QgsProcessingContext) -> Draft:
        """What the parameters ask for."""
        card = self.read_model(parameters, context)
        layer = self.read_raster(parameters, context)
        sampling = self.read_sampling(parameters, context, card)
        if "prompt" not in card.uses:  # there is nothing to follow
            sampling = replace(sampling, guidance_scale=1.0)
        factor = values.whole(self, parameters, "FACTOR", context)
        if factor not in card.factors:
            raise values.invalid(
                tr("The model '{}' does not make rasters {} times finer.").format(card.id, factor),
                tr("Choose the factor {}.").format(tr(" or ").join(str(known) for known in sorted(card.factors))),
            )
        spread = values.destination(parameters.get("SPREAD")) is not None
        if spread and sampling.samples < 2 and not card.gives_mean:
            raise values.invalid(
                tr("With this model a spread needs at least 2 samples."),
                tr("Ask for more samples, or skip the spread."),
            )
        mean = values.destination(parameters.get("MEAN")) is not None
        if mean and not card.gives_mean:
            raise values.invalid(
                tr("The model '{}' gives samples, and not their mean.").format(card.id),
                tr("Skip the mean, or choose another model."),
            )
        if card.source_bands:
            require_sensor(layer, describe(layer), card.source_bands)
        # where the model says which bands it is given, all are written: their names say which they are
        export = prepare(layer, () if card.source_bands else values.bands(parameters, "BANDS"))
        if card.source_bands:
            hint = tr("Choose a factor that makes them {finest} m to {coarsest} m.")
            require_reach(card, export.gsd / factor, hint)
        require_size(export.grid.zoom(factor).shape)
        date = values.date(self, parameters, "DATE", context)
        cover = values.number(self, parameters, "CLOUD_COVER", context)
        known = acquisition(layer)
        if cover is None and "cloud_cover" in card.uses:  # a model that is not told does not say that it is not
            cover = known.cloud_cover
        request = SuperResolve(
            model=card.id,
            source=replace(export.source, date=date or known.date, cloud_cover=cover),
            factor=factor,
            gsd=export.gsd,
            sampling=sampling,
            spread=spread,
            prompt=self.read_prompt(parameters, context, card),
            negative_prompt=values.prompt(self, parameters, "NEGATIVE_PROMPT", context),
            mean=mean,
        )
        return Draft(request, super_resolve_title(request), exports=(export,))
