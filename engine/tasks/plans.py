"""Which task plans which request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..contract import Edit, Forecast, Generate, SuperResolve
from . import edit, forecast, generate, super_resolve
from .base import Work

#: Type of a request -> (request, job folder, model, context) -> its work.
TASKS: dict[type, Callable[[Any, Any, Any, Any], Work]] = {
    Generate: generate.plan,
    SuperResolve: super_resolve.plan,
    Edit: edit.plan,
    Forecast: forecast.plan,
}
