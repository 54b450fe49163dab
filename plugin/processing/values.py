"""Parameter values as people and scripts write them: numbers as text, lists as text, dates, extents, destinations."""

import datetime
import math
import os
import re
from typing import Any, Dict, List, Optional

from qgis.core import QgsProcessingAlgorithm, QgsProcessingContext, QgsProcessingOutputLayerDefinition, QgsProperty
from qgis.PyQt.QtCore import QDate, QDateTime, Qt

from ...engine.contract import PROMPT_LIMIT, ErrorCode, clean_prompt
from ..report import Problem, tr

_EXTENT = re.compile(r"\s*([^,\s]+)\s*,\s*([^,\s]+)\s*,\s*([^,\s]+)\s*,\s*([^,\s\[]+)\s*(\[.*\])?\s*", re.DOTALL)


def invalid(message: str, hint: str = "") -> Problem:
    """A problem with what was asked."""
    return Problem(ErrorCode.INVALID_REQUEST, message, hint)


def refused(error: ValueError) -> Problem:
    """A problem with what the request's own types refuse."""
    return invalid(f"{str(error)[:1].upper()}{str(error)[1:]}.", tr("Correct it and run again."))


def is_given(parameters: Dict[str, Any], name: str) -> bool:
    """Whether a parameter has a value."""
    value = parameters.get(name)
    return value is not None and value != "" and value != []


def number(
    algorithm: QgsProcessingAlgorithm, parameters: Dict[str, Any], name: str, context: QgsProcessingContext
) -> Optional[float]:
    """A number, None where none was given. A whole number stays exact.

    Raises:
        Problem: INVALID_REQUEST for what is no number.
    """
    value = parameters.get(name)
    if isinstance(value, str):
        text = value.strip()
        if not text:
            value = None
        elif re.fullmatch(r"[+-]?\d{1,30}", text):
            return int(text)
        else:
            try:
                value = float(text)
            except ValueError:
                raise invalid(
                    tr("{} must be a number, not '{}'.").format(name, value[:40]), tr("Write for example 10.")
                ) from None
    if value is None:
        default = algorithm.parameterDefinition(name).defaultValue()
        if default is None:
            return None
        value = default
    if not isinstance(value, (int, float)):  # an expression or a property of the data
        value = algorithm.parameterAsDouble(parameters, name, context)
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(tr("{} must be a finite number.").format(name), tr("Write for example 10."))
    return value


def whole(
    algorithm: QgsProcessingAlgorithm, parameters: Dict[str, Any], name: str, context: QgsProcessingContext
) -> Optional[int]:
    """A whole number, None where none was given.

    Raises:
        Problem: INVALID_REQUEST for anything else.
    """
    value = number(algorithm, parameters, name, context)
    if value is not None and value != int(value):
        raise invalid(tr("{} must be a whole number.").format(name), tr("Write for example {}.").format(int(value)))
    return None if value is None else int(value)


def prompt(
    algorithm: QgsProcessingAlgorithm, parameters: Dict[str, Any], name: str, context: QgsProcessingContext
) -> str:
    """A text for the model, cleaned.

    Raises:
        Problem: PROMPT_TOO_LONG.
    """
    text = algorithm.parameterAsString(parameters, name, context)
    if len(text) > PROMPT_LIMIT:
        raise Problem(
            ErrorCode.PROMPT_TOO_LONG,
            tr("{} has {} characters, at most {} are read.").format(name, len(text), PROMPT_LIMIT),
            tr("Shorten it: a sentence or two say more to a model than a page."),
        )
    return clean_prompt(text)


def date(
    algorithm: QgsProcessingAlgorithm, parameters: Dict[str, Any], name: str, context: QgsProcessingContext
) -> Optional[str]:
    """An ISO 8601 date, None where none was given.

    Raises:
        Problem: INVALID_REQUEST for what is no day of the calendar.
    """
    value = parameters.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, QDateTime):
        value = value.date()
    elif not isinstance(value, (str, QDate, datetime.date)):
        value = algorithm.parameterAsDateTime(parameters, name, context).date()
    return iso_date(value.toString(Qt.DateFormat.ISODate) if isinstance(value, QDate) else str(value).strip())


def iso_date(text: str) -> str:
    """The day of an ISO 8601 date or time.

    Raises:
        Problem: INVALID_REQUEST for what is no day of the calendar.
    """
    try:
        return datetime.date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        raise invalid(
            tr("'{}' is not a date.").format(text[:40]), tr("Write year, month and day as in 2024-06-30.")
        ) from None


def bands(parameters: Dict[str, Any], name: str) -> List[int]:
    """Band numbers from a list, or a text such as "4;3;2" or "4,3,2"; empty where none were given.

    Raises:
        Problem: INVALID_REQUEST for what is no list of numbers.
    """
    value = parameters.get(name)
    if isinstance(value, QgsProperty):
        value = value.staticValue()
    if value is None:
        return []
    parts = value if isinstance(value, (list, tuple)) else re.split(r"[;,\s]+", str(value).strip("[]() \t"))
    try:
        return [int(part) for part in parts if str(part).strip()]
    except (TypeError, ValueError):
        raise invalid(tr("{} must be a list of band numbers.").format(name), tr("Write for example 4;3;2.")) from None


def require_upright(value: Any) -> None:
    """Refuse an extent that was written with its sides swapped, before QGIS turns it around.

    Raises:
        Problem: EMPTY_EXTENT.
    """
    match = _EXTENT.fullmatch(value) if isinstance(value, str) else None
    if not match:
        return
    try:
        left, right, bottom, top = (float(side) for side in match.groups()[:4])
    except ValueError:  # the name of a layer, perhaps
        return
    if left > right or bottom > top:
        raise Problem(
            ErrorCode.EMPTY_EXTENT,
            tr("The extent is inverted: its east must be greater than its west, its north greater than its south."),
            tr("Write west,east,south,north. Across the antimeridian, count on beyond 180: 179,181,51,52."),
        )


def destination(value: Any) -> Optional[str]:
    """Where a result is to be written: a path, "" for a temporary file, None where it is not asked for."""
    if isinstance(value, QgsProcessingOutputLayerDefinition):
        value = value.sink.staticValue()
    elif isinstance(value, QgsProperty):
        value = value.staticValue()
    if value is None or value == "":
        return None
    text = str(value)
    return "" if text == "TEMPORARY_OUTPUT" else text


def require_writable(path: Optional[str]) -> None:
    """Refuse a destination that is no GeoTIFF in a folder that can be written to.

    Raises:
        Problem: OUTPUT_NOT_WRITABLE.
    """
    if not path:
        return
    if not path.lower().endswith((".tif", ".tiff")):
        raise Problem(
            ErrorCode.OUTPUT_NOT_WRITABLE,
            tr("The result cannot be written to '{}'.").format(os.path.basename(path)),
            tr("Results are GeoTIFFs: choose a name that ends in .tif."),
        )
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK) or os.path.isdir(path):
        raise Problem(
            ErrorCode.OUTPUT_NOT_WRITABLE,
            tr("The folder '{}' cannot be written to.").format(folder),
            tr("Choose a folder that exists and that you may write to."),
        )
