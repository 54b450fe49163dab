"""The text as it is used and recorded."""

from __future__ import annotations

import time

import pytest
from afterimage.engine.contract import PROMPT_LIMIT, clean_prompt


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("  a  forest\n at\tnight ", "a forest at night"),
        ("e\u0301", "\u00e9"),
        ("a\u202eb\u200bc\x00d", "abcd"),
        ("a\ud800b", "ab"),
        ("\u0301\u0301", "\u0301\u0301"),
        ("🌲", "🌲"),
        ("", ""),
    ],
)
def test_a_text_is_composed_and_cleaned(given, used):
    assert clean_prompt(given) == used
    assert clean_prompt(used) == used


def test_a_megabyte_is_refused_at_once():
    began = time.process_time()
    with pytest.raises(ValueError, match="1000000 characters"):
        clean_prompt("x" * 1_000_000)
    assert time.process_time() - began < 0.01
    assert clean_prompt("x" * PROMPT_LIMIT) == "x" * PROMPT_LIMIT
