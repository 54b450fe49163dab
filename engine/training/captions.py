"""Sentences that name a class, as people might write them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_SENTENCES = (
    "{}",
    "a satellite image of {}",
    "a Sentinel-2 image showing {}",
    "{} seen from above",
    "an aerial view of {} in summer",
    "Land cover: {}.",
    "mostly {}",
    "a place with {}",
)


def write_caption(name: str, synonyms: Mapping[str, tuple[str, ...]], rng: np.random.Generator) -> str:
    """A sentence about a class in one of its words.

    Args:
        name: of the class.
        synonyms: class -> words and phrases.
        rng: draws the sentence and the word.
    """
    words = synonyms[name]
    return _SENTENCES[rng.integers(len(_SENTENCES))].format(words[rng.integers(len(words))])
