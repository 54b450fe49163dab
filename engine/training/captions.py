"""Sentences that name a class, as people might write them."""

from __future__ import annotations

import numpy as np

from ..models.synonyms import Table

#: Metres per pixel below which imagery is called aerial.
AERIAL = 2.0
_SENTENCES = ("{}", "{} seen from above", "an aerial view of {} in summer", "mostly {}", "a place with {}")
_SATELLITE = ("a satellite image of {}", "a Sentinel-2 image showing {}", "Land cover: {}.")
_AERIAL = ("an aerial photograph of {}", "an orthophoto showing {}", "Land use: {}.")


def write_caption(name: str, synonyms: Table, gsd: float, rng: np.random.Generator) -> str:
    """A sentence about a class in one of its words.

    Args:
        name: of the class.
        synonyms: class -> words and phrases.
        gsd: metres per pixel of the imagery that it is about.
        rng: draws the sentence and the word.
    """
    words = synonyms[name]
    sentences = _SENTENCES + (_AERIAL if gsd < AERIAL else _SATELLITE)
    return sentences[rng.integers(len(sentences))].format(words[rng.integers(len(words))])
