"""``afterimage:edit``: a raster layer with part of its ground turned into something else."""

from typing import Any, Dict, Optional

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingParameterBand,
    QgsProcessingParameterDateTime,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ...engine.contract import MARGIN_LIMIT, Edit, ErrorCode, ModelCard
from ..jobs import Draft, edit_title
from ..maps.grid import require_size
from ..maps.mask import MaskExport, prepare_mask
from ..maps.polygons import source_polygons
from ..maps.sources import Export, colours, describe, prepare, require_colours
from ..report import Problem, tr
from . import values
from .base import AfterimageAlgorithm, require_reach


class EditAlgorithm(AfterimageAlgorithm):
    """A raster layer with part of its ground turned into something else."""

    task = "Edit"

    def name(self) -> str:
        """Part of the id: never changes."""
        return "edit"

    def displayName(self) -> str:  # noqa: N802  (QGIS's names, here and below)
        """Name in the toolbox."""
        return tr("Edit raster (AI)")

    def tags(self):
        """Words to find it by."""
        return tr("ai,diffusion,inpainting,edit,scenario,land use change,polygon,mask,replace,synthetic").split(",")

    def shortHelpString(self) -> str:  # noqa: N802
        """What it does, in the dialog."""
        return tr(
            "Turns the ground inside polygons into something else, with a diffusion model on this computer: a field "
            "into a forest, say. What lies outside of the polygons keeps its exact values. Without polygons the whole "
            "raster is changed.\n\n"
            "What is drawn is AI-generated: a plausible picture, not a measurement and no forecast.\n\n"
            "Strength 1 draws anew from the prompt; less starts from what is there, and the less, the more of its "
            "layout stays. A model that is shown the raster as it is (RSEdit) has no such strength: of it, image "
            "guidance tells how much is kept, and guidance how much the prompt counts.\n\n"
            "With a margin the picture goes on beyond the raster, as far as the model can do that. Without polygons "
            "nothing else is drawn then.\n\n"
            "The result lies on the input's own grid, with three of its bands (red, green, blue), its pixel type and "
            "its 'no data'. Polygons may be in any coordinate reference system."
        )

    def initAlgorithm(self, configuration=None) -> None:  # noqa: N802
        """Declare the parameters."""
        double = QgsProcessingParameterNumber.Type.Double
        day = QgsProcessingParameterDateTime.Type.Date
        polygons = [QgsProcessing.SourceType.TypeVectorPolygon]
        self.addParameter(QgsProcessingParameterRasterLayer("INPUT", tr("Raster layer")))
        self.addParameter(
            QgsProcessingParameterFeatureSource(
                "MASK", tr("Polygons to change (empty: the whole raster)"), polygons, None, True
            )
        )
        self.addParameter(
            QgsProcessingParameterString(
                "PROMPT", tr("Prompt: what is there afterwards"), "", multiLine=True, optional=True
            )
        )
        self.addParameter(
            QgsProcessingParameterNumber(
                "STRENGTH", tr("Strength (1: drawn anew; less: keeps the layout)"), double, 1.0, False, 0.0, 1.0
            )
        )
        self.addParameter(
            QgsProcessingParameterDateTime("DATE", tr("Date that the result should show"), day, None, True)
        )
        self.add_model()
        self.add_sampling(guided=True)
        bands = QgsProcessingParameterBand(
            "BANDS",
            tr("Red, green and blue band (empty: as the layer shows them)"),
            None,
            "INPUT",
            optional=True,
            allowMultiple=True,
        )
        negative = QgsProcessingParameterString(
            "NEGATIVE_PROMPT", tr("Negative prompt: what to stay away from"), "", multiLine=True, optional=True
        )
        integer = QgsProcessingParameterNumber.Type.Integer
        image = QgsProcessingParameterNumber(
            "IMAGE_GUIDANCE",
            tr("Image guidance: how much is kept of the raster that the model is shown (empty: the model's own)"),
            double,
            None,
            True,
            1,
            20,
        )
        margin = QgsProcessingParameterNumber(
            "MARGIN", tr("Pixels to draw beyond the raster on each side"), integer, 0, True, 0, MARGIN_LIMIT
        )
        clouds = QgsProcessingParameterNumber(
            "CLOUD_COVER", tr("Cloud cover of the result in percent (empty: unknown)"), double, None, True, 0, 100
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
        for parameter in (image, margin, bands, negative, clouds, told):
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
            self.addParameter(parameter)
        self.add_outputs(tr("Edited raster"))

    def draft(self, parameters: Dict[str, Any], context: QgsProcessingContext) -> Draft:
        """What the parameters ask for."""
        card = self.read_model(parameters, context)
        export = self._export(parameters, context)
        hint = tr("Choose a raster with {finest} m to {coarsest} m, or warp it to that: Raster, Projections, Warp.")
        require_reach(card, export.gsd, hint)
        mask = self._mask(parameters, context, export)
        text = self.read_prompt(parameters, context, card)
        strength = values.number(self, parameters, "STRENGTH", context)
        if strength is not None and not 0 < strength <= 1:
            raise values.invalid(
                tr("STRENGTH must be above 0 and at most 1."), tr("Write for example 0.6, or 1 to draw anew.")
            )
        image = values.number(self, parameters, "IMAGE_GUIDANCE", context)
        if image is None:
            is_shown = "image_guidance" in card.uses
            image = card.image_guidance_scale if is_shown else Edit.image_guidance_scale
        request = Edit(
            model=card.id,
            source=export.source,
            gsd=export.gsd,
            prompt=text,
            sampling=self.read_sampling(parameters, context, card),
            mask=None if mask is None else mask.mask,
            strength=1.0 if strength is None else float(strength),
            negative_prompt=values.prompt(self, parameters, "NEGATIVE_PROMPT", context),
            date=values.date(self, parameters, "DATE", context),
            image_guidance_scale=float(image),
            margin=values.whole(self, parameters, "MARGIN", context) or 0,
            cloud_cover=values.number(self, parameters, "CLOUD_COVER", context),
            told_gsd=values.number(self, parameters, "TOLD_GSD", context),
        )
        _require_abilities(request, card)
        require_size(export.grid.pad(request.margin).shape)
        return Draft(request, edit_title(request), exports=(export,) if mask is None else (export, mask))

    def _export(self, parameters: Dict[str, Any], context: QgsProcessingContext) -> Export:
        """The raster, with the three bands that are drawn.

        Raises:
            Problem: as ``prepare``, UNSUPPORTED_RASTER for one without three bands, or INVALID_REQUEST.
        """
        layer = self.read_raster(parameters, context)
        info = describe(layer)
        require_colours(layer, info.data_bands)
        bands = tuple(values.bands(parameters, "BANDS")) or colours(layer, info)
        if len(bands) != 3:
            raise values.invalid(
                tr("BANDS must be three bands: red, green and blue."), tr("Write for example 4;3;2, or leave it empty.")
            )
        return prepare(layer, () if bands == info.data_bands else bands)

    def _mask(self, parameters: Dict[str, Any], context: QgsProcessingContext, export: Export) -> Optional[MaskExport]:
        """The polygons on the raster, None for all of it.

        Raises:
            Problem: MASK_UNREADABLE or MASK_EMPTY.
        """
        if not values.is_given(parameters, "MASK"):
            return None
        source = self.parameterAsSource(parameters, "MASK", context)
        if source is None:
            raise Problem(
                ErrorCode.MASK_UNREADABLE,
                tr("'{}' cannot be opened as a polygon layer.").format(str(parameters["MASK"])[-120:]),
                tr("Check the path, and that the file is complete."),
            )
        return prepare_mask(source_polygons(source, context.transformContext(), export.grid), export.grid)


def _require_abilities(request: Edit, card: ModelCard) -> None:
    """Refuse what the model cannot do.

    Raises:
        Problem: INVALID_REQUEST.
    """
    if request.strength < 1 and "strength" not in card.uses:
        raise values.invalid(
            tr("The model '{}' cannot start from what is there.").format(card.id),
            tr("Set STRENGTH to 1, or choose another model."),
        )
    if request.margin and "margin" not in card.uses:
        raise values.invalid(
            tr("The model '{}' cannot draw beyond a raster.").format(card.id),
            tr("Set MARGIN to 0, or choose another model."),
        )
    if request.margin and request.strength < 1:
        raise values.invalid(
            tr("Beyond the raster there is nothing to start from, as a strength below 1 does."),
            tr("Set STRENGTH to 1, or MARGIN to 0."),
        )
