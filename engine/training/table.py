"""Figures as a table of a page, so that none is copied by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..contract import Measure, ModelCard


def markdown(measures: Sequence[Measure]) -> str:
    """A table with a row for each figure."""
    rows = [f"| {m.name} | {m.on} | {f'{m.value:g} {m.unit}'.strip()} | {m.reference} |" for m in measures]
    return "\n".join(["| figure | on | value | compare |", "|---|---|---|---|", *rows])


def write_table(card: ModelCard, page: Path) -> None:
    """Write the figures of a card between its marks in a page, or as a page of their own.

    The marks are the lines ``<!-- figures of ID -->`` and ``<!-- end of figures of ID -->``.

    Args:
        card: whose figures.
        page: markdown; made where there is none.

    Raises:
        ValueError: the page is there and has no such marks.
    """
    begin, end = (f"<!-- {words} of {card.id} -->" for words in ("figures", "end of figures"))
    block = f"{begin}\n{markdown(card.measures)}\n{end}"
    if not page.exists():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(block + "\n", encoding="utf-8")
        return
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{page}: no lines {begin} and {end} to write between")
    before, after = text.split(begin)[0], text.split(end)[1]
    page.write_text(before + block + after, encoding="utf-8")
