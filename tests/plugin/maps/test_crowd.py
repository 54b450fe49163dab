"""How many texts meet in a window is counted as by hand: windows one by one, shapes as QGIS cuts them."""

import pytest
from afterimage.engine.contract import GeoBox
from afterimage.plugin.maps.crowd import crowd
from qgis.core import QgsGeometry, QgsRectangle

from ..panels.conftest import painter

CARD = painter(window=64, stride=32, halo=16)
LATTICE = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (320, 480))


def box(left, top, right, bottom):
    """A rectangle in pixels of the lattice."""
    (x0, y0), (x1, y1) = LATTICE.to_map(left, top), LATTICE.to_map(right, bottom)
    return QgsGeometry.fromRect(QgsRectangle(x0, y1, x1, y0))


def by_hand(shapes, card, only):
    """(mean, most) over all windows that touch the lattice and its halo."""
    row, col = LATTICE.anchor()
    counts = []
    for i in range(-200, 200):
        for j in range(-200, 200):
            top = (row // card.stride + i) * card.stride - row
            left = (col // card.stride + j) * card.stride - col
            inside_rows = top + card.window > -card.halo and top < LATTICE.height + card.halo
            inside_cols = left + card.window > -card.halo and left < LATTICE.width + card.halo
            if not (inside_rows and inside_cols):
                continue
            window = box(left, top, left + card.window, top + card.window)
            texts = {text for text, ground in shapes if ground.intersection(window).area() > 0}
            rest = window
            for _, ground in shapes:
                rest = rest.difference(ground)
            counts.append(len(texts) + (not only and rest.area() > 0))
    return sum(counts) / len(counts), max(counts)


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize(
    "shapes",
    [
        [("forest", (37, 41, 203, 171))],
        [("forest", (37, 41, 203, 171)), ("river", (203, 41, 300, 171)), ("forest", (390, 10, 400, 20))],
        [("forest", (-500, -500, 1000, 100)), ("river", (-500, 100, 1000, 900)), ("sea", (100, 90, 140, 110))],
    ],
)
def test_it_is_never_less_than_there_is_and_hardly_more(shapes, only):
    grounds = [(text, box(*corners)) for text, corners in shapes]
    found = crowd(grounds, LATTICE, CARD, only)
    mean, most = by_hand(grounds, CARD, only)
    assert mean <= found.mean + 1e-9 and found.mean < 1.35 * mean
    assert most <= found.most <= most + 1


def test_a_text_counts_once_and_one_over_all_is_one():
    everywhere = (-500, -500, 1000, 1000)
    shapes = [("forest", box(*everywhere)), ("forest", box(10, 10, 50, 50))]
    assert crowd(shapes, LATTICE, CARD, False) == crowd(shapes[:1], LATTICE, CARD, True)
    assert (crowd(shapes, LATTICE, CARD, False).mean, crowd(shapes, LATTICE, CARD, False).most) == (1.0, 1)


def test_a_picture_of_one_window_has_all_texts_at_once():
    card = painter(window=512, stride=384, whole=True)
    shapes = [("forest", box(0, 0, 10, 10)), ("river", box(400, 300, 410, 310))]
    assert (crowd(shapes, LATTICE, card, True).mean, crowd(shapes, LATTICE, card, False).mean) == (2.0, 3.0)


def test_many_windows_are_counted_in_blocks():
    lattice = GeoBox(LATTICE.crs, LATTICE.transform, (40000, 60000))
    shapes = [("forest", box(0, 0, 30000, 40000))]
    assert 0.5 <= crowd(shapes, lattice, CARD, True).mean < 0.53


def test_phases_count_each_with_its_windows_and_by_its_pixels():
    """Large windows of an early phase see more texts than small ones of a late phase."""
    shapes = [("forest", box(-900, -900, 240, 900)), ("river", box(240, -900, 1900, 900))]
    small, large = (painter(window=side, stride=side // 2, halo=0) for side in (64, 256))
    both = painter(window=64, stride=32, halo=0, phases=((256, 128), (64, 32)))
    first, second = crowd(shapes, LATTICE, small, True), crowd(shapes, LATTICE, large, True)
    found = crowd(shapes, LATTICE, both, True)
    assert first.mean < found.mean and found.most == 2
    assert found.mean == pytest.approx(second.mean, abs=0.1)  # most of the work is that of the large ones
