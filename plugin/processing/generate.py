"""``afterimage:generate``: imagery over an extent, on a date, from a text."""

from typing import Any, Dict

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDateTime,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterExtent,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from ...engine.contract import (
    COARSE_FACTORS,
    FRAMES_LIMIT,
    TRAJECTORY_LIMIT,
    ErrorCode,
    Generate,
    ModelCard,
    coarse_refusal,
)
from .. import cards
from ..jobs import Draft, generate_title
from ..maps.grid import place
from ..report import Problem, tr
from . import values
from .base import AfterimageAlgorithm, require_reach
from .guides import add_guides, read_guides
from .regions import add_regions, read_regions


class GenerateAlgorithm(AfterimageAlgorithm):
    """Imagery over an extent, on a date, from a text."""

    task = "Generate"

    def name(self) -> str:
        """Part of the id: never changes."""
        return "generate"

    def displayName(self) -> str:  # noqa: N802  (QGIS's names, here and below)
        """Name in the toolbox."""
        return tr("Generate imagery (AI)")

    def tags(self):
        """Words to find it by."""
        return tr("ai,diffusion,synthetic,satellite,image,prompt,text to image,generate").split(",")

    def shortHelpString(self) -> str:  # noqa: N802
        """What it does, in the dialog."""
        return tr(
            "Draws satellite imagery over an extent with a diffusion model on this computer.\n\n"
            "The result is AI-generated: a plausible picture, not a measurement. Its name and metadata say so.\n\n"
            "Resolution is in metres on the ground per pixel, in every coordinate reference system. Without a CRS the "
            "result lies on a metric grid that fits the place (UTM, or equal area for large extents). Across the "
            "antimeridian, count longitudes on beyond 180.\n\n"
            "Models that take them are guided by layers: roads, land use, lines, edges, a sketch, heights, a map. Each "
            "is drawn on the model's grid as the model was trained to see it.\n\n"
            "Regions are polygons with texts of their own: each is drawn from its text, neighbours join without a "
            "seam, and the prompt is drawn elsewhere, unless only the regions are.\n\n"
            "A coarser level first, with models that are told the resolution and know several: the extent is drawn in "
            "pixels 2, 4 or 8 times as large, and the picture starts from that, so that what is larger than the "
            "model's window hangs together.\n\n"
            "The same parameters draw the same picture, and overlapping extents agree where they overlap. With more "
            "than one sample, the others stand beside the output with a number in the name."
        )

    def initAlgorithm(self, configuration=None) -> None:  # noqa: N802
        """Declare the parameters."""
        offered = cards.cards(self.task)
        self.addParameter(QgsProcessingParameterExtent("EXTENT", tr("Extent")))
        self.addParameter(
            QgsProcessingParameterString("PROMPT", tr("Prompt: what to draw"), "", multiLine=True, optional=True)
        )
        self.addParameter(
            QgsProcessingParameterNumber(
                "RESOLUTION",
                tr("Resolution (metres on the ground per pixel)"),
                QgsProcessingParameterNumber.Type.Double,
                offered[0].gsd[0] if offered else 10.0,
                False,
                0.01,
                100000,
            )
        )
        self.addParameter(
            QgsProcessingParameterDateTime(
                "DATE", tr("Date that the picture should show"), QgsProcessingParameterDateTime.Type.Date, None, True
            )
        )
        self.add_model()
        self.add_sampling(guided=True)
        crs = QgsProcessingParameterCrs("CRS", tr("CRS of the result (empty: fits the place)"), None, True)
        negative = QgsProcessingParameterString(
            "NEGATIVE_PROMPT", tr("Negative prompt: what to stay away from"), "", multiLine=True, optional=True
        )
        trajectory = QgsProcessingParameterNumber(
            "TRAJECTORY",
            tr("Keep the steps as an animation of so many pictures (at most {} over all samples)").format(FRAMES_LIMIT),
            QgsProcessingParameterNumber.Type.Integer,
            0,
            True,  # models that were made before there was such a parameter go on without it
            0,
            TRAJECTORY_LIMIT,
        )
        double = QgsProcessingParameterNumber.Type.Double
        clouds = QgsProcessingParameterNumber(
            "CLOUD_COVER", tr("Cloud cover of the picture in percent (empty: unknown)"), double, None, True, 0, 100
        )
        told = QgsProcessingParameterNumber(
            "TOLD_GSD",
            tr("Resolution that the model is told, in metres (empty: that of the pixels; 0: unknown)"),
            double,
            None,
            True,
            0,
            100000,
        )
        coarse = QgsProcessingParameterNumber(
            "COARSE",
            tr("Coarser level first: so many times coarser (1: none, 2, 4 or 8)"),
            QgsProcessingParameterNumber.Type.Integer,
            1,
            True,
            1,
            COARSE_FACTORS[-1],
        )
        strength = QgsProcessingParameterNumber(
            "COARSE_STRENGTH",
            tr("How far to leave the coarser level: the share of the steps that draw the picture from it"),
            double,
            Generate.coarse_strength,
            True,
            0.01,
            0.99,
        )
        for parameter in (crs, negative, trajectory, clouds, told, coarse, strength):
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
            self.addParameter(parameter)
        add_regions(self)
        add_guides(self)
        self.add_outputs(tr("Generated imagery"))
        self.addOutput(QgsProcessingOutputMultipleLayers("FRAMES", tr("Pictures on the way from noise")))

    def draft(self, parameters: Dict[str, Any], context: QgsProcessingContext) -> Draft:
        """What the parameters ask for."""
        card = self.read_model(parameters, context)
        where = self._place(parameters, context, card)
        regions = read_regions(self, parameters, context, card, where, self._cancelled)
        is_alone = regions is not None and regions.regions.only
        text = "" if is_alone else self.read_prompt(parameters, context, card)
        guides = read_guides(self, parameters, context, card, where)
        request = Generate(
            model=card.id,
            grid=where.grid,
            lattice=where.lattice,
            gsd=where.gsd,
            prompt=text,
            negative_prompt=values.prompt(self, parameters, "NEGATIVE_PROMPT", context),
            date=values.date(self, parameters, "DATE", context),
            longitude=where.longitude,
            latitude=where.latitude,
            sampling=self.read_sampling(parameters, context, card),
            trajectory=values.whole(self, parameters, "TRAJECTORY", context) or 0,
            cloud_cover=values.number(self, parameters, "CLOUD_COVER", context),
            told_gsd=values.number(self, parameters, "TOLD_GSD", context),
            controls=tuple(export.control for export in guides),
            regions=None if regions is None else regions.regions,
            coarse=values.whole(self, parameters, "COARSE", context) or 1,
            coarse_strength=values.number(self, parameters, "COARSE_STRENGTH", context) or Generate.coarse_strength,
        )
        refusal = coarse_refusal(request, where.lattice.shape, card)
        if refusal is not None:
            raise values.invalid(*refusal)
        exports = guides if regions is None else (*guides, regions)
        return Draft(request, generate_title(request, self.displayName()), exports=exports)

    def _place(self, parameters: Dict[str, Any], context: QgsProcessingContext, card: ModelCard):
        values.require_upright(parameters.get("EXTENT"))
        extent = self.parameterAsExtent(parameters, "EXTENT", context)
        crs = self.parameterAsExtentCrs(parameters, "EXTENT", context)
        if not crs.isValid() and not extent.isEmpty():
            raise Problem(
                ErrorCode.UNKNOWN_CRS,
                tr("The extent does not say in which coordinate reference system it is."),
                tr("Write it after the numbers, as in 13.0,13.1,52.0,52.1 [EPSG:4326]."),
            )
        target = None
        if values.is_given(parameters, "CRS"):
            target = self.parameterAsCrs(parameters, "CRS", context)
            if not target.isValid():
                raise Problem(
                    ErrorCode.UNKNOWN_CRS,
                    tr("'{}' is not a coordinate reference system that QGIS knows.").format(
                        str(parameters["CRS"])[:60]
                    ),
                    tr("Write a code such as EPSG:32633, or leave it empty for one that fits the place."),
                )
        gsd = values.number(self, parameters, "RESOLUTION", context)
        where = place(extent, crs, float(gsd or 0.0), target)
        require_reach(card, where.gsd, tr("Choose a resolution from {finest} m to {coarsest} m."))
        return where
