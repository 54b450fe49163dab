"""The one codec: any dataclass of the contract <-> one line of JSON.

Driven by the type hints, so there is no second definition of a message. Hints in this package are spelled ``Optional``
and ``Union``, because they are evaluated at run time and Python 3.9 has no ``X | Y`` there.
"""

import dataclasses
import json
import math
import sys
import typing
from enum import Enum
from functools import cache
from typing import Any, Dict, Tuple, Type, TypeVar, Union

#: Longest line that is read.
LINE_LIMIT = 32 * 1024 * 1024

T = TypeVar("T")


class WireError(ValueError):
    """A line that is not a message of the contract; says where, as in "$.request.grid: shape must be ..."."""


def dumps(value: Any) -> str:
    """One line of JSON for a dataclass of the contract, with its type's name under "type"."""
    return json.dumps(_encode(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def loads(kind: Any, text: Union[str, bytes]) -> Any:
    """The dataclass (or one of a Union of them) that a line holds.

    Raises:
        WireError: for anything else.
    """
    if len(text) > LINE_LIMIT:
        raise WireError(f"$: line of {len(text)} bytes, at most {LINE_LIMIT} are read")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"$: not JSON ({error})") from None
    return _decode(kind, data, "$")


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return value


@cache
def _hints(kind: type) -> Dict[str, Any]:
    return typing.get_type_hints(kind, vars(sys.modules[kind.__module__]))


def _decode(kind: Any, data: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    if origin is Union:
        return _decode_union(typing.get_args(kind), data, path)
    if origin is tuple:
        return _decode_tuple(typing.get_args(kind), data, path)
    if origin is dict:
        if not isinstance(data, dict):
            raise WireError(f"{path}: expected an object")
        inner = typing.get_args(kind)[1]
        return {key: _decode(inner, item, f"{path}.{key}") for key, item in data.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, path)  # type: ignore[arg-type]
    return _decode_scalar(kind, data, path)


def _decode_union(options: Tuple[Any, ...], data: Any, path: str) -> Any:
    if data is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return _decode(options[0], data, path)
    name = data.get("type") if isinstance(data, dict) else None
    for option in options:
        if option.__name__ == name:
            return _decode(option, data, path)
    raise WireError(f"{path}: unknown type {name!r}, expected one of {', '.join(o.__name__ for o in options)}")


def _decode_tuple(kinds: Tuple[Any, ...], data: Any, path: str) -> Any:
    if not isinstance(data, list):
        raise WireError(f"{path}: expected a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(data)
    if len(kinds) != len(data):
        raise WireError(f"{path}: expected {len(kinds)} items, found {len(data)}")
    return tuple(_decode(kind, item, f"{path}[{i}]") for i, (kind, item) in enumerate(zip(kinds, data)))


def _decode_dataclass(kind: Type[T], data: Any, path: str) -> T:
    if not isinstance(data, dict):
        raise WireError(f"{path}: expected an object")
    if data.get("type", kind.__name__) != kind.__name__:
        raise WireError(f"{path}: expected a {kind.__name__}, found {data['type']!r}")
    hints = _hints(kind)  # type: ignore[arg-type]
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in data:
            values[field.name] = _decode(hints[field.name], data[field.name], f"{path}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise WireError(f"{path}: {field.name} is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise WireError(f"{path}: {error}") from None


def _decode_scalar(kind: Any, data: Any, path: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(data)
        except ValueError:
            raise WireError(f"{path}: unknown value {data!r}") from None
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            data = float(data)
        except OverflowError:
            raise WireError(f"{path}: expected a finite number") from None
    if kind in (str, int, float, bool) and type(data) is kind:
        if kind is float and not math.isfinite(data):
            raise WireError(f"{path}: expected a finite number")
        return data
    raise WireError(f"{path}: expected {getattr(kind, '__name__', kind)}, found {type(data).__name__}")
