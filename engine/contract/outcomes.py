"""How a job ended: a result with its provenance, or a failure with its reason."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Dict, Optional, Tuple

from .geobox import GeoBox


class JobState(Enum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ErrorCode(Enum):
    """Stable names of everything that can go wrong; they only grow."""

    # the request cannot be met as asked
    INVALID_REQUEST = "INVALID_REQUEST"
    EMPTY_EXTENT = "EMPTY_EXTENT"
    EXTENT_TOO_LARGE = "EXTENT_TOO_LARGE"
    UNKNOWN_CRS = "UNKNOWN_CRS"
    UNSUPPORTED_GRID = "UNSUPPORTED_GRID"
    UNSUPPORTED_RESOLUTION = "UNSUPPORTED_RESOLUTION"
    UNSUPPORTED_RASTER = "UNSUPPORTED_RASTER"
    SOURCE_UNREADABLE = "SOURCE_UNREADABLE"
    SOURCE_EMPTY = "SOURCE_EMPTY"
    MASK_UNREADABLE = "MASK_UNREADABLE"
    MASK_EMPTY = "MASK_EMPTY"
    PROMPT_TOO_LONG = "PROMPT_TOO_LONG"
    PROMPT_NOT_UNDERSTOOD = "PROMPT_NOT_UNDERSTOOD"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    UNKNOWN_SCHEDULER = "UNKNOWN_SCHEDULER"
    # this machine cannot do it now
    WEIGHTS_MISSING = "WEIGHTS_MISSING"
    WEIGHTS_DAMAGED = "WEIGHTS_DAMAGED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DISK_FULL = "DISK_FULL"
    OUTPUT_NOT_WRITABLE = "OUTPUT_NOT_WRITABLE"
    OUTPUT_DAMAGED = "OUTPUT_DAMAGED"
    JOB_FOLDER_DAMAGED = "JOB_FOLDER_DAMAGED"
    JOB_FOLDER_BUSY = "JOB_FOLDER_BUSY"
    # other processes or machines that help cannot do it now
    SCHEDULER_UNREACHABLE = "SCHEDULER_UNREACHABLE"
    WORKER_MISMATCH = "WORKER_MISMATCH"
    WORKERS_LOST = "WORKERS_LOST"
    # a model cannot be fetched or imported
    LICENCE_NOT_ACCEPTED = "LICENCE_NOT_ACCEPTED"
    DOWNLOAD_FAILED = "DOWNLOAD_FAILED"
    DOWNLOAD_DAMAGED = "DOWNLOAD_DAMAGED"
    # the engine itself
    ENGINE_MISSING = "ENGINE_MISSING"
    ENGINE_LOST = "ENGINE_LOST"
    PROTOCOL_MISMATCH = "PROTOCOL_MISMATCH"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True)
class Failure:
    """Why a job failed.

    Attributes:
        code: stable name.
        message: one sentence for the person.
        hint: what to do next, one sentence.
        detail: for the log; may hold a traceback, never shown unasked.
        resumable: whether running the same job folder again continues where it stopped.
    """

    code: ErrorCode
    message: str
    hint: str = ""
    detail: str = ""
    resumable: bool = False


class Role(Enum):
    """What an output raster holds."""

    SAMPLE = "sample"
    MEAN = "mean"
    SPREAD = "spread"
    TRAJECTORY = "trajectory"


@dataclass(frozen=True)
class Output:
    """One raster that a job left behind.

    Attributes:
        path: absolute path of a Cloud-Optimised GeoTIFF.
        role: a sample of the model, the mean of all that it would draw, the per-pixel standard deviation over samples,
            or a sample on its way from noise.
        sample: number of the sample, from 1; 0 for a mean or a spread.
        grid: where it lies.
        bands: a name for each band.
        dtype: numpy name of the pixel type.
        date: ISO 8601 date that the picture is meant to show, if one was asked for. The pictures of a trajectory are
            dated one day apart, so that they can be played, and end on the date asked for or on 2000-01-01.
        frame: number of a picture of a trajectory, from 1, the noisiest; 0 for others.
    """

    path: str
    role: Role
    sample: int
    grid: GeoBox
    bands: Tuple[str, ...]
    dtype: str
    date: Optional[str] = None
    frame: int = 0


@dataclass(frozen=True)
class Input:
    """One raster that a job was given: its name in the project and the hash of the pixels that were used."""

    name: str
    sha256: str
    grid: GeoBox


@dataclass(frozen=True)
class Provenance:
    """What a result is and how to make it again: the same record in TIFF tags, STAC item and layer metadata.

    Attributes:
        ai_generated: always True; the field is there to be read by others.
        task: name of the request's type.
        model: id of the model card.
        weights: weight file -> sha256.
        licence: licence of the model's output.
        attribution: credit lines for model and training data.
        job: the whole job as JSON text (``wire.dumps``), from which it can be run again.
        prompt: text that was asked for, "" where the task has none.
        negative_prompt: text to stay away from.
        date: ISO 8601 date asked for.
        seed: first seed; sample k uses seed + k - 1.
        scheduler: name of the noise scheduler.
        steps: denoising steps.
        guidance_scale: classifier-free guidance scale, 1 where it was off.
        inputs: what it was made from.
        grid: where it lies.
        engine_version: version of the engine.
        created: ISO 8601 time in UTC.
        pins: what the engine chose by itself (device, dtype, threads, batch, libraries).
    """

    task: str
    model: str
    weights: Dict[str, str]
    licence: str
    attribution: str
    job: str
    prompt: str
    negative_prompt: str
    date: Optional[str]
    seed: int
    scheduler: str
    steps: int
    guidance_scale: float
    inputs: Tuple[Input, ...]
    grid: GeoBox
    engine_version: str
    created: str
    pins: Dict[str, str] = field(default_factory=dict)
    ai_generated: bool = True


@dataclass(frozen=True)
class Result:
    """What a job left behind, how it was made, and what the person should know.

    Attributes:
        outputs: samples in order, then the mean and the spread if they were asked for, then the trajectories.
        provenance: how they were made.
        notices: sentences for the person (a field that the model does not use, say).
        seconds: wall time of this run of the job.
    """

    outputs: Tuple[Output, ...]
    provenance: Provenance
    notices: Tuple[str, ...] = ()
    seconds: float = 0.0
