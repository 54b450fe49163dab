"""Numbers that a published model is told beside its text, as one vector in the order of its fields."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..errors import InvalidRequest

#: What a number is where it is unknown, as in the training of every family that is told any. It is also a value that a
#: field may have, as longitude -180 and no clouds in DiffusionSat: the models cannot tell the two apart.
UNKNOWN = 0.0


class NumberEmbedding(nn.Module):
    """What is made of numbers for a network to be told; in float32 wherever the network is in half precision.

    float16 has no more than eleven binary digits: it rounds a longitude to 0.18 degrees.
    """


def date_fields(date: str | None) -> dict[str, float]:
    """Year, month and day of an ISO 8601 date; nothing where it is unknown."""
    if date is None:
        return {}
    day = datetime.date.fromisoformat(date)
    return {"year": float(day.year), "month": float(day.month), "day": float(day.day)}


def told_vector(
    known: Mapping[str, float | None],
    fields: Mapping[str, tuple[float, float]],
    title: str,
    scaled: Callable[[float, float, float], float],
) -> Tensor:
    """What a network is told, (fields,) float32; a field that is left out or None is ``UNKNOWN``.

    Args:
        known: real-world numbers by the names of ``fields``.
        fields: name -> two numbers of its range, in the network's order.
        title: of the family, for people.
        scaled: (value, the two numbers of its field) -> what the network was trained on.

    Raises:
        InvalidRequest: for a name that is not a field.
    """
    strange = sorted(set(known) - set(fields))
    if strange:
        raise InvalidRequest(f"{title} is not told {', '.join(strange)}.", f"It knows {', '.join(fields)}.")
    values = []
    for name, limits in fields.items():
        value = known.get(name)
        values.append(UNKNOWN if value is None else scaled(value, *limits))
    return torch.tensor(values, dtype=torch.float64).float()
