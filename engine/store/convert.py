"""Pickled weights to safetensors, once, in a process of its own that can be ended whatever it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from .. import errors
from ..contract import ErrorCode
from ..errors import DiskFull, EngineError, OutOfMemory, WeightsDamaged
from ..models.statedict import read_tensors

LAUNCH = Path(__file__).resolve().parents[1] / "launch.py"
#: Largest list of tensors inside a pickle; that of a checkpoint of 2000 tensors has less than 1 MB.
INDEX_LIMIT = 256 * 1024 * 1024
#: Seconds that reading one GB may take, on a slow disk that is asleep, beside a minute to start.
SECONDS_PER_GB = 120.0


def convert(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Write the tensors of pickles as safetensors, from one other process. The files that were read stay.

    Args:
        pairs: of (pickle, safetensors that it becomes).

    Raises:
        WeightsDamaged: one cannot be read, holds more than tensors, or took too long.
        OutOfMemory: there is not enough for all tensors of one.
        DiskFull: there is not enough space.
    """
    limit = 60 + SECONDS_PER_GB * sum(source.stat().st_size for source, _ in pairs) / 1e9
    command = [sys.executable, "-I", str(LAUNCH), "models", "convert", *(str(path) for pair in pairs for path in pair)]
    # the child ends with the pipe: whoever ends this process ends it, too; it is this Python and this engine again
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # nosec B603
        try:
            answer = _answer(child, limit)
        except subprocess.TimeoutExpired as error:
            raise WeightsDamaged("The weights took too long to read.") from error
        finally:
            if child.poll() is None:
                child.kill()
    if child.returncode or not all(target.is_file() for _, target in pairs):
        raise _told(answer, child.returncode)


def convert_here(pairs: Sequence[tuple[Path, Path]]) -> int:
    """What the other process does; the exit status. Prints one JSON object where something went wrong."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    for source, target in pairs:
        try:
            _convert_one(source, target)
            continue
        except EngineError as error:
            failure = error.failure()
        except MemoryError:
            failure = OutOfMemory(f"There is not enough memory to read {source.name}.").failure()
        except (OSError, SafetensorError):
            failure = DiskFull("The converted weights cannot be written.").failure()
        said = {"code": failure.code.value, "message": failure.message, "hint": failure.hint}
        sys.stdout.write(json.dumps(said) + "\n")
        return 1
    return 0


def _convert_one(source: Path, target: Path) -> None:
    _check_archive(source)
    seen: set[int] = set()
    tensors = {}
    for name, tensor in read_tensors(source).items():
        # safetensors refuses two names for one memory, which old files of tied weights have
        place = tensor.untyped_storage().data_ptr()
        shared = place in seen or tensor.untyped_storage().nbytes() > tensor.nbytes
        tensors[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
        seen.add(place)
    save_file(tensors, target, metadata={"format": "pt"})


def _check_archive(path: Path) -> None:
    """See that a checkpoint is no bomb: torch stores its tensors uncompressed.

    Raises:
        WeightsDamaged: it is packed, or its index is larger than any.
    """
    if not zipfile.is_zipfile(path):
        return  # the format before torch 1.6, which is as long as what it holds
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    large = any(entry.filename.endswith("data.pkl") and entry.file_size > INDEX_LIMIT for entry in entries)
    if packed or large or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise WeightsDamaged(f"The file {path.name} is no checkpoint as torch writes them.")


def _answer(child: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What the child says; its input stays open meanwhile (``communicate`` would close it)."""
    found: list[bytes] = []
    output = child.stdout
    if output is None:  # it was made with a pipe
        raise ValueError("a child without a pipe cannot answer")
    reader = threading.Thread(target=lambda: found.append(output.read(1 << 20)), daemon=True)
    reader.start()
    child.wait(seconds)
    reader.join(10)
    return found[0] if found else b""


def _told(answer: bytes, status: int) -> EngineError:
    try:
        said = json.loads(answer)
        code, message, hint = ErrorCode(said["code"]), str(said["message"]), str(said["hint"])
    except (ValueError, KeyError, TypeError):
        if status < 0:  # ended by the system, which does so where memory runs out
            return OutOfMemory("The system ended the process that read the weights: memory may have run out.")
        return WeightsDamaged("The weights cannot be read.")
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, EngineError) and kind.code is code:
            return kind(message, hint)
    return WeightsDamaged(message, hint)


def _end_with_input() -> None:
    while os.read(0, 4096):
        continue
    os._exit(2)
