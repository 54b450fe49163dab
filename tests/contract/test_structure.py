"""One text over many windows of a model is said to give one texture, unless something says what is where."""

from dataclasses import replace

import pytest
from afterimage.engine.contract import Control, Generate, GeoBox, ModelCard, Regions, Sampling, Source, is_one_texture

CARD = ModelCard(
    "m", "M", "", "f", "1", ("Generate",), ("red",), (10.0, 10.0), 100, 50, ("DDIM",), 10, uses=("prompt",)
)


def asked(height, width, **more):
    grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (height, width))
    return Generate("m", grid, grid, 10.0, "forest", Sampling(1, 2, "DDIM"), **more)


@pytest.mark.parametrize(
    "height, width, is_one", [(400, 400, False), (401, 400, True), (100, 1600, False), (100, 1601, True)]
)
def test_it_is_the_area_in_windows_that_counts(height, width, is_one):
    assert is_one_texture(asked(height, width), CARD) is is_one


def test_what_says_what_is_where_is_enough():
    assert is_one_texture(asked(1000, 1000), CARD)
    assert not is_one_texture(asked(1000, 1000, regions=Regions("inputs/regions.geojson")), CARD)
    roads = Control("roads", Source("inputs/control_roads.tif"))
    assert not is_one_texture(asked(1000, 1000, controls=(roads,)), CARD)


def test_of_a_model_that_reads_no_text_nothing_is_said():
    assert not is_one_texture(asked(1000, 1000), replace(CARD, uses=()))
