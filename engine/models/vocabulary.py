"""Everyday words to the classes that a model learned; what it does not know is refused with what it does know."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import PromptNotUnderstood
from .synonyms import TABLES, Table


class Vocabulary:
    """The words that a model understands.

    Args:
        classes: what it learned, in the order of its embeddings: names of one data set.

    Attributes:
        data_set: the one whose words it takes, a key of ``TABLES``.
        synonyms: class -> words and phrases.

    Raises:
        ValueError: no data set has words for all classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.data_set = _data_set(self.classes)
        self.synonyms: Table = {name: TABLES[self.data_set][name] for name in self.classes}
        self._meaning = {_words(p): k for k, name in enumerate(classes) for p in self.synonyms[name]}
        self._longest = max(len(words) for words in self._meaning)

    def weights(self, prompt: str) -> list[float]:
        """Share of each class in what a text names, adding up to 1; a class named twice counts once.

        Args:
            prompt: any text; words that stand for no class are passed over.

        Raises:
            PromptNotUnderstood: no word stands for a class.
        """
        named = self.named(prompt)
        if not named:
            known = ", ".join(spelled(name) for name in self.classes)
            raise PromptNotUnderstood(
                "The text names nothing that this model knows how to draw.", f"It knows: {known}, and words like them."
            )
        return [1 / len(named) if k in named else 0.0 for k in range(len(self.classes))]

    def named(self, prompt: str) -> list[int]:
        """Positions of the classes that a text names, in order of first mention."""
        words = _words(prompt)
        found: list[int] = []
        place = 0
        while place < len(words):
            for length in range(min(self._longest, len(words) - place), 0, -1):
                end = place + length
                meaning = self._meaning.get(words[place:end])
                if meaning is not None:
                    if meaning not in found:
                        found.append(meaning)
                    place += length
                    break
            else:
                place += 1
        return found


def spelled(name: str) -> str:
    """The class as people write it: ``HerbaceousVegetation`` -> "herbaceous vegetation"."""
    return next(table[name][0] for table in TABLES.values() if name in table)


def _data_set(classes: Sequence[str]) -> str:
    missing = {name: [c for c in classes if c not in table] for name, table in TABLES.items()}
    fewest = min(missing, key=lambda name: len(missing[name]))
    if missing[fewest]:
        raise ValueError(f"no words for {', '.join(missing[fewest])}")
    return fewest


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]+", text.casefold()))
