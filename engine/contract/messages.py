"""What the two processes say to each other: commands to the engine, events from it."""

from dataclasses import dataclass
from typing import Optional, Tuple, Union

from .modelcard import ModelCard
from .outcomes import Failure, Result

#: Raised whenever a sample in tests/data/wire changes.
PROTOCOL = 7


@dataclass(frozen=True)
class Submit:
    """Run the job in this folder (absolute path). Resumes it if it was begun. A second Submit of one id is ignored."""

    job: str
    folder: str


@dataclass(frozen=True)
class Cancel:
    """Stop this job, queued or running; finished tiles are kept. Does nothing to a job that has ended."""

    job: str


@dataclass(frozen=True)
class Shutdown:
    """Commit what is finished and end. End of input means the same."""


Command = Union[Submit, Cancel, Shutdown]


@dataclass(frozen=True)
class Ready:
    """The engine listens. Comes before torch is imported, so that starting is quick.

    Attributes:
        protocol: ``PROTOCOL`` of the engine.
        engine_version: of the engine.
        device: that jobs will run on, as far as that is known without torch.
        models: every model that is installed.
        free_mb: memory of that device that was free, in MB of 10**6 bytes; None where that is not known.
    """

    protocol: int
    engine_version: str
    device: str
    models: Tuple[ModelCard, ...] = ()
    free_mb: Optional[int] = None


@dataclass(frozen=True)
class Started:
    """Work on the job began."""

    job: str


@dataclass(frozen=True)
class Progressed:
    """How far the job is.

    Attributes:
        job: its id.
        stage: a word for what is being done ("loading model", "tiles", "writing").
        fraction: of the whole job, 0 to 1, only rising; None while it cannot be told.
        seconds_left: estimate for the whole job, None while it cannot be told.
    """

    job: str
    stage: str
    fraction: Optional[float] = None
    seconds_left: Optional[float] = None


@dataclass(frozen=True)
class Previewed:
    """A small georeferenced GeoTIFF (absolute path) shows how the picture forms; each replaces the one before."""

    job: str
    path: str


@dataclass(frozen=True)
class Succeeded:
    """The job ended well."""

    job: str
    result: Result


@dataclass(frozen=True)
class Failed:
    """The job ended badly. An empty job id means that the failure concerns the engine."""

    job: str
    failure: Failure


@dataclass(frozen=True)
class Cancelled:
    """The job was stopped as asked."""

    job: str


Event = Union[Ready, Started, Progressed, Previewed, Succeeded, Failed, Cancelled]
