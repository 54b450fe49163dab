"""Everyday words to the classes that a model learned; what it does not know is refused with what it does know."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import PromptNotUnderstood

#: The classes of EuroSAT with the words that stand for them. Longer phrases win over the words in them, so that
#: "apple orchard" is no fruit and "sea lake" is one thing.
EUROSAT: dict[str, tuple[str, ...]] = {
    "AnnualCrop": (
        "annual crop",
        "annual crops",
        "crop",
        "crops",
        "cropland",
        "field",
        "fields",
        "farmland",
        "farm",
        "farms",
        "arable",
        "arable land",
        "wheat",
        "maize",
        "corn",
        "barley",
        "rapeseed",
        "canola",
        "sunflower",
        "sunflowers",
        "potato",
        "potatoes",
        "sugar beet",
        "cereal",
        "cereals",
        "grain",
        "agriculture",
        "agricultural",
        "ploughed",
        "plowed",
        "tilled",
        "harvest",
        "cultivated",
    ),
    "Forest": (
        "forest",
        "forests",
        "forested",
        "wood",
        "woods",
        "woodland",
        "woodlands",
        "tree",
        "trees",
        "jungle",
        "conifer",
        "conifers",
        "coniferous",
        "deciduous",
        "pine",
        "pines",
        "spruce",
        "beech",
        "oak",
        "rainforest",
        "taiga",
        "timber",
    ),
    "HerbaceousVegetation": (
        "herbaceous vegetation",
        "herbaceous",
        "vegetation",
        "shrub",
        "shrubs",
        "shrubland",
        "scrub",
        "scrubland",
        "heath",
        "heathland",
        "heather",
        "bush",
        "bushes",
        "moor",
        "moorland",
        "maquis",
        "garrigue",
        "steppe",
        "savanna",
        "savannah",
        "natural vegetation",
    ),
    "Highway": (
        "highway",
        "highways",
        "motorway",
        "motorways",
        "freeway",
        "expressway",
        "road",
        "roads",
        "interchange",
        "autobahn",
        "dual carriageway",
        "interstate",
        "junction",
        "street crossing",
    ),
    "Industrial": (
        "industrial",
        "industry",
        "industrial area",
        "industrial buildings",
        "industrial estate",
        "factory",
        "factories",
        "warehouse",
        "warehouses",
        "commercial",
        "commercial area",
        "port",
        "harbour",
        "harbor",
        "logistics",
        "depot",
        "retail park",
        "business park",
        "airport",
        "refinery",
        "power plant",
        "greenhouses",
    ),
    "Pasture": (
        "pasture",
        "pastures",
        "grass",
        "grassland",
        "grasslands",
        "meadow",
        "meadows",
        "grazing",
        "grazing land",
        "hay",
        "prairie",
        "lawn",
        "cattle",
        "sheep",
        "dairy",
    ),
    "PermanentCrop": (
        "permanent crop",
        "permanent crops",
        "vineyard",
        "vineyards",
        "vines",
        "vine",
        "grapes",
        "orchard",
        "orchards",
        "apple orchard",
        "olive",
        "olives",
        "olive grove",
        "olive groves",
        "olive trees",
        "fruit trees",
        "plantation",
        "plantations",
        "citrus",
        "almond",
        "almonds",
        "hops",
        "palm plantation",
    ),
    "Residential": (
        "residential",
        "residential area",
        "residential buildings",
        "house",
        "houses",
        "housing",
        "homes",
        "suburb",
        "suburbs",
        "suburban",
        "town",
        "towns",
        "village",
        "villages",
        "city",
        "cities",
        "urban",
        "neighbourhood",
        "neighborhood",
        "settlement",
        "settlements",
        "built-up",
        "built up",
        "estate",
        "apartments",
        "garden city",
    ),
    "River": (
        "river",
        "rivers",
        "stream",
        "streams",
        "canal",
        "canals",
        "creek",
        "riverbank",
        "meander",
        "meanders",
        "waterway",
        "waterways",
        "watercourse",
        "estuary",
    ),
    "SeaLake": (
        "sea lake",
        "sea",
        "lake",
        "lakes",
        "ocean",
        "water",
        "open water",
        "reservoir",
        "reservoirs",
        "lagoon",
        "bay",
        "pond",
        "seawater",
        "body of water",
        "loch",
    ),
}


class Vocabulary:
    """The words that a model understands.

    Args:
        classes: what it learned, in the order of its embeddings, each one in ``synonyms``.
        synonyms: class -> words and phrases, in lower case.

    Raises:
        ValueError: for a class without words.
    """

    def __init__(self, classes: Sequence[str], synonyms: dict[str, tuple[str, ...]] = EUROSAT) -> None:
        missing = [name for name in classes if name not in synonyms]
        if missing:
            raise ValueError(f"no words for {', '.join(missing)}")
        self.classes = tuple(classes)
        self._meaning = {_words(p): k for k, name in enumerate(classes) for p in (*synonyms[name], spelled(name))}
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
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]+", text.casefold()))
