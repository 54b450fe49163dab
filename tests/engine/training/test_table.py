"""Figures get into a page without being copied by hand."""

import pytest
from afterimage.engine.contract import Measure, ModelCard
from afterimage.engine.training.table import write_table

CARD = ModelCard(
    id="one",
    name="One",
    summary="",
    family="eo_latent",
    version="1",
    tasks=("Generate",),
    bands=("red",),
    gsd=(10.0, 10.0),
    window=64,
    stride=48,
    schedulers=("DDIM",),
    steps=4,
    measures=(Measure("recognised", "30 images", 91.2, "%", "real: 92 %"), Measure("distance", "30 images", 0.5)),
)
TABLE = """<!-- figures of one -->
| figure | on | value | compare |
|---|---|---|---|
| recognised | 30 images | 91.2 % | real: 92 % |
| distance | 30 images | 0.5 |  |
<!-- end of figures of one -->"""


def test_a_new_page_holds_the_table(tmp_path):
    write_table(CARD, tmp_path / "pages" / "one.md")
    assert (tmp_path / "pages" / "one.md").read_text() == TABLE + "\n"


def test_a_page_keeps_what_stands_around_the_marks(tmp_path):
    page = tmp_path / "models.md"
    marks = "<!-- figures of {0} -->\nold {0}\n<!-- end of figures of {0} -->"
    page.write_text(f"# Models\n\n{marks.format('one')}\n\nand {marks.format('two')}\n")
    write_table(CARD, page)
    write_table(CARD, page)
    assert page.read_text() == f"# Models\n\n{TABLE}\n\nand {marks.format('two')}\n"


def test_a_page_without_marks_is_left_alone(tmp_path):
    page = tmp_path / "models.md"
    page.write_text("# Models\n")
    with pytest.raises(ValueError, match="no lines <!-- figures of one -->"):
        write_table(CARD, page)
    assert page.read_text() == "# Models\n"
