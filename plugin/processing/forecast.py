"""``afterimage:forecast``: what a place looked like, or will look like, on another date, from dated rasters of it."""

import re
from typing import Any, Dict, List, Optional, Tuple

from qgis.core import (
    QgsMapLayer,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDateTime,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
    QgsProperty,
)

from ...engine.contract import ErrorCode, Forecast
from ..jobs import Draft, forecast_title
from ..maps.acquisition import acquisition
from ..maps.grid import require_size
from ..maps.series import Member, finest_first, prepare_series, series_problems
from ..maps.sources import describe
from ..report import Problem, tr
from . import values
from .base import AfterimageAlgorithm


class ForecastAlgorithm(AfterimageAlgorithm):
    """What a place looked like, or will look like, on another date."""

    task = "Forecast"

    def name(self) -> str:
        """Part of the id: never changes."""
        return "forecast"

    def displayName(self) -> str:  # noqa: N802  (QGIS's names, here and below)
        """Name in the toolbox."""
        return tr("Forecast raster (AI)")

    def tags(self):
        """Words to find it by."""
        return tr("ai,diffusion,forecast,hindcast,time series,temporal,date,past,future,gap,synthetic").split(",")

    def shortHelpString(self) -> str:  # noqa: N802
        """What it does, in the dialog."""
        return tr(
            "Draws what a place may have looked like, or may look like, on another date, with a diffusion model on "
            "this computer, from dated rasters of the place. The date may lie before, between or after theirs.\n\n"
            "The result is AI-generated: a plausible picture, not a measurement and no prediction of what was or will "
            "be built or grow there.\n\n"
            "Dates are those of the layers' temporal ranges, or are given, one for each input. The result lies on the "
            "grid of the finest input, in three bands (red, green, blue) as that shows them, with its pixel type and "
            "its 'no data'; the other inputs are resampled to it as far as they lie on its ground. Where a model "
            "starts from more rasters than there are, the first stands in for those that are missing.\n\n"
            "No model that ships can forecast: fetch or import one in the dock of Afterimage, under Models."
        )

    def initAlgorithm(self, configuration=None) -> None:  # noqa: N802
        """Declare the parameters."""
        day = QgsProcessingParameterDateTime.Type.Date
        self.addParameter(
            QgsProcessingParameterMultipleLayers(
                "INPUTS", tr("Dated raster layers of the place"), QgsProcessing.SourceType.TypeRaster
            )
        )
        self.addParameter(
            QgsProcessingParameterString(
                "DATES",
                tr("Their dates, as in 2016-09-11;2018-11-20 (empty: the layers' own)"),
                None,
                optional=True,
            )
        )
        self.addParameter(QgsProcessingParameterDateTime("DATE", tr("Date that the result should show"), day))
        self.addParameter(
            QgsProcessingParameterString(
                "PROMPT", tr("Prompt: what is there on that date"), "", multiLine=True, optional=True
            )
        )
        self.add_model()
        self.add_sampling(guided=True)
        double = QgsProcessingParameterNumber.Type.Double
        negative = QgsProcessingParameterString(
            "NEGATIVE_PROMPT", tr("Negative prompt: what to stay away from"), "", multiLine=True, optional=True
        )
        clouds = QgsProcessingParameterNumber(
            "CLOUD_COVER", tr("Cloud cover of the result in percent (empty: unknown)"), double, None, True, 0, 100
        )
        covers = QgsProcessingParameterString(
            "CLOUD_COVERS",
            tr("Cloud cover of the layers in percent, as in 0;12.5 (empty: the layers' own, else unknown)"),
            None,
            optional=True,
        )
        bands = QgsProcessingParameterString(
            "BANDS",
            tr("Their red, green and blue bands, as in 4,3,2;1,2,3 (empty: as the layers show them)"),
            None,
            optional=True,
        )
        order = QgsProcessingParameterBoolean(
            "KEEP_ORDER", tr("The first layer gives the grid, not the finest"), False, True
        )
        for parameter in (negative, clouds, covers, bands, order):
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
            self.addParameter(parameter)
        self.add_outputs(tr("Forecast raster"))

    def draft(self, parameters: Dict[str, Any], context: QgsProcessingContext) -> Draft:
        """What the parameters ask for."""
        card = self.read_model(parameters, context)
        members = self._members(parameters, context)
        if not self.parameterAsBoolean(parameters, "KEEP_ORDER", context):
            members = finest_first(members)
        date = values.date(self, parameters, "DATE", context)
        found = series_problems(members, date, card)
        if found:
            raise Problem.of(found[0])
        require_size(members[0].info.grid.shape, tr("Cut out the part that you need first."))
        text = self.read_prompt(parameters, context, card)
        exports = prepare_series(members)
        request = Forecast(
            model=card.id,
            sources=tuple(export.source for export in exports),
            gsd=exports[0].gsd,
            date=date,
            sampling=self.read_sampling(parameters, context, card),
            prompt=text,
            negative_prompt=values.prompt(self, parameters, "NEGATIVE_PROMPT", context),
            cloud_cover=values.number(self, parameters, "CLOUD_COVER", context),
        )
        return Draft(request, forecast_title(request), exports=exports)

    def _members(self, parameters: Dict[str, Any], context: QgsProcessingContext) -> Tuple[Member, ...]:
        """The layers with their dates, in the order in which they were given.

        Raises:
            Problem: as ``describe``, SOURCE_UNREADABLE, or INVALID_REQUEST for lists of another length or kind.
        """
        layers = self._layers(parameters, context)
        if not layers:
            return ()
        dates = [_date(text) for text in _texts(parameters, "DATES", len(layers))]
        covers = [_percent(text) for text in _texts(parameters, "CLOUD_COVERS", len(layers))]
        bands = [_bands(text) for text in _texts(parameters, "BANDS", len(layers))]
        found = []
        for layer, date, cover, colours in zip(layers, dates, covers, bands):
            info, known = describe(layer), acquisition(layer)
            cloud_cover = known.cloud_cover if cover is None else cover
            found.append(Member(layer, info, date or known.date, cloud_cover, colours))
        return tuple(found)

    def _layers(self, parameters: Dict[str, Any], context: QgsProcessingContext) -> List[QgsMapLayer]:
        """Each layer that was given; none is left out silently.

        Raises:
            Problem: SOURCE_UNREADABLE.
        """
        given = parameters.get("INPUTS")
        given = given.staticValue() if isinstance(given, QgsProperty) else given
        if isinstance(given, str):
            # one path or name may have a semicolon in it
            whole = self.read_layer(given, context) if given else None
            given = [whole] if whole is not None else [part for part in given.split(";") if part.strip()]
        elif not isinstance(given, (list, tuple)):
            given = [] if given is None else [given]
        layers = []
        for one in given:
            layer = self.read_layer(one, context)
            if layer is None:
                raise Problem(
                    ErrorCode.SOURCE_UNREADABLE,
                    tr("'{}' cannot be opened as a raster.").format(str(one)[-120:]),
                    tr("Check the path, and that the file is complete."),
                )
            layers.append(layer)
        return layers

    def read_layer(self, given: Any, context: QgsProcessingContext) -> Optional[QgsMapLayer]:
        """The layer that one value of a list means, of whichever kind it is; None where it means none."""
        if isinstance(given, QgsMapLayer):
            return given
        one = {"INPUTS": given.strip() if isinstance(given, str) else given}
        return self.parameterAsRasterLayer(one, "INPUTS", context) or self.parameterAsLayer(one, "INPUTS", context)


