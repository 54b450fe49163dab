"""Everything that the engine raises has a code, a sentence and a next step."""

from __future__ import annotations

import pytest
from afterimage.engine import errors
from afterimage.engine.contract import ErrorCode

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.EngineError) and kind is not errors.EngineError
]


def test_every_code_of_the_engine_has_one_class():
    codes = [kind.code for kind in CLASSES if kind not in (errors.RequestError, errors.ResourceError, errors.NotFinite)]
    others = {ErrorCode.INTERNAL, ErrorCode.ENGINE_MISSING, ErrorCode.ENGINE_LOST, ErrorCode.PROTOCOL_MISMATCH}
    assert sorted(codes, key=lambda code: code.value) == sorted(set(ErrorCode) - others, key=lambda code: code.value)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_becomes_a_failure(kind):
    failure = kind("It is so.").failure("trace")
    assert (failure.code, failure.message, failure.detail) == (kind.code, "It is so.", "trace")
    assert failure.hint and failure.hint.endswith(".")
    assert str(kind("It is so.", "Do this.")) == "It is so." and kind("x", "Do this.").failure().hint == "Do this."
    assert kind.__name__ in errors.__doc__ and kind.code.value in errors.__doc__


def test_what_the_request_is_to_blame_for_is_not_resumed_and_what_the_machine_is_to_blame_for_is():
    for kind in CLASSES:
        if issubclass(kind, errors.RequestError):
            assert not kind.resumable and issubclass(kind, ValueError)
