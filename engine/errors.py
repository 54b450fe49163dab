"""Everything the engine may refuse or fail at, each with its stable code.

::

    EngineError                              INTERNAL
    ├── NotFinite                            INTERNAL
    ├── RequestError(ValueError)             INVALID_REQUEST: the request cannot be met as asked
    │   ├── InvalidRequest                   INVALID_REQUEST
    │   ├── EmptyExtent                      EMPTY_EXTENT
    │   ├── ExtentTooLarge                   EXTENT_TOO_LARGE
    │   ├── UnknownCrs                       UNKNOWN_CRS
    │   ├── UnsupportedGrid                  UNSUPPORTED_GRID
    │   ├── UnsupportedResolution            UNSUPPORTED_RESOLUTION
    │   ├── UnsupportedRaster                UNSUPPORTED_RASTER
    │   ├── SourceUnreadable(OSError)        SOURCE_UNREADABLE
    │   ├── SourceEmpty                      SOURCE_EMPTY
    │   ├── MaskUnreadable(OSError)          MASK_UNREADABLE
    │   ├── MaskEmpty                        MASK_EMPTY
    │   ├── PromptTooLong                    PROMPT_TOO_LONG
    │   ├── PromptNotUnderstood              PROMPT_NOT_UNDERSTOOD
    │   ├── UnknownModel                     UNKNOWN_MODEL
    │   ├── UnknownScheduler                 UNKNOWN_SCHEDULER
    │   └── LicenceNotAccepted               LICENCE_NOT_ACCEPTED
    └── ResourceError                        INTERNAL: this machine cannot do it now
        ├── WeightsMissing                   WEIGHTS_MISSING
        ├── WeightsDamaged                   WEIGHTS_DAMAGED
        ├── OutOfMemory(MemoryError)         OUT_OF_MEMORY
        ├── DiskFull(OSError)                DISK_FULL
        ├── OutputNotWritable(OSError)       OUTPUT_NOT_WRITABLE
        ├── OutputDamaged                    OUTPUT_DAMAGED
        ├── JobFolderDamaged                 JOB_FOLDER_DAMAGED
        ├── JobFolderBusy                    JOB_FOLDER_BUSY
        ├── SchedulerUnreachable(OSError)    SCHEDULER_UNREACHABLE
        ├── WorkerMismatch                   WORKER_MISMATCH
        ├── WorkersLost                      WORKERS_LOST
        ├── DownloadFailed(OSError)          DOWNLOAD_FAILED
        └── DownloadDamaged                  DOWNLOAD_DAMAGED
    JobCancelled                             apart on purpose: not an error

Raise where the fact is known, with the values in the sentence; who answers a person turns them into a ``Failure``. The
message and the hint are shown to the person: no paths, no prompt.
"""

from __future__ import annotations

import errno
import os
import traceback
from typing import ClassVar

from .contract import ErrorCode, Failure

#: What a system calls a full disk, a full quota, and a file that may not grow.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What a RuntimeError says when memory is short: of torch's allocators on a CPU and on Apple's GPUs, of cuBLAS, cuDNN.
_SHORT = ("DefaultCPUAllocator", "not enough memory", "out of memory", "_ALLOC_FAILED")


class EngineError(Exception):
    """The job cannot go on.

    Args:
        message: one sentence for the person.
        hint: what to do next, one sentence; the class's own where it is left out.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    hint: str = "Run the job again. If it fails again, send the job folder as a bug report."
    resumable: ClassVar[bool] = False

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        """The sentence (an OSError would print its errno)."""
        return self.message

    def failure(self, detail: str = "") -> Failure:
        """What the person is told."""
        return Failure(self.code, self.message, self.hint, detail, self.resumable)


class NotFinite(EngineError):
    """A network made numbers that are none, as half precision does where its range is left."""

    hint = "Choose other settings or another model."


class RequestError(EngineError, ValueError):
    """The request cannot be met as asked."""

    code = ErrorCode.INVALID_REQUEST
    hint = "Change the settings and run again."


class InvalidRequest(RequestError):
    """The request does not make sense, whatever the model."""


class EmptyExtent(RequestError):
    """There is no pixel in what was asked for."""

    code = ErrorCode.EMPTY_EXTENT
    hint = "Draw a larger extent."


class ExtentTooLarge(RequestError):
    """More pixels than one job may have."""

    code = ErrorCode.EXTENT_TOO_LARGE
    hint = "Draw a smaller extent, or ask for a coarser resolution."


class UnknownCrs(RequestError):
    """The coordinate reference system is missing or is not one."""

    code = ErrorCode.UNKNOWN_CRS
    hint = "Give the layer or the project a coordinate reference system."


class UnsupportedGrid(RequestError):
    """A grid that the engine cannot draw on or warp to."""

    code = ErrorCode.UNSUPPORTED_GRID
    hint = "Choose another coordinate reference system or a smaller extent."


class UnsupportedResolution(RequestError):
    """A ground resolution outside the model's range."""

    code = ErrorCode.UNSUPPORTED_RESOLUTION
    hint = "Choose a ground resolution in the model's range, or another model."


class UnsupportedRaster(RequestError):
    """A raster that is readable but not a picture (complex, palette, ...)."""

    code = ErrorCode.UNSUPPORTED_RASTER
    hint = "Choose a layer of measured values or colours."


class SourceUnreadable(RequestError, OSError):
    """A raster that cannot be opened or read."""

    code = ErrorCode.SOURCE_UNREADABLE
    hint = "Check that the layer draws in QGIS, then run again."


class SourceEmpty(RequestError):
    """A raster without enough pixels that hold data."""

    code = ErrorCode.SOURCE_EMPTY
    hint = "Choose a layer or an extent with data in it."


