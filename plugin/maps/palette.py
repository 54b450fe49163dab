"""Which class of a model's palette a value in a table means."""

import re
from dataclasses import dataclass
from typing import Dict, Iterable, Mapping, Tuple

#: The class that everything belongs to which is no other: its colour is the ground that others are drawn on.
BACKGROUND = "background"
#: What tables of OpenStreetMap and of land cover call what models call by the first word.
_ALSO = {
    "forest": ("wood", "woodland", "tree", "tree cover", "broadleaved forest", "coniferous forest", "mixed forest"),
    "agriculture": ("farmland", "farm", "cropland", "crop", "annual crop", "permanent crop", "arable land", "orchard"),
    "water": ("river", "lake", "reservoir", "pond", "sea", "water body", "permanent water"),
    "building": ("house", "roof", "built up", "built-up"),
    "road": ("street", "highway"),
    "barren": ("bare", "bare soil", "bare rock", "bare land", "sand", "bare sparse vegetation"),
}
#: OpenStreetMap's plurals are few: "buildings", "crops", "houses", "water bodies".
_PLURALS = ((re.compile(r"ies$"), "y"), (re.compile(r"(?<=[^s])s$"), ""))


@dataclass(frozen=True)
class Match:
    """How the values of a field go with the classes of a palette.

    Attributes:
        classes: value -> class; the values as they stand in the table.
        others: values that mean no class, sorted as text.
        is_part: whether only the first shapes were looked at, so that there may be more of both.
    """

    classes: Dict[object, str]
    others: Tuple[object, ...]
    is_part: bool = False


def match(palette: Mapping[str, object], values: Iterable[object]) -> Match:
    """Find the class that each value names: by its own name, else by a usual other word for it.

    Case, hyphens, underscores and a plural make no difference. Empty values mean nothing and are left out.

    Args:
        palette: class -> its colour.
        values: of a field.
    """
    words = {_plain(word): name for name in palette for word in _ALSO.get(_plain(name), ())}
    words.update({_plain(name): name for name in palette})
    classes: Dict[object, str] = {}
    others = []
    for value in values:
        text = "" if value is None else _plain(str(value))
        if not text or text == "null":  # as QGIS writes an empty cell
            continue
        if text in words:
            classes[value] = words[text]
        else:
            others.append(value)
    return Match(classes, tuple(sorted(others, key=str)))


def rgb(colour: str) -> Tuple[int, int, int]:
    """Red, green and blue of a colour written "#rrggbb"."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _plain(word: str) -> str:
    text = re.sub(r"[\s_\-/]+", " ", word).strip().casefold()
    for ending, instead in _PLURALS:
        if ending.search(text):
            return ending.sub(instead, text)
    return text