def _texts(parameters: Dict[str, Any], name: str, length: int) -> List[str]:
    """What was given for each input, "" where nothing was.

    Raises:
        Problem: INVALID_REQUEST where there are more or fewer than inputs.
    """
    value = parameters.get(name)
    if isinstance(value, QgsProperty):
        value = value.staticValue()
    if value is None or value == "" or value == []:
        return [""] * length
    parts = value if isinstance(value, (list, tuple)) else str(value).split(";")
    texts = ["" if part is None else str(part).strip() for part in parts]
    if len(texts) != length:
        raise values.invalid(
            tr("{} has {} entries for {} inputs.").format(name, len(texts), length),
            tr("Write one for each input, with a semicolon between them, or none at all."),
        )
    return texts


def _date(text: str) -> Optional[str]:
    return values.iso_date(text) if text else None


def _bands(text: str) -> Tuple[int, ...]:
    found = tuple(values.bands({"BANDS": text}, "BANDS"))
    if text and len(found) != 3:
        raise values.invalid(
            tr("BANDS must be three bands of each input: red, green and blue."),
            tr("Write for example 4,3,2;1,2,3, or leave it empty."),
        )
    return found


def _percent(text: str) -> Optional[float]:
    if not text:
        return None
    if not re.fullmatch(r"\d{1,3}(\.\d*)?", text) or float(text) > 100:
        raise values.invalid(
            tr("'{}' is no cloud cover.").format(text[:40]), tr("Write percent from 0 to 100, as in 12.5.")
        )
    return float(text)