class MaskUnreadable(RequestError, OSError):
    """Polygons that cannot be opened or read."""

    code = ErrorCode.MASK_UNREADABLE
    hint = "Choose another polygon layer, or draw the polygon again."


class MaskEmpty(RequestError):
    """Polygons that hold no pixel of the raster."""

    code = ErrorCode.MASK_EMPTY
    hint = "Choose or draw a polygon on the layer, larger than one of its pixels."


class PromptTooLong(RequestError):
    """More text than is read."""

    code = ErrorCode.PROMPT_TOO_LONG
    hint = "Shorten the prompt."


class PromptNotUnderstood(RequestError):
    """A text that names nothing that the model knows."""

    code = ErrorCode.PROMPT_NOT_UNDERSTOOD
    hint = "Use words from the model's list."


class UnknownModel(RequestError):
    """No model of that id, or not one for this task."""

    code = ErrorCode.UNKNOWN_MODEL
    hint = "Choose a model from the list."


class UnknownScheduler(RequestError):
    """No scheduler of that name for this model."""

    code = ErrorCode.UNKNOWN_SCHEDULER
    hint = "Choose a scheduler from the model's list."


class LicenceNotAccepted(RequestError):
    """A model is to be fetched whose terms were not accepted, or have changed since."""

    code = ErrorCode.LICENCE_NOT_ACCEPTED
    hint = "Read the terms of the model and accept them, then fetch it."


class ResourceError(EngineError):
    """This machine cannot do it now."""


class WeightsMissing(ResourceError):
    """The model is listed, but its files are not there."""

    code = ErrorCode.WEIGHTS_MISSING
    hint = "Install the model again."
    resumable = True


class WeightsDamaged(ResourceError):
    """The model's files are not those that its card names."""

    code = ErrorCode.WEIGHTS_DAMAGED
    hint = "Install the model again."
    resumable = True


class OutOfMemory(ResourceError, MemoryError):
    """Not enough memory on the device or the machine."""

    code = ErrorCode.OUT_OF_MEMORY
    hint = "Close other programs, or choose a smaller model, then resume the job."
    resumable = True


class DiskFull(ResourceError, OSError):
    """Not enough free space; finished tiles are kept."""

    code = ErrorCode.DISK_FULL
    hint = "Free some space, then resume the job: finished tiles are kept."
    resumable = True


class OutputNotWritable(ResourceError, OSError):
    """The result cannot be put where it was asked for; finished tiles are kept."""

    code = ErrorCode.OUTPUT_NOT_WRITABLE
    hint = "Choose another output file, or close the program that holds it open."
    resumable = True


class OutputDamaged(ResourceError):
    """What was read back is not what was written; nothing was published."""

    code = ErrorCode.OUTPUT_DAMAGED
    hint = "Check the disk, then resume the job: finished tiles are kept."
    resumable = True


class JobFolderDamaged(ResourceError):
    """The job folder does not hold what a job folder holds."""

    code = ErrorCode.JOB_FOLDER_DAMAGED
    hint = "Run the request again as a new job."


class JobFolderBusy(ResourceError):
    """Another engine works on this job."""

    code = ErrorCode.JOB_FOLDER_BUSY
    hint = "Wait for the other run to end, or cancel it."
    resumable = True


class SchedulerUnreachable(ResourceError, OSError):
    """There is no Dask scheduler at the address, or nothing to talk to it with."""

    code = ErrorCode.SCHEDULER_UNREACHABLE
    hint = "Check the scheduler's address, and that it runs, then resume the job, here or without a scheduler."
    resumable = True


class WorkerMismatch(ResourceError):
    """A worker would draw other pixels: its engine, its libraries, its models or its files are not those of the job."""

    code = ErrorCode.WORKER_MISMATCH
    hint = "Start the workers with the same version of the engine, then resume the job."
    resumable = True


class WorkersLost(ResourceError):
    """Nobody is left who draws; finished tiles are kept."""

    code = ErrorCode.WORKERS_LOST
    hint = "See what ended the workers (memory, the network), start them again, then resume: finished tiles are kept."
    resumable = True


class DownloadFailed(ResourceError, OSError):
    """A model's files cannot be had from their host now; what has arrived is kept."""

    code = ErrorCode.DOWNLOAD_FAILED
    hint = "Check the connection and the proxy, then fetch the model again: what has arrived is kept."
    resumable = True


class DownloadDamaged(ResourceError):
    """What arrived is not what the host's own record says; it was thrown away."""

    code = ErrorCode.DOWNLOAD_DAMAGED
    hint = "Fetch the model again. If it happens again, the files at the host or something on the way changes them."
    resumable = True


class JobCancelled(Exception):  # noqa: N818 (not an error, so no handler of errors swallows it)
    """The person stopped the job."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short, on the device or of the machine."""
    # torch's error for a full device is no MemoryError, and its class is not imported here
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SHORT)


def failure_of(error: Exception) -> Failure:
    """What the person is told about an exception; its trace goes to the log only, without the home folder's name."""
    trace = "".join(traceback.format_exception(error))
    home = os.path.expanduser("~")  # itself where there is none; in a container it may be "/"
    if len(home) > 1:
        trace = trace.replace(home, "~")
    if isinstance(error, EngineError):
        return error.failure(trace)
    if is_out_of_memory(error):
        return OutOfMemory("There is not enough memory for this model.").failure(trace)
    if isinstance(error, OSError) and error.errno in FULL:
        return DiskFull("The disk is full.").failure(trace)
    if isinstance(error, ImportError):
        return Failure(ErrorCode.ENGINE_MISSING, "A part of the engine is missing.", "Install the engine again.", trace)
    return Failure(ErrorCode.INTERNAL, "The engine met an error of its own.", EngineError.hint, trace, resumable=True)
