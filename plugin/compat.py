"""The only file that asks which Qt or QGIS this is. Each function says what it serves and when it can go."""

from typing import Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QThreadPool


def task_thread_pool() -> QThreadPool:
    """The pool that runs QGIS's tasks: one of its own since QGIS 3.34, Qt's global one before.

    Drop when the minimum is 3.34.
    """
    manager = QgsApplication.taskManager()
    pool = manager.threadPool() if hasattr(manager, "threadPool") else None
    return pool if pool is not None else QThreadPool.globalInstance()


def number(flag: Any) -> int:
    """The number of one of Qt's flags, for the few functions that take no flag: ``int()`` refuses those of enum.Flag.

    Drop when the minimum is Qt 6; there it is ``flag.value``.
    """
    return int(getattr(flag, "value", flag))
