"""A job once more: its request, copies of its sources, and a name that no file has."""

import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Iterable, Optional

from ..engine.contract import ErrorCode, WireError, target_paths
from .jobs import Draft, JobRecord, input_paths, read_job
from .report import Problem, tr


@dataclass(frozen=True)
class Copy:
    """An export that takes a raster or a file of polygons over from another job's folder."""

    folder: str
    path: str

    def write(self, folder: str, cancelled: Callable[[], bool]) -> None:
        """Copy the file, and what stands beside it under the same name, on a worker thread.

        Raises:
            OSError: when the other folder is gone or the disk is full.
            ValueError: when the path leads out of the job folder.
        """
        source = Path(self.folder, self.path)
        target = Path(folder, self.path)
        if Path(folder).resolve() not in target.resolve().parents:
            raise ValueError(f"{self.path} is not in the job folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        for beside in source.parent.glob(f"{source.name}.*"):
            if not cancelled():
                shutil.copyfile(beside, target.with_name(beside.name))


def again(record: JobRecord, seed: Optional[int], exports: tuple, taken: Iterable[str]) -> Draft:
    """The request of a job once more, beside what that has written or is to write.

    Args:
        record: of the job.
        seed: another one; None for the same, and so the same pixels.
        exports: its own, where its sources are not complete; else they are copied from its folder.
        taken: paths that jobs are still to write.

    Raises:
        Problem: when the job's folder cannot be read.
    """
    try:
        old = read_job(record.folder)
    except (OSError, WireError) as error:
        message = tr("The folder of this job cannot be read.")
        hint = tr("Run it anew from the panel.")
        raise Problem(ErrorCode.JOB_FOLDER_DAMAGED, message, hint, str(error)) from None
    request = old.request
    if seed is not None:
        request = replace(request, sampling=replace(request.sampling, seed=seed))
    exports = exports or tuple(Copy(record.folder, path) for path in input_paths(request))
    spread, mean = free_name(old.spread_output, taken), free_name(old.mean_output, taken)
    output = free_name(old.output, taken, lambda name: set(target_paths(request, name, spread, mean)) - {spread, mean})
    return Draft(request, record.title, exports, output, spread, mean)


def free_name(
    path: str, taken: Iterable[str] = (), files: Callable[[str], Iterable[str]] = lambda name: (name,)
) -> str:
    """The same path with the first number behind its name that no file has; empty for an empty one.

    Args:
        path: of the first run.
        taken: paths that count as files: jobs are still to write them.
        files: path -> all that is written with that path, itself and what stands beside it.
    """
    if not path:
        return path
    awaited = {os.path.normcase(os.path.abspath(name)) for name in taken if name}

    def is_taken(name: str) -> bool:
        return os.path.exists(name) or os.path.normcase(os.path.abspath(name)) in awaited

    stem, ending = os.path.splitext(path)
    shorter = re.sub(r"_\d+$", "", stem)
    stem = shorter if is_taken(shorter + ending) else stem  # a third run is no second run of the second
    number = 2
    while any(is_taken(name) for name in files(f"{stem}_{number}{ending}")):
        number += 1
    return f"{stem}_{number}{ending}"
