"""Which crew draws a job: chosen by the person, or by what the job is worth on this machine."""

from __future__ import annotations

from ..contract import Job, ModelCard
from ..journal import JobFolder
from ..settings import Settings
from .alone import Alone
from .base import Crew


def muster(job: Job, folder: JobFolder, card: ModelCard, settings: Settings) -> Crew:
    """The crew of a job; it is called in by its ``with`` block.

    Args:
        job: what is asked.
        folder: where it lies.
        card: of the model that draws.
        settings: how this engine runs.
    """
    return Alone(settings)
