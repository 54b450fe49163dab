"""What a model will see of the layers that guide a job, made by the engine: blocking, on a worker thread."""

import json
from typing import Callable, Dict

from qgis.PyQt.QtCore import QProcess

from ...engine.contract import ErrorCode
from .. import settings
from ..report import Problem, tr
from .channel import engine_environment, launch_arguments
from .environment import engine_failure

_POLL = 100  # ms


def seen_controls(folder: str, out: str, cancelled: Callable[[], bool]) -> Dict[str, str]:
    """Have the engine write each control of a job as the model will see it.

    Args:
        folder: of the job, with its sources.
        out: folder for a GeoTIFF of each.
        cancelled: whether to stop.

    Returns:
        Kind of control -> path of its GeoTIFF; empty once cancelled.

    Raises:
        Problem: ENGINE_MISSING, ENGINE_LOST, or what the engine says of the layers.
    """
    failure = engine_failure()
    if failure is not None:
        raise Problem.of(failure)
    process = QProcess()
    process.setProcessEnvironment(engine_environment())
    process.start(settings.engine_python(), launch_arguments("controls", folder, "--out", out, "--watch-stdin"))
    try:
        while process.state() != QProcess.ProcessState.NotRunning and not cancelled():
            process.waitForFinished(_POLL)
    finally:
        if process.state() != QProcess.ProcessState.NotRunning:
            process.kill()
            process.waitForFinished(2000)
    return {} if cancelled() else _paths(bytes(process.readAllStandardOutput()))


def _paths(answer: bytes) -> Dict[str, str]:
    found: Dict[str, str] = {}
    try:
        lines = [json.loads(line) for line in answer.splitlines() if line.strip()]
        for line in lines:
            if line.get("ok") is False:
                raise Problem(ErrorCode(line["code"]), str(line["message"]), str(line.get("hint", "")))
            found[line["kind"]] = line["path"]
    except (ValueError, KeyError, AttributeError) as error:
        raise _lost(str(error)) from None
    if not found:
        raise _lost("no answer")
    return found


def _lost(detail: str) -> Problem:
    return Problem(
        ErrorCode.ENGINE_LOST,
        tr("The engine did not show what the model will see."),
        tr("Run the job all the same, or reinstall the engine in the Afterimage panel."),
        detail,
    )
