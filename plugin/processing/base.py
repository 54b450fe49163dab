"""What the algorithms share: from parameters to a draft, from a draft to a job that is run, and to dated layers."""

import os
import weakref
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Tuple

from qgis.core import (
    QgsMapLayer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtGui import QIcon

from ...engine.contract import (
    STEPS_LIMIT,
    Cancelled,
    ErrorCode,
    Failed,
    Failure,
    ModelCard,
    Result,
    Role,
    Sampling,
    Succeeded,
    target_paths,
)
from .. import cards, jobs, settings
from ..link.environment import engine_failure
from ..link.run import RunCancelled, run_job
from ..maps.sources import require_kept
from ..report import Problem, log_failure, sentence, tr
from . import values
from .dressing import dress_when_loaded

_ICON = os.path.join(os.path.dirname(__file__), "..", "..", "resources", "icons", "afterimage.svg")
Parameters = Dict[str, Any]
#: Destinations beside the samples -> what a draft calls them.
_BESIDE = {"MEAN": "mean_output", "SPREAD": "spread_output"}
#: Algorithms that were prepared for a run and are still there.
_PREPARED: "weakref.WeakSet[AfterimageAlgorithm]" = weakref.WeakSet()


class AfterimageAlgorithm(QgsProcessingAlgorithm):
    """A task as a Processing algorithm; runs on a worker thread."""

    #: Name of the request's type.
    task = ""

    def __init__(self) -> None:
        """One that nobody has cancelled."""
        super().__init__()
        self._cancelled: Callable[[], bool] = lambda: False

    def draft(self, parameters: Parameters, context: QgsProcessingContext) -> jobs.Draft:
        """What the parameters ask for, without destinations.

        Raises:
            Problem: where it cannot be done.
        """
        raise NotImplementedError

    def createInstance(self) -> QgsProcessingAlgorithm:  # noqa: N802  (QGIS's names, here and below)
        """A fresh one, for one run."""
        return type(self)()

    def icon(self) -> QIcon:
        """The plugin's icon."""
        return QIcon(_ICON)

    def svgIconPath(self) -> str:  # noqa: N802
        """The plugin's icon as a file."""
        return _ICON

    def add_model(self) -> None:
        """Add the choice of a model."""
        offered = [card.id for card in cards.cards(self.task)]
        self.addParameter(
            QgsProcessingParameterEnum(
                "MODEL",
                tr("Model"),
                options=offered,
                defaultValue=offered[0] if offered else None,
                usesStaticStrings=True,
            )
        )

    def add_sampling(self, guided: bool) -> None:
        """Add how the picture is drawn: seed and samples, and what only experts change."""
        integer = QgsProcessingParameterNumber.Type.Integer
        self.addParameter(
            QgsProcessingParameterNumber("SEED", tr("Seed: the same one draws the same picture"), integer, 0, False, 0)
        )
        self.addParameter(
            QgsProcessingParameterNumber("SAMPLES", tr("Samples: how many pictures"), integer, 1, False, 1, 64)
        )
        steps = QgsProcessingParameterNumber(
            "STEPS", tr("Steps (empty: the model's own)"), integer, None, True, 1, STEPS_LIMIT
        )
        scheduler = QgsProcessingParameterString(
            "SCHEDULER", tr("Scheduler (empty: the model's own)"), None, False, True
        )
        advanced: List[QgsProcessingParameterDefinition] = [steps, scheduler]
        if guided:
            double = QgsProcessingParameterNumber.Type.Double
            label = tr("Guidance: how closely the prompt is followed (empty: the model's own)")
            advanced.append(QgsProcessingParameterNumber("GUIDANCE", label, double, None, True, 0, 50))
        for parameter in advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
            self.addParameter(parameter)

    def add_outputs(self, label: str) -> None:
        """Add the destination of the first sample, and the list of all."""
        self.addParameter(QgsProcessingParameterRasterDestination("OUTPUT", label))
        self.addOutput(QgsProcessingOutputMultipleLayers("OUTPUTS", tr("All samples")))

    def read_model(self, parameters: Parameters, context: QgsProcessingContext) -> ModelCard:
        """The model that was chosen.

        Raises:
            Problem: UNKNOWN_MODEL.
        """
        chosen = parameters.get("MODEL")
        if not isinstance(chosen, str):
            chosen = self.parameterAsEnumString(parameters, "MODEL", context)
        if not chosen:
            default = self.parameterDefinition("MODEL").defaultValue()
            chosen = default if isinstance(default, str) else ""
        return cards.card(chosen, self.task)

    def read_prompt(self, parameters: Parameters, context: QgsProcessingContext, card: ModelCard) -> str:
        """What to draw.

        Raises:
            Problem: PROMPT_TOO_LONG, or PROMPT_NOT_UNDERSTOOD for no text where the model must be told.
        """
        text = values.prompt(self, parameters, "PROMPT", context)
        if card.vocabulary and not text:
            raise Problem(
                ErrorCode.PROMPT_NOT_UNDERSTOOD,
                tr("There is no prompt: the model '{}' has to be told what to draw.").format(card.id),
                tr("Write one or more of: {}.").format(", ".join(card.vocabulary)),
            )
        return text

    def read_raster(self, parameters: Parameters, context: QgsProcessingContext) -> QgsMapLayer:
        """The layer to begin with, of whichever kind it is.

        Raises:
            Problem: SOURCE_UNREADABLE.
        """
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context) or self.parameterAsLayer(
            parameters, "INPUT", context
        )
        if layer is None:
            given = str(parameters.get("INPUT") or "")
            raise Problem(
                ErrorCode.SOURCE_UNREADABLE,
                tr("'{}' cannot be opened as a raster.").format(given[-120:])
                if given
                else tr("There is no input raster."),
                tr("Check the path, and that the file is complete."),
            )
        return layer

    def read_sampling(self, parameters: Parameters, context: QgsProcessingContext, card: ModelCard) -> Sampling:
        """How the picture is drawn, with the model's own values where nothing was given.

        Raises:
            Problem: UNKNOWN_SCHEDULER or INVALID_REQUEST.
        """
        scheduler = self.parameterAsString(parameters, "SCHEDULER", context).strip() or card.schedulers[0]
        if scheduler not in card.schedulers:
            raise Problem(
                ErrorCode.UNKNOWN_SCHEDULER,
                tr("The model '{}' has no scheduler '{}'.").format(card.id, scheduler[:40]),
                tr("Choose one of: {}.").format(", ".join(card.schedulers)),
            )
        steps = values.whole(self, parameters, "STEPS", context)
        guidance = None
        if self.parameterDefinition("GUIDANCE") is not None:
            guidance = values.number(self, parameters, "GUIDANCE", context)
        try:
            return Sampling(
                seed=values.whole(self, parameters, "SEED", context) or 0,
                steps=card.steps if steps is None else steps,
                scheduler=scheduler,
                guidance_scale=card.guidance_scale if guidance is None else float(guidance),
                samples=values.whole(self, parameters, "SAMPLES", context) or 0,
            )
        except ValueError as error:
            raise values.refused(error) from None

    def checkParameterValues(self, parameters: Parameters, context: QgsProcessingContext) -> Tuple[bool, str]:
        """Whether the run can start; the text begins with the code of what is wrong."""
        try:
            self._checked_draft(parameters, context)
        except Problem as problem:
            return False, _text(problem.failure)
        is_well, text = super().checkParameterValues(parameters, context)
        return is_well, text if is_well else f"{ErrorCode.INVALID_REQUEST.value}: {text}"

    def prepareAlgorithm(  # noqa: N802
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """Read everything that lives on the main thread."""
        self._cancelled = feedback.isCanceled
        try:
            self._draft: Optional[jobs.Draft] = self._checked_draft(parameters, context)
            _PREPARED.add(self)
        except Problem as problem:
            if feedback.isCanceled():  # not all was read
                return False
            raise QgsProcessingException(_text(problem.failure)) from None
        finally:
            self._cancelled = lambda: False
        return not feedback.isCanceled()

    def processAlgorithm(  # noqa: N802
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Parameters:
        """Run the job and wait for it; an empty answer once cancelled."""
        draft, self._draft = self._draft, None
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        beside = {
            name: self.parameterAsOutputLayer(parameters, name, context)
            for name in _BESIDE
            if self._destination(parameters, name) is not None
        }
        draft = replace(
            draft,
            output=os.path.abspath(output),
            **{_BESIDE[name]: os.path.abspath(path) for name, path in beside.items() if path},
        )
        try:
            _require_sources_kept(draft)
            result = _run(draft, feedback)
        except Problem as problem:
            log_failure(problem.failure)
            raise QgsProcessingException(_text(problem.failure)) from None
        finally:
            draft = replace(draft, exports=())  # copies of layers must not outlive QGIS
        if result is None:
            return {}
        dress_when_loaded(result, draft.title, context)
        found: Parameters = {"OUTPUT": output}
        found["OUTPUTS"] = [item.path for item in result.outputs if item.role is Role.SAMPLE]
        found.update({name: path for name, path in beside.items() if path})
        if self.outputDefinition("FRAMES") is not None:
            found["FRAMES"] = [item.path for item in result.outputs if item.role is Role.TRAJECTORY]
        return found

    def _destination(self, parameters: Parameters, name: str) -> Optional[str]:
        """Where the mean or the spread goes; None where it was not asked for."""
        return values.destination(parameters.get(name)) if self.parameterDefinition(name) is not None else None

    def _checked_draft(self, parameters: Parameters, context: QgsProcessingContext) -> jobs.Draft:
        try:
            draft = self.draft(parameters, context)
        except ValueError as error:  # what only the request itself refuses
            raise values.refused(error) from None
        places = {"output": values.destination(parameters.get("OUTPUT"))}
        places.update({place: self._destination(parameters, name) for name, place in _BESIDE.items()})
        for path in places.values():
            values.require_writable(path)
        _require_sources_kept(replace(draft, **{place: path or "" for place, path in places.items()}))
        failure = engine_failure()
        if failure is not None:
            raise Problem.of(failure)
        return draft


def release_prepared() -> None:
    """Let go of the copies of layers of runs that were prepared and never begun, because QGIS or the plugin ends."""
    for algorithm in list(_PREPARED):
        algorithm._draft = None


def require_reach(card: ModelCard, gsd: float, hint: str) -> None:
    """Refuse a ground resolution that a model cannot draw.

    Args:
        card: of the model.
        gsd: metres on the ground of one pixel.
        hint: what to do, with {finest} and {coarsest}.

    Raises:
        Problem: UNSUPPORTED_RESOLUTION.
    """
    if not card.reaches(gsd):
        raise Problem(
            ErrorCode.UNSUPPORTED_RESOLUTION,
            tr("The model '{}' cannot draw pixels of {:g} m.").format(card.id, gsd),
            hint.format(finest=f"{card.gsd[0] / card.GSD_REACH:g}", coarsest=f"{card.gsd[1] * card.GSD_REACH:g}"),
        )


def _require_sources_kept(draft: jobs.Draft) -> None:
    """Refuse a draft one of whose results would be written over a source.

    Raises:
        Problem: OUTPUT_NOT_WRITABLE.
    """
    for export in draft.exports:
        require_kept(export.files, target_paths(draft.request, draft.output, draft.spread_output, draft.mean_output))


def _run(draft: jobs.Draft, feedback: QgsProcessingFeedback) -> Optional[Result]:
    """Make the job's folder, write its sources and run it; None once cancelled.

    Raises:
        Problem: as the job fails.
    """
    root = settings.jobs_folder()
    try:
        job, folder = jobs.create_folder(root, draft)
    except OSError as error:
        raise Problem(
            ErrorCode.OUTPUT_NOT_WRITABLE,
            tr("No job can be started in {}.").format(root),
            tr("Check the permissions and the free space there."),
            str(error),
        ) from error
    feedback.pushInfo(tr("Job folder: {}").format(folder))
    try:
        if draft.exports:
            feedback.pushInfo(tr("Writing the source raster"))
        if not jobs.prepare_sources(folder, draft.exports, feedback.isCanceled) or feedback.isCanceled():
            raise RunCancelled
        result = run_job(folder, feedback)
    except RunCancelled:
        jobs.record_outcome(folder, Cancelled(job))
        return None
    except Problem as problem:
        jobs.record_outcome(folder, Failed(job, problem.failure))
        raise
    jobs.record_outcome(folder, Succeeded(job, result))
    return result


def _text(failure: Failure) -> str:
    return f"{failure.code.value}: {sentence(failure)}"
