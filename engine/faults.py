"""Named instants at which tests break the engine: ``AFTERIMAGE_FAULT=tile.after_fsync:3:kill``. Inert unless armed."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass


@dataclass
class _Fault:
    name: str
    passes: int
    action: str


_armed: list[_Fault] = []


def arm(text: str) -> None:
    """Break at the n-th pass of a point: "name:n:action", action one of kill, raise, enospc, hang.

    Raises:
        ValueError: for any other text; "" disarms.
    """
    _armed.clear()
    if text:
        name, passes, action = text.split(":")
        if action not in ("kill", "raise", "enospc", "hang"):
            raise ValueError(f"unknown action {action!r}")
        _armed.append(_Fault(name, int(passes), action))


def point(name: str) -> None:
    """An instant worth breaking at."""
    for fault in _armed:
        if fault.name == name:
            fault.passes -= 1
            if fault.passes == 0:
                _break(fault)


def _break(fault: _Fault) -> None:
    if fault.action == "kill":
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    if fault.action == "hang":
        time.sleep(3600)
    if fault.action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise RuntimeError(f"fault at {fault.name}")
